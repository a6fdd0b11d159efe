"""`python -m bnexp`."""

from bnexp.cli import main

main()
