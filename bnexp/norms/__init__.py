"""The normalization layers that `model.norm` names: one declaration each, in `declarations.py`; torch is imported where one is made.

`modules.py` has the layers that PyTorch lacks, and what a training sets in them.
"""

from bnexp.norms.declarations import NO_NORM, NORMS, Norm, has_batch_statistics

__all__ = ["NORMS", "NO_NORM", "Norm", "has_batch_statistics"]
