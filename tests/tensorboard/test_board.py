"""What goes into event files, piece by piece: pictures, histograms, graph, hparams, means over seeds, and how a file is cut."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import make_result, some
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
from torch.nn.modules.batchnorm import _BatchNorm

from bnexp.analysis import analyse
from bnexp.config import Config, ModelConfig
from bnexp.execution.logs import RunLog
from bnexp.models import build, layer_map
from bnexp.storage.facts import Status
from bnexp.storage.folder import results_of
from bnexp.storage.group import Group
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run
from bnexp.tensorboard import means, pictures
from bnexp.tensorboard.files import cut_after
from bnexp.tensorboard.histograms import BINS, histogram, named_tensors
from bnexp.tensorboard.hparams import KEYS, METRICS, closing, opening
from bnexp.tensorboard.run_events import graph


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path, "a-12345678")
    run.start(Config())
    return run


def read(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    board.Reload()
    return board


def begin(run: Run) -> RunLog:
    log = RunLog(run, Config())
    log.board(0, opening(Config()))
    for step in (0, 10, 20):
        log.record(step, step / 10, {"val/loss": float(step)})
    return log


def end(log: RunLog, step: int) -> None:
    """What `engine` writes when a run has come to its end."""
    log.record(step, 1.0, {"test/running/accuracy": 0.5})
    log.board(step, closing(step, diverged=False))


def test_an_end_that_was_written_before_the_kill_comes_only_once(run: Run) -> None:
    """A checkpoint of the last step is older than the test scores, which have its step."""
    log = begin(run)
    end(log, 20)
    log.close()
    assert "_hparams_/session_end_info" in read(run.folder).Tags()["tensors"]
    RunLog(run, Config(), from_step=20).close()
    assert "_hparams_/session_end_info" not in read(run.folder).Tags()["tensors"]  # killed again: it has not ended
    log = RunLog(run, Config(), from_step=20)
    end(log, 20)
    log.close()
    board = read(run.folder)
    assert [event.step for event in board.Scalars("val/loss")] == [0, 10, 20]
    for tag in ("test/running/accuracy", "hparams/diverged", "hparams/steps_to_target"):
        assert [event.step for event in board.Scalars(tag)] == [20]
    assert {tag: len(board.Tensors(tag)) for tag in board.Tags()["tensors"]} == {
        **{f"_hparams_/{name}": 1 for name in ("experiment", "session_start_info", "session_end_info")},
        "config/text_summary": 1,
    }


def test_what_was_flushed_is_there_while_the_run_goes_on(run: Run) -> None:
    """A checkpoint flushes: what it does not go back to must not be lost with the process."""
    log = begin(run)
    log.sync()
    assert [event.step for event in read(run.folder).Scalars("val/loss")] == [0, 10, 20]
    log.close()


def test_a_file_is_cut_after_a_step_or_at_a_torn_record(run: Run) -> None:
    begin(run).close()
    (path,) = run.folder.glob("events.*")
    whole = path.read_bytes()
    cut_after(run.folder, 20)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-3])
    cut_after(run.folder, 20)
    assert [event.step for event in read(run.folder).Scalars("val/loss")] == [0, 10]
    cut_after(run.folder, 9)
    assert [event.step for event in read(run.folder).Scalars("val/loss")] == [0]
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * 40)
    cut_after(run.folder, 20)
    assert whole.startswith(path.read_bytes())


def test_hparams_are_config_keys_and_metrics_are_written() -> None:
    names = {value.tag for value in closing(3, diverged=False)}
    assert {tag for tag in METRICS if tag.startswith("hparams/")} == {tag for tag in names if tag.startswith("hparams/")}
    assert {value.tag for value in closing(None, diverged=True)} == names - {"hparams/steps_to_target"}
    assert len(set(KEYS)) == len(KEYS)
    _, start = opening(Config())
    hparams = parse_session_start_info_plugin_data(start.metadata.plugin_data.content).hparams
    assert set(KEYS) - set(hparams) == {"data.subset", "train.steps"}  # null by default
    assert hparams["optim.lr"].number_value == 0.1
    assert hparams["model.widths"].string_value == "[16, 32, 64]"
    assert hparams["train.until_target"].WhichOneof("kind") == "bool_value"


GAP, SIDE = pictures.GAP, pictures.SIDE


def decoded(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As a browser gets it."""
    value = pictures.value("x", picture)
    return np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("RGB"))


