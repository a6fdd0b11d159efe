"""Figures. What they show is measured and summarised elsewhere: nothing here computes a statistic. No torch; matplotlib comes
with the modules that draw, and `bnexp.report` is imported when a report is written."""

from bnexp.plots.library import matplotlib
from bnexp.plots.style import Picture

__all__ = ["Picture", "matplotlib"]
