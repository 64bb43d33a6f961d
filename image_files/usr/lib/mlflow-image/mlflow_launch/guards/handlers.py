"""What MLflow's handlers accept and announce: locations, and ways around the server.

With artifacts in S3, MLflow tells its clients to transfer large files to and from the store itself,
by temporary URLs. Clients that cannot reach the store, or do not trust its certificate, then fail.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from mlflow_launch import mlflow_names
from mlflow_launch.guards import locations

#: mlflow-configure's variable: `true` when clients reach the store.
CLIENTS_REACH = "MLFLOW_IMAGE_CLIENTS_REACH_STORE"


def mend(module: Any) -> None:
    """Refuse foreign locations early, and announce only what clients can do.

    module: mlflow_names.HANDLERS.
    """
    locations.mend_handlers(module)
    mend_announcement(module)


def mend_announcement(module: Any) -> None:
    """Announce only what clients can do. module: any that has the function by its name."""
    announce = getattr(module, mlflow_names.SERVER_INFO)

    @functools.wraps(announce)
    def build_server_info_payload() -> dict[str, Any]:
        payload = dict(announce())
        if os.environ.get(CLIENTS_REACH) != "true":
            payload.update(dict.fromkeys(mlflow_names.WAYS_TO_THE_STORE, False))
        return payload

    setattr(module, mlflow_names.SERVER_INFO, build_server_info_payload)
