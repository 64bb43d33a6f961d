"""Bakes a virtual-machine image that is an MLflow tracking server."""
