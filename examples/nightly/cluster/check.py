"""Check what the steps need on this machine, before minutes are spent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import attempt
import settings
from settings import RefusedError


def main() -> None:
    settings.parse(__doc__ or "")
    cluster = settings.cluster()
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    if not shutil.which(java):
        raise RefusedError(f"{java} is missing: Spark needs a JDK 17 or newer")
    subprocess.run([java, "-version"], check=True, capture_output=True)
    address = settings.mlflow_variables()["MLFLOW_TRACKING_URI"]
    print(f"Spark {cluster['SPARK_MASTER']}, {cluster['HDFS_ROOT']}, MLflow {address}")


if __name__ == "__main__":
    attempt.run(main)
