"""Invoke's entry point: collects the tasks of mlflow_image/tasks/."""

from mlflow_image.tasks import namespace

ns = namespace()
