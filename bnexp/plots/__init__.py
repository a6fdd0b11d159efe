"""Figures. What they show is measured and summarised elsewhere: nothing here computes a statistic. No torch; matplotlib is loaded when one
is drawn, not before."""

from bnexp.plots.style import MAX_ARMS, Picture

__all__ = ["MAX_ARMS", "Picture"]
