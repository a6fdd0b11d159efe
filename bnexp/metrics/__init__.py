"""What batch norm is said to do, measured inside the network: one measured thing a file, with its formula, units and source.

Each metric gives slashed keys -> [R], one value a run of the stack. None of them touches the run: they compute on copies (`NetworkCopy`).
"""

from bnexp.metrics.batch_stats import against_precise
from bnexp.metrics.observer import METRICS, PROBE_METRICS, SAMPLED, Measured, Observer, sampling_note

__all__ = ["METRICS", "PROBE_METRICS", "SAMPLED", "Measured", "Observer", "against_precise", "sampling_note"]
