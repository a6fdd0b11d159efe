"""Hostile data files: pickles, bombs, headers that lie, links that lead out, files that are none."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from faults_hostile import DEVICE, SECRET, Payload, Place
from PIL import Image

REFUSED = (1, 2)
X, Y = np.random.default_rng(0).integers(0, 256, (64, 1, 4, 4), dtype=np.uint8), np.arange(64) % 2


def payloads() -> list[Payload]:
    """Every one is trained on, for one step: `bnexp train data=... data.root=FOLDER`."""
    return [*_npz(), *_images(), *_named()]


class Bomb:
    """Unpickled, it makes the marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def _train(name: str, data: str, write: Callable[[Place], object], says: str = "", codes: tuple[int, ...] = REFUSED) -> Payload:
    def made(place: Place) -> Sequence[str]:
        path = write(place)
        root = path if isinstance(path, Path) else place.folder
        return ["train", f"data={data}", f"data.root='{root}'", "data.image_size=4", "model.widths=[2]", "train.batch_size=4", *DEVICE]

    return Payload(f"{data}: {name}", made, codes, says)


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    """The array as a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def _deflated(content: bytes) -> bytes:
    """Blocks of a raw deflate stream, which may stand beside others."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)


def npy_header(text: str, version: int = 1) -> bytes:
    """A .npy header that says `text`."""
    head = text.encode().ljust(118 - 10) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head


