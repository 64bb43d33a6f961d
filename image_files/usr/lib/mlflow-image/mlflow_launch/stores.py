"""Opens MLflow's stores before the workers are forked, so that each of them begins with both open.

A store looks at every table and migration when it is opened: 3 to 5 s in an emulated guest, which
the first call to each worker would have to wait for. No connection survives the fork: SQLAlchemy's
documentation, "Using Connection Pools with Multiprocessing or os.fork()".
"""

from __future__ import annotations

import importlib
from typing import Any

from mlflow_launch import ready
from mlflow_launch.log import say

# Opens the model registry, which the probe does not.
_REGISTRY_CALL = "/api/2.0/mlflow/registered-models/search?max_results=1"


def open_once() -> None:
    """Make one call to each store in this process, and close every connection that it took.

    What fails here is left to the workers, whose first calls will try again.
    """
    server: Any = importlib.import_module("mlflow.server")
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engines: set[Any] = set()

    def note(connection: Any) -> None:
        engines.add(connection.engine)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "engine_connect", note)
    try:
        client = server.app.test_client()
        for call in (ready.PROBE, _REGISTRY_CALL):
            # localhost is always among the allowed hosts.
            answer = client.get(call, headers={"Host": "localhost"})
            if answer.status_code >= 500:
                say(f"not ready yet: {call} gave {answer.status_code}")
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "engine_connect", note)
        for engine in engines:
            engine.dispose()
    say(f"the stores are open ({len(engines)} databases)")
