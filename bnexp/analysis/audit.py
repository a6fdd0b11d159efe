"""Whether a comparison is fair: what the arms share, what they do not, and the numbers that say so.

A check is of what was recorded, not of what the code intends. What a run does not record cannot be checked, and does not count as passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnexp.analysis.arms import arm_names
from bnexp.analysis.grouping import NORM, ArmOf, norm_of, varying
from bnexp.analysis.notes import PARAMETER_GAP
from bnexp.analysis.results import ArmFacts, Audit, Check
from bnexp.analysis.wording import count, label, listed
from bnexp.config.fields import show
from bnexp.norms import NO_NORM
from bnexp.storage.facts import AuditFacts
from bnexp.storage.result import RunResult

NETWORK = ("config.data.name", "config.data.image_size", "config.model.name", "config.model.widths", "config.model.activation")
"""What initial weights depend on beside the seed."""
BATCHES = (
    "config.train.batch_size",
    *(f"config.data.{key}" for key in ("name", "subset", "val_fraction", "split_seed", "augment")),
)
"""What the order of the batches depends on beside the seed."""
FINGERPRINT = "data.fingerprint"
LISTED = 3
"""Failures that a detail lists before it says how many more there are."""

Group = tuple[Any, ...]
ByArm = Mapping[str, Sequence[RunResult]]


def fairness_audit(
    runs: Sequence[RunResult],
    baseline_arm: str,
    arms: Sequence[str] | None = None,
    *,
    arm_of: ArmOf = norm_of,
    treatment: Sequence[str] = NORM,
) -> Audit:
    """Checks the arms of a comparison for everything that they must share; arguments and errors as `compare_arms`.

    Settings that vary within each arm alike (the batch sizes of a sweep) are no fault: runs are held against each other where these agree.
    """
    names = arm_names(runs, baseline_arm, arms, arm_of)
    mine = [run for run in runs if arm_of(run) in names]
    results = [run for run in mine if run.is_result]
    differing = varying(results)
    kept: dict[tuple[Any, ...], RunResult] = {}
    for run in sorted(results, key=lambda run: run.id):  # one recipe under two names is one trial
        kept.setdefault((arm_of(run), run.lr, run.seed, *(run.setting(key) for key in differing)), run)
    results = sorted(kept.values(), key=lambda run: (names.index(arm_of(run)), run.batch_size, run.lr, run.seed))
    crossed, confounded = _settings(results, arm_of, treatment)

    def shared(run: RunResult) -> Group:
        return tuple(_value(run, key) for key in crossed)

    alike = _gather(results, arm_of, shared)
    there = [arm for arm in names if any(arm_of(run) == arm for run in results)]
    facts = tuple(_facts(arm, [run for run in mine if arm_of(run) == arm]) for arm in names)
    checks = [
        _parameters(alike),
        _biases(alike),
        _hashes("initial weights", lambda run: _audit(run).initial_weights, _gather(results, arm_of, lambda run: _seed_and(run, NETWORK))),
        _hashes("batch order", lambda run: _audit(run).batch_order, _gather(results, arm_of, _seed_and_batches)),
        _trials(results, there, arm_of, shared),
        _seeds(results, there, arm_of),
        _budget(alike),
        _same_settings(crossed, confounded),
        _computation(results, alike),
    ]
    if len(there) < len(names):  # the arms with results may fail a check; that all arms agree is not known
        unknown = f"no result of {', '.join(arm for arm in names if arm not in there)}"
        checks = [Check(check.name, None, unknown) if check.passed else check for check in checks]
    return Audit(baseline_arm, facts, tuple(checks))


def _facts(arm: str, runs: Sequence[RunResult]) -> ArmFacts:
    results = [run for run in runs if run.is_result]

    def only(count: Callable[[RunResult], int | None]) -> int | None:
        found = set(map(count, results))
        return found.pop() if len(found) == 1 else None

    return ArmFacts(
        arm=arm,
        parameters=only(lambda run: run.parameters),
        weights=only(lambda run: _audit(run).parameters.weights),
        biases=only(lambda run: _audit(run).parameters.biases),
        norm_parameters=only(lambda run: _audit(run).parameters.norm),
        n_lrs=len({run.lr for run in results}),
        n_runs=len(runs),
        n_results=len(results),
        n_seeds=len({run.seed for run in results}),
    )


def _settings(results: Sequence[RunResult], arm_of: ArmOf, treatment: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The keys that vary within each arm alike, and those that vary between the arms, with the values of each."""
    keys = varying(results, treatment) + [FINGERPRINT] * (len({run.fingerprint for run in results} - {None}) > 1)
    crossed, confounded = [], {}
    for key in keys:
        values = {arm: {_value(run, key) for run in results if arm_of(run) == arm} for arm in dict.fromkeys(map(arm_of, results))}
        if len(set(map(frozenset, values.values()))) == 1:
            crossed.append(key)
        else:
            confounded[key] = _each({arm: ", ".join(sorted(map(show, found))) for arm, found in values.items()})
    return crossed, confounded


