"""What the files of a sweep and of its trials are called."""

# The output folder of a sweep
from __future__ import annotations

SWEEP_YAML = "sweep.yaml"
SWEEP_JSON = "sweep.json"
EXAMPLES = "examples.parquet"
PLANS = "plans.json"
MORE_PLANS = "plans.jsonl"
REPORT = "report.html"
TRIALS = "trials"
IDS_KEY = "ids.key"
WINNER = "winner.json"

# The folder of a trial
CONFIG = "config.json"
DATA = "data.json"
STATE = "state.json"
CELLS = "cells.parquet"
PREDICTIONS = "predictions.parquet"
PRIVACY = "privacy.json"
TRAINING = "training.parquet"
WEIGHTS = "weights.pt"
# of learners that can forget
COST = "cost.json"
PLACEMENT = "placement.parquet"
SHARD_PREDICTIONS = "shard_predictions.parquet"
# of learners that train a population
LINEAGE = "lineage.parquet"
# of audited trials
AUDIT = "audit.parquet"
# of shadow trials
MEMBERSHIP = "membership.parquet"
