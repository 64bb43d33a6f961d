"""MLflow's uvicorn command line is used if every word of it is known, and otherwise not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

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


RACE = (
    "IntegrityError: (psycopg2.errors.UniqueViolation) duplicate key value violates unique "
    'constraint "pg_type_typname_nsp_index"'
)


def answers(*outcomes: object) -> Iterator[Callable[[], command.ServerCommand]]:
    """A command that ends with each of these in turn."""

    def finish(outcome: object) -> command.ServerCommand:
        if isinstance(outcome, str):
            raise command.CommandRefusedError(outcome)
        assert isinstance(outcome, command.ServerCommand)
        return outcome

    return iter([functools.partial(finish, outcome) for outcome in outcomes])


GOOD = command.ServerCommand("127.0.0.1", 8000, 1, "x", {})


@pytest.mark.parametrize(
    "race",
    [RACE, "ProgrammingError: (psycopg2.errors.DuplicateTable) relation", "x (found version None"],
)
def test_the_command_runs_again_while_another_server_makes_the_tables(
    monkeypatch: pytest.MonkeyPatch, race: str
) -> None:
    runs = answers(race, race, GOOD)
    monkeypatch.setattr(command, "_TABLES_EVERY_S", 0.0)
    monkeypatch.setattr(command, "started", lambda application: next(runs))
    assert command.finished(next(runs), applications.Open()) is GOOD


@pytest.mark.parametrize(
    "reason", ["OperationalError: no such host", "found version 3a, expected 4b"]
)
def test_any_other_refusal_is_final(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr(command, "started", lambda application: pytest.fail("ran again"))
    with pytest.raises(command.CommandRefusedError, match=reason):
        command.finished(next(answers(reason)), applications.Open())


def test_tables_that_nobody_finishes_end_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_TABLES_WITHIN_S", -1.0)
    with pytest.raises(command.CommandRefusedError, match="UniqueViolation"):
        command.finished(next(answers(RACE)), applications.Open())
