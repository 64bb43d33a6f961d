"""nginx's configuration: when there is one, where it listens, and that nginx takes it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mlflow_image.server import local_proxy
from mlflow_settings import proxy, render, settings
from mlflow_settings.proxy import Identity

SELF_SIGNED = "tls: {self_signed: {}}"


def checked(text: str) -> settings.Settings:
    return settings.check(f"schema_version: 1\n{text}\n", "x")


def listening(text: str) -> list[str]:
    return re.findall(r"^    listen (.*);$", proxy.configuration(checked(text)), re.MULTILINE)


def test_without_https_and_port_80_nginx_gets_nothing() -> None:
    plain = checked("server: {port: 8001}")
    assert list(proxy.files(plain, None)) == []
    assert proxy.environment(plain) == {}
    assert render.url(plain, ("10.0.2.15",)) == "http://10.0.2.15:8001"


@pytest.mark.parametrize(
    ("text", "expected", "url"),
    [
        (
            SELF_SIGNED,
            ["0.0.0.0:443 ssl http2", "0.0.0.0:80", "127.0.0.1:8000"],
            "https://10.0.2.15",
        ),
        (
            "tls: {self_signed: {}, port: 8443}",
            ["0.0.0.0:8443 ssl http2", "127.0.0.1:8000"],
            "https://10.0.2.15:8443",
        ),
        ("server: {port: 80}", ["0.0.0.0:80", "127.0.0.1:8000"], "http://10.0.2.15"),
        (
            "server: {host: '::', port: 9000}\n" + SELF_SIGNED,
            ["[::]:443 ssl http2 ipv6only=off", "[::]:80 ipv6only=off", "127.0.0.1:9000"],
            "https://[fd00::15]",
        ),
        (
            "server: {job_execution: true}\n" + SELF_SIGNED,
            ["0.0.0.0:443 ssl http2", "0.0.0.0:80"],
            "https://10.0.2.15",
        ),
    ],
)
def test_nginx_listens_where_the_settings_say(text: str, expected: list[str], url: str) -> None:
    assert listening(text) == expected
    addresses = ("fd00::15", "10.0.2.15") if "'::'" in text else ("10.0.2.15",)
    assert render.url(checked(text), addresses) == url


def test_the_server_leaves_its_port_to_nginx() -> None:
    assert proxy.environment(checked(SELF_SIGNED)) == {
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": "8000",
        "MLFLOW_IMAGE_SOCKET": proxy.SOCKET,
    }
    with_jobs = checked("server: {job_execution: true}\n" + SELF_SIGNED)
    assert "MLFLOW_IMAGE_SOCKET" not in proxy.environment(with_jobs)
    assert "server 127.0.0.1:8000;" in proxy.configuration(with_jobs)


def test_only_listed_proxies_say_where_a_request_comes_from() -> None:
    listed = "server: {trusted_proxies: [10.0.0.5, 10.1.0.0/24]}\n" + SELF_SIGNED
    found = proxy.configuration(checked(listed))
    trusted = re.findall(r"^  set_real_ip_from (.*);$", found, re.MULTILINE)
    assert trusted == ["10.0.0.5", "10.1.0.0/24"]
    assert "real_ip_header X-Forwarded-For;" in found
    assert "real_ip" not in proxy.configuration(checked(SELF_SIGNED))


def test_an_authority_is_answered_on_port_80_wherever_https_is() -> None:
    acme = "tls: {port: 8443, acme: {email: a@example.com, names: [mlflow.example.com]}}"
    text = proxy.configuration(checked(acme))
    assert "location /.well-known/acme-challenge/" in text
    assert "return 308 https://$host:8443$request_uri;" in text


def test_the_key_is_for_nginx_alone() -> None:
    own = Identity("chain", "key", "ca")
    modes = {file.path: (file.mode, file.group) for file in proxy.files(checked(SELF_SIGNED), own)}
    assert modes[proxy.KEY] == (0o640, "mlflow-proxy")
    assert modes[proxy.CONFIGURATION] == (0o640, "mlflow-proxy")


@pytest.mark.skipif(not local_proxy.program(), reason="missing: nginx")
@pytest.mark.parametrize(
    "text",
    [
        SELF_SIGNED,
        "server: {port: 80, upload_limit: 5G}",
        "server: {trusted_proxies: [10.0.0.5, 10.1.0.0/24, 'fd00::/64']}\n" + SELF_SIGNED,
    ],
)
def test_nginx_takes_the_configuration(text: str, tmp_path: Path) -> None:
    found = proxy.configuration(checked(text))
    # No certificate and no folder is needed to read the words.
    found = re.sub(r"^    ssl_certificate.*\n", "", found, flags=re.MULTILINE)
    file = tmp_path / "nginx.conf"
    file.write_text(found.replace("/run/mlflow-nginx", str(tmp_path)).replace(" ssl http2", ""))
    done = subprocess.run(
        [local_proxy.program(), "-t", "-q", "-c", file], capture_output=True, text=True, check=False
    )
    problems = [line for line in done.stderr.splitlines() if "[emerg]" in line]
    assert [line for line in problems if "bind()" not in line] == []
