"""Figures: one a file. What they show is measured elsewhere; nothing here computes a statistic. No torch."""