def test_examples_show_their_values() -> None:
    x = np.zeros((2, 1, 8, 8), np.uint8)
    x[0, 0, :4], x[1, 0, :, 4:] = 16, 8
    picture = decoded(pictures.examples(x, [0, 1], ["a", "b"]))
    first, second = picture[GAP : GAP + SIDE, GAP : GAP + SIDE], picture[GAP : GAP + SIDE, 2 * GAP + SIDE : 2 * (GAP + SIDE)]
    assert (first[: SIDE // 2] == 255).all()
    assert (first[SIDE // 2 :] == 0).all()
    assert (second[:, : SIDE // 2] == 0).all()
    assert (second[:, SIDE // 2 :] == 128).all()


def test_colours_stay_colours_and_other_channels_stand_side_by_side() -> None:
    x, inside = np.zeros((1, 3, 4, 4), np.float32), GAP + 5
    x[:, 1] = 1
    assert pictures.examples(x, [0], ["green"])[inside, inside].tolist() == [0, 255, 0]
    picture = pictures.examples(x[:, :2], [0], ["two"])
    assert picture[inside, inside].tolist() == [0, 0, 0]
    assert picture[inside, GAP + SIDE + 5].tolist() == [255, 255, 255]


def test_volumes_show_their_middle_slice_and_series_their_curve() -> None:
    x = np.zeros((1, 1, 5, 4, 4), np.float32)
    x[:, :, 2] = 1
    assert pictures.examples(x, [0], ["v"])[GAP + 5, GAP + 5].tolist() == [255, 255, 255]
    picture = pictures.examples(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 64), [0], ["up"])
    line = np.argwhere((picture == pictures.COLORS[0]).all(2))
    first, last = line[line[:, 1].argmin()], line[line[:, 1].argmax()]
    assert first[0] > last[0] + 25  # rows count downwards


def test_filters_are_gray_at_zero_and_none_where_a_weight_is_not_finite() -> None:
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 0, 0], weight[0, 0, 2, 2] = 2.0, -1.0
    picture = some(pictures.filters(weight))
    assert [picture[at, at, 0] for at in (GAP + 2, GAP + SIDE // 2, GAP + SIDE - 2)] == [255, 128, 64]
    weight[0, 0, 1, 1] = np.nan
    assert pictures.filters(weight) is None


@pytest.mark.parametrize("count", [2, 10, 20, 21, 300])
def test_confusion_is_dark_where_all_of_a_class_are(count: int) -> None:
    picture = pictures.confusion(np.diag([7] * count).tolist(), [f"class {index}" for index in range(count)])
    dark = np.argwhere((picture == (8, 48, 107)).all(2))
    assert np.corrcoef(dark.T)[0, 1] > 0.7  # along the diagonal
    assert (dark[:, 0].max(), dark[:, 1].max()) > (picture.shape[0] - 12, picture.shape[1] - 12)
    assert max(picture.shape) < 800
    swapped = pictures.confusion(np.diag([7] * count)[::-1].tolist(), [f"class {index}" for index in range(count)])
    assert np.corrcoef(np.argwhere((swapped == (8, 48, 107)).all(2)).T)[0, 1] < -0.7


def test_long_labels_keep_what_tells_them_apart() -> None:
    font = pictures.font_of(None, 14)
    short = {pictures._fitting(f"a rather long label {index}", font, SIDE) for index in range(12)}
    assert len(short) == 12
    assert all(font.getlength(label) <= SIDE for label in short)


def drawn(font: Any, letter: str) -> bytes:
    return bytes(font.getmask(letter))


@pytest.mark.parametrize("names", [("Bär", "naïve"), ("кошка", "σκύλος"), ("猫", "止血钳"), ("cat", "猫"), ("Bär", "猫")])
def test_no_label_has_boxes_for_letters(names: tuple[str, ...]) -> None:
    """Chinese class names were rows of boxes. Which fonts are here differs: a name is drawn in full or has its class's number."""
    file, shown = pictures.labels_of(names)
    font = pictures.font_of(file, 14)
    assert not {drawn(font, letter) for letter in "".join(shown)} & {drawn(font, "\U0010ffff")}
    assert len({drawn(font, letter) for letter in "".join(shown)}) > 2  # not one sign for all
    assert all(name in (names[index], f"class {index}") for index, name in enumerate(shown))
    assert shown[0] == names[0] or names[0] == "猫"


def test_numbers_in_the_place_of_names_are_explained() -> None:
    unknown = "\U0010fffd"  # no font has it
    plain, numbered = (pictures.confusion([[5, 1], [2, 7]], ["cat", name]) for name in ("dog", unknown))
    assert pictures.labels_of(["cat", unknown])[1] == ["cat", "class 1"]
    below = numbered[plain.shape[0] :]
    assert (below < 128).any()  # a line of text below the matrix


def test_a_histogram_counts_every_value() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    found = histogram(values)
    assert len(found.bucket) == BINS
    below = [(values <= limit).sum() for limit in np.float32(found.bucket_limit)]
    assert np.abs(np.cumsum(found.bucket) - below).max() <= 1  # a value on an edge
    assert (found.num, found.min, found.max) == (1000, values.min(), values.max())
    assert [(len(histogram(values[:n]).bucket), sum(histogram(values[:n]).bucket)) for n in (16, 1)] == [(8, 16), (1, 1)]


@pytest.mark.parametrize("placement", ["conv-norm-relu", "norm-conv-relu", "conv-relu-norm"])
@pytest.mark.parametrize("name", ["blocknet", "mlp"])
def test_every_tensor_of_the_state_has_one_histogram(name: str, placement: str) -> None:
    network = build(ModelConfig(name=name, widths=(4, 6), placement=placement), (1, 8, 8), 3)
    state = network.state_dict()
    found = named_tensors(layer_map(network, placement), state)
    expected = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    assert sorted(map(id, found.values())) == sorted(map(id, expected))
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for kind, part in (("gamma", "weight"), ("beta", "bias"), ("running_mean", "running_mean"), ("running_var", "running_var")):
        own = [tensor.data_ptr() for tag, tensor in found.items() if tag.startswith(f"{kind}/")]
        assert own == [getattr(norm, part).data_ptr() for norm in norms]


@pytest.mark.parametrize("norm", ["batch", "none", "noisy", "frozen"])
@pytest.mark.parametrize(
    ("name", "shape"), [("blocknet", (2, 16)), ("blocknet", (1, 8, 8)), ("blocknet", (1, 4, 4, 4)), ("mlp", (1, 8, 8))]
)
def test_the_graph_is_a_chain_and_draws_no_random_number(name: str, shape: tuple[int, ...], norm: str) -> None:
    config = ModelConfig(name=name, widths=(4, 6), norm=norm)
    before = torch.get_rng_state()
    nodes = graph(config, shape, 3).node
    assert torch.equal(torch.get_rng_state(), before)
    assert [list(node.input) for node in nodes] == [[], *([node.name] for node in nodes[:-1])]
    assert len({node.name for node in nodes}) == len(nodes)
    assert [dim.size for dim in nodes[-1].attr["_output_shapes"].list.shape[0].dim] == [-1, 3]
    leaves = [module for module in build(config, shape, 3).modules() if not list(module.children())]
    assert [node.op for node in nodes[1:-1]] == [type(module).__name__ for module in leaves]


def store(runs_dir: Path, name: str | None = None, *, status: Status = "finished", **changes: Any) -> Run:
    """A run as its summary and its metrics.jsonl say, without training it."""
    config = Config(name=name).replace(**changes)
    run = Run(runs_dir, config.run_id())
    run.start(config)
    named = replace(config, name=config.run_name)
    run.write_result(RunResult(run.id, status, config.seed, named, written_at="2024-05-06T07:08:09+0000"))
    records = [{"step": step, "val/loss": 1.0 + config.seed, "val/accuracy": 0.5} for step in (4, 8)]
    run.metrics_jsonl.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run


def names(runs_dir: Path, runs: list[Run]) -> list[str]:
    study = analyse("report", runs, results_of(runs), {"": runs})
    return sorted(path.name for path in means.write_means(Group(runs_dir, "0123abcd"), study))


def test_means_are_named_like_their_runs_and_by_what_those_names_leave_out(tmp_path: Path) -> None:
    runs = [store(tmp_path, seed=seed, **{"optim.lr": lr}) for seed in range(3) for lr in (0.1, 0.01)]
    assert names(tmp_path, runs) == ["batch-bs32-lr0.01-mean3", "batch-bs32-lr0.1-mean3"]
    other = [store(tmp_path, seed=seed, **{"optim.weight_decay": 0.001}) for seed in range(2)]
    expected = ["batch-bs32-lr0.01-mean3", "batch-bs32-lr0.1-weight_decay0-mean3", "batch-bs32-lr0.1-weight_decay0.001-mean2"]
    assert names(tmp_path, [*runs, *other]) == expected
    assert sorted(path.name for path in (tmp_path / ".groups" / "0123abcd").iterdir()) == expected  # what it was before is gone
    named = [store(tmp_path, "mine", seed=seed, **{"model.norm": norm}) for seed in range(2) for norm in ("batch", "none")]
    assert names(tmp_path, named) == ["mine-normbatch-mean2", "mine-normnone-mean2"]


def test_only_results_of_two_seeds_make_a_mean(tmp_path: Path) -> None:
    runs = [store(tmp_path, seed=0), store(tmp_path, seed=1), store(tmp_path, seed=2, status="failed")]
    assert names(tmp_path, runs) == ["batch-bs32-lr0.1-mean2"]
    board = read(tmp_path / ".groups" / "0123abcd" / "batch-bs32-lr0.1-mean2")
    assert [(event.step, event.value) for event in board.Scalars("val/loss")] == [(4, 1.5), (8, 1.5)]
    assert names(tmp_path, [runs[0], runs[2]]) == []
    assert not list((tmp_path / ".groups" / "0123abcd").iterdir())


def curve(seeds: list[means.Seed], tag: str) -> list[tuple[int, float]]:
    events = list(means.mean_events(seeds, 0.0))
    return [(event.step, pytest.approx(value.simple_value)) for event in events for value in event.summary.value if value.tag == tag]


def test_a_run_that_stopped_early_keeps_its_last_values_and_a_diverged_one_is_left_out() -> None:
    finished, diverged = make_result(), make_result(status="diverged", diverged_at_step=6)
    long = means.Seed(finished, {"val/accuracy": [(4, 0.5), (8, 0.7), (12, 0.9)], "val/loss": [(4, 2.0), (8, 1.0), (12, 0.5)]})
    stopped = means.Seed(finished, {"val/accuracy": [(4, 0.7)], "val/loss": [(4, 1.0)]})
    assert curve([long, stopped], "val/accuracy") == [(4, 0.6), (8, 0.7), (12, 0.8)]
    assert curve([long, stopped], "seeds/diverged") == [(4, 0), (8, 0), (12, 0)]
    lost = means.Seed(diverged, {"val/accuracy": [(4, 0.7), (8, 0.1)], "val/loss": [(4, 1.0), (8, math.nan)]})
    assert curve([long, lost], "val/accuracy") == [(4, 0.6), (8, 0.7), (12, 0.9)]
    assert curve([long, lost], "val/loss") == [(4, 1.5), (8, 1.0), (12, 0.5)]
    assert curve([long, lost], "seeds/val/loss/upper") == [(4, 1.5 + math.sqrt(0.5))]  # of one seed there is no deviation
    assert curve([long, lost], "seeds/diverged") == [(4, 0), (8, 1), (12, 1)]
