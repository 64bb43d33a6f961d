"""Looks at stores as the launcher does. Runs in the image's environment, which has the drivers.

Standard input: a JSON list of environments. Standard output: the list of what is wrong with each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "image_files/usr/lib/mlflow-image"))

from mlflow_launch.stores.watch import Look, Stores


def look(environment: dict[str, str]) -> str:
    def work() -> str:
        os.environ.update(environment)
        return Stores.of(environment).trouble(write=True)

    return Look(work).result()


print(json.dumps([look(one) for one in json.load(sys.stdin)]))
