"""Prepared images, imbalance plans, samplers and feeds.

Names are imported when they are first used: whoever looks at results loads no feed and no source.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairsweep.datasets.evaluation import EvaluationConfig, SplitEvaluation, evaluation_rows
    from fairsweep.datasets.feeds import Batch, Feed
    from fairsweep.datasets.imbalance import (
        ImbalanceConfig,
        KeepImbalance,
        MinoritySizeImbalance,
        ShareImbalance,
        TrainingPlan,
        plan_training,
    )
    from fairsweep.datasets.layout import Attribute, DatasetError, DatasetInfo
    from fairsweep.datasets.partitions import ClientsConfig, Partition, TrainingColumns, partition_clients
    from fairsweep.datasets.pictures import contact_sheet, counts_chart
    from fairsweep.datasets.prepared import PreparedDataset
    from fairsweep.datasets.preparing import PreparationProgress, prepare
    from fairsweep.datasets.resident import ResidentFeed
    from fairsweep.datasets.sampling import Poisson, Sampler, Shuffled
    from fairsweep.datasets.writing import write_prepared

__all__ = [
    "Attribute",
    "Batch",
    "ClientsConfig",
    "DatasetError",
    "DatasetInfo",
    "EvaluationConfig",
    "Feed",
    "ImbalanceConfig",
    "KeepImbalance",
    "MinoritySizeImbalance",
    "Partition",
    "Poisson",
    "PreparationProgress",
    "PreparedDataset",
    "ResidentFeed",
    "Sampler",
    "ShareImbalance",
    "Shuffled",
    "SplitEvaluation",
    "TrainingColumns",
    "TrainingPlan",
    "contact_sheet",
    "counts_chart",
    "evaluation_rows",
    "partition_clients",
    "plan_training",
    "prepare",
    "write_prepared",
]

_HOMES = {
    "Attribute": "layout",
    "Batch": "feeds",
    "ClientsConfig": "partitions",
    "DatasetError": "layout",
    "DatasetInfo": "layout",
    "EvaluationConfig": "evaluation",
    "Feed": "feeds",
    "ImbalanceConfig": "imbalance",
    "KeepImbalance": "imbalance",
    "MinoritySizeImbalance": "imbalance",
    "Partition": "partitions",
    "Poisson": "sampling",
    "PreparationProgress": "preparing",
    "PreparedDataset": "prepared",
    "ResidentFeed": "resident",
    "Sampler": "sampling",
    "ShareImbalance": "imbalance",
    "Shuffled": "sampling",
    "SplitEvaluation": "evaluation",
    "TrainingColumns": "partitions",
    "TrainingPlan": "imbalance",
    "contact_sheet": "pictures",
    "counts_chart": "pictures",
    "evaluation_rows": "evaluation",
    "partition_clients": "partitions",
    "plan_training": "imbalance",
    "prepare": "preparing",
    "write_prepared": "writing",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
