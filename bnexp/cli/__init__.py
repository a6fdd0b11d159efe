"""The command line: parse, call, print; a file a command. Owns the exit codes. Commands import torch and Hydra where they need them."""

from importlib import import_module

from bnexp.cli.app import app, main

COMMANDS = ("train", "sweep", "compare", "evaluate", "resume", "runs", "stats", "report", "reports", "export", "config", "tensorboard")
"""As the help lists them: each is a module here, which adds its command to the app."""

for _name in COMMANDS:
    import_module(f"bnexp.cli.{_name}")

__all__ = ["COMMANDS", "app", "main"]
