"""The model that the smoke test logs: a straight line whose coefficients are in an artifact.

MLflow runs this file by itself, when the model is logged and when it is loaded: it must not
import anything of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow.models
from mlflow.pyfunc.model import PythonModel


class Line(PythonModel):
    """Predicts slope * x + intercept for the column `x`."""

    def load_context(self, context: Any) -> None:
        text = Path(context.artifacts["coefficients"]).read_text()
        self.slope, self.intercept = json.loads(text)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        return [self.slope * float(x) + self.intercept for x in model_input["x"]]


mlflow.models.set_model(Line())
