"""Which runs share a stack."""

from pathlib import Path

import numpy as np

from bnexp.config import Config
from bnexp.config.compose import expand
from bnexp.execution.identity import identify
from bnexp.planning.plan import StackPlan, plan


def stacks_in(runs_dir: Path, overrides: list[str]) -> list[StackPlan]:
    configs = expand(overrides)
    return plan(configs, identify(configs, runs_dir))


def test_the_plan_covers_each_run_once_and_repeats_itself(tmp_path: Path) -> None:
    overrides = ["train.batch_size=4,32,256", "model.norm=batch,none", "optim.lr=0.01,0.1,1", "seed=range(7)", "optim.momentum=0,0.9"]
    configs = expand(overrides)
    stacks = stacks_in(tmp_path, overrides)
    assert sorted(run.id for planned in stacks for run in planned.runs) == sorted(config.run_id() for config in configs)
    assert len({config.run_id() for config in configs}) == len(configs) == 252
    for planned in stacks:
        first = planned.configs[0]
        assert all(
            (c.train, c.model.norm, c.optim.momentum > 0) == (first.train, first.model.norm, first.optim.momentum > 0)
            for c in planned.configs
        )
        assert len(planned.runs) <= {4: 16, 32: 16, 256: 2}[first.train.batch_size]  # first activations within 2 MiB
    assert [planned.runs for planned in stacks_in(tmp_path, overrides)] == [planned.runs for planned in stacks]


def test_the_longest_stacks_come_first_whatever_makes_them_long(tmp_path: Path) -> None:
    for axis, longest in (
        ("data=digits,volumes", "volumes"),
        ("model.widths=[4],[64,128,256]", (64, 128, 256)),
        ("train.batch_size=4,64", 4),  # many small steps of the same images
    ):
        first = stacks_in(tmp_path, ["model.norm=batch", axis])[0].configs[0]
        assert longest in (first.data.name, first.model.widths, first.train.batch_size)


def test_data_of_ones_own_are_planned_by_what_their_header_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "small.npz", x=rng.normal(size=(200, 1, 4, 4)).astype(np.float32), y=np.arange(200) % 4)
    (stack,) = stacks_in(tmp_path, ["data=npz", f"data.root={tmp_path / 'small.npz'}", "train.batch_size=16", "seed=range(3)"])
    assert stack.header == ((1, 4, 4), 144, 4)
    assert stack.steps == 10 * (144 // 16)
    assert len(stack.runs) == 3
    assert stack.seconds > 0


def test_a_stack_of_different_structures_is_never_planned(tmp_path: Path) -> None:
    configs = [
        Config(),
        Config().replace(**{"optim.schedule": "constant"}),
        Config().replace(**{"train.eval_every": 5}),
        Config().replace(seed=1),
    ]
    assert sorted(len(planned.runs) for planned in plan(configs, identify(configs, tmp_path))) == [1, 1, 2]
