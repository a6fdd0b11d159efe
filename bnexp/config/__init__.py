"""The typed config: its tree with its checks, its keys, what a config costs, and how Hydra composes it."""

from bnexp.config.choices import DATASETS, EMBEDDED, MODELS, OWN_FILES, READERS
from bnexp.config.fits import check_fits, map_sizes, val_size
from bnexp.config.metrics import METRICS, PROBED, SAMPLED, MetricsConfig
from bnexp.config.tree import (
    KEYS,
    MAX_THREADS,
    NOT_HASHED,
    RESULTS_VERSION,
    USED_WHEN,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    check_key,
    from_mapping,
    to_mapping,
)

__all__ = [
    "DATASETS",
    "EMBEDDED",
    "KEYS",
    "MAX_THREADS",
    "METRICS",
    "MODELS",
    "NOT_HASHED",
    "OWN_FILES",
    "PROBED",
    "READERS",
    "RESULTS_VERSION",
    "SAMPLED",
    "USED_WHEN",
    "Config",
    "DataConfig",
    "MetricsConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "check_fits",
    "check_key",
    "from_mapping",
    "map_sizes",
    "to_mapping",
    "val_size",
]
