"""What config keys and options are called elsewhere, for the hints of messages: no likeness of letters leads from one to the other."""

from __future__ import annotations

OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "learningrate", "eta"), "optim.lr"),
    **dict.fromkeys(("batch", "bs", "batches"), "train.batch_size"),
    **dict.fromkeys(("dataset", "datasets"), "data"),
    **dict.fromkeys(("optimizer", "optimiser", "opt"), "optim"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "optim.schedule"),
    **dict.fromkeys(("network", "net", "arch", "architecture"), "model"),
    **dict.fromkeys(("data_dir", "datadir", "path", "dir"), "data.root"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), "train.epochs"),
    **dict.fromkeys(("max_steps", "num_steps", "iterations"), "train.steps"),
    **dict.fromkeys(("wd", "decay", "l2"), "optim.weight_decay"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("gpu", "cuda"), "device"),
    **dict.fromkeys(("normalization", "bn", "batch_norm", "batchnorm"), "model.norm"),
}
"""Other names of keys and groups, by the last part of what was typed."""
OPTIONS = {name: f"--{name}" for name in ("seeds", "workers", "values", "lrs", "out")} | {"runs_dir": "--runs-dir"}
"""Options of commands that are typed as if they were keys."""