def _gather(results: Sequence[RunResult], arm_of: ArmOf, group_of: Callable[[RunResult], Group]) -> list[ByArm]:
    """The results by group and arm; a group with one arm has nothing to compare and is left out."""
    groups: dict[Group, dict[str, list[RunResult]]] = {}
    for run in results:
        groups.setdefault(group_of(run), {}).setdefault(arm_of(run), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def _parameters(alike: Sequence[ByArm]) -> Check:
    name = "parameters"
    if (unknown := _unknown(alike, lambda run: run.parameters)) is not None:
        return Check(name, None, unknown)
    worst, listed = -1.0, ""
    for group in alike:
        sizes = {arm: {run.parameters or 0 for run in runs} for arm, runs in group.items()}
        least, most = min(map(min, sizes.values())), max(map(max, sizes.values()))
        if most / least - 1 > worst:
            worst, listed = most / least - 1, _each({arm: ", ".join(f"{size:,}" for size in sorted(found)) for arm, found in sizes.items()})
    return Check(name, worst <= PARAMETER_GAP, f"{listed}: {100 * worst:.2g} % apart, {100 * PARAMETER_GAP:g} % allowed")


def _biases(alike: Sequence[ByArm]) -> Check:
    """Half of a norm's parameters are shifts. Without a norm layer the convolutions must have biases, at least as many."""
    name = "bias parity"
    if (unknown := _unknown(alike, _biases_and_shifts)) is not None:
        return Check(name, None, unknown)
    listed = ""
    for group in alike:
        counts = {arm: sorted(set(filter(None, map(_biases_and_shifts, runs)))) for arm, runs in group.items()}
        bare = [_audit(run).parameters.biases or 0 for runs in group.values() for run in runs if run.norm == NO_NORM]
        said = {
            arm: ", ".join(f"{count(b, 'bias', 'biases')} and {count(s, 'norm shift')}" for b, s in each) for arm, each in counts.items()
        }
        if bare and min(bare) < max(shifts for each in counts.values() for _, shifts in each):
            return Check(name, False, f"{_each(said)}; without a norm layer there must be as many biases as the others have shifts")
        listed = listed or _each(said)
    return Check(name, True, listed)


def _biases_and_shifts(run: RunResult) -> tuple[int, int] | None:
    counts = _audit(run).parameters
    return None if counts.biases is None or counts.norm is None else (counts.biases, counts.norm // 2)


def _hashes(name: str, hash_of: Callable[[RunResult], str | None], groups: Sequence[ByArm]) -> Check:
    """One hash a group, over all its arms and learning rates."""
    differing: dict[int, str] = {}
    example, seeds = "", set()
    for group in groups:
        hashes = {arm: sorted(set(filter(None, map(hash_of, runs)))) for arm, runs in group.items()}
        every = set().union(*hashes.values())
        seed = next(iter(group.values()))[0].seed
        seeds.add(seed)
        example = example or f"seed {seed}: {next(iter(every), '')}"
        if len(every) > 1:
            differing.setdefault(seed, _each({arm: " and ".join(found) or "none recorded" for arm, found in hashes.items()}))
    if differing:
        first = min(differing)
        return Check(name, False, f"differ at seed {listed(sorted(differing))}; seed {first}: {differing[first]}")
    if (unknown := _unknown(groups, hash_of)) is not None:
        return Check(name, None, unknown)
    return Check(name, True, f"equal over all arms and learning rates at {count(len(seeds), 'seed')} ({example})")


def _trials(results: Sequence[RunResult], names: Sequence[str], arm_of: ArmOf, shared: Callable[[RunResult], Group]) -> Check:
    name = "equal trials"
    counts = {arm: Counter((run.lr, run.seed, shared(run)) for run in results if arm_of(run) == arm) for arm in names}
    grids = {arm: sorted({lr for lr, *_ in found}) for arm, found in counts.items()}
    if len(set(map(tuple, grids.values()))) > 1:
        lrs = _each({arm: ", ".join(f"{lr:g}" for lr in grid) for arm, grid in grids.items()})
        return Check(name, False, f"learning rates tried: {lrs}")
    uneven = sorted({cell[:2] for found in counts.values() for cell in found if len({other[cell] for other in counts.values()}) > 1})
    total = _each({arm: count(found.total(), "result") for arm, found in counts.items()})
    if uneven:
        cells = [f"lr {lr:g}, seed {seed}" for lr, seed in uneven]
        more = f" and {len(cells) - LISTED} more" if len(cells) > LISTED else ""
        return Check(name, False, f"{total}; not equally many at {'; '.join(cells[:LISTED])}{more}")
    grid = next(iter(grids.values()), [])
    return Check(name, True, f"{count(len(grid), 'learning rate')} ({', '.join(f'{lr:g}' for lr in grid)}) in each arm; {total}")


def _seeds(results: Sequence[RunResult], names: Sequence[str], arm_of: ArmOf) -> Check:
    seeds = {arm: sorted({run.seed for run in results if arm_of(run) == arm}) for arm in names}
    if len(set(map(tuple, seeds.values()))) > 1:
        return Check("same seeds", False, _each({arm: listed(found) for arm, found in seeds.items()}))
    first = next(iter(seeds.values()), [])
    return Check("same seeds", True, f"{count(len(first), 'seed')} in each arm ({listed(first)})")


def _budget(alike: Sequence[ByArm]) -> Check:
    def budget(run: RunResult) -> tuple[int, bool] | None:
        return None if run.budget.steps is None else (run.budget.steps, run.until_target)

    def said(values: tuple[int, bool]) -> str:
        return count(values[0], "step") + (" or until the target" if values[1] else "")

    return _one_value("budget", alike, budget, said)


def _same_settings(crossed: Sequence[str], confounded: Mapping[str, str]) -> Check:
    if confounded:
        return Check("settings", False, ". ".join(f"{_short(key)} differs: {values}" for key, values in confounded.items()))
    varied = f"; {', '.join(map(_short, crossed))} vary within each arm alike" if crossed else ""
    return Check("settings", True, f"same data, and nothing differs beside the treatment, learning rate and seed{varied}")


def _computation(results: Sequence[RunResult], alike: Sequence[ByArm]) -> Check:
    def where(run: RunResult) -> tuple[str, int] | None:
        here = run.environment
        return None if here is None or here.device is None or here.threads is None else (here.device, here.threads)

    check = _one_value("computation", alike, where, lambda values: f"{values[0]}, {count(values[1], 'thread')}")
    widths = sorted({run.stack.width for run in results if run.stack.width is not None})
    if len(widths) < 2:
        return check
    return Check(check.name, check.passed, f"{check.detail}; stacks of {listed(widths)} runs: that changes rounding only")


def _one_value(name: str, alike: Sequence[ByArm], value: Callable[[RunResult], Any], said: Callable[[Any], str]) -> Check:
    """Within each group all runs have one value, which is the same in all arms."""
    listed: list[str] = []
    for group in alike:
        found = {arm: sorted({known for run in runs if (known := value(run)) is not None}) for arm, runs in group.items()}
        if len(set().union(*found.values())) > 1:
            return Check(name, False, _each({arm: " and ".join(map(said, values)) or "not recorded" for arm, values in found.items()}))
        listed += [said(values[0]) for values in found.values() if values]
    if (unknown := _unknown(alike, value)) is not None:
        return Check(name, None, unknown)
    return Check(name, True, "; ".join(dict.fromkeys(listed)))


def _unknown(groups: Sequence[ByArm], value: Callable[[RunResult], Any]) -> str | None:
    """Why a check cannot be made: nothing to hold against each other, or runs that do not say."""
    if not groups:
        return "no two arms have results to hold against each other here"
    runs = [run for group in groups for runs in group.values() for run in runs]
    silent = sum(value(run) is None for run in runs)
    return None if not silent else "not recorded" if silent == len(runs) else f"not recorded for {silent} of {count(len(runs), 'run')}"


def _value(run: RunResult, key: str) -> Any:
    return run.fingerprint if key == FINGERPRINT else run.setting(key)


def _seed_and(run: RunResult, keys: Sequence[str]) -> Group:
    return run.seed, *(run.setting(key) for key in keys)


def _seed_and_batches(run: RunResult) -> Group:
    """Runs are held against each other where as many epochs were hashed."""
    return *_seed_and(run, BATCHES), _audit(run).batch_order_epochs


def _audit(run: RunResult) -> AuditFacts:
    return run.audit or AuditFacts()


def _short(key: str) -> str:
    return key.removeprefix("config.")


def _each(texts: Mapping[str, str]) -> str:
    return "; ".join(f"{label(arm)}: {text}" for arm, text in texts.items())
