"""The console script, and `python -m bnexp`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; a Ctrl-C during its imports is no traceback either."""
    try:
        from bnexp.cli import main as run
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)  # `signals.INTERRUPTED`, which may not be imported yet
    run()


if __name__ == "__main__":  # worker processes import this file again
    main()
