"""Which runs a question needs and what their results say: sweeps, comparisons, the noise law, evaluation of saved runs."""
