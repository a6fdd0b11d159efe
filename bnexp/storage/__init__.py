"""What is on disk: run folders, results, checkpoints, curves, stacks and groups."""
