"""Which runs of a list are meant, and in which order: filters by config, tag and status, a key to sort by, a number of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from bnexp.base.errors import UsageError, did_you_mean, one_of, short
from bnexp.config import KEYS, Config
from bnexp.config.fields import Value, leaves, show
from bnexp.config.names import key_meant
from bnexp.storage.facts import ListedRun, Status
from bnexp.storage.labels import NONE, Labels, checked_tag

SORTS: Mapping[str, tuple[Callable[[ListedRun], Any], bool]] = {
    "accuracy": (lambda run: run.test_accuracy, True),
    "loss": (lambda run: run.val_loss, False),
    "target": (lambda run: run.reached_step, False),
    "steps": (lambda run: run.steps, False),
    "status": (lambda run: run.status, False),
    "run": (lambda run: run.id, False),
    "written": (lambda run: run.written_at, True),
}
"""What a list can be sorted by beside config keys: the value of a run, None being last, and whether the highest comes first."""
OTHER_SORTS = {
    **dict.fromkeys(("acc", "test_acc", "test_accuracy", "test.running.accuracy"), "accuracy"),
    **dict.fromkeys(("val_loss", "val.loss"), "loss"),
    **dict.fromkeys(("date", "time", "newest", "written_at"), "written"),
    **dict.fromkeys(("id", "name"), "run"),
    "reached_step": "target",
}
"""What these are called elsewhere."""
STATUSES: tuple[str, ...] = (*get_args(Status), "unreadable")
SHOWN_VALUES = 8
DEFAULTS = dict(leaves(Config()))


@dataclass(frozen=True)
class Selection:
    """`config` has the values that each config key may have; of `tags` and `statuses` a run has one, where there are any."""

    config: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    tags: Sequence[str] = ()
    statuses: Sequence[str] = ()
    sort: str | None = None
    limit: int | None = None

    @property
    def needs_config(self) -> bool:
        return bool(self.config) or (self.sort is not None and self.sort not in SORTS)

    def of(self, runs: Sequence[ListedRun], labels: Mapping[str, Labels]) -> list[ListedRun]:
        """The runs that are meant: in their order and the last so many, or sorted and the first so many."""
        found = [run for run in runs if self._matches(run, labels.get(run.id, NONE))]
        if self.sort is None:
            return found if self.limit is None else found[-self.limit :]
        value, highest_first = SORTS.get(self.sort) or (_setting(self.sort), False)
        known = [run for run in found if value(run) is not None]
        known.sort(key=lambda run: _rank(value(run)), reverse=highest_first)
        return [*known, *(run for run in found if value(run) is None)][: self.limit]

    def _matches(self, run: ListedRun, labels: Labels) -> bool:
        if self.config and (run.status == "unreadable" or any(_setting(key)(run) not in values for key, values in self.config.items())):
            return False
        return (not self.tags or any(tag in labels.tags for tag in self.tags)) and (not self.statuses or run.status in self.statuses)

    def why_none(self, runs: Sequence[ListedRun], labels: Mapping[str, Labels]) -> str:
        """The sentence on which values there are, where no run has the one asked for; empty where only the combination is missing."""
        readable = [run for run in runs if run.status != "unreadable"]
        for key, values in self.config.items():
            having = {_setting(key)(run) for run in readable}
            if having.isdisjoint(values):
                return _present(key, sorted(having, key=_rank))
        tags = {tag for one in labels.values() for tag in one.tags}
        if self.tags and tags.isdisjoint(self.tags):
            return _present("tag", sorted(tags)) if tags else " No run has a tag; `bnexp runs tag RUN --add NAME` gives it one."
        statuses = {run.status for run in runs}
        return _present("status", sorted(statuses)) if self.statuses and statuses.isdisjoint(self.statuses) else ""


def select(filters: Sequence[str], sort: str | None = None, limit: int | None = None) -> Selection:
    """What the filters of a command line mean, `tag=NAME` and `status=NAME` among them.

    Raises:
        UsageError: a filter, or the name to sort by, is none; the message has the nearest one.
    """
    tags, statuses, config = [], [], []
    for text in filters:
        name, _, value = text.partition("=")
        if name in ("tag", "tags"):
            tags += [checked_tag(one) for one in value.split(",")]
        elif name == "status":
            statuses += [check_status(one) for one in value.split(",")]
        else:
            config.append(text)
    if config:
        from bnexp.config.filters import wanted  # Hydra's parser

    return Selection(wanted(config) if config else {}, tags, statuses, None if sort is None else check_sort(sort), limit)


def check_sort(name: str) -> str:
    """The name to sort by; raises UsageError, with the nearest one, where it is none."""
    if name in SORTS or name in KEYS:
        return name
    meant = OTHER_SORTS.get(name.lower().replace(" ", "_").replace("-", "_")) or key_meant(name, KEYS)
    hint = f" Did you mean '{meant}'?" if meant else did_you_mean(name, (*SORTS, *KEYS))
    raise UsageError(f"'{short(name)}' is nothing to sort by; choose {one_of(SORTS)}, or a config key such as optim.lr.{hint}")


def check_status(name: str) -> str:
    if name not in STATUSES:
        raise UsageError(f"status={short(name)} is none that a run can have; choose {one_of(STATUSES)}.{did_you_mean(name, STATUSES)}")
    return name


def _setting(key: str) -> Callable[[ListedRun], Any]:
    return lambda run: run.setting(key, DEFAULTS[key])


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers before words, words before lists, which Python does not order among themselves, and null last."""
    return (3 if value is None else 2 if isinstance(value, tuple) else isinstance(value, str)), value


def _present(key: str, values: Sequence[Any]) -> str:
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    name = key.removesuffix(".name")  # data=mnist is how data.name is typed
    return f" The runs there have {name}={', '.join(map(show, values[:SHOWN_VALUES]))}{more}."
