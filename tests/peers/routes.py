"""Prints every route of MLflow's application with users, from its own route tables, as JSON.

A program of its own, for the image's Python: `/opt/mlflow/bin/python routes.py DIRECTORY`, with a
directory for its database. Each route is [method, path], with sample values in the path.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FLASK = re.compile(r"<(?:[a-z]+:)?[A-Za-z_]+>")
_FASTAPI = re.compile(r"\{[A-Za-z_]+(?::[a-z]+)?\}")
_SAMPLE = "1"


def main(directory: Path) -> int:
    """Print the routes."""
    config = directory / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{directory}/accounts.db\n"
        "admin_username = admin\nadmin_password = only for the table of routes\n"
    )
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=str(config),
        MLFLOW_FLASK_SERVER_SECRET_KEY="only for the table of routes",
        _MLFLOW_SGI_NAME="uvicorn",
        prometheus_multiproc_dir=str(directory),
    )
    import uvicorn  # noqa: F401 - MLflow looks whether it is imported
    from mlflow.server import app
    from mlflow.server.auth import create_app

    application = create_app()
    flask = [
        (method, _FLASK.sub(_SAMPLE, rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]
    print(json.dumps({"flask": sorted(flask), "fastapi": sorted(fastapi(application.routes))}))
    return 0


def fastapi(routes: Any) -> Iterator[tuple[str, str]]:
    """The routes that FastAPI serves itself, also those of routers that it includes."""
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            yield method, _FASTAPI.sub(_SAMPLE, route.path)
        for further in ("effective_candidates", "effective_low_priority_routes"):
            if hasattr(route, further):
                yield from fastapi(getattr(route, further)())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
