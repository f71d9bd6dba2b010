"""Showing trials elsewhere: W&B, TensorBoard, MLflow, plain files."""
