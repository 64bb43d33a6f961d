"""mlflow-admin: what MLflow's command line is given."""

from __future__ import annotations

import pytest

from mlflow_settings import admin, render, settings

TEXT = """\
schema_version: 1
server: {host: "::", port: 9000}
backend_store: {postgresql: {host: db, database: d, user: u, password: hush}}
"""
GIVEN = render.environment(settings.check(TEXT, "x"))
URI = GIVEN["MLFLOW_BACKEND_STORE_URI"]


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        (["gc", "--older-than", "30d"], ["gc", "--backend-store-uri", URI, "--older-than", "30d"]),
        (["db", "upgrade"], ["db", "upgrade", URI]),
        (["db", "upgrade", "sqlite:///x"], ["db", "upgrade", "sqlite:///x"]),
        (["gc", "--help"], ["gc", "--help"]),
        (["experiments", "search"], ["experiments", "search"]),
    ],
)
def test_commands_that_want_the_database_get_its_uri(typed: list[str], given: list[str]) -> None:
    assert list(admin.with_database(typed, GIVEN)) == given


def test_the_command_reaches_the_server_and_finds_the_stores() -> None:
    found = admin.variables(GIVEN)
    assert found["MLFLOW_TRACKING_URI"] == "http://[::1]:9000"
    assert found["PGPASSFILE"] == "/run/mlflow/pgpass"
    assert "MLFLOW_HOST" not in found
    assert "hush" not in " ".join(found.values())


def test_without_arguments_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main([]) == 0
    assert "mlflow-admin gc --older-than 30d" in capsys.readouterr().out
