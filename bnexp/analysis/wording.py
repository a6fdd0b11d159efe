"""How numbers and arms are written: a p, an interval, a bracket, a rate of failure, `1,000 seeds`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.analysis.failures import FailureRate
from bnexp.analysis.pairs import Estimate, Paired, Tested
from bnexp.analysis.rates import StableLr
from bnexp.analysis.target import Ratio
from bnexp.norms import NORMS

HOLM = "Holm's p"


def label(arm: str) -> str:
    """An arm as a reader knows it: `with BN`, `without BN`, `with group`."""
    return NORMS[arm].label if arm in NORMS else f"with {arm}"


def evidence(pairs: Paired, arms: int = 1) -> str:
    """`95 % interval -0.40 to +1.20, n = 10 seeds, p = 0.021`; of several arms the interval holds for all at once."""
    text = f"{interval(pairs, arms if pairs.primary else 1)}, n = {seeds(pairs.n)}"
    return text if pairs.p is None else f"{text}, {decisive(pairs)}"


def decisive(test: Tested) -> str:
    """`p = 0.021`; where Holm's p decides, `p = 0.021, Holm's p = 0.13`."""
    if test.p is None:
        return "no p"
    return p_value(test.p) + ("" if test.primary or test.p_holm is None else f", {p_value(test.p_holm, HOLM)}")


def interval(pairs: Paired, arms: int = 1) -> str:
    """`95 % interval -0.40 to +1.20`, in points."""
    if pairs.low is None or pairs.high is None:
        return "no interval"
    return f"{'95 % interval' if arms == 1 else f'simultaneous 95 % interval of {arms} arms'} {points(pairs.low)} to {points(pairs.high)}"


def factor(ratio: Ratio) -> str:
    """`1.8x, 0.9x to 4.8x`: a ratio with its interval."""
    if ratio.factor is None:
        return "n/a"
    span = "" if ratio.low is None or ratio.high is None else f", {times(ratio.low)} to {times(ratio.high)}"
    return f"{times(ratio.factor)}{span}"


def times(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.3g}x"


def bracket(found: StableLr) -> str:
    """`between 1 and 3`, or an open end."""
    if found.lr is None or found.unstable_lr is None:
        return "unknown"
    if found.lr == 0:
        return f"below {found.unstable_lr:g}"
    return f"at least {found.lr:g}" if found.at_edge else f"between {found.lr:g} and {found.unstable_lr:g}"


def failed(rate: FailureRate) -> str:
    """`3 of 10 (2 diverged, 1 at chance; 95 % interval 7 to 65 %)`."""
    if rate.low is None or rate.high is None:
        return "no runs"
    kinds = [f"{rate.diverged} diverged"] * bool(rate.diverged) + [f"{rate.at_chance} at chance"] * bool(rate.at_chance)
    detail = ", ".join(kinds) + ("; " if kinds else "")
    return f"{rate.failed} of {rate.n} ({detail}95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"


def points(share: float) -> str:
    """A difference of accuracies in percentage points: `+1.23`."""
    text = f"{100 * share:+.2f}"
    return "0.00" if float(text) == 0 else text


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def seeds(n: int) -> str:
    return count(n, "seed")


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `1,000 seeds`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def in_points(share: float) -> str:
    return f"{100 * share:g} points"


def p_value(p: float, name: str = "p") -> str:
    return f"{name} = {p:.3g}" if p >= 1e-4 else f"{name} < 0.0001"


def inverse(ratio: float) -> float:
    return 1 / ratio if ratio else math.inf


def mean_std(found: Estimate) -> str:
    """`98.61 ± 0.32`, in percent."""
    if found.mean is None:
        return "n/a"
    return f"{100 * found.mean:.2f}" + ("" if found.std is None else f" ± {100 * found.std:.2f}")
