"""The statistics-noise law: against batches that really pass the network, against simulated data, and as a command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from support import Tiny
from torch import Tensor
from typer.testing import CliRunner

from bnexp.analysis.law import LayerLaw
from bnexp.analysis.slope import Z95, log_log_slope, slope_error
from bnexp.cli import app
from bnexp.config import from_mapping
from bnexp.data import load
from bnexp.evaluate import precise_statistics, using
from bnexp.metrics import batch_law
from bnexp.metrics.layer_law import WithReplacement, layer_law
from bnexp.models import build, init
from bnexp.studies.noise_law import BATCH_SIZES, DRAWS, check_sizes, draws_of, law, with_replacement
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("placement", ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"])
def test_it_measures_what_real_batches_do(tiny: Tiny, norm: str, placement: str) -> None:
    """Frozen mode: the same batches through the whole network, the norms below with precise statistics: means, variances, outliers."""
    data = tiny((2, 6, 5))
    own = from_mapping({"model": {"widths": [4, 6], "norm": norm, "placement": placement}, "train": {"batch_size": 8, "steps": 5}})
    network = build(own.model, data.shape, 3)
    init(network, own.model, [0])
    found = {layer.layer: layer for layer in law(network, data, own, [1, 4], "frozen")}
    seen: list[Tensor] = []
    # What the second block's second norm gets, or would get.
    at = {"conv-norm-relu": 4 if norm == "batch" else 3, "norm-conv-relu": 3 if norm == "batch" else 2, "conv-relu-norm": None}[placement]
    watched = network.pool if at is None else network.block2[at]
    if placement == "conv-relu-norm" and norm == "batch":
        watched = network.block2[5]
    watched.register_forward_pre_hook(lambda module, args: seen.append(args[0].double()))
    with torch.no_grad(), using(network, precise_statistics(network, data, own)):
        seen.clear()
        network(data.normalize(data.train.x))
        population = seen[-1].transpose(0, 1).flatten(1)
        s2 = population.var(1, correction=0)
        seen.clear()
        for index in with_replacement(4, len(data.train)):
            network(data.normalize(data.train.x[index]))
    assert len(seen) == draws_of(4) == 400
    alive = s2 > 1e-9
    means = torch.stack([x.mean((0, 2, 3)) for x in seen])[:, alive]
    unbiased = torch.stack([x.var((0, 2, 3), correction=0) for x in seen])[:, alive]
    n = seen[0][:, 0].numel()
    line = found["block2.conv2"].lines[1]
    assert found["block2.conv2"].alive == int(alive.sum())
    assert line.batch == 4
    assert line.mean_variance == pytest.approx(float((means.var(0) / s2[alive]).mean()), rel=1e-4)
    assert line.variance_variance == pytest.approx(float((unbiased.var(0) / s2[alive].square()).mean()), rel=1e-4)
    assert line.running_var == pytest.approx(float((n / (n - 1) * unbiased.mean(0) / s2[alive]).mean()), rel=1e-4)
    image_means = torch.stack([x.mean((2, 3)) for x in seen])[:, :, alive]
    without = (4 * means[:, None] - image_means) / 3
    assert line.outlier_sensitivity == pytest.approx(float(((without - means[:, None]).abs().amax(1) / s2[alive].sqrt()).mean()), rel=1e-4)
    assert found["block2.conv2"].lines[0].outlier_sensitivity is None  # a batch of one cannot do without it


def simulated(images: int, pixels: int, rho: float, sizes: list[int]) -> LayerLaw:
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(images, 30, 1, generator=generator, dtype=torch.float64).exp()  # far from Gaussian
    own = torch.randn(images, 30, pixels, generator=generator, dtype=torch.float64)
    x = math.sqrt(rho) * shared / math.sqrt((math.e - 1) * math.e) + math.sqrt(1 - rho) * own
    return of_images(pixels, x.mean(2), x.square().mean(2), sizes)


def of_images(pixels: int, mean: Tensor, square: Tensor, sizes: list[int]) -> LayerLaw:
    source = WithReplacement(mean, square)
    return layer_law("x", pixels, [source.batches(with_replacement(size, len(mean))) for size in sizes], source)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_theory_and_measurement_agree_on_simulated_images(rho: float) -> None:
    """Log-normal brightness, whose variance of variances no Gaussian formula gives; 30 channels of 200 draws are good to a few percent."""
    layer = simulated(3000, 36, rho, [1, 2, 4, 8, 16, 32, 64, 128])
    assert layer.correlation == pytest.approx(rho, abs=0.03)
    assert layer.slope_theory == pytest.approx(-1)
    assert layer.slope is not None
    assert layer.slope_se is not None
    assert layer.slope == pytest.approx(-1, abs=3 * layer.slope_se)
    for line in layer.lines:
        assert line.mean_variance == pytest.approx(line.mean_variance_theory, rel=0.12)
        assert line.sample_size_theory == pytest.approx(line.batch / (layer.correlation + (1 - layer.correlation) / 36), rel=0.02)
        assert line.variance_variance == pytest.approx(line.variance_variance_theory, rel=0.35)
        assert line.running_var == pytest.approx(line.running_var_theory, abs=0.05)
    assert layer.lines[0].running_var_theory == pytest.approx(36 / 35 * (1 - rho - (1 - rho) / 36), abs=0.03)


def test_the_variance_of_the_variance_is_exact() -> None:
    """Against every batch of three that five images make, with replacement."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 1, 4, generator=generator, dtype=torch.float64).exp()
    centre = x.mean()
    index = torch.cartesian_prod(*[torch.arange(5)] * 3)
    exact = x[index].transpose(1, 2).flatten(2).var(2, correction=0).var(0, correction=0)
    z, u = x.mean(2) - centre, (x - centre).square().mean(2)
    assert float(batch_law.variance_of_variance(z, u, 3)) == pytest.approx(float(exact), rel=1e-12)


