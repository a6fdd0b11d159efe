"""`bnexp compare`: the arms it trains, what it refuses, and what it says of real runs."""

import json
import math
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from support import bn
from test_sweep import TINY
from typer.testing import Result

from bnexp.analysis import StableLr
from bnexp.base.errors import UsageError
from bnexp.storage.folder import list_runs
from bnexp.studies.compare import refined, request


def compare(runs_dir: Path, *args: str, code: int = 0) -> Result:
    return bn("compare", *args, "--runs-dir", str(runs_dir), code=code)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Four rates, both arms and three seeds of a small network, with what --json says of them."""
    runs_dir = tmp_path_factory.mktemp("compared")
    args = ["model.widths=[8,8]", "train.epochs=3", "train.target=0.5", "--lrs", "0.01,0.1,1,1e20", "--seeds", "3", "--margin", "60"]
    result = compare(runs_dir, "--no-bn", *args, "--workers", "0", "--json", "--out", str(runs_dir / "out"))
    return runs_dir, json.loads(result.stdout)


def test_each_arm_gets_every_rate_and_seed() -> None:
    configs = request([], [], no_bn=True)
    cells = [(c.model.norm, c.optim.lr, c.seed) for c in configs]
    assert len(set(cells)) == len(cells) == 2 * 7 * 10
    assert {arm: {cell[1:] for cell in cells if cell[0] == arm} for arm in ("batch", "none")}["batch"] == {
        cell[1:] for cell in cells if cell[0] == "none"
    }
    assert {c.model.norm for c in request(["model.norm=none"], ["batch"])} == {"none", "batch"}
    assert {c.optim.lr for c in request(["optim.lr=0.1"], [], no_bn=True)} == {0.1}


def test_dry_run_trains_nothing_and_counts_what_is_finished(compared: tuple[Path, dict]) -> None:
    runs_dir, found = compared
    before = {path: path.stat().st_mtime_ns for path in runs_dir.rglob("*")}
    args = [
        "--no-bn",
        "model.widths=[8,8]",
        "train.epochs=3",
        "train.target=0.5",
        "--lrs",
        "0.01,0.1,1,1e20,0.3",
        "--seeds",
        "3",
        "--dry-run",
    ]
    plan = json.loads(compare(runs_dir, *args, "--json").stdout)
    assert (plan["runs"], plan["reused"], plan["parts"]) == (30, len(found["runs"]), {"3 epochs": 30})
    assert "30 runs, 24 of them finished" in compare(runs_dir, *args).stdout
    assert {path: path.stat().st_mtime_ns for path in runs_dir.rglob("*")} == before
    assert "--dry-run asks for new ones" in compare(runs_dir, "last", "--dry-run", code=2).stderr


@pytest.mark.parametrize(
    ("overrides", "norms", "options", "message"),
    [
        ([], [], {}, "one arm only .batch.; add another with --norm NAME, where NAME is none"),
        ([], ["batch"], {}, "one arm only"),
        ([], ["bacth"], {}, "Did you mean 'batch'"),
        (["model.norm=none"], [], {"no_bn": True}, "where NAME is batch"),
        (["model.norm=batch,none"], [], {"no_bn": True}, "name the arms with --norm"),
        (["train.batch_size=4,8"], [], {"no_bn": True}, "bnexp sweep grid"),
        (["optim.lr=0.1"], [], {"no_bn": True, "lrs": ["1"]}, "both say which learning rates"),
        ([], [], {"no_bn": True, "lrs": []}, "the grid has no cell"),
        ([], [], {"no_bn": True, "lrs": ["0.1", "-1"]}, "optim.lr=-1.0 is out of range"),
        (["seed=1,2"], [], {"no_bn": True, "seeds": 2}, "both say which seeds"),
        (["train.batch_size=2000"], [], {"no_bn": True}, "larger than the 1293 training images"),
    ],
)
def test_bad_comparisons_are_refused(overrides: list[str], norms: list[str], options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(overrides, norms, **options)


def test_paired_arms_start_alike_and_see_the_same_batches(compared: tuple[Path, dict]) -> None:
    _, found = compared
    hashes: dict[tuple[str, int], set[str]] = {}
    for summary in found["runs"]:
        for key in ("initial_weights", "batch_order"):
            hashes.setdefault((key, summary["seed"]), set()).add(summary["audit"][key])
    assert {len(values) for values in hashes.values()} == {1}  # one hash a seed, over both arms and all rates
    assert len(set.union(*hashes.values())) == len(hashes) == 6
    assert found["audit"]["passed"] is True
    assert {check["name"]: check["passed"] for check in found["audit"]["checks"]}["initial weights"] is True


def test_the_comparison_has_its_parts(compared: tuple[Path, dict]) -> None:
    _, found = compared
    comparison, arms = found["comparison"], ("batch", "none")
    assert comparison["baseline"] == "none"
    for arm in arms:
        own = [s for s in found["runs"] if s["config"]["model"]["norm"] == arm and s["status"] == "finished"]
        chosen = [min((s for s in own if s["seed"] == seed), key=lambda s: s["val"]["loss"]) for seed in range(3)]
        result = comparison["headline"]["arms"][arm]
        rates = [s["config"]["optim"]["lr"] for s in chosen]
        assert {float(lr): n for lr, n in result["picked"].items()} == {lr: rates.count(lr) for lr in rates}
        assert sum(result["fastest"].values()) == result["steps"]["reached"]
        mean = sum(s["test"]["running"]["accuracy"] for s in chosen) / 3
        assert result["accuracy"]["running"]["mean"] == pytest.approx(mean)
        gap = sum(s["train"]["accuracy"] - s["test"]["running"]["accuracy"] for s in chosen) / 3
        assert result["gap"]["mean"] == pytest.approx(gap)
        assert comparison["stable_lr"][arm]["lr"] >= 0.1
        assert comparison["stable_lr"][arm]["unstable_lr"] <= 1e20
    versus = comparison["headline"]["versus"]["batch"]
    assert versus["over_images"]["n_images"] == 360  # which images were right is recorded
    assert versus["over_images"]["primary"] is True
    assert versus["equivalence"]["margin"] == 0.6
    assert versus["accuracy"]["precise"]["p_holm"] >= versus["accuracy"]["precise"]["p"]
    assert {matchup["lr"] for matchup in comparison["same_lr"]} == {0.01, 0.1, 1, 1e20}
    assert "3 seeds" in comparison["verdict"][0]
    assert any("diverged" in warning for warning in comparison["warnings"])


def test_seconds_are_steps_times_the_solo_step(compared: tuple[Path, dict]) -> None:
    _, found = compared
    for arm, step in found["step_times"].items():
        steps = found["comparison"]["headline"]["arms"][arm]["steps"]["median"]
        seconds = found["seconds"]["to_target"][arm]["median"]
        assert step["steps"] >= 20
        assert (seconds is None) if steps is None else seconds == pytest.approx(steps * median(step["turns_ms"]) / 1e3)
    versus = found["seconds"]["versus"]["batch"]
    batch, none = (found["step_times"][arm]["turns_ms"] for arm in ("batch", "none"))
    assert len(batch) == len(none) == versus["step_cost"]["turns"] >= 20
    cost = math.exp(sum(math.log(a / b) for a, b in zip(batch, none, strict=True)) / len(batch))
    assert versus["step_cost"]["factor"] == pytest.approx(cost)
    assert versus["step_cost"]["low"] <= cost <= versus["step_cost"]["high"]


@pytest.mark.slow
def test_runs_that_are_there_compare_to_the_same_numbers(compared: tuple[Path, dict]) -> None:
    runs_dir, found = compared
    before = {path: path.stat().st_mtime_ns for run in list_runs(runs_dir) for path in run.folder.iterdir()}
    again = json.loads(compare(runs_dir, *[run.id for run in list_runs(runs_dir)], "--json", "--margin", "60").stdout)
    stated, before_stated = again["comparison"].pop("verdict"), {**found["comparison"]}.pop("verdict")
    assert again["comparison"] == {key: value for key, value in found["comparison"].items() if key != "verdict"}
    assert stated[:-1] == before_stated[:-1]  # the last is on seconds, which were measured again
    assert again["audit"] == found["audit"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    text = compare(runs_dir, *[run.id for run in list_runs(runs_dir)], "--verbose").stdout
    for part in (
        "Each seed at the learning rate that it chose",
        "Fairness audit: passed",
        "initial weights",
        "largest stable learning rate",
    ):
        assert part in text, part
    assert (runs_dir / "out" / "compare.json").exists()


def test_what_cannot_be_compared_is_refused_with_the_reason(compared: tuple[Path, dict]) -> None:
    runs_dir, _ = compared
    batch, none = (next(run.id for run in list_runs(runs_dir) if run.id.startswith(f"{norm}-bs32-lr0.1-s0")) for norm in ("batch", "none"))
    bn("train", *TINY, "data=waveforms", "--quiet", "--runs-dir", str(runs_dir))
    other = list_runs(runs_dir)[-1].id
    seed = next(run.id for run in list_runs(runs_dir) if run.id.startswith("batch-bs32-lr0.1-s1"))
    for args, message in (
        ([batch, other], "data.name is"),
        ([batch, seed], "one arm"),
        ([batch], "at least two runs"),
        ([batch, "nosuch"], "no run 'nosuch'"),
        ([batch, none, "--no-bn"], "give runs alone"),
        ([batch, none, "--refine"], "--refine asks for new ones; give runs alone"),
        ([batch, none, "optim.lr=0.1"], "give runs alone"),
        ([], "Say what to compare"),
    ):
        assert message in " ".join(compare(runs_dir, *args, code=2).stderr.split())
    bn("runs", "rm", other, "--runs-dir", str(runs_dir))


@pytest.mark.parametrize("margin", ["0", "-1", "100", "nan"])
def test_a_margin_is_above_0_and_below_100_points(margin: str, tmp_path: Path) -> None:
    result = compare(tmp_path / "runs", "--no-bn", *TINY, "--margin", margin, code=2)
    assert f"--margin {margin} is not a margin in points of accuracy; give one above 0 and below 100, as in --margin 0.5." in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "runs").exists()


def test_refining_halves_each_bracket_in_every_arm() -> None:
    configs = request([*TINY], [], no_bn=True, lrs=["0.01", "0.1", "1"], seeds=2)

    def more(batch: tuple[float, float], none: tuple[float, float]) -> list[tuple[str, float, int]]:
        stable = {arm: StableLr(*bracket, {}, ()) for arm, bracket in (("batch", batch), ("none", none))}
        return sorted((c.model.norm, c.optim.lr, c.seed) for c in refined(configs, stable))

    both = [(arm, lr, seed) for arm in ("batch", "none") for lr in (0.0316, 0.316) for seed in range(2)]
    assert more((0.1, 1.0), (0.01, 0.1)) == both  # the trials stay equal
    assert more((0.1, 1.0), (0.1, 1.0)) == [one for one in both if one[1] == 0.316]
    assert more((1.0, math.inf), (0.0, 0.01)) == []  # an open bracket has no middle
    assert more((0.1, 0.1001), (0.1, 0.1001)) == []  # as fine as three digits are
    assert refined(configs, {"batch": StableLr(None, None, {}, ())}) == []


@pytest.mark.slow
def test_refine_trains_the_new_rates_in_every_arm_and_again_trains_nothing(tmp_path: Path) -> None:
    line = ["--no-bn", "model.widths=[8,8]", "train.epochs=3", "--lrs", "0.1,1e20", "--seeds", "2", "--refine", "--workers", "0", "--json"]
    first = json.loads(compare(tmp_path, *line).stdout)
    assert first["reused"] == []
    tried = {arm: {s["config"]["optim"]["lr"] for s in first["runs"] if s["config"]["model"]["norm"] == arm} for arm in ("batch", "none")}
    assert tried["batch"] == tried["none"] > {0.1, 1e20}
    assert len(first["runs"]) == 2 * 2 * len(tried["batch"])
    for found in first["comparison"]["stable_lr"].values():
        assert found["unstable_lr"] / found["lr"] == pytest.approx(1e21**0.25, rel=0.02)  # two bisections of a factor of 1e21
    models = {run.id: run.model_pt.stat().st_mtime_ns for run in list_runs(tmp_path)}
    again = json.loads(compare(tmp_path, *line).stdout)
    assert sorted(again["reused"]) == sorted(models)
    assert {run.id: run.model_pt.stat().st_mtime_ns for run in list_runs(tmp_path)} == models
    for part in ("best_lr", "stable_lr", "warnings"):  # the step times, and so Holm's p, are measured again
        assert again["comparison"][part] == first["comparison"][part]


@pytest.mark.slow
def test_settings_other_than_the_norm_are_arms_too(tmp_path: Path) -> None:
    for momentum in ("0.1", "0.5"):
        bn("train", *TINY, f"model.bn_momentum={momentum}", "--quiet", "--seeds", "2", "--runs-dir", str(tmp_path))
    found = json.loads(compare(tmp_path, *[run.id for run in list_runs(tmp_path)], "--json").stdout)
    assert sorted(found["comparison"]["arms"]) == ["bn_momentum=0.1", "bn_momentum=0.5"]


def test_a_comparison_of_which_nothing_ran_says_why(tmp_path: Path) -> None:
    first, second = request([*TINY, "optim.lr=0.1"], [], no_bn=True, seeds=1)
    for config in (first, second):
        (tmp_path / config.run_id()).write_text("a file where the run's folder should be")
    result = compare(tmp_path, "--no-bn", *TINY, "--lrs", "0.1", "--seeds", "1", "--workers", "0", code=3)
    assert "2 of 2 runs failed" in result.stderr
    assert "File exists" in result.stderr or "Not a directory" in result.stderr


def test_runs_whose_data_are_gone_compare_without_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "d.npz"
    np.savez(file, x=rng.normal(size=(100, 1, 4, 4)).astype(np.float32), y=np.arange(100) % 4)
    for norm in ("batch", "none"):
        bn("train", "data=npz", f"data.root={file}", *TINY, f"model.norm={norm}", "--quiet", "--runs-dir", str(tmp_path / "k=v"))
    file.unlink()
    result = compare(tmp_path, *[str(run.folder) for run in list_runs(tmp_path / "k=v")], "--json")
    assert "No seconds:" in result.stderr
    assert json.loads(result.stdout)["seconds"] is None
    assert json.loads(result.stdout)["comparison"]["arms"] == ["none", "batch"]
