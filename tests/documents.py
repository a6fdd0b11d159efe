"""The commands that README.md and the pages in docs/ show, and how a test runs one of them: in earnest, on a small budget.

- ```` ```console ````: lines that begin with `$ ` are run, in the order of the page and in one folder a page.
- ```` ```python ````: run after them, in the same folder.
- `` `bnexp ...` `` in a text or a table of `TYPED`: run, too, unless it has a placeholder (RUN, DIR, ...); the runs that it names are made
  before. On other pages it is the name of a command, and no line to type.
- ```` ```sh ````: not run. These need a cluster, a network, a browser or another machine; `NEEDS` says by which word that is seen.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from support import ROOT, bn, no_pages, served

from bnexp.config import DATASETS, EMBEDDED, OWN_FILES

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
TYPED = ("README.md", "lab.md", *(page.name for page in (ROOT / "docs/how-to").glob("*.md")))
NEEDS = ("--scheduler", "tensorboard", "data=mnist")
"""What a line of bnexp in a block of `sh` has: a cluster, a browser, a download."""
PLACEHOLDER = re.compile(r"\b[A-Z]+\b|[|<>]|\.\.\.")
SHORT = ["train.epochs=null", "train.steps=6", "model.widths=[4]"]
DOWNLOADED = re.compile(rf"data=({'|'.join(DATASETS.keys() - {*EMBEDDED, *OWN_FILES})})\b|ioffe_fig1")
NAMED_RUN = re.compile(r"(batch|none)-bs(\d+)-lr([\d.]+)-s0")
FEW = {
    "batch-size": "--values=32,64",
    "lr": "--values=0.1,1",
    "norm": "--values=batch,none",
    "--no-bn": "--lrs=0.1,1",
    "--norm": "--lrs=0.1,1",
}


class Command(NamedTuple):
    """A line of a page. Those of a text do not follow one another: each has a folder of its own."""

    page: Path
    line: str
    in_text: bool

    def __str__(self) -> str:
        return f"{self.page.stem}: {self.line}"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def commands() -> list[Command]:
    """All that are run. A line of a text that is also in a block, or on an earlier page, is run there."""
    shown = [
        Command(page, line[2:], False)
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
        if line[:2] == "$ "
    ]
    lines = {command.line for command in shown}
    for page in (page for page in PAGES if page.name in TYPED):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        for line in re.findall(r"`(bnexp [^`]+)`", text):
            line = line.replace("\\|", "|")
            if line not in lines and not PLACEHOLDER.search(line) and not line.startswith("bnexp --"):
                lines.add(line)
                shown.append(Command(page, line, True))
    return [command for command in shown if command.line.startswith("bnexp ")]


def prepare(folder: Path, page: Path) -> None:
    """What pages speak of as the reader's own: images, arrays, an experiment."""
    pixels = np.random.default_rng(0).integers(256, size=(2, 40, 8, 8, 3), dtype=np.uint8)
    for name, images in zip(("cats", "dogs"), pixels, strict=True):
        (folder / "photos" / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / "photos" / name / f"{index}.png")
    shutil.copytree(folder / "photos", folder / "photos-moved")
    np.savez(folder / "series.npz", x=pixels[:, :, :, 0, 0].reshape(80, 1, 8).astype("float32"), y=np.arange(80) % 2)
    for block in blocks(page, "yaml"):
        (folder / "mine/experiment").mkdir(parents=True, exist_ok=True)
        (folder / "mine/experiment/small.yaml").write_text(block)


def make_named_runs(line: str) -> None:
    """The runs that a line of a text, or an example of a command's help, names."""
    for norm, batch, lr in NAMED_RUN.findall(line):
        bn("train", f"model.norm={norm}", f"train.batch_size={batch}", f"optim.lr={lr}", *SHORT, "--quiet")
    if re.search(r"\b(last|resume|report|runs|tensorboard)\b", line):
        bn("train", *(["data=folder", "data.root=photos"] if "photos-moved" in line else []), *SHORT, "--quiet")


def run(command: Command) -> None:
    """Runs it in the working directory, which it may change as the reader's. Trainings are shortened by overrides behind the line, and only
    README's draw their pages, which takes seconds each."""
    args = shortened([word for word in shlex.split(command.line)[1:] if word != "--open"])
    if args[0] == "tensorboard":
        shown = re.sub(r"--port \d+", "", " ".join(args[1:]))
        with served(Path("runs"), Path("scratch"), *shown.split()):
            return
    if command.page.name == "README.md" or args[0] == "report":
        result = bn(*args)
    else:
        with no_pages():
            result = bn(*args)
    assert result.stdout or result.stderr or "--quiet" in args  # a list that is empty is said on stderr


def shortened(args: list[str]) -> list[str]:
    """The same command with a small budget, on data that are here."""
    sweeps = args[0] == "sweep" or "--no-bn" in args or "--norm" in args
    line = " ".join(args)
    if args[0] == "stats":
        new = not any(re.match(r"last$|batch-|none-", arg) for arg in args)
        return [*args, *(["model.widths=[4]"] if new else []), *([] if "--batch-sizes" in args else ["--batch-sizes=4,16"])]
    if args[0] != "train" and not sweeps:
        return args
    args = [*args, *SHORT, *(["data=digits"] if DOWNLOADED.search(line) else [])]
    if sweeps:
        given = {"--values", "--lrs", "--seeds", "--workers"}
        args = [word for before, word in zip(["", *args], args, strict=False) if not {before, word} & given]
        args += ["--workers", "0", *([] if "seed=" in line else ["--seeds", "2" if "--seeds" in line else "1"])]
        args += [option for name, option in FEW.items() if name in args][:1]
    return args