def test_slopes() -> None:
    assert log_log_slope([1, 2, 4, 8], [3, 1.5, 0.75, 0.375]) == pytest.approx(-1)
    assert log_log_slope([4], [1.0]) is None
    assert log_log_slope([1, 2], [1.0, 0.0]) is None
    assert log_log_slope([1, 4], [1.0, 0.5]) == pytest.approx(-0.5)
    assert slope_error([4], [np.eye(3)]) is None
    assert slope_error([1, 2], [np.eye(5), np.zeros((5, 5))]) is None


@pytest.mark.parametrize("channels", [1, 8])
def test_the_interval_of_the_slope_covers_the_truth(channels: int) -> None:
    """200 times new images with log-normal brightness and correlated channels: slope +- 1.96 standard errors holds -1 about 95 times in a
    hundred. With the standard error of the fit to the four points it does so 82 to 84 times."""
    sizes, covered = [1, 4, 16, 64], 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        shared, own = generator.standard_normal((300, 1)), generator.standard_normal((300, channels))
        images = np.exp(0.5 * (0.6 * shared + 0.8 * own))
        draws = []
        for size in sizes:
            means = images[generator.integers(300, size=(draws_of(size), size))].mean(1)
            draws.append((means - images.mean(0)) / images.std(0))
        slope = log_log_slope(sizes, [float(means.var(0, ddof=1).mean()) for means in draws])
        error = slope_error(sizes, draws)
        assert slope is not None
        assert error is not None
        covered += abs(slope + 1) < Z95 * error
    assert 0.91 <= covered / 200 <= 0.985


def test_a_constant_channel_is_left_out() -> None:
    mean, square = torch.randn(50, 3, dtype=torch.float64), torch.rand(50, 3, dtype=torch.float64)
    mean[:, 1], square[:, 1] = 7.0, 49.0
    layer = of_images(4, mean, square + mean.square(), [4])
    assert (layer.channels, layer.alive) == (3, 3)
    square[:, 1] = 0
    mean[:, 1] = 7.0
    layer = of_images(4, mean, square + mean.square(), [4])
    assert (layer.channels, layer.alive) == (3, 2)
    assert math.isfinite(layer.lines[0].mean_variance)


