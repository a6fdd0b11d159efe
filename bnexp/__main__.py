"""The console script, and `python -m bnexp`."""

from __future__ import annotations

import sys


def main() -> None:
    """Reads and obeys the command line, from the first import on: a Ctrl-C amid those is no traceback either."""
    try:
        from bnexp.cli import main as obey
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)  # stop.INTERRUPTED, which may not be there yet
    obey()


if __name__ == "__main__":  # worker processes import this file again
    main()
