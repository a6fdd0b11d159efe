"""bnexp.data: what every data set has in common, seen on the embedded ones."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bnexp.base.errors import DataError, UsageError
from bnexp.config import DATASETS, DataConfig
from bnexp.data import Dataset, fingerprint, header, load
from bnexp.data.dataset import channel_statistics

CPU = torch.device("cpu")


def same(a: Dataset, b: Dataset) -> bool:
    pairs = [(getattr(a, part), getattr(b, part)) for part in ("train", "val", "test")]
    return all(torch.equal(p.x, q.x) and torch.equal(p.y, q.y) for p, q in pairs)


def test_digits() -> None:
    data = load(DataConfig(), CPU)
    assert data.shape == (1, 8, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.dtype == torch.int64
    assert (int(data.train.x.min()), int(data.train.x.max())) == (0, 16)
    assert data.classes == tuple("0123456789")
    for split in (data.train, data.val, data.test):  # stratified: each class has a tenth, and the classes differ by few
        share = split.y.bincount() / len(split)
        assert share.min() > 0.09
        assert share.max() < 0.11


def test_digits_are_those_of_scikit_learn() -> None:
    data = load(DataConfig(), CPU)
    from sklearn.datasets import load_digits

    ours = torch.cat([split.x.flatten(1) for split in (data.train, data.val, data.test)])
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, load_digits().data.astype(int).tolist()))


@pytest.mark.parametrize("name", ["digits", "waveforms", "volumes"])
def test_the_embedded_sets_are_what_the_config_says(name: str) -> None:
    data, spec = load(DataConfig(name=name), CPU), DATASETS[name]
    assert (data.shape, len(data.classes), len(data.train) + len(data.val)) == (spec.shape, spec.classes, spec.train)
    assert header(DataConfig(name=name)) == (spec.shape, len(data.train), spec.classes)
    assert fingerprint(DataConfig(name=name)) is None
    assert same(data, load(DataConfig(name=name), CPU))


def test_split_seed_moves_the_splits_and_subset_is_drawn_from_the_training_part() -> None:
    full, other = load(DataConfig(), CPU), load(DataConfig(split_seed=1), CPU)
    assert not torch.equal(full.test.x, other.test.x)
    part = load(DataConfig(subset=200), CPU)
    assert (len(part.train), len(part.val)) == (180, 20)
    assert torch.equal(part.test.x, full.test.x)  # the test stays whole
    train = {tuple(x) for x in torch.cat([full.train.x, full.val.x]).flatten(1).tolist()}
    assert {tuple(x) for x in torch.cat([part.train.x, part.val.x]).flatten(1).tolist()} <= train
    assert header(DataConfig(subset=200)) == ((1, 8, 8), 180, 10)
    with pytest.raises(UsageError, match=r"data\.subset=5000 is more than the 1437 training images of data=digits"):
        load(DataConfig(subset=5000), CPU)
    with pytest.raises(UsageError, match=r"data\.subset=5000"):
        header(DataConfig(subset=5000))


def test_a_training_part_too_small_for_validation_is_refused() -> None:
    with pytest.raises(DataError, match="too few to hold out validation"):
        load(dataclasses.replace(DataConfig(), subset=1), CPU)


def test_statistics_are_of_the_training_split_alone() -> None:
    data = load(DataConfig(), CPU)
    x = data.train.x.numpy().astype(np.float64)
    torch.testing.assert_close(data.mean, torch.tensor([x.mean()], dtype=torch.float32))
    torch.testing.assert_close(data.std, torch.tensor([x.std()], dtype=torch.float32))
    normal = data.normalize(data.train.x)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert float(data.normalize(data.val.x).mean()) != pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(50, 3), (50, 3, 7), (50, 3, 5, 4), (50, 3, 2, 3, 4)])
def test_channel_statistics_against_numpy(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(1e4, 3, shape).astype(np.float32)
    x[:, 1] = 0.1  # constant: its std is 1, so that it becomes zeros and not NaN
    mean, std = channel_statistics(torch.from_numpy(x))
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axes), rtol=1e-6)
    expected = x.astype(np.float64).std(axes)
    expected[1] = 1
    np.testing.assert_allclose(std, expected, rtol=1e-6)


def test_normalize_counts_channels_from_the_right() -> None:
    split = load(DataConfig(name="volumes"), CPU).train
    x = split.x[:4].repeat(1, 3, 1, 1, 1)
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0])
    data = Dataset("", (), dataclasses.replace(split, x=x), split, split, mean, std)
    alone, stacked = data.normalize(x), data.normalize(torch.stack([x, x + 1], 1))
    for channel in range(3):
        torch.testing.assert_close(alone[:, channel], (x[:, channel] - mean[channel]) / std[channel])
    assert torch.equal(stacked[:, 0], alone)
    assert torch.equal(stacked[:, 1], data.normalize(x + 1))


def test_checking_a_config_imports_no_torch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 2, 3)), y=np.arange(10) % 2)
    code = (
        "import sys; from bnexp.config import DataConfig; from bnexp.data import fingerprint, header\n"
        f"config = DataConfig(name='npz', root={str(tmp_path / 'a.npz')!r})\n"
        "assert header(config) == ((2, 3), 7, 2) and len(fingerprint(config)) == 32\n"
        "assert not {'torch', 'sklearn', 'PIL', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)})


@pytest.mark.parametrize("name", ["folder", "npz", "mnist"])
def test_a_root_that_is_not_there_or_of_the_wrong_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = (tmp_path, "is a folder") if name == "npz" else (tmp_path / "file", "is a file")
    for path, sentence in ((tmp_path / "none", "is not there"), wrong):
        own = DataConfig(name=name, root=str(path))
        for use in (
            lambda own=own: load(own, CPU),
            *([] if name == "mnist" else [lambda own=own: header(own), lambda own=own: fingerprint(own)]),
        ):
            with pytest.raises(UsageError, match=rf"data\.root={path} {sentence}"):
                use()


@pytest.mark.parametrize("name", ["folder", "npz", "mnist"])
@pytest.mark.parametrize("root", ["x" * 5000, "~nobody_of_this_name/x", "x\0y"], ids=["long", "user", "nul"])
def test_a_root_that_the_system_refuses_is_not_there(name: str, root: str) -> None:
    """They ended in an OSError and a RuntimeError."""
    with pytest.raises(UsageError, match=r"data\.root=.* is not there; ") as caught:
        load(DataConfig(name=name, root=root), torch.device("cpu"))
    assert len(str(caught.value)) < 500
