"""Trackers: TensorBoard, W&B, MLflow and plain files beside the records, fed off the critical path."""
