"""Arms compared: each seed at the learning rate that it chose and all at the same one, how fair that is, and what it costs in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.analysis import NORM, Arms, StableLr, Study, analyse, largest_stable_lr, with_step_times
from bnexp.analysis.wording import label
from bnexp.base.errors import BnexpError, Interrupted, UsageError, did_you_mean, one_of
from bnexp.base.quoting import command_line
from bnexp.config import KEYS, Config
from bnexp.config.compose import check_cells, expand, given
from bnexp.execution.grid import prepare, train_all
from bnexp.norms import NO_NORM, NORMS
from bnexp.planning.calibration import Calibrated

if TYPE_CHECKING:
    from bnexp.execution.launch import Outcome
    from bnexp.execution.terminal import Display

LRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Half-decades about both arms' best rates, up to where batch norm's gives out."""
SEEDS = 10
"""Seeds an arm and learning rate, unless the command says otherwise: 5 find half a point of accuracy in one comparison of four."""
REFINEMENTS = 2
"""Bisections of each arm's largest stable learning rate with --refine: a half-decade becomes an eighth of a decade."""


def request(
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
    arms = list(dict.fromkeys([own, *([NO_NORM] if no_bn else []), *norms]))
    if len(arms) < 2:
        others = one_of([norm for norm in NORMS if norm != own])
        raise UsageError(f"There is one arm only ({own}); add another with --norm NAME, where NAME is {others}.")
    count = 1 if keys.get("seed") else seeds or SEEDS
    check_cells(len(arms) * len(configs) * count)
    return [
        config.replace(**{"model.norm": arm, "seed": config.seed + index}) for arm in arms for config in configs for index in range(count)
    ]


def share_of(margin: float | None) -> float | None:
    """A margin in points as a share. Raises UsageError where it is no margin."""
    if margin is not None and not 0 < margin < 100:
        raise UsageError(f"--margin {margin:g} is not a margin in points of accuracy; give one above 0 and below 100, as in --margin 0.5.")
    return None if margin is None else margin / 100


def line_for_norms(words: Sequence[str]) -> str | None:
    """The command that compares the norms that the words name; None where one of them names none."""
    known = {**KEYS["model.norm"].meant, "no-bn": NO_NORM, **{norm: norm for norm in NORMS}}
    norms = list(dict.fromkeys(known.get(word.lower(), "") for word in words))
    if "" in norms:
        return None
    own = next((norm for norm in norms if norm != NO_NORM), "batch")
    others = ["--no-bn" if norm == NO_NORM else f"--norm {norm}" for norm in norms if norm != own] or ["--no-bn"]
    return " ".join(["bnexp compare", *([f"model.norm={own}"] if own != "batch" else []), *others])


def arms_by_norm(configs: Sequence[Config]) -> Arms:
    """The arms of a comparison that `request` asked for: the norms; the baseline is the network without one, or the first."""
    norms = tuple(dict.fromkeys(config.model.norm for config in configs))
    return Arms(NORM, norms, NO_NORM if NO_NORM in norms else norms[0])


def refined(configs: Sequence[Config], stable: Mapping[str, StableLr]) -> list[Config]:
    """The configs of one more bisection of each arm's largest stable learning rate: the geometric middle of its bracket, trained in every
    arm, so that the trials stay equal. Empty where every bracket is open."""
    brackets = [(found.lr, found.unstable_lr) for found in stable.values() if found.lr and found.unstable_lr]
    middles = sorted({float(f"{math.sqrt(low * high):.3g}") for low, high in brackets if math.isfinite(high)})
    known = {config.optim.lr for config in configs}
    return list(dict.fromkeys(config.replace(**{"optim.lr": lr}) for lr in middles if lr not in known for config in configs))


def train(
    configs: Sequence[Config],
    arms: Arms,
    runs_dir: Path,
    *,
    refinements: int = 0,
    fresh: bool = False,
    widths: Calibrated | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Trains the configs, and `refinements` times the bisections of what came out; what is finished is reused. Errors as `train_all`."""

    def train_these(configs: Sequence[Config], fresh: bool) -> Outcome:
        prepared = prepare(configs, runs_dir, fresh=fresh, widths=widths)
        return train_all(prepared, kind="compare", arms=arms, workers=workers, scheduler=scheduler, quiet=quiet)

    outcome = train_these(configs, fresh)
    trained = {run.id for run in outcome.runs} - outcome.reused
    for _ in range(refinements):
        results = outcome.results.values()
        stable = {arm: largest_stable_lr([result for result in results if arms.arm_of(result) == arm]) for arm in arms.labels}
        more = refined(configs, stable)
        if not more:
            break
        configs = [*configs, *more]
        outcome = train_these(configs, False)
        trained |= {run.id for run in outcome.runs} - outcome.reused
    return replace(outcome, reused=frozenset(run.id for run in outcome.runs) - trained)


def lacks_an_arm(outcome: Outcome, arms: Arms) -> bool:
    """Whether not one run of an arm could even write its summary."""
    return not {arms.arm_of(result) for result in outcome.results.values()}.issuperset(arms.labels)


def study_of(outcome: Outcome, arms: Arms, terminal: Display, margin: float | None = None) -> Study:
    """The comparison of the runs, with the time of each arm's step; `margin` of an equivalence of test accuracies, a share."""
    study = analyse("compare", outcome.runs, outcome.results, {"": outcome.runs}, arms=arms, command=command_line(), margin=margin)
    return timed(study, terminal)


def timed(study: Study, terminal: Display) -> Study:
    """The comparison with seconds to target: the arms' steps are timed in turns, nothing else running, each at the rate that most of its
    seeds chose. Where that cannot be, because the data moved, the terminal says why."""
    (part,) = study.parts
    tuned = {} if part.comparison is None else part.comparison.headline.arms
    if len(tuned) < 2:
        return study
    usual = {arm: max(result.picked, key=result.picked.__getitem__) for arm, result in tuned.items()}
    ids = {arm: next(run.id for run in part.of(arm, lr=lr) if run.is_result) for arm, lr in usual.items()}
    from bnexp.execution.step_times import step_times

    terminal.say(f"Timing a step {' and one '.join(map(label, ids))}, with nothing else running ...")
    try:
        configs = {arm: run.trained_config() for arm, id_ in ids.items() for run in study.runs if run.id == id_}
        return with_step_times(study, step_times(configs, terminal=terminal))
    except Interrupted:
        raise
    except BnexpError as error:  # the data moved, the GPU is another machine's, or so is the memory: the rest needs none of them
        terminal.say(f"No seconds: {error}")
        return study
