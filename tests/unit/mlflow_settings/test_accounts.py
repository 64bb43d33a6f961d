"""mlflow-configure and the users of `auth`: passwords that it makes, and files for the server."""

from __future__ import annotations

import configparser
import json
import stat

import pytest

from mlflow_settings.blocks import hosts

from .test_configure import Machine, machine

__all__ = ["machine"]

BASIC = "schema_version: 1\nauth: {basic: {}}\n"
PASSWORD = "var/lib/mlflow-image/admin-password"


def test_the_machine_makes_the_first_password_once_and_says_only_where_it_is(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(BASIC)
    assert machine.boot() == 0
    made = (machine.root / PASSWORD).read_text()
    assert len(made.strip()) == 24
    assert stat.S_IMODE((machine.root / PASSWORD).stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert f"the first password of admin: sudo cat /{PASSWORD}" in said
    assert made.strip() not in said
    machine.boot()
    assert (machine.root / PASSWORD).read_text() == made


def test_without_users_no_password_is_made(machine: Machine) -> None:
    machine.give("schema_version: 1\n")
    machine.boot()
    assert not (machine.root / PASSWORD).exists()
    assert not (machine.root / "var/lib/mlflow/accounts.db").exists()


def test_mlflow_reads_the_same_password_from_its_configuration(machine: Machine) -> None:
    password = "50%(admin)s [x] ; # y = : 'z\" ü"
    users = [{"name": "ana", "password": "a long password"}]
    block = {"admin": {"name": "root", "password": password}, "users": users}
    machine.give(f"schema_version: 1\nauth: {json.dumps({'basic': block})}\n")
    machine.boot()
    rendered = machine.root / "run/mlflow/auth.ini"
    assert stat.S_IMODE(rendered.stat().st_mode) == 0o600
    config = configparser.ConfigParser()  # as MLflow does
    config.read(rendered, encoding="utf-8")
    assert config["mlflow"]["admin_password"] == password
    assert config["mlflow"]["database_uri"] == "sqlite:////var/lib/mlflow/accounts.db"
    assert json.loads((machine.root / "run/mlflow/auth-users.json").read_text()) == [
        {**users[0], "admin": False}
    ]
    assert password not in (machine.root / "run/mlflow/server.json").read_text()


def test_the_users_files_are_gone_when_the_settings_have_no_users_any_more(
    machine: Machine,
) -> None:
    machine.give(BASIC)
    machine.boot()
    assert (machine.root / "var/lib/mlflow/accounts.db").read_bytes() == b"no users"
    machine.give("schema_version: 1\n")
    machine.boot()
    assert not (machine.root / "run/mlflow/auth.ini").exists()
    assert not (machine.root / "run/mlflow/auth-users.json").exists()
    assert (machine.root / "var/lib/mlflow/accounts.db").exists()


def test_a_lost_database_of_users_is_a_fault_and_never_an_empty_one(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(BASIC)
    machine.boot()
    (machine.root / "var/lib/mlflow/accounts.db").unlink()
    assert machine.boot() == 2
    assert "accounts.db existed before and is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "addresses", "public"),
    [
        ("0.0.0.0", ("10.0.2.15", "8.8.8.8"), "8.8.8.8"),  # noqa: S104
        ("0.0.0.0", ("10.0.2.15", "2a00:1450::1"), ""),  # noqa: S104
        ("::", ("10.0.2.15", "2a00:1450::1"), "2a00:1450::1"),
        ("::", ("8.8.8.8",), "8.8.8.8"),
        ("127.0.0.1", ("8.8.8.8",), ""),
        ("192.168.1.4", ("8.8.8.8",), ""),
        ("8.8.8.8", (), "8.8.8.8"),
    ],
)
def test_an_address_of_the_internet_that_is_served_is_found(
    host: str, addresses: tuple[str, ...], public: str
) -> None:
    assert hosts.public(host, addresses) == public
