"""The command line: parse, call, print. Owns the exit codes. torch and Hydra are imported inside the commands that need them."""

from bnexp.cli import many, one, report, runs, stats  # each adds its commands to the app
from bnexp.cli.app import app, main

__all__ = ["app", "main", "many", "one", "report", "runs", "stats"]
