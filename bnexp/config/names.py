"""Names from elsewhere: which key was meant by a name that is none."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from bnexp.base.errors import did_you_mean

OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "learningrate", "eta"), "optim.lr"),
    **dict.fromkeys(("batch", "bs", "batches", "batchsize"), "train.batch_size"),
    **dict.fromkeys(("dataset", "datasets"), "data"),
    **dict.fromkeys(("optimizer", "optimiser", "opt"), "optim"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "optim.schedule"),
    **dict.fromkeys(("network", "net", "arch", "architecture"), "model"),
    **dict.fromkeys(("data_dir", "datadir", "path", "dir"), "data.root"),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs"), "train.epochs"),
    **dict.fromkeys(("max_steps", "num_steps", "iterations"), "train.steps"),
    **dict.fromkeys(("wd", "decay", "l2"), "optim.weight_decay"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("gpu", "cuda"), "device"),
    **dict.fromkeys(("normalization", "bn", "batch_norm", "batchnorm"), "model.norm"),
}
"""What keys and groups are called elsewhere, by the last part of what was typed: no likeness of letters leads from one to the other."""


def key_meant(name: str, known: Iterable[str]) -> str | None:
    """The key, or the group, of this name: itself, the only one with this last part (`lr`, `train.lr`), or what it is called here."""
    if name in known:
        return name
    last = name.rpartition(".")[2].lower()
    same = [full for full in known if full.rpartition(".")[2] == last]
    return OTHER_NAMES.get(last) or (same[0] if len(same) == 1 else None)


def name_hint(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'optim.lr'?`; empty where nothing is near."""
    if meant := key_meant(name, known):
        return f" Did you mean '{meant}'?"
    if hint := did_you_mean(name, known):
        return hint
    lasts = {full.rpartition(".")[2]: full for full in known}
    near = get_close_matches(name.rpartition(".")[2][:80], lasts, n=1)
    return f" Did you mean '{lasts[near[0]]}'?" if near else ""
