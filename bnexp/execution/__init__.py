"""From configs to finished runs: one stack, several, workers, clusters, progress, step times."""
