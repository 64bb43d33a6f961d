"""Assembles the Invoke collection from mlflow_image/tasks/; nothing else."""

from mlflow_image.tasks import namespace

ns = namespace()
