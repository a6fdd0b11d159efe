"""The command line: parse, call, print; a file a command. Owns the exit codes. Commands import torch and Hydra where they need them."""

from bnexp.cli import compare, config, evaluate, report, resume, runs, stats, sweep, tensorboard, train  # each adds its command to the app
from bnexp.cli.app import app, main

__all__ = ["app", "compare", "config", "evaluate", "main", "report", "resume", "runs", "stats", "sweep", "tensorboard", "train"]
