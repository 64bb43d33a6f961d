"""MLflow's uvicorn command line is used if every word of it is known, and otherwise not at all."""

from __future__ import annotations

import pytest

from mlflow_launch import applications, command, mlflow_names

SOUND = [
    *("/opt/mlflow/bin/python", "-m", "uvicorn", "--log-config", "/x/log.yaml"),
    *("--host", "127.0.0.1", "--port", "8000", "--workers", "2", mlflow_names.APPLICATION),
]


def test_the_command_of_this_mlflow_is_understood() -> None:
    found = command.parsed(SOUND, {"_MLFLOW_SGI_NAME": "uvicorn"}, applications.Open())
    assert (found.host, found.port, found.workers) == ("127.0.0.1", 8000, 2)
    assert found.log_config == "/x/log.yaml"
    assert found.environment == {"_MLFLOW_SGI_NAME": "uvicorn"}


def test_the_application_with_users_is_made_by_a_function() -> None:
    users = applications.chosen({applications.NAME: "basic-auth"})
    with_users = [*SOUND[:-1], "--factory", mlflow_names.AUTH_APPLICATION]
    assert command.parsed(with_users, {}, users).port == 8000
    for other in (SOUND, [*SOUND[:-1], mlflow_names.AUTH_APPLICATION]):
        with pytest.raises(mlflow_names.DiffersError):
            command.parsed(other, {}, users)


@pytest.mark.parametrize(
    "changed",
    [
        [*SOUND[:-1], "mlflow.server:app"],
        [*SOUND[:-1], "--factory", SOUND[-1]],
        [*SOUND[:-1], "--reload", "--reload", SOUND[-1]],
        [SOUND[0], "-m", "gunicorn", *SOUND[3:]],
        [*SOUND[:3], *SOUND[5:]],
        [*SOUND[:-1], "--root-path", "/mlflow", SOUND[-1]],
        [],
    ],
)
def test_a_command_line_with_anything_unknown_is_not_used(changed: list[str]) -> None:
    with pytest.raises(mlflow_names.DiffersError, match="starts its server with"):
        command.parsed(changed, {}, applications.Open())
