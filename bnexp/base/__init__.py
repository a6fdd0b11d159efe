"""What every other package builds on: errors, files, locks, signals, seeds, the machine."""
