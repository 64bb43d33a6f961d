"""The plugin is not installed on the host: its tests import it from plugins/."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "plugins/mlflow-hdfs"))
