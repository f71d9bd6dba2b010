"""Federated averaging, private or not: clients, cohorts, local training, the server."""
