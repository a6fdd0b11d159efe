"""data=folder as people arrange it: parts by any of their usual names, what is not read, copies, and what all that is said to be."""

import io
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from bnexp.analysis import analyse
from bnexp.base.errors import DataError
from bnexp.config import PROBED, DataConfig, from_mapping
from bnexp.data import Dataset, header, load
from bnexp.data.parts import Left, left_in_words, part_of
from bnexp.execution.grid import prepare, train_all
from bnexp.execution.launch import launch
from bnexp.report.show import shown
from bnexp.tables.runs import run_table

pytestmark = pytest.mark.usefixtures("own_cache")


def fill(folder: Path, first: int = 0, count: int = 10, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """`count` images a class, no two of which are equal: the colours count on from `first`."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            Image.new("RGB", (8, 8), (100 * label, number, number)).save(folder / name / f"{number}.png")
    return folder


def config(root: Path, augment: str = "none", subset: int | None = None) -> DataConfig:
    return DataConfig(name="folder", root=str(root), image_size=4, augment=augment, subset=subset)


def loaded(root: Path) -> Dataset:
    return load(config(root), torch.device("cpu"))


def sizes(data: Dataset) -> tuple[int, int, int]:
    return len(data.train), len(data.val), len(data.test)


TRAIN = ("train", "Training", "TRAIN", "train_set", "trainset", "training-data", "seg_train", "cats.train", "train2017", "Train Images")
VAL = ("val", "valid", "Validation", "VAL", "val_set", "my_validation", "dev")
TEST = ("test", "Testing", "test_set", "Test Set", "seg_test", "test1")


def test_usual_names_of_parts_are_known_and_others_are_none() -> None:
    for part, names in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        assert {part_of(name) for name in names} == {part}
    assert {
        part_of(name) for name in ("trains", "strain", "contest", "latest", "invalid", "interval", "value", "train_station", "cat")
    } == {None}


@pytest.mark.parametrize(
    ("train", "val", "test"), [("train", "val", "test"), ("Training", "valid", "Testing"), ("seg_train", "dev", "seg_test")]
)
def test_parts_are_taken_as_they_are(tmp_path: Path, train: str, val: str, test: str) -> None:
    for first, (name, count) in enumerate({train: 10, val: 4, test: 3}.items()):
        fill(tmp_path / "s" / name, 20 * first, count)
    data = loaded(tmp_path / "s")
    assert data.classes == ("cat", "dog")
    assert sizes(data) == (20, 8, 6)
    assert sorted({value // 20 for value in split.x[:, 1, 0, 0].tolist()} for split in (data.train, data.val, data.test)) == [{0}, {1}, {2}]
    assert data.notes == ("2 classes: cat, dog; 20 training, 8 validation, 6 test images",)
    assert header(config(tmp_path / "s")) == ((3, 4, 4), 20, 2)
    part = load(config(tmp_path / "s", subset=6), torch.device("cpu"))
    assert sizes(part) == (6, 8, 6)  # a validation part of its own is no part of `subset`
    assert header(config(tmp_path / "s", subset=6)) == ((3, 4, 4), 6, 2)


def test_a_validation_part_without_a_test_part_is_said_and_used(tmp_path: Path) -> None:
    fill(tmp_path / "s/train")
    fill(tmp_path / "s/val", 20, 4)
    data = loaded(tmp_path / "s")
    assert sizes(data) == (16, 8, 4)
    assert data.notes[1] == (
        "There is no test part, so 4 of the training part are the test data; to test on the validation part, call it test, and validation "
        "is split off the training part"
    )
    (tmp_path / "s/val").rename(tmp_path / "s/test")  # what the sentence says
    assert sizes(loaded(tmp_path / "s")) == (18, 2, 8)
    shutil.rmtree(tmp_path / "s/test")
    assert sizes(loaded(tmp_path / "s")) == (14, 2, 4)
    assert header(config(tmp_path / "s")) == ((3, 4, 4), 14, 2)


def test_a_class_may_be_called_after_a_part(tmp_path: Path) -> None:
    for number, classes in enumerate((("bus", "train"), ("invalid", "valid"), ("control", "test"), ("bullet_train", "freight_train"))):
        assert loaded(fill(tmp_path / str(number), classes=classes)).classes == classes


def test_parts_that_cannot_be_told_from_classes_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("flat/Train", "flat/Test"):
        fill(tmp_path / name / "..", classes=(Path(name).name,))
    fill(tmp_path / "unlabelled/train")
    fill(tmp_path / "unlabelled", classes=("test",))
    fill(tmp_path / "twice/train")
    fill(tmp_path / "twice/Training")
    fill(tmp_path / "headless/validation")
    fill(tmp_path / "headless/test")
    fill(tmp_path / "mixed/train")
    fill(tmp_path / "mixed", classes=("bus",))
    fill(tmp_path / "nested/photos")
    for name, sentence in {
        "flat": r"has the folders Test, Train, which are called after parts of a set, and Test has images outside class folders",
        "unlabelled": rf"test has images outside class folders.* or give data\.root={tmp_path / 'unlabelled/train'}",
        "twice": "has the folders Training and train, which are called after the same part",
        "headless": "has the folders test, validation and no training part",
        "mixed": "has the folder train, called after a part of a set, beside bus",
        "nested": r"has one class folder, photos; at least 2 are needed; if its folders are the classes, give data\.root=",
    }.items():
        with pytest.raises(DataError, match=sentence):
            header(config(tmp_path / name))


def test_what_is_not_read_is_told_with_its_number(tmp_path: Path) -> None:
    root = fill(tmp_path / "s")
    for place in ("cat/.ipynb_checkpoints", "dog/deep/@eaDir", ".trash", "__MACOSX/cat"):
        (root / place).mkdir(parents=True)
        shutil.copy(root / "cat/0.png", root / place / "copy.png")
    (root / "cat/list.TXT").touch()
    (root / "dog/photo.heic").touch()
    (root / "dog/.DS_Store").touch()
    (root / "loose.png").touch()
    (root / "dog/again").symlink_to(root / "cat")
    data = loaded(root)
    assert sum(sizes(data)) == 20
    left = set(data.notes[1].removeprefix("Not read: ").split(", "))
    assert left == {
        *("4 hidden or system folders", "1 hidden file", "1 linked folder", "1 image outside class folders"),
        *("1 .txt file", "1 .heic file"),
    }
    fill(root / "sorted/train")
    fill(root / "sorted/test", 30)
    fill(root / "sorted/spare", 60)
    (root / "sorted/notes").mkdir()
    (root / "sorted/@eaDir").mkdir()
    for name in ("labels.csv", "extra.png", "more.png", ".DS_Store", "train/LICENSE"):
        (root / "sorted" / name).touch()
    (told,) = loaded(root / "sorted").notes[1:]
    assert told.startswith("Not read: ")
    for part in (
        *("2 folders called after no part (notes, spare)", "2 images outside class folders", "1 .csv file", "1 hidden file"),
        *("1 hidden or system folder", "1 file without an ending"),
    ):
        assert part in told


def test_kinds_beyond_the_first_are_counted_together() -> None:
    left = Left({(f".a{number} file", ""): 20 - number for number in range(10)})
    assert left_in_words(left).endswith("13 .a7 files, 23 of other kinds")


def test_folders_between_classes_and_images_are_told(tmp_path: Path) -> None:
    fill(tmp_path / "images")
    fill(tmp_path / "masks", 30)
    (tmp_path / "s").mkdir()
    for name in ("images", "masks"):
        (tmp_path / name).rename(tmp_path / "s" / name)
    data = loaded(tmp_path / "s")
    assert data.classes == ("images", "masks")
    assert data.notes[1].startswith("Each class folder (images, masks) has the same folders in it (cat, dog)")


def test_identical_pictures_in_training_and_test_are_counted(tmp_path: Path) -> None:
    fill(tmp_path / "s/train")
    fill(tmp_path / "s/test", 8, 6)  # two a class are those of train
    shutil.copy(tmp_path / "s/train/cat/3.png", tmp_path / "s/test/cat/under another name.png")
    copies = "5 of the 13 test images are also among the training or validation images, pixel by pixel"
    assert copies in loaded(tmp_path / "s").notes
    assert copies in loaded(tmp_path / "s").notes  # also from the cache
    fill(tmp_path / "one")
    for number in range(10):
        shutil.copy(tmp_path / f"one/cat/{number}.png", tmp_path / f"one/cat/copy of {number}.png")
    assert any("are also among the training" in note for note in loaded(tmp_path / "one").notes)


def test_mirrored_digits_are_told(tmp_path: Path) -> None:
    def told(settings: DataConfig) -> bool:
        return any("data.augment=crop does not" in note for note in load(settings, torch.device("cpu")).notes)

    assert told(DataConfig(augment="crop_flip"))
    assert not told(DataConfig(augment="crop"))
    assert told(config(fill(tmp_path / "digits", classes=("0", "1")), "crop_flip"))
    assert not told(config(fill(tmp_path / "pets"), "crop_flip"))


def test_the_line_on_the_data_comes_once_in_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the number of seeds and stacks; then in the run's table and on the page."""
    fill(tmp_path / "s/train")
    fill(tmp_path / "s/test", 20, 4)
    line, runs_dir = "2 classes: cat, dog; 18 training, 2 validation, 8 test images", tmp_path / "runs"
    settings = {"data": {"name": "folder", "root": str(tmp_path / "s"), "image_size": 4}, "model": {"widths": [2]}}
    tiny = from_mapping({**settings, "train": {"batch_size": 4, "steps": 2}}).replace(**{f"metrics.{name}": False for name in PROBED})
    run, _ = launch([tiny, tiny.replace(seed=1)], runs_dir).runs
    assert capsys.readouterr().err.count(line) == 1
    arms = [tiny.replace(**{"model.norm": norm, "seed": 2}) for norm in ("batch", "none")]
    outcome = train_all(prepare(arms, runs_dir), workers=0)
    assert not outcome.failed
    assert capsys.readouterr().err.count(line) == 1
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(run_table(run.result(), "", {}))
    assert console.export_text().count(f"folder: {line}") == 1
    study = analyse("report", [run], {run.id: run.result()}, {"": [run]})
    assert shown(study.parts[0], "report").data == f"Data: folder: {line}."