def _npz() -> list[Payload]:
    def said(shape: str, descr: str = "'<f4'", version: int = 1) -> bytes:
        return npy_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", version)

    def archive(members: dict[str, bytes | Callable[[Place], bytes]], packed: bool = False) -> Callable[[Place], Path]:
        def write(place: Place) -> Path:
            path = place.folder / "data.npz"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
                for name, content in members.items():
                    file.writestr(name, content if isinstance(content, bytes) else content(place))
            return path

        return write

    def pickled(place: Place) -> bytes:
        return npy(np.array([Bomb(place.marker)] * 64, dtype=object), allow_pickle=True)

    def bare(place: Place) -> bytes:
        return pickle.dumps(Bomb(place.marker))

    def nested(place: Place) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("y.npy", pickled(place))
        return buffer.getvalue()

    def unfolding(head: bytes, mib: int) -> Callable[[Place], Path]:
        """x.npy is `head` and zeros, a thousandth of their size on disk: a block of them, deflated once, as often as it takes."""

        def write(place: Place) -> Path:
            block, packed = bytes(2**20), _deflated(bytes(2**20))
            crc = zlib.crc32(head)
            for _ in range(mib):
                crc = zlib.crc32(block, crc)
            with zipfile.ZipFile(place.folder / "data.npz", "w") as file:
                file.writestr("y.npy", npy(Y))
                file.writestr("x.npy", _deflated(head) + packed * mib + b"\x03\x00")
                info = file.getinfo("x.npy")  # written at the end, and what readers believe
                info.compress_type, info.CRC, info.file_size = zipfile.ZIP_DEFLATED, crc, len(head) + mib * 2**20
            return place.folder / "data.npz"

        return write

    def fifo(place: Place) -> Path:
        os.mkfifo(place.folder / "data.npz")
        return place.folder / "data.npz"

    def sparse(place: Place) -> Path:
        path = place.file("data.npz", b"PK")
        os.truncate(path, 2**40)
        return path

    x, y = npy(X), npy(Y)
    found = [
        _train("pickled objects in y", "npz", archive({"x.npy": x, "y.npy": pickled}), "pickled Python objects in y"),
        _train("pickled objects in x", "npz", archive({"x.npy": pickled, "y.npy": y}), "pickled Python objects in x"),
        _train("pickled objects in x_test", "npz", archive({"x_train.npy": x, "y_train.npy": y, "x_test.npy": pickled, "y_test.npy": y})),
        _train("pickled objects in another array", "npz", archive({"x.npy": x, "y.npy": y, "z.npy": pickled}), codes=(0,)),
        _train("a pickle beside the arrays", "npz", archive({"x.npy": x, "y.npy": y, "data.pkl": bare, "z": bare}), codes=(0,)),
        _train("a pickle in the place of an array", "npz", archive({"x.npy": x, "y.npy": bare}), "not a whole .npz"),
        _train("a pickle in the place of the file", "npz", lambda place: place.file("data.npz", bare(place)), "not a whole .npz"),
        _train("a .npy of objects in the place of the file", "npz", lambda place: place.file("data.npz", pickled(place))),
        _train("a zip in a zip", "npz", archive({"x.npy": x, "y.npy": nested}), "not a whole .npz"),
        _train("names that lead out", "npz", archive({"x.npy": x, "y.npy": y, "../../outside/z.npy": x, "/tmp/z.npy": x}), codes=(0,)),
        _train("only names that lead out", "npz", archive({"../x.npy": x, "../y.npy": y}), "lacks arrays"),
        _train("a name twice", "npz", _twice, "more than one y"),
        _train("a name twice, once without its ending", "npz", archive({"x.npy": x, "y.npy": y, "x": b"hello"}), "more than one x"),
        _train("names without their ending", "npz", archive({"x": x, "y": y}), "x is no .npy file"),
        _train("a bzip2 bomb behind a good array", "npz", _bzip2("x"), "more than one x"),
        _train("a bzip2 bomb", "npz", _bzip2("x.npy", alone=True), "packed in a way that NumPy does not write"),
        _train(
            "an archive behind a .npy",
            "npz",
            lambda place: place.file("data.npz", x + archive({"x.npy": x, "y.npy": y})(place).read_bytes()),
        ),
        _train("names without end", "npz", archive({f"{n:04}{'n' * 900}.npy": npy(Y) for n in range(500)}), "lacks arrays"),
        _train("names that turn the writing around", "npz", archive({"\u202ex\x1b[2J.npy": x}), "lacks arrays"),
        _train("a deflate bomb", "npz", unfolding(said(f"(64, 1, {24 * 2**20})", "'|u1'"), 1536), "memory", codes=(1,)),
        _train(
            "a deflate bomb in a header",
            "npz",
            unfolding(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", 1536),
            "a header claims 4,294,967,295 bytes",
        ),
        _train("a FIFO", "npz", fifo, "no regular file"),
        _train("a device", "npz", lambda place: Path("/dev/zero"), "no regular file"),
        _train("a file of a terabyte", "npz", sparse),
        _train("an element of a gigabyte", "npz", archive({"x.npy": said("(64,)", "'|V1000000000'"), "y.npy": y})),
        _train("a type of types", "npz", archive({"x.npy": said("(64, 2)", "[('a', '<f4', (9, 9))]"), "y.npy": y})),
        _train("a header that is code", "npz", archive({"x.npy": npy_header("__import__('os').system('touch EXECUTED')"), "y.npy": y})),
        _train("a header of brackets", "npz", archive({"x.npy": _brackets(), "y.npy": y}), "not a whole .npz"),
        _train(
            "twenty thousand classes",
            "npz",
            archive({"x.npy": npy(np.zeros((40_000, 1, 2), dtype=np.uint8)), "y.npy": npy(np.arange(40_000) // 2)}),
            "20,000 classes",
        ),
    ]
    for shape in (
        f"(64, {10**12})",
        f"({10**12}, 2)",
        "(64, -1)",
        "(-64, -1)",
        "(64, 10**9)",
        "(64, 2**200)",
        f"(64, {2**200})",
        "(64, 1.5)",
        "60",
        "(True, 2)",
        f"(64, {'1, ' * 20})",
    ):
        for descr in ("'<f4'", "'|u1'", "'|O'"):
            found.append(_train(f"a header that claims {shape[:30]} of {descr}", "npz", archive({"x.npy": said(shape, descr), "y.npy": y})))
    return found


def _brackets() -> bytes:
    head = b"(" * 9_000 + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _twice(place: Place) -> Path:
    """The first is good and the second pickled: what is checked must be what is read."""
    import warnings

    with zipfile.ZipFile(place.folder / "data.npz", "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("x.npy", npy(X))
        file.writestr("y.npy", npy(Y))
        file.writestr("y.npy", npy(np.array([Bomb(place.marker)] * 64, dtype=object), allow_pickle=True))
    return place.folder / "data.npz"


def _bzip2(name: str, alone: bool = False) -> Callable[[Place], Path]:
    """A member of zeros in bzip2, of which a few thousand bytes are gigabytes, after good arrays or in the place of x."""

    def write(place: Place) -> Path:
        with zipfile.ZipFile(place.folder / "data.npz", "w") as file:
            for own, array in (("y.npy", Y),) if alone else (("x.npy", X), ("y.npy", Y)):
                file.writestr(own, npy(array))
            packed = bz2.compress(bytes(9 * 10**6))
            file.writestr(name, packed * 300)
            info = file.getinfo(name)
            info.compress_type, info.file_size = zipfile.ZIP_BZIP2, 9 * 10**6 * 300
        return place.folder / "data.npz"

    return write


def png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: bytes = b"") -> bytes:
    """A PNG that claims width x height grey pixels, and has `rows` of deflated ones."""
    text = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), *chunks, (b"IDAT", rows), (b"IEND", b"")):
        text += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return text


def _images() -> list[Payload]:
    def tree(place: Place) -> Path:
        for label in ("cat", "dog"):
            for number in range(12):
                path = place.file(f"{label}/{number}.png", b"")
                Image.new("RGB", (6, 6), (number, 9, 9)).save(path)
        (place.outside / "cat").mkdir()
        Image.new("RGB", (6, 6)).save(place.outside / "cat" / "secret.png")
        (place.outside / "secret.txt").write_text(SECRET)
        return place.folder

    def file(name: str, content: bytes | Callable[[Place], bytes], says: str = "", codes: tuple[int, ...] = REFUSED) -> Payload:
        def write(place: Place) -> Path:
            tree(place)
            place.file("cat/x.png", content if isinstance(content, bytes) else content(place))
            return place.folder

        return _train(name, "folder", write, says, codes)

    def link(name: str, at: str, to: str, says: str = "leads out of data.root", codes: tuple[int, ...] = REFUSED) -> Payload:
        def write(place: Place) -> Path:
            tree(place)
            (place.folder / at).symlink_to(to.replace("OUTSIDE", str(place.outside)))
            return place.folder

        return _train(name, "folder", write, says, codes)

    def fifo(place: Place) -> Path:
        os.mkfifo(tree(place) / "cat" / "x.png")
        return place.folder

    def sparse(place: Place) -> Path:
        tree(place)
        os.truncate(place.file("cat/x.png", b"\x89PNG"), 2**40)
        return place.folder

    def linked_part(place: Place) -> Path:
        for label in ("cat", "dog"):
            for part in ("given/train", "outside"):
                (place.root / part / label).mkdir(parents=True)
                Image.new("RGB", (6, 6)).save(place.root / part / label / "0.png")
        (place.folder / "test").symlink_to(place.outside)
        return place.folder

    zeros = zlib.compress(bytes(2**28), 9)
    text = zlib.compress(b"x" * 2**28, 9)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\n(%pipe%touch MARKER) (w) file closefile\nshowpage\n%%EOF\n"
    return [
        file("a decompression bomb", png(16_000, 16_000, rows=zeros), "claims more than"),
        file("a header of 10^9 pixels", png(40_000, 25_000), "claims more than"),
        file("a header of 10^18 pixels", png(2**30, 2**30), "claims more than"),
        file("more pixels than it claims", png(6, 6, rows=zeros), codes=(0, *REFUSED)),
        file("a text that unfolds", png(6, 6, (b"zTXt", b"Comment\0\0" + text), rows=zlib.compress(bytes(42)))),
        file("a profile that unfolds", png(6, 6, (b"iCCP", b"x\0\0" + text), rows=zlib.compress(bytes(42))), codes=(0, *REFUSED)),
        file("a chunk without end", png(6, 6)[:40] + struct.pack(">I", 2**31 - 1) + b"IDAT"),
        file("PostScript", lambda place: eps.replace(b"MARKER", bytes(place.marker)), "cannot be read"),
        file("a pickle", lambda place: pickle.dumps(Bomb(place.marker)), "cannot be read"),
        file("SVG that reads files", f'<svg><image href="file://{SECRET}"/></svg>'.encode(), "cannot be read"),
        file("a TIFF that claims 10^10 pixels", _tiff(100_000), "claims more than"),
        file(
            "a GIF of 65,535 a side", b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;", "claims more than"
        ),
        file("a BMP of 2^31 a side", b"BM" + bytes(8) + struct.pack("<IIiiHH", 54, 40, 2**31 - 1, 2**31 - 1, 1, 24) + bytes(24)),
        file("a PPM of 10^12 pixels", b"P6 1000000 1000000 255\n", "claims more than"),
        file("a PPM of many digits", b"P6 " + b"9" * 5000 + b" 1 255\n"),
        file("a gzipped image", gzip.compress(png(6, 6)), "cannot be read"),
        _train("a FIFO", "folder", fifo, "no regular file"),
        _train("a file of a terabyte", "folder", sparse, "make it smaller"),
        _train("a linked test part", "folder", linked_part, "leads out of data.root"),
        link("a link to an image outside", "cat/x.png", "OUTSIDE/cat/secret.png"),
        link("a link by ..", "cat/x.png", "../../outside/cat/secret.png"),
        link("a link to text outside", "cat/x.png", "OUTSIDE/secret.txt"),
        link("a link to a device", "cat/x.png", "/dev/zero"),
        link("a link to the system's accounts", "cat/x.png", "/etc/passwd"),
        link("a linked class", "owl", "OUTSIDE/cat"),
        link("a link to nothing", "cat/x.png", "nothing.png", "cannot be read"),
        link("a link to itself", "cat/x.png", "x.png", "cannot be read"),
        link("a linked folder in a class, which is not followed", "cat/deeper", "OUTSIDE/cat", "", codes=(0,)),
        link("a link that stays inside", "cat/x.png", "../dog/1.png", "", codes=(0,)),
        link("a linked class that stays inside", "owl", "dog", "", codes=(0, *REFUSED)),
    ]


def _tiff(side: int) -> bytes:
    entries = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 4, 1, side),
        (279, 4, 1, 8),
    ]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)


