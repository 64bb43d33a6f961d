"""The launcher is not installed on the host: its tests import it from image_files/."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"))
