"""The MLflow plugins of this repository: what needs neither MLflow nor a cluster."""