def _named() -> list[Payload]:
    """Files in the places where torchvision's classes look, which load some by pickle."""

    def mnist(place: Place) -> None:
        for part, count in (("train", 600), ("t10k", 100)):
            for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
                head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
                place.file(f"MNIST/raw/{part}-{kind}-ubyte", head + bytes(int(np.prod(shape))))

    def legacy(place: Place) -> None:
        mnist(place)
        for name in ("training.pt", "test.pt"):
            place.file(f"MNIST/processed/{name}", pickle.dumps(Bomb(place.marker)))

    def idx(claimed: int, sparse: int = 0) -> Callable[[Place], None]:
        def write(place: Place) -> None:
            mnist(place)
            path = place.file(
                "MNIST/raw/train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (claimed, 28, 28))
            )
            if sparse:
                os.truncate(path, sparse)

        return write

    def cifar(base: str, files: Sequence[str]) -> Callable[[Place], None]:
        def write(place: Place) -> None:
            for name in files:
                place.file(f"{base}/{name}", pickle.dumps(Bomb(place.marker)))

        return write

    def mat(place: Place) -> None:
        for part in ("train", "test"):
            place.file(f"{part}_32x32.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + pickle.dumps(Bomb(place.marker)))

    batches = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]
    return [
        _train("a legacy pickle beside good files", "mnist", legacy, codes=(0,)),
        _train("a header that claims 4 billion images", "mnist", idx(2**32 - 1), "damaged"),
        _train("a file of a terabyte", "mnist", idx(60_000, 2**40), "is no file of mnist"),
        _train("batches that are pickles of code", "cifar10", cifar("cifar-10-batches-py", batches), "checksum"),
        _train("batches that are pickles of code", "cifar100", cifar("cifar-100-python", ["train", "test", "meta"]), "checksum"),
        _train("files of another kind", "svhn", mat, "checksum"),
    ]
