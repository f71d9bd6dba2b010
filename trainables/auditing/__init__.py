"""Canaries of an audited training: who they are, what they contribute, what the training reveals of them."""
