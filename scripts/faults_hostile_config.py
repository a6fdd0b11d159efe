"""Hostile config folders: what could execute code, lead out of the folder, or take all memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from faults_hostile import SECRET, Payload, Place

TOP = "# @package _global_\n"
REFUSED = (2,)
NOT_A_FILE = "in its defaults names no file of"


def payloads() -> list[Payload]:
    """Every one is asked for by `bnexp config experiment=mine --config-dir FOLDER`."""
    return [*_code(), *_outside(), *_large(), *_odd()]


def _text(name: str, text: str, says: str = "", codes: tuple[int, ...] = REFUSED) -> Payload:
    return _made(name, lambda place: place.file("experiment/mine.yaml", text.replace("MARKER", str(place.marker))), says, codes)


def _made(name: str, write: Callable[[Place], object], says: str = "", codes: tuple[int, ...] = REFUSED) -> Payload:
    def made(place: Place) -> Sequence[str]:
        write(place)
        return ["config", "experiment=mine", "--config-dir", str(place.folder)]

    return Payload(f"config: {name}", made, codes, says)


def _code() -> list[Payload]:
    found = [
        _text("_target_", TOP + "model:\n  _target_: os.system\n  command: touch MARKER\n", "_target_"),
        _text("_target_ in a list", TOP + "model:\n  widths: [{_target_: os.system, _args_: [touch MARKER]}]\n", "_target_"),
        _text("_recursive_", TOP + "optim: {_recursive_: true}\n", "_recursive_"),
    ]
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system", "module:os", "object:subprocess.Popen"):
        found.append(_text(f"!!python/{tag}", TOP + f"seed: !!python/{tag} [touch MARKER]\n", "cannot be composed"))
    for text in ("${oc.env:HOSTILE_SECRET}", "${oc.decode:${oc.env:HOSTILE_SECRET}}", "${hydra:runtime.cwd}", "${now:%Y}", "${oc.create:x}",
                 "${python_code:x}", "${seed}", "${oc.deprecated:seed}", "${oc.dict.keys:optim}", "${.lr}", "${eval:1+1}"):  # fmt: skip
        found += [
            _text(f"{text} as a value", TOP + f"data:\n  root: {text}\n"),
            _text(f"{text} as a key", TOP + f'"{text}": 1\n'),
            _text(f"{text} in defaults", TOP + f"defaults:\n  - override /data: {text}\n", NOT_A_FILE),
            _text(f"{text} as a package", f"# @package {text}\nseed: 1\n"),
        ]
    for text in ("hydra: {searchpath: [pkg://os]}", '"hydra": {run: {dir: x}}', "? hydra\n: {run: {dir: x}}",
                 '"\\x68ydra": {run: {dir: x}}',
                 "{hydra: {job: {chdir: true}}}", "defaults: [override hydra/launcher: x]", "defaults: [/hydra/job_logging: default]",
                 "defaults: [{/data@hydra: digits}]", "hydra/launcher: x", "hydra.run: x"):  # fmt: skip
        found.append(_text(text.replace("\n", " "), TOP + text + "\n", "Hydra's own settings"))
    return [*found, _text("a package of Hydra's", "# @package hydra.run\ndir: x\n", "Hydra's own settings")]


def _outside() -> list[Payload]:
    """`outside/secret.yaml` would be a valid file of the group data."""

    def beside(place: Place) -> None:
        (place.outside / "secret.yaml").write_text(f"name: digits\nroot: {SECRET}\n")

    def defaults(entry: str) -> Callable[[Place], object]:
        def write(place: Place) -> None:
            beside(place)
            place.file("data/mine.yaml", "name: digits\n")
            place.file("experiment/mine.yaml", TOP + f"defaults:\n  - {entry.replace('OUTSIDE', str(place.outside))}\n")

        return write

    def merged(place: Place) -> None:
        beside(place)
        place.file("data/mine.yaml", "name: digits\n")
        place.file("experiment/mine.yaml", TOP + "<<: {defaults: [../data/../../outside/secret@data]}\n")

    def link(name: str, to: str) -> Callable[[Place], object]:
        def write(place: Place) -> None:
            beside(place)
            (place.outside / "mine.yaml").write_text(TOP + f"data:\n  root: {SECRET}\n")
            place.file("data/other.yaml", "name: digits\n")
            path = place.folder / name
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(to.replace("OUTSIDE", str(place.outside)))

        return write

    entries = ("../../outside/secret@data", "../data/../../outside/secret@data", "/../outside/secret@data", "OUTSIDE/secret@data",
               "file://OUTSIDE/secret@data", "pkg://yaml/secret@data", "override /data: ../../outside/secret",
               "override /data: OUTSIDE/secret",
               "/data: [mine, ../../outside/secret]", "optional ../../outside/secret@data", "/data/../../outside/secret",
               "/outside: secret", "data: secret", "/data@_global_: ../../outside/secret", "../../outside/secret.yaml@data",
               "override /data: file://OUTSIDE/secret")  # fmt: skip
    return [
        *(_made(f"defaults: {entry}", defaults(entry), NOT_A_FILE) for entry in entries),
        _made("defaults by a merge", merged, "a merge (<<)"),
        _made("a link to a file outside", link("experiment/mine.yaml", "OUTSIDE/mine.yaml"), "leads out of"),
        _made("a link by ..", link("experiment/mine.yaml", "../../outside/mine.yaml"), "leads out of"),
        _made("a linked group", link("experiment", "OUTSIDE"), "leads out of"),
        _made("a link to itself", link("experiment/mine.yaml", "mine.yaml"), "names no experiment config"),
        _made("a link to a device", link("experiment/mine.yaml", "/dev/zero"), "names no experiment config"),
        _made("a link to this process", link("experiment/mine.yaml", "/proc/self/environ"), "leads out of"),
    ]


def _large() -> list[Payload]:
    lists = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    maps = "a0: &a0 {a: 1}\n" + "".join(f"a{n}: &a{n} {{{', '.join(f'{k}: *a{n - 1}' for k in 'abcdef')}}}\n" for n in range(1, 12))
    merges = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{','.join([f'*a{n - 1}'] * 50)}]\n  k{n}: 1\n" for n in range(1, 9))
    inner = "data: " + "".join(f"{{k{n}: &b{n} [" for n in range(8)) + "x" + "]}" * 8 + "\n"

    def sparse(place: Place) -> None:
        with place.file("experiment/mine.yaml", TOP).open("r+b") as file:
            file.truncate(2**40)

    def fifo(place: Place) -> None:
        place.file("data/x.yaml", "name: digits\n")
        (place.folder / "experiment").mkdir()
        os.mkfifo(place.folder / "experiment" / "mine.yaml")

    return [
        _text("a bomb of lists", TOP + lists, "the alias"),
        _text("a bomb of mappings", TOP + maps, "the alias"),
        _text("a bomb of merges", TOP + merges, "the alias"),
        _text("nested anchors", TOP + inner),
        _text("an alias to itself", TOP + "data: &a {root: *a}\n", "the alias"),
        *(_text(f"{depth} brackets", TOP + "seed: " + "[" * depth + "]" * depth, "nests too deeply") for depth in (25, 1000, 30_000)),
        _text("open brackets", TOP + "seed: " + "[" * 30_000, "nests too deeply"),
        _text("deep indentation", TOP + "".join(" " * depth + "a:\n" for depth in range(300)), "nests too deeply"),
        _text("deep question marks", TOP + "? " * 30_000 + "a\n", "nests too deeply"),
        _text("many values", TOP + f"model:\n  widths: [{'1,' * 30_000}1]\n", "values"),
        _text("many keys", TOP + "".join(f"k{n}: 1\n" for n in range(6000)), "values"),
        _text("megabytes", TOP + "name: " + "x" * 5_000_000, "more than 64 KiB"),
        _text("a long number", TOP + "seed: " + "9" * 60_000),
        _text("a long base-60 number", TOP + "seed: " + "1:" * 20_000 + "1\n"),
        _text("a long key", TOP + "? " + "k" * 60_000 + "\n: 1\n"),
        _text("a long package", "# @package " + "a." * 20_000 + "a\nseed: 1\n"),
        _text("a long interpolation", TOP + "name: '" + "${" * 5_000 + "}" * 5_000 + "'\n"),
        _made("a file of a terabyte", sparse, "more than 64 KiB"),
        _made("a FIFO", fifo, "names no experiment config"),
    ]


def _odd() -> list[Payload]:
    return [
        _text("a key twice", TOP + "seed: 1\nseed: 2\n", "duplicate key"),
        _text("a NUL", TOP + "name: a\0b\n"),
        _text("an escaped NUL", TOP + 'name: "a\\0b"\n', "is not usable"),
        _text("a NUL in a path", TOP + 'data: {name: npz, root: "a\\0b"}\n', "holds a NUL"),
        _text("a NUL in defaults", TOP + 'defaults: [{override /data: "a\\0b"}]\n', NOT_A_FILE),
        _text("right-to-left", TOP + "name: a\u202eb\n"),
        _text("a name that leads out", TOP + "name: ../../outside/x\n", "is not usable"),
        _text("an absolute name", TOP + "name: /etc/x\n", "is not usable"),
        _text("a name of two lines", TOP + 'name: "a\\nb"\n', "is not usable"),
        _text("a long name", TOP + f"name: {'x' * 300}\n", "is not usable"),
        _text("escape sequences", TOP + 'data: {augment: "\\e[2J\\e]0;x\\a"}\n', "is not one of"),
        _text("two documents", TOP + "seed: 1\n---\nseed: 2\n"),
        _text("a tag", TOP + "seed: !<tag:yaml.org,2002:python/object/apply:os.system> [touch MARKER]\n"),
        _text("bytes", TOP + "name: !!binary aGVsbG8=\n"),
        _text("a set", TOP + "data: !!set {a, b}\n"),
        _text("pairs", TOP + "data: !!omap [a: 1]\n"),
        _text("a date", TOP + "seed: 2001-01-01\n"),
        _text("not a number", TOP + "optim: {lr: .nan}\n", "out of range"),
        _text("a mapping as a key", TOP + "? {a: 1}\n: 2\n"),
        _text("defaults that are text", TOP + "defaults: x\n"),
        _text("defaults that lead back", TOP + "defaults: [mine]\n", "nests too deeply"),
        _text("no YAML", "\x7fELF\x02\x01\x01" + "\x01" * 50),
    ]
