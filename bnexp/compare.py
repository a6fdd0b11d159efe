"""Arms compared: each at its own best learning rate and all at the same one, how fair that is, and what it costs in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.analysis import NORM, Arms, Audit, Comparison, Seconds, compare_arms, fairness_audit, seconds_to_target
from bnexp.compose import check_cells, expand, given
from bnexp.config import NORMS, Config
from bnexp.errors import BnexpError, Interrupted, UsageError, did_you_mean, one_of
from bnexp.run import Run
from bnexp.runs_folder import rows_of

if TYPE_CHECKING:
    from bnexp.terminal import Display
    from bnexp.timing import StepTime

LRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Half-decades about both arms' best rates, up to where batch norm's gives out."""
SEEDS = 5


@dataclass(frozen=True)
class Compared:
    """A comparison with its audit and, where it was measured, its seconds."""

    comparison: Comparison
    audit: Audit
    step_times: Mapping[str, StepTime]
    seconds: Seconds | None

    def plain(self) -> dict[str, Any]:
        """As values that JSON takes."""
        return {**asdict(self), "audit": {**asdict(self.audit), "passed": self.audit.passed}}


def ask(
    overrides: Sequence[str],
    norms: Sequence[str],
    *,
    no_bn: bool = False,
    lrs: Sequence[str] | None = None,
    seeds: int | None = None,
    config_dir: Path | None = None,
) -> list[Config]:
    """Every config of a comparison, checked: the config's own norm against `none` (with `no_bn`) and against `norms`.

    Raises:
        UsageError: there is one arm only, a value is not valid, or two of the arguments say the same thing twice.
    """
    keys = given(overrides)
    for norm in norms:
        if norm not in NORMS:
            raise UsageError(f"--norm {norm} is not a norm; choose {one_of(NORMS)}.{did_you_mean(norm, NORMS)}")
    several = [key for key, swept in keys.items() if swept and key not in ("optim.lr", "seed")]
    if several:
        hint = "name the arms with --norm" if "model.norm" in several else "`bnexp sweep grid` takes grids"
        raise UsageError(f"{several[0]} has several values; a comparison has one setting beside its arms and learning rates, and {hint}.")
    if lrs is not None and "optim.lr" in keys:
        raise UsageError("--lrs and optim.lr=... both say which learning rates to try; give one of them.")
    if lrs is not None and not lrs:
        raise UsageError("--lrs is empty: the grid has no cell; give learning rates, as in --lrs 0.01,0.1,1.")
    if seeds is not None and keys.get("seed"):
        raise UsageError("--seeds and seed=... with several values both say which seeds to train; give one of them.")
    lines = list(overrides)
    if "optim.lr" not in keys:
        lines.append(f"optim.lr={','.join(lrs if lrs is not None else [f'{lr:g}' for lr in LRS])}")
    configs = expand(lines, config_dir)
    own = configs[0].model.norm
    arms = list(dict.fromkeys([own, *(["none"] if no_bn else []), *norms]))
    if len(arms) < 2:
        others = one_of([norm for norm in NORMS if norm != own])
        raise UsageError(f"There is one arm only ({own}); add another with --norm NAME, where NAME is {others}.")
    count = 1 if keys.get("seed") else seeds or SEEDS
    check_cells(len(arms) * len(configs) * count)
    return [
        config.replace(**{"model.norm": arm, "seed": config.seed + index}) for arm in arms for config in configs for index in range(count)
    ]


def arms_by_norm(configs: Sequence[Config]) -> Arms:
    """The arms of a comparison that `ask` asked for: the norms; the baseline is the network without one, or the first."""
    norms = tuple(dict.fromkeys(config.model.norm for config in configs))
    return Arms(NORM, norms, "none" if "none" in norms else norms[0])


def compared(runs: Sequence[Run], arms: Arms, terminal: Display) -> Compared:
    """The comparison of the runs with its audit and its seconds: each arm's step is timed alone, at its best learning rate. Where that
    cannot be, because the data moved, the terminal is told why.
    """
    pairs = [(run, row) for run, row in zip(runs, rows_of(runs), strict=True) if "seed" in row]  # what cannot be read says nothing
    rows = [row for _, row in pairs]
    comparison = compare_arms(rows, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment)
    audit = fairness_audit(rows, arms.baseline, arm_of=arms.arm_of, treatment=arms.treatment)
    at_best = {
        arm: next(run for run, row in pairs if arms.arm_of(row) == arm and row["config.optim.lr"] == result.lr)
        for arm, result in comparison.headline.arms.items()
    }
    if len(at_best) < 2:
        return Compared(comparison, audit, {}, None)
    from bnexp.timing import step_times

    terminal.say(f"Timing a step of {' and of '.join(at_best)}, with nothing else running ...")
    try:
        times = step_times({arm: run.trained_config() for arm, run in at_best.items()}, terminal=terminal)
    except Interrupted:
        raise
    except BnexpError as error:  # the data moved, the GPU is another machine's, or so is the memory: the rest needs none of them
        terminal.say(f"No seconds: {error}")
        return Compared(comparison, audit, {}, None)
    return Compared(comparison, audit, times, seconds_to_target(comparison, {arm: time.ms for arm, time in times.items()}))