@pytest.mark.parametrize("mode", ["frozen", pytest.param("train", marks=pytest.mark.slow)])
def test_the_law_holds_on_digits(mode: Literal["frozen", "train"]) -> None:
    """Below frozen norms at every layer, in train mode at the first."""
    own = from_mapping({})
    data = load(own.data, CPU)
    network = build(own.model, data.shape, 10)
    init(network, own.model, [0])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    layers = law(network, data, own, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512], mode)
    for layer in layers if mode == "frozen" else layers[:1]:
        assert layer.slope is not None
        assert layer.slope_se is not None
        assert layer.slope_theory == pytest.approx(-1 if mode == "frozen" else -1.059, abs=1e-3)
        assert layer.slope == pytest.approx(layer.slope_theory, abs=3 * layer.slope_se), layer.layer
        assert layer.slope_se < 0.02
        outliers = [(line.batch, line.outlier_sensitivity or 0) for line in layer.lines if line.batch > 1]
        slope = log_log_slope(*zip(*outliers, strict=True))
        assert slope == pytest.approx(-0.85, abs=0.15)  # nearly -1: larger batches have rarer images
        assert outliers == sorted(outliers, key=lambda pair: -pair[1])
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_in_train_mode_batches_are_those_of_training(tiny: Tiny) -> None:
    """Below a norm the law of independent images, which frozen mode has, is several times off; without norm both modes agree."""
    data = tiny((2, 6, 5), train=300)
    found = {}
    for norm in ("batch", "none"):
        own = from_mapping({"model": {"widths": [4, 6], "norm": norm}, "train": {"batch_size": 8, "steps": 40}, "optim": {"lr": 0.03}})
        stack = Stack([own], data, CPU)
        for _ in range(40):
            train_step(stack)
        for mode in ("train", "frozen"):
            found[norm, mode] = law(stack.network, data, own, [2, 4], mode)
    for layer, frozen in zip(found["batch", "train"], found["batch", "frozen"], strict=True):
        first = layer.layer == "block1.conv1"
        for line, independent in zip(layer.lines, frozen.lines, strict=True):
            assert (line.mean_variance_theory is None) == (line.running_var_theory is None) == (not first)
            assert line.variance_variance_theory is None
            assert independent.mean_variance == pytest.approx(independent.mean_variance_theory, rel=0.2)
            if first:
                assert line.mean_variance == pytest.approx(line.mean_variance_theory, rel=0.2)
        assert (layer.slope_theory is None) == (not first)
    assert found["batch", "frozen"][1].lines[0].mean_variance > 2 * found["batch", "train"][1].lines[0].mean_variance
    for layer, frozen in zip(found["none", "train"], found["none", "frozen"], strict=True):
        for line, independent in zip(layer.lines, frozen.lines, strict=True):
            assert line.mean_variance_theory == pytest.approx(independent.mean_variance_theory * (300 - line.batch) / 299, rel=0.1)
            assert line.mean_variance == pytest.approx(line.mean_variance_theory, rel=0.2)


def test_sizes_above_half_of_the_images_are_not_in_the_slope(tiny: Tiny) -> None:
    """With B = N the variance is rounding noise, and made a slope of -5.5; theory's falls without bound as B comes near N."""
    data = tiny((2, 6, 5), train=64)
    own = from_mapping({"model": {"widths": [4], "norm": "none"}, "train": {"batch_size": 8, "steps": 5}})
    network = build(own.model, data.shape, 3)
    init(network, own.model, [0])
    for sizes in ([4, 16], [4, 32, 33, 60, 64]):
        for layer, fitted in zip(
            law(network, data, own, sizes), law(network, data, own, [size for size in sizes if size <= 32]), strict=True
        ):
            assert [line.batch for line in layer.lines] == sizes
            assert layer.slope_se is not None
            assert (layer.slope, layer.slope_se, layer.slope_theory) == (
                pytest.approx(fitted.slope, rel=1e-9),
                pytest.approx(fitted.slope_se, rel=1e-6),
                pytest.approx(fitted.slope_theory, rel=0.2),  # of the moments that the largest batches have
            )
            assert layer.slope == pytest.approx(layer.slope_theory, abs=4 * layer.slope_se)
    (layer, _) = law(network, data, own, [4, 64])
    assert (layer.slope, layer.slope_se, layer.slope_theory) == (None, None, None)
    frozen, _ = law(network, data, own, [4, 64], "frozen")
    assert frozen.slope_theory == pytest.approx(-1)


def test_the_order_of_a_file_makes_no_difference(tmp_path: Path) -> None:
    """22,000 images that lie class by class: those that are measured come from all of them."""
    generator = np.random.default_rng(0)
    y = np.arange(22_000) * 2 // 22_000
    x = (generator.standard_normal((22_000, 1, 4, 4)) + 4.0 * y[:, None, None, None]).astype(np.float32)
    found = {}
    for name, order in (("sorted", np.arange(22_000)), ("shuffled", generator.permutation(22_000))):
        np.savez(tmp_path / f"{name}.npz", x=x[order], y=y[order])
        own = from_mapping({"data": {"name": "npz", "root": str(tmp_path / f"{name}.npz")}, "model": {"widths": [4], "norm": "none"}})
        data = load(own.data, CPU)
        network = build(own.model, data.shape, 2)
        init(network, own.model, [0])
        found[name] = law(network, data, own, [1], "frozen")[0].correlation
    assert found["sorted"] == pytest.approx(found["shuffled"], abs=0.02)
    assert found["sorted"] > 0.3  # which comes from the classes


