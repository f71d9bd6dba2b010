"""Prepared images, imbalance plans, samplers and feeds.

Names are imported when they are first used: whoever looks at results loads no feed and no source.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairsweep.datasets.feeds.feed import Batch, Feed
    from fairsweep.datasets.feeds.resident import ResidentFeed
    from fairsweep.datasets.preparation.own_images import write
    from fairsweep.datasets.preparation.pictures import contact_sheet, counts_chart
    from fairsweep.datasets.preparation.preparing import PreparationProgress, prepare
    from fairsweep.datasets.selection.evaluation import EvaluationConfig, SplitEvaluation, evaluation_rows
    from fairsweep.datasets.selection.imbalance import (
        ImbalanceConfig,
        KeepImbalance,
        MinoritySizeImbalance,
        ShareImbalance,
        TrainingPlan,
        plan_training,
    )
    from fairsweep.datasets.selection.partitions import ClientsConfig, Partition, TrainingColumns, partition_clients
    from fairsweep.datasets.selection.sampling import Poisson, Sampler, Shuffled
    from fairsweep.datasets.storage.layout import Attribute, DatasetError, DatasetInfo
    from fairsweep.datasets.storage.prepared import PreparedDataset
    from fairsweep.datasets.storage.writing import write_prepared

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
    "write",
    "write_prepared",
]

_HOMES = {
    "Attribute": "storage.layout",
    "Batch": "feeds.feed",
    "ClientsConfig": "selection.partitions",
    "DatasetError": "storage.layout",
    "DatasetInfo": "storage.layout",
    "EvaluationConfig": "selection.evaluation",
    "Feed": "feeds.feed",
    "ImbalanceConfig": "selection.imbalance",
    "KeepImbalance": "selection.imbalance",
    "MinoritySizeImbalance": "selection.imbalance",
    "Partition": "selection.partitions",
    "Poisson": "selection.sampling",
    "PreparationProgress": "preparation.preparing",
    "PreparedDataset": "storage.prepared",
    "ResidentFeed": "feeds.resident",
    "Sampler": "selection.sampling",
    "ShareImbalance": "selection.imbalance",
    "Shuffled": "selection.sampling",
    "SplitEvaluation": "selection.evaluation",
    "TrainingColumns": "selection.partitions",
    "TrainingPlan": "selection.imbalance",
    "contact_sheet": "preparation.pictures",
    "counts_chart": "preparation.pictures",
    "evaluation_rows": "selection.evaluation",
    "partition_clients": "selection.partitions",
    "plan_training": "selection.imbalance",
    "prepare": "preparation.preparing",
    "write": "preparation.own_images",
    "write_prepared": "storage.writing",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that holds it."""
    if name == "__version__":
        return importlib.metadata.version("fairsweep")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
