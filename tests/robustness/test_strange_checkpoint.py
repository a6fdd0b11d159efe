"""A stranger's checkpoint.pt with a wrong value in the place of each of its own: it does not fit, nothing of it is taken, and the one
before is used; or it does no harm."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import CONFIG, Tiny, bn_in, interrupt, train

from bnexp.config import from_mapping
from bnexp.storage.checkpoint import load_checkpoint
from bnexp.training.fit import speed
from bnexp.training.stack import Stack

CPU = torch.device("cpu")
WRONG: tuple[Any, ...] = (None, "x", [], {}, {0: {}}, -5, 0, 2**70, 0.5, -1.0, 1e300, float("nan"), True, torch.zeros(3, 7))


def stacks(tiny: Tiny, **model: Any) -> tuple[Stack, Stack]:
    """The same stack twice; the first one has made 5 of its 12 steps, and one of its runs has stopped."""
    tree = {"model": {"widths": [3], **model}, "train": {"batch_size": 8, "steps": 12, "until_target": True}, "optim": {"name": "adam"}}
    own = from_mapping({**tree, "metrics": {"every": 2, "sharpness": False}})
    first, second = (Stack([own, own.replace(seed=1)], tiny((2, 6, 6)), CPU) for _ in range(2))
    train(first, stop=lambda: first.step == 5)
    if not first.stopped:
        first.tracks[1].reached_step, first.tracks[1].reached_train_s = 5, first.clock.train_s
        first.stop_run(1)
    return first, second


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a state: of its dicts all keys, of its lists the first item."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def put(state: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(state)
    node: Any = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


@pytest.mark.slow
def test_what_does_not_fit_is_refused_and_nothing_of_it_taken(tiny: Tiny, tmp_path: Path) -> None:
    made, fresh = stacks(tiny)
    state = made.state_dict()
    before = str(fresh.state_dict())
    taken = []
    for path in places(state):
        for value in WRONG:
            wrong = {"format": 1, **put(state, path, value)}
            torch.save(wrong, tmp_path / "checkpoint.pt")
            told: list[str] = []
            if load_checkpoint(tmp_path, told.append, fresh.load_state_dict) is None:
                assert "does not fit" in told[0], (path, value, told)
                assert str(fresh.state_dict()) == before, (path, value)
                continue
            taken.append((path, value))
            assert train(fresh)
            speed(fresh)
            fresh = stacks(tiny)[1]
    assert 0 < len(taken) < 60, taken


def test_resume_falls_back_to_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt([CONFIG], tmp_path, monkeypatch)  # at step 10; the checkpoint before is of step 8
    (current,) = tmp_path.glob(".stacks/*/checkpoint.pt")
    torch.save(put(torch.load(current, weights_only=True), ("clock", "steps"), "x"), current)
    err = bn_in(tmp_path, "resume", "last").stderr
    assert "checkpoint.pt does not fit" in err
    assert "Resuming at step 8" in err
