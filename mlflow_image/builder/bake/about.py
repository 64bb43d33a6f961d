"""What an image says about itself: /etc/mlflow-image.json, which the manifest repeats."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow_image.images.manifest import Description, Python
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, Checkout


def about(inputs: Inputs, checkout: Checkout = HERE) -> Description:
    """The description of an image.

    All of it follows from the inputs and the checkout, so that two hosts give the same bytes;
    the key of the layer that writes it contains all of it.
    """
    versions = {wheel.name: wheel.version for wheel in inputs.wheels}
    schema = json.loads(settings_schema(checkout).read_text())
    return Description(
        definition=inputs.definition.as_data(),
        os=inputs.definition.os,
        login=inputs.definition.system.login,
        kernel=tuple(p.version for p in inputs.apt_packages if p.name.startswith("linux-image")),
        python=Python(
            distribution=inputs.distribution,
            version=inputs.python,
            terms=inputs.decision.terms,
        ),
        mlflow=versions["mlflow"],
        packages=versions,
        settings_schema_version=schema["properties"]["schema_version"]["const"],
    )


def settings_schema(checkout: Checkout = HERE) -> Path:
    """The JSON Schema of the server settings in the checkout's images."""
    return checkout.image_files / "usr/lib/mlflow-image/mlflow_settings/schema.json"
