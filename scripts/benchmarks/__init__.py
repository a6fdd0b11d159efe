"""Measured ratios: `scripts/bench` runs the groups and writes docs/benchmarks.md. The process that does so imports no torch: what it starts
would be weighed with its memory."""
