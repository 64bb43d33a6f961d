"""The launcher is no package of the laptop's: its tests import it from the image's tree."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"))