def bn(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*args], prog_name="bnexp")
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 else result.stderr


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = json.loads(bn("stats", "model.widths=[4]", "--batch-sizes", "16,2,2", "--json", "--quiet"))
    assert [line["batch"] for line in fresh["layers"][0]["lines"]] == [2, 16]
    assert [layer["layer"] for layer in fresh["layers"]] == ["block1.conv1", "block1.conv2"]
    assert fresh["weights"] == "fresh ones of seed 0"
    assert fresh["images"] == 1293
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["reports"]  # its result and report, and no run
    bn("train", "model.widths=[4]", "train.epochs=null", "train.steps=20", "--quiet")
    before = {path.name: path.read_bytes() for path in next((tmp_path / "runs").glob("batch-*")).iterdir()}
    trained = json.loads(bn("stats", "last", "--batch-sizes", "2,16", "--json", "--quiet"))
    assert trained["layers"] != fresh["layers"]
    assert "batch-bs32" in trained["weights"]
    assert {path.name: path.read_bytes() for path in next((tmp_path / "runs").glob("batch-*")).iterdir()} == before
    assert (trained["mode"], trained["drawn"]) == ("train", "without replacement, as in training")
    assert [layer["slope_theory"] is None for layer in trained["layers"]] == [False, True]
    assert [line["draws"] for line in trained["layers"][0]["lines"]] == [800, DRAWS]
    frozen = json.loads(bn("stats", "last", "--batch-sizes", "2,16", "--mode", "frozen", "--json", "--quiet"))
    assert (frozen["mode"], frozen["drawn"]) == ("frozen", "with replacement")
    assert [layer["slope_theory"] for layer in frozen["layers"]] == [pytest.approx(-1)] * 2
    said = "Sizes above 646, half of the training images, are not in the slope"
    for sizes, told in (("4,1293", True), ("4,646", False)):
        table = bn("stats", "model.widths=[2]", "--batch-sizes", sizes)
        assert (said in " ".join(table.split())) == told
        assert ("n/a" in table) == told
        page = next(iter(sorted((tmp_path / "runs/reports").glob("*/*.html"), key=lambda path: -path.stat().st_mtime_ns))).read_text()
        assert (said in page) == told
    table = bn("stats", "data=waveforms", "model.norm=none", "--batch-sizes", "1,8")
    assert "Var[mean]" in table
    assert "No norms" in table
    assert "train mode: n = 200" in table
    mlp = json.loads(bn("stats", "model=mlp", "--batch-sizes", "1,2", "--mode", "frozen", "--json"))
    assert mlp["layers"][0]["lines"][0]["running_var"] is None  # one value has no variance
    assert mlp["layers"][0]["pixels"] == 1


def test_sizes_that_training_cannot_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    says = bn("stats", "model=mlp", "model.widths=[4]", "--batch-sizes", "1,2", code=2)
    assert "one value a channel" in says
    says = bn("stats", "model.widths=[4]", "--batch-sizes", "4,2000", code=2)
    assert "from 1,293 training images" in says
    assert not list(tmp_path.glob("runs/*"))
    own = from_mapping({"model": {"name": "mlp"}})
    assert check_sizes(None, load(own.data, CPU), own, "train") == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert check_sizes(None, load(own.data, CPU), own, "frozen") == BATCH_SIZES


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--batch-sizes", "0"], "is no batch size"),
        (["--batch-sizes", "2,x"], "is no batch size"),
        (["--batch-sizes", "2,,3"], "empty value"),
        (["--batch-sizes", ""], "is empty"),
        (["--mode", "eval"], "'eval' is not one of 'train', 'frozen'"),
        (["--batch-sizes", "99999999999999999999"], "is no batch size"),
        (["nothing"], "There are no runs"),
        (["last", "optim.lr=1"], "is too much"),
        (["a", "b"], "is too much"),
        (["optim.lrr=1"], "There is no config key"),
    ],
)
def test_what_the_command_refuses(args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in bn("stats", *args, code=2)
    assert not list(tmp_path.iterdir())


def test_a_changed_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bn("train", "model.widths=[4]", "train.epochs=null", "train.steps=8", "--quiet")
    run = next((tmp_path / "runs").glob("batch-*"))
    other = run.with_name(run.name[:-8] + "00000000")
    shutil.copytree(run, other)
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps({**summary, "id": other.name}))
    assert "changed since" in bn("stats", other.name, code=2)
