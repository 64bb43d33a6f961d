"""Starts MLflow's server early in the boot and keeps its workers alive; see __main__.py."""
