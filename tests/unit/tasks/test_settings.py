"""The tasks new and user-data: files, flags, what is printed."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
import yaml
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.server import size_limits
from mlflow_image.tasks import settings
from mlflow_settings import userdata
from mlflow_settings.blocks import kerberos
from mlflow_settings.settings import check

pytestmark = pytest.mark.usefixtures("alone")

GOOD = "schema_version: 1\nserver: {port: 8001}\n"
SECRET = "canary-key"
CASES = Path(__file__).parents[1] / "mlflow_settings" / "cases"


def test_a_new_file_is_private_and_names_what_to_replace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.new(Context(), out="s.yaml", seed="004")
    assert (tmp_path / "s.yaml").stat().st_mode & 0o777 == 0o600
    shown = capsys.readouterr().out
    assert "replace in it: ACCESS_KEY_ID, SECRET_ACCESS_KEY, STORE_ENDPOINT" in shown
    assert "up --settings s.yaml`" in shown


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("mine")
    with pytest.raises(Exit):
        settings.new(Context())
    assert (tmp_path / "settings.yaml").read_text() == "mine"
    settings.new(Context(), force=True)
    assert "schema_version: 1" in (tmp_path / "settings.yaml").read_text()


def test_the_users_key_is_taken_from_the_environment_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings.new(Context(), s3="s3://runs/a", region="r1")
    assert SECRET in (tmp_path / "settings.yaml").read_text()
    assert SECRET not in "".join(capsys.readouterr())


def test_a_temporary_key_is_written_with_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, name.lower())
    settings.new(Context(), s3="s3://runs/a", region="r1")
    assert 'session_token: "aws_session_token"' in (tmp_path / "settings.yaml").read_text()
    assert "this key is temporary" in capsys.readouterr().err


URI = "postgresql://me:pw@db.example.com/db1"


@pytest.mark.parametrize(
    ("flags", "because"),
    [
        ({"postgresql": ""}, "--postgresql is empty"),
        ({"endpoint": "https://s.example.com"}, "are for artifacts in S3"),
        ({"postgresql": "sqlite:///x.db"}, "not one of PostgreSQL"),
        ({"postgresql": "postgres"}, "is not the URI of a database"),
        ({"postgresql": "postgresql://me:<password>@h/db"}, "looks like an example's value"),
        ({"s3": "s3://runs", "endpoint": "s.example.com"}, "without https:// or http://"),
        ({"s3": "s3://runs"}, "which AWS needs"),
        ({"postgresql": URI, "port": "81"}, "from 1024 to 65535, or 80"),
        ({"out": "no-folder/s.yaml"}, "there is no folder"),
        ({"out": "new/"}, "new/ is a folder"),
        ({"out": ""}, "--out names no file"),
        ({"database_ca": "ca.pem"}, "--database-ca is for PostgreSQL"),
        ({"s3": "s3://AKIA:S3cret/x@runs"}, "has an @ or a ?"),
    ],
)
def test_what_the_server_would_refuse_is_not_written(
    flags: dict[str, str], because: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as refused:
        settings.new(Context(), **flags)  # type: ignore[arg-type]
    assert refused.value.code == 2
    assert because in "".join(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []


def test_every_character_of_a_password_arrives(tmp_path: Path) -> None:
    settings.new(Context(), postgresql="postgresql://me:p%F0%9F%98%80%C3%A4%22%5C@h.example.com/db")
    found = check((tmp_path / "settings.yaml").read_text(), "s").backend_store.postgresql
    assert found is not None
    assert found.password == 'p😀ä"\\'


def test_a_wrong_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = "postgres\n\nbucket\ns3://runs\ns.example.com\nhttps://s.example.com\n\n\nda\nyes\n"
    typed(monkeypatch, answers)
    settings.new(Context())
    text = (tmp_path / "settings.yaml").read_text()
    assert "sqlite: /var/lib/mlflow/mlflow.db" in text
    assert 'endpoint_url: "https://s.example.com"' in text
    assert "access: direct" in text
    assert capsys.readouterr().err.count("warning") >= 4


def test_a_companys_ca_is_asked_for_and_serves_both_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES / "two-certificates" / "settings.yaml"
    given = yaml.safe_load(case.read_text())["backend_store"]["postgresql"]
    ca = tmp_path / "ca.pem"
    ca.write_text(given["ca_certificate"])
    own = f"{tmp_path}/none.pem\n{ca}\n"
    answers = f"{URI}\n{own}s3://runs\nhttps://s.example.com\n\n\nno\n"
    typed(monkeypatch, answers)
    settings.new(Context())
    text = (tmp_path / "settings.yaml").read_text()
    assert text.count(given["ca_certificate"].splitlines()[1]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_without_a_companys_ca_the_flags_for_it_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.new(Context(), postgresql=URI, s3="s3://runs", endpoint="https://s.example.com")
    said = capsys.readouterr()
    assert "public CAs; --database-ca and --store-ca: a company's own" in said.out + said.err


def test_the_end_of_the_answers_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "sqlite\n")
    with pytest.raises(Exit) as interrupted:
        settings.new(Context())
    assert interrupted.value.code == 130
    assert list(tmp_path.iterdir()) == []


def typed(monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
    """A terminal with these answers; secrets are left for later."""
    terminal = io.StringIO(answers)
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "")


@pytest.mark.parametrize("name", ["s.yaml", "folder", "device", "loop", "backup.gz", ""])
def test_user_data_replaces_nothing_but_user_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "backup.gz").write_bytes(gzip.compress(b"mine"))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "device")
    with pytest.raises(Exit):
        settings.user_data_task(Context(), settings="s.yaml", out=name)
    assert (tmp_path / "s.yaml").read_text() == GOOD
    settings.user_data_task(Context(), settings="s.yaml", out="u")
    settings.user_data_task(Context(), settings="s.yaml", out="u", compress=True)
    settings.user_data_task(Context(), settings="s.yaml", out="u")
    assert userdata.unwrap((tmp_path / "u").read_bytes()) == GOOD


@pytest.mark.parametrize("before", [b"", b"\n", b"## template: jinja\n", b"\xef\xbb\xbf"])
def test_user_data_is_not_taken_for_settings(
    before: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u").write_bytes(before + userdata.wrap(GOOD))
    with pytest.raises(Exit):
        settings.user_data_task(Context(), settings="u")
    assert "is user-data already" in "".join(capsys.readouterr())


def test_user_data_is_written_privately_and_compressed_when_asked(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    settings.user_data_task(Context(), settings="s.yaml", out="u")
    settings.user_data_task(Context(), settings="s.yaml", out="z", compress=True)
    assert userdata.unwrap((tmp_path / "u").read_bytes()) == GOOD
    assert gzip.decompress((tmp_path / "z").read_bytes()) == (tmp_path / "u").read_bytes()
    assert (tmp_path / "u").stat().st_mode & 0o777 == 0o600


def test_line_ends_of_a_settings_file_stay_as_they_are(tmp_path: Path) -> None:
    text = GOOD.replace("\n", "\r\n")
    (tmp_path / "s.yaml").write_bytes(text.encode())
    settings.user_data_task(Context(), settings="s.yaml", out="u")
    assert userdata.unwrap((tmp_path / "u").read_bytes()) == text


def test_large_user_data_is_named_for_each_cloud_that_refuses_it() -> None:
    assert list(size_limits.warnings(b"x" * 16_384, compressed=False)) == []
    (first,) = size_limits.warnings(b"x" * 16_385, compressed=False)
    assert first.startswith("AWS takes at most 16384 bytes")
    assert first.endswith("--compress makes it smaller")
    assert len(list(size_limits.warnings(b"x" * 70_000, compressed=True))) == 3


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"hdfs": "nn:8020/x"}, "is not a place in HDFS"),
        ({"hdfs": "hdfs:///x"}, "lacks its namenode or its folder"),
        ({"hdfs": "hdfs://nn:8020"}, "lacks its namenode or its folder"),
        ({"hdfs": "hdfs://nn/x", "s3": "s3://b/x", "region": "r1"}, "--s3 is given besides HDFS"),
        ({"hdfs": "hdfs://nn/x", "endpoint": "https://x"}, "are for artifacts in S3"),
        ({"principal": "mlflow@EXAMPLE.COM"}, "add --hdfs with its place"),
        ({"hdfs": "hdfs://nn/x", "keytab": "none"}, "--keytab none cannot be read"),
        ({"hdfs": "hdfs://nn/x", "keytab": "text"}, "--keytab text is not a keytab"),
        ({"hdfs": "hdfs://nn/x", "hdfs_user": "me", "kdc": "k"}, "for clusters without Kerberos"),
        ({"hdfs": "hdfs://nn/a/../b", "hdfs_user": "me"}, "no path of HDFS"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(
    flags: dict[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no keytab")
    with pytest.raises(Exit):
        settings.new(Context(), **flags)
    assert says in "".join(capsys.readouterr())
    assert not (tmp_path / "settings.yaml").exists()


def test_a_clusters_settings_are_written_with_the_keytab(tmp_path: Path) -> None:
    keytab = kerberos.decoded(
        yaml.safe_load((CASES / "hdfs-with-everything/settings.yaml").read_text())[
            "artifact_store"
        ]["hdfs"]["keytab"]
    )
    (tmp_path / "k").write_bytes(keytab)
    who = "mlflow/host.example.com@EXAMPLE.COM"
    place = "hdfs://nn:9000/user/my%20folder"
    settings.new(Context(), hdfs=place, principal=who, keytab="k", kdc="kdc1", direct=True)
    cluster = check((tmp_path / "settings.yaml").read_text(), "s").artifact_store.hdfs
    assert cluster
    assert cluster.uri == place
    assert (cluster.principal, cluster.access) == (who, "direct")
    assert kerberos.decoded(str(cluster.keytab)) == keytab
    assert cluster.krb5
    assert (cluster.krb5.realm, cluster.krb5.kdcs) == ("EXAMPLE.COM", ("kdc1",))
