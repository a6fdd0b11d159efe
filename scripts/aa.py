"""Compares arms with themselves: how often each kind of sentence that the commands print would be false, and how often a true one is found.

A pool of real runs (40 seeds, both arms, seven learning rates, digits) is resampled: two disjoint sets of n seeds of one arm, under two
names, go through the functions that `compare` and `sweep` use. Whatever they state about a difference is false. With a planted difference,
the share of comparisons that state it is the power.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gzip
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from bnexp.analysis import compare_arms, seconds_to_target, small_batch_cost, with_holm
from bnexp.analysis.pairs import Tested
from bnexp.analysis.sentences import small_batches
from bnexp.config import Config
from bnexp.storage.facts import Target
from bnexp.storage.result import STATS, RunResult

POOL = Path(__file__).resolve().parent.parent / "tests" / "stored" / "aa_pool.json.gz"
SEEDS = (5, 10, 20)
BOUND = 0.06
"""The rate of false sentences that is allowed: 5 %, and what 1,000 resamples of 40 seeds may add to it."""
ARMS = ("batch", "none")
GAIN, FACTOR = 0.005, 1.3
"""What is planted to see the power: half a point of test accuracy, 1.3 times the steps to target."""
KEPT = (
    *("id", "status", "seed", "steps", "config.model.norm", "config.optim.lr", "config.train.batch_size", "config.data.name"),
    *("val.loss", "val.accuracy", "val.best_accuracy", "target.reached_step", "parameters", "test.chance", "test.correct"),
    *("target.previous_step", "train.accuracy", "train.images", "data.test", "budget.steps", "budget.until_target"),
    *(f"test.{stats}.accuracy" for stats in ("running", "precise", "batch")),
)
"""The keys of a row that the comparisons read."""
FAILING = {"batch": 3.0, "none": 0.3}
"""A learning rate at which some runs of the arm fail to train and some do not."""


@dataclass(frozen=True)
class Rate:
    """How often a kind of sentence stated a difference."""

    arm: str
    n: int
    sentence: str
    stated: int
    of: int

    @property
    def share(self) -> float:
        return self.stated / self.of


def load_pool(path: Path = POOL) -> list[RunResult]:
    """The stored runs, as far as they are kept."""
    with gzip.open(path, "rt") as file:
        columns = json.load(file)
    return [_result(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _result(row: Mapping[str, Any]) -> RunResult:
    tree: dict[str, Any] = {}
    for key, value in row.items():
        *path, last = key.split(".")
        node = tree
        for name in path:
            node = node.setdefault(name, {})
        node[last] = value
    return RunResult.from_tree(tree)


def store_pool(rows: Sequence[Mapping[str, Any]], path: Path = POOL) -> None:
    """The kept keys of flat rows, a column each; the same bytes for the same rows."""
    ordered = sorted(rows, key=lambda row: (row["config.model.norm"], row["config.optim.lr"], row["seed"]))
    columns = {key: [row.get(key) for row in ordered] for key in KEPT}
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(columns, separators=(",", ":")).encode(), mtime=0))


def drawn(pool: Sequence[RunResult], arm: str, n: int, generator: np.random.Generator) -> tuple[list[RunResult], list[RunResult]]:
    """The runs of two disjoint sets of n seeds of an arm, the seeds of each renumbered from 0 so that they pair."""
    seeds = sorted({run.seed for run in pool})
    chosen = generator.permutation(seeds)[: 2 * n]
    numbers = [{seed: index for index, seed in enumerate(part)} for part in (chosen[:n], chosen[n:])]
    own = [run for run in pool if run.norm == arm]
    one, two = ([structs.replace(run, seed=of[run.seed]) for run in own if run.seed in of] for of in numbers)
    return one, two


def named(runs: Sequence[RunResult], key: str, value: str | int) -> list[RunResult]:
    """The runs with another value of a config key, under ids of their own."""
    return [structs.replace(run, config=_with(run.config, key, value), id=f"{run.id}-{value}") for run in runs]


@functools.cache
def _with(config: Config, key: str, value: str | int) -> Config:
    return config.replace(**{key: value})


def tests_in(tree: Any) -> Iterator[Tested]:
    """Every test of a result."""
    if isinstance(tree, Tested):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from tests_in(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from tests_in(part)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            yield from tests_in(getattr(tree, name))


def stated(one: Sequence[RunResult], two: Sequence[RunResult], generator: np.random.Generator) -> dict[str, bool]:
    """Which kinds of sentences state a difference between the two sets of runs, as `compare` and `sweep batch-size` would print them."""
    rows = [*named(one, "model.norm", "batch"), *named(two, "model.norm", "none")]
    turns = {arm: tuple(np.exp(generator.normal(0, 0.03, 20))) for arm in ARMS}  # one step time under two names
    comparison = compare_arms(rows, "none")
    comparison, seconds = with_holm((comparison, seconds_to_target(comparison, turns)))
    versus = comparison.headline.versus["batch"]
    sized = [*named(one, "train.batch_size", 16), *named(two, "train.batch_size", 32)]
    costs = with_holm([small_batch_cost(sized, one[0].norm, stats=stats) for stats in ("running", "batch")])
    at_one = [[run for run in side if run.lr == FAILING[run.norm]] for side in (one, two)]
    alone = compare_arms([*named(at_one[0], "model.norm", "batch"), *named(at_one[1], "model.norm", "none")], "none")
    worse = named(with_loss(two, GAIN, generator), "model.norm", "none")
    apart = compare_arms([*named(one, "model.norm", "batch"), *worse], "none", margin=GAIN).headline.versus["batch"].equivalence
    return {
        "accuracy, for images of this kind": versus.headline.shown,
        "accuracy, on these images": versus.accuracy["running"].shown,
        "steps to target": versus.speedup.shown,
        "seconds to target": seconds.versus["batch"].seconds.shown,
        "time of a step": seconds.versus["batch"].step_cost.shown,
        "largest stable learning rate": comparison.stable_factor["batch"].shown,
        "failures, tuned": versus.failures.shown,
        "failures, at one large learning rate": alone.headline.versus["batch"].failures.shown,
        "equivalent, at a true difference of the margin": apart is not None and apart.shown,
        "any starred cell, after Holm": any(test.shown and not test.primary for test in tests_in((comparison, seconds))),
        "small batches cost accuracy": any("No difference" not in sentence for cost in costs for sentence in small_batches(cost)),
    }


def rates(pool: Sequence[RunResult], n: int, arm: str, resamples: int) -> list[Rate]:
    """How often each kind of sentence is false in comparisons of an arm with itself."""
    generator = np.random.default_rng([n, ARMS.index(arm)])
    counts: dict[str, int] = {}
    for _ in range(resamples):
        for sentence, said in stated(*drawn(pool, arm, n, generator), generator).items():
            counts[sentence] = counts.get(sentence, 0) + said
    return [Rate(arm, n, sentence, count, resamples) for sentence, count in counts.items()]


def with_loss(runs: Sequence[RunResult], loss: float, generator: np.random.Generator) -> list[RunResult]:
    """The runs with `loss` less test accuracy: so many of the images that a run had right, at random, are made wrong."""
    found = []
    for run in runs:
        bits, images = run.test.correct, run.data.test if run.data else None
        if run.accuracy() is None or bits is None or images is None:
            found.append(run)
            continue
        right = np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=images)
        right[generator.permutation(np.flatnonzero(right))[: generator.binomial(images, loss)]] = 0
        scores = {stats: structs.replace(getattr(run.test, stats), accuracy=float(right.mean())) for stats in STATS}
        correct = base64.b64encode(np.packbits(right).tobytes()).decode()
        found.append(structs.replace(run, test=structs.replace(run.test, **scores, correct=correct)))
    return found


def slower(runs: Sequence[RunResult], factor: float) -> list[RunResult]:
    """The runs with their steps to target multiplied, and rounded."""

    def times(step: int | None) -> int | None:
        return None if step is None else round(factor * step)

    return [
        structs.replace(run, target=Target(run.target.accuracy, times(run.target.reached_step), times(run.target.previous_step)))
        for run in runs
    ]


@dataclass(frozen=True)
class Power:
    """How often a planted difference is stated, and how often the noncentral t says it should be."""

    arm: str
    n: int
    planted: str
    stated: float
    computed: float
    """At the mean and the standard error over all comparisons."""


def power(pool: Sequence[RunResult], n: int, arm: str, resamples: int) -> list[Power]:
    """The power of the sentences on accuracy (on these images) and on steps to target, each against a planted difference."""
    generator = np.random.default_rng([n, ARMS.index(arm), 1])
    accuracies, steps = [], []
    for _ in range(resamples):
        one, two = drawn(pool, arm, n, generator)
        rows = [*named(one, "model.norm", "batch"), *named(with_loss(slower(two, FACTOR), GAIN, generator), "model.norm", "none")]
        versus = compare_arms(rows, "none").headline.versus["batch"]
        accuracies.append(
            (versus.accuracy["running"].difference or 0.0, versus.accuracy["running"].se or 0.0, versus.accuracy["running"].shown)
        )
        least = [log[1] for log in versus.speedup.logs]
        if versus.speedup.method == "t":
            steps.append((statistics.fmean(least), statistics.stdev(least) / n**0.5, versus.speedup.shown))
    gains = ((f"{100 * GAIN:g} points of accuracy", accuracies), (f"{FACTOR:g} times the steps", steps))
    return [_power(arm, n, planted, found) for planted, found in gains if len(found) == resamples]


def _power(arm: str, n: int, planted: str, found: Sequence[tuple[float, float, bool]]) -> Power:
    from scipy.special import nctdtr, stdtrit

    shift = statistics.fmean(one[0] for one in found) / statistics.fmean(one[1] ** 2 for one in found) ** 0.5
    limit = float(stdtrit(n - 1, 0.975))
    computed = 1 - float(nctdtr(n - 1, shift, limit)) + float(nctdtr(n - 1, shift, -limit))
    return Power(arm, n, planted, statistics.fmean(one[2] for one in found), computed)


def everything(pool: Sequence[RunResult], resamples: int, seeds: Sequence[int]) -> tuple[list[Rate], list[Power]]:
    """Every rate and power, arm by arm, on all cores."""
    cells = [(n, arm) for arm in ARMS for n in seeds]
    with ProcessPoolExecutor() as workers:
        powers = [workers.submit(power, pool, n, arm, resamples) for n, arm in cells]
        found = [workers.submit(rates, pool, n, arm, resamples) for n, arm in cells]
        return [rate for part in found for rate in part.result()], [one for part in powers for one in part.result()]


def table(found: Sequence[Rate], powers: Sequence[Power], resamples: int) -> str:
    """The rates as a Markdown table, a sentence a row, and the powers below."""
    columns = list(dict.fromkeys((rate.arm, rate.n) for rate in found))
    by_cell = {(rate.sentence, rate.arm, rate.n): rate for rate in found}
    lines = ["| false sentences, % | " + " | ".join(f"{arm}, n = {n}" for arm, n in columns) + " |", "|---|" + "---|" * len(columns)]
    for sentence in dict.fromkeys(rate.sentence for rate in found):
        lines.append(f"| {sentence} | " + " | ".join(f"{100 * by_cell[sentence, arm, n].share:.1f}" for arm, n in columns) + " |")
    lines += ["", "| planted difference | arm | n | stated, % | computed, % |", "|---|---|---|---|---|"]
    lines += [f"| {one.planted} | {one.arm} | {one.n} | {100 * one.stated:.0f} | {100 * one.computed:.0f} |" for one in powers]
    return "\n".join(
        [
            f"{resamples:,} comparisons a cell; a rate of 5 % has a standard error of {100 * (0.05 * 0.95 / resamples) ** 0.5:.1f} points.",
            "",
            *lines,
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/aa", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=1000, help="comparisons a cell (1000)")
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=SEEDS, help="numbers of seeds (5,10,20)")
    parser.add_argument("--store", type=Path, metavar="RUNS", help="first store the runs of this folder as the pool")
    parser.add_argument("--json", action="store_true", help="print the rates as JSON")
    asked = parser.parse_args()
    if asked.store is not None:
        from bnexp.storage.folder import rows

        store_pool(rows(asked.store))
    found, powers = everything(load_pool(), asked.resamples, asked.seeds)
    if asked.json:
        print(json.dumps({"rates": [asdict(rate) for rate in found], "power": [asdict(one) for one in powers]}, indent=1))
    else:
        print(table(found, powers, asked.resamples))
    return int(any(rate.share > BOUND for rate in found))


if __name__ == "__main__":
    sys.exit(main())
