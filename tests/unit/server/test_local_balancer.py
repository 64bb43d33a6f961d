"""HAProxy takes the example's configuration, and refuses it with its values in capitals."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mlflow_image.paths import HERE
from mlflow_image.server import local_balancer
from mlflow_settings import placeholders, settings, userdata
from mlflow_settings.proxy import Identity
from tests.unit.mlflow_settings.test_userdata import FILLED, PEM, replaced

needs_haproxy = pytest.mark.skipif(
    not local_balancer.program(), reason="missing: haproxy (apt-get install haproxy)"
)
SHOWN = Identity(PEM["certificate"], PEM["key"], PEM["certificate"])


def said(file: Path) -> subprocess.CompletedProcess[str]:
    words = [local_balancer.program(), "-c", "-f", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@needs_haproxy
@pytest.mark.parametrize("password", ["of-the-balancer", ""])
def test_haproxy_takes_the_example(tmp_path: Path, password: str) -> None:
    file = local_balancer.configuration(tmp_path, {"a": 8443, "b": 9443}, SHOWN, password, 7443)
    done = said(file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    assert not re.search(r"[A-Z]+_[A-Z]{3,}", re.sub(r"(?m)#.*|METH_GET", "", file.read_text()))
    assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "clients.pem").stat().st_mode & 0o077 == 0


@needs_haproxy
def test_haproxy_refuses_the_example_whose_values_were_not_replaced(tmp_path: Path) -> None:
    whole = local_balancer.configuration(tmp_path, {}, SHOWN, "", 7443)
    done = said(whole)
    assert done.returncode != 0
    assert "could not resolve address 'SERVER_A_ADDRESS'" in done.stderr, done.stderr


def test_a_request_that_may_have_been_worked_on_is_repeated_only_when_it_changes_nothing() -> None:
    text = local_balancer.CONFIGURATION.read_text()
    assert "http-request disable-l7-retry unless METH_GET" in text


def test_the_commands_of_the_page_make_what_the_settings_and_haproxy_want(tmp_path: Path) -> None:
    page = (local_balancer.EXAMPLE / "README.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = commands.replace("SERVER_NAME", local_balancer.SERVER_NAME)
    subprocess.run(["sh", "-euc", commands], cwd=tmp_path, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == dict.fromkeys(
        made, 0
    )
    values = {
        **FILLED,
        "ADMIN_PASSWORD": made["admin-password"],
        "BALANCER_PASSWORD": made["balancer-password"],
        "SERVER_CERTIFICATE": made["server.pem"],
        "SERVER_KEY": made["server.key"],
    }
    example = HERE.root / "cloud-init" / "pair-postgresql-s3.yaml"
    text = userdata.unwrap(example.read_bytes())
    for name in placeholders.NAMES:
        text = replaced(text, name, values[name])
    found = settings.check(text, "x")
    assert found.tls.names == (local_balancer.SERVER_NAME,)
    verify = ["openssl", "verify", "-CAfile", "servers-ca.pem", "-verify_hostname"]
    words = [*verify, local_balancer.SERVER_NAME, "server.pem"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
