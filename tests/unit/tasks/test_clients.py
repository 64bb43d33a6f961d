"""The task client-env: which variables, which files, which advice."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.tasks import clients

pytestmark = pytest.mark.usefixtures("alone")

GOOD = "schema_version: 1\nserver: {port: 8001}\n"
CASES = Path(__file__).parents[1] / "mlflow_settings" / "cases"


@pytest.mark.parametrize("url", ["10.1.2.3:8000", "ftp://h", "http://h/#/experiments/1"])
def test_an_address_that_clients_would_take_for_a_folder_is_refused(url: str) -> None:
    with pytest.raises(Exit):
        clients.client_env_task(Context(), url=url)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://mlflow.example.com:8000", True),
        ("http://8.8.8.8:8000", True),
        ("http://[2a00::1]:8000", False),
        ("http://[2a00::2]:8000", True),
        ("http://127.0.0.1:8000", False),
        ("http://tools.example.org", False),
        ("http://10.1.2.3:8000", False),
        ("http://ours.example.com:8000", False),
    ],
)
def test_a_name_that_the_server_refuses_is_named(
    url: str, refused: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "[ours.example.com, '[2a00::1]', '*.example.org']"
    text = f"schema_version: 1\nserver: {{allowed_hosts: {names}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    clients.client_env_task(Context(), settings="s.yaml", url=url)
    assert ("the server answers 403" in capsys.readouterr().err) == refused


def test_the_remedy_fits_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    clients.client_env_task(Context(), settings="s.yaml")
    shown = capsys.readouterr().err
    assert "--url" in shown
    assert "--with-secrets" not in shown


def test_the_ca_is_written_where_the_client_wants_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = (
        Path(__file__).parents[1] / "mlflow_settings/cases/two-certificates/settings.yaml"
    ).read_text()
    certificate = pem[pem.index("      -----BEGIN") :]
    (tmp_path / "s.yaml").write_text(
        "schema_version: 1\nartifact_store:\n  s3:\n    bucket: runs\n    region: r1\n"
        f"    access: direct\n    ca_certificate: |\n{certificate}"
    )
    clients.client_env_task(Context(), settings="s.yaml", url="http://h:8000", ca="own.pem")
    assert (tmp_path / "own.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert f"export AWS_CA_BUNDLE={tmp_path}/own.pem" in capsys.readouterr().out


def test_contradicting_flags_are_refused() -> None:
    with pytest.raises(Exit):
        clients.client_env_task(Context(), name="x", url="http://h")
    with pytest.raises(Exit):
        clients.client_env_task(Context(), url="http://h", format="xml")


def test_hadoops_files_are_written_where_the_client_wants_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CASES / "hdfs-with-everything/settings.yaml").read_text()
    (tmp_path / "s.yaml").write_text(text)
    for _ in range(2):  # also over its own files
        clients.client_env_task(Context(), settings="s.yaml", url="http://h:8000", hadoop="conf")
    shown, told = capsys.readouterr()
    assert f"export HADOOP_CONF_DIR={tmp_path}/conf" in shown
    assert f"export KRB5_CONFIG={tmp_path}/conf/krb5.conf" in shown
    assert "keytab" not in shown
    assert "clients run kinit" in told
    found = "".join((tmp_path / "conf" / name).read_text() for name in ("core-site.xml",))
    assert "<value>hdfs://nn.example.com:8020</value>" in found
    assert "<name>hadoop.rpc.protection</name><value>privacy</value>" in found
    assert "kdc = kdc2.example.com:8888" in (tmp_path / "conf/krb5.conf").read_text()


def test_a_clusters_own_configuration_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text((CASES / "hdfs-with-everything/settings.yaml").read_text())
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/hdfs-site.xml").write_text("<configuration>theirs</configuration>")
    with pytest.raises(Exit):
        clients.client_env_task(Context(), settings="s.yaml", url="http://h:8000", hadoop="conf")
    assert "give another --hadoop" in "".join(capsys.readouterr())
    assert [path.name for path in (tmp_path / "conf").iterdir()] == ["hdfs-site.xml"]


WITH_USERS = """\
schema_version: 1
auth: {basic: {users: [{name: ana, password: canary-of-ana}]}}
tls: {self_signed: {names: [mlflow.example.com]}}
"""


def test_a_kit_is_written_for_a_settings_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(WITH_USERS)
    (tmp_path / "ca.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    )
    for _ in range(2):  # also over itself
        clients.client_kit_task(Context(), settings="s.yaml", ca="ca.pem")
    written = (tmp_path / "mlflow-client-kit.zip").read_bytes()
    assert b"canary" not in written
    assert b"MLFLOW_TRACKING_URI=https://mlflow.example.com\n" in written
    assert "replaces in .env: YOUR_NAME, YOUR_PASSWORD" in capsys.readouterr().out
    clients.client_kit_task(
        Context(), settings="s.yaml", ca="ca.pem", with_secrets=True, out="own.zip"
    )
    assert b"canary-of-ana" in (tmp_path / "own.zip").read_bytes()
    assert (tmp_path / "own.zip").stat().st_mode & 0o777 == 0o600
    assert "canary" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"settings": "s.yaml"}, "sudo cat /run/mlflow-proxy/ca.pem"),
        ({"settings": "s.yaml", "ca": "s.yaml"}, "has no certificate"),
        ({"settings": "s.yaml", "ca": "none.pem"}, "cannot be read"),
        ({"url": "http://h", "out": "other.zip"}, "is not a client kit"),
        ({"url": "http://h", "name": "x"}, "--name excludes"),
        ({"url": "10.1.2.3:8000"}, "10.1.2.3:8000"),
    ],
)
def test_a_kit_that_would_not_work_is_refused(
    words: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(WITH_USERS)
    (tmp_path / "other.zip").write_bytes(b"PK\3\4 something of the user's")
    with pytest.raises(Exit):
        clients.client_kit_task(Context(), **words)
    assert said in "".join(capsys.readouterr())
    assert not (tmp_path / "mlflow-client-kit.zip").exists()
