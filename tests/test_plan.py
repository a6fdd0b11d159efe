"""Which runs share a stack."""

from pathlib import Path

from bnexp.compose import expand
from bnexp.config import Config
from bnexp.identity import identify
from bnexp.plan import Planned, plan


def stacks_in(runs_dir: Path, overrides: list[str]) -> list[Planned]:
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
    assert [planned.cost for planned in stacks] == sorted((planned.cost for planned in stacks), reverse=True)


def test_a_stack_of_different_structures_is_never_planned(tmp_path: Path) -> None:
    configs = [
        Config(),
        Config().replace(**{"optim.schedule": "constant"}),
        Config().replace(**{"train.eval_every": 5}),
        Config().replace(seed=1),
    ]
    assert sorted(len(planned.runs) for planned in plan(configs, identify(configs, tmp_path))) == [1, 1, 2]
