"""The shortest client: one run with a parameter, a metric and a file.

Set what `invoke client-env` prints, then run it with Python and MLflow.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow

# On a server with users, an experiment belongs to whoever makes it: each user has one.
user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
mlflow.set_experiment(f"first_experiment {user}".rstrip())
with mlflow.start_run(run_name="first_run") as run, TemporaryDirectory() as folder:
    mlflow.log_param("param_1", 1)
    mlflow.log_metric("my_metric", 1)
    config = Path(folder, "config.yaml")
    config.write_text("alpha: 0.5\n")
    mlflow.log_artifact(str(config))

back = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml")
print(f"logged run {run.info.run_id}; its file says: {back.strip()}")
