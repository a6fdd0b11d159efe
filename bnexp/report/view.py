"""A study's part as its figures need it: which runs they show, curves that are read once, names and titles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bnexp.analysis import Aggregate, Part
from bnexp.analysis.bands import RunCurves
from bnexp.analysis.wording import label
from bnexp.norms import has_batch_statistics
from bnexp.plots.curves import Arm
from bnexp.storage.curves import Lists
from bnexp.storage.result import RunResult

Read = Callable[[str], Mapping[str, list[tuple[int, float]]]]
"""The recorded curves of a run, by its id."""


class View:
    """One part. `prefix` keeps the names of its pictures apart from those of other parts."""

    def __init__(self, part: Part, read: Read, prefix: str = "", read_lists: Callable[[str], Lists] = lambda run: {}) -> None:
        self.part, self._read, self._prefix, self._read_lists = part, read, prefix, read_lists
        self._lists: dict[str, Lists] = {}
        self.arms, self.sizes = part.arms.labels, part.batch_sizes
        self._tracks: dict[str, RunCurves] = {}
        self.without_curves: set[str] = set()
        """Runs that the tables count and no curve can show."""

    @property
    def shown_sizes(self) -> list[int]:
        """The batch size in focus, the smallest, and the largest: what has a picture for each batch size has three."""
        return list(dict.fromkeys([self.part.focus, self.sizes[0], self.sizes[-1]]))

    def normed(self, arm: str) -> bool:
        """Whether an arm's runs have running statistics."""
        return any(has_batch_statistics(run.norm) for run in self.part.of(arm))

    def name(self, text: str, size: int | None = None) -> str:
        """A picture's file name; where there are several batch sizes, that of one."""
        return f"{self._prefix}{text}" + (f"_bs{size}" if size is not None and len(self.sizes) > 1 else "")

    def at(self, size: int) -> str:
        """What a title adds to say which batch size it is, where there are several."""
        return f" at batch {size}" if len(self.sizes) > 1 else ""

    def tracks(self, runs: Sequence[RunResult]) -> tuple[RunCurves, ...]:
        """The recorded curves of runs, in their order. What recorded none is left out, and counted in `without_curves`."""
        found = []
        for run in runs:
            if run.id not in self._tracks:
                self._tracks[run.id] = RunCurves.of(run, self._read(run.id))
            if self._tracks[run.id].curves:
                found.append(self._tracks[run.id])
            else:
                self.without_curves.add(run.id)
        return tuple(found)

    def lists(self, run: str) -> Lists:
        """The lists of numbers that a run recorded, by its id; read once."""
        if run not in self._lists:
            self._lists[run] = self._read_lists(run)
        return self._lists[run]

    def at_best(self, size: int) -> list[Arm]:
        """The arms' runs of a batch size, each at the rate with its lowest mean validation loss; of an arm without results, all runs."""
        found = []
        for arm in self.arms:
            lr = self.part.best_lr.get((arm, size))
            own = self.tracks(self.part.drawn(arm, size, lr))
            if own:
                tuned = len({run.lr for run in self.part.of(arm, size)}) > 1
                found.append(Arm(arm, f"{label(arm)}, lr {lr:g}" if lr is not None and tuned else label(arm), own))
        return found

    def at_same(self, size: int) -> list[Arm]:
        """The arms' runs of a batch size, all at the largest learning rate that is stable for every arm; `at_best` where there is none."""
        tried = self.part.tried or {}
        stable = [tried[arm, size].stable.lr for arm in self.arms if (arm, size) in tried]
        lr = min((rate or 0.0 for rate in stable), default=0.0)
        tracks = {arm: self.tracks(self.part.drawn(arm, size, lr)) for arm in self.arms if self.part.of(arm, size, lr)} if lr else {}
        if len(tracks) < len(self.arms):
            return self.at_best(size)
        return [Arm(arm, f"{label(arm)}, lr {lr:g}", own) for arm, own in tracks.items() if own]

    def layers(self, beginning: str, end: str) -> dict[str, str]:
        """Layer by key, in the network's order, of the keys that the runs in focus recorded."""
        found: dict[str, str] = {}
        for arm in self.at_best(self.part.focus):
            for key in (key for track in arm.tracks for key in track.curves):
                if key.startswith(beginning) and key.endswith(end):
                    found.setdefault(key, key[len(beginning) : len(key) - len(end)])
        return found

    def last_and_first(self, beginning: str, end: str) -> dict[str, str]:
        """The last and the first layer of `layers`."""
        found = list(self.layers(beginning, end).items())
        return dict([*found[-1:], *found[:1]])

    def by_lr(self, arm: str, size: int) -> tuple[Aggregate, ...]:
        """An arm's learning rates at a batch size, each with what its seeds scored; those without a result are left out."""
        tried = self.part.tried or {}
        return tried[arm, size].by_lr if (arm, size) in tried else ()
