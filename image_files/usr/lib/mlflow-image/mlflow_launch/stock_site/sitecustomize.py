"""Python imports this when a process of a stock `mlflow server` starts (module `site`)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from mlflow_launch.guards import apply

apply.while_imported()
