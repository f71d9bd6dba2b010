"""Prepared images, imbalance plans, samplers and feeds."""

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
from fairsweep.datasets.prepare import PreparationProgress, prepare
from fairsweep.datasets.prepared import PreparedDataset
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
