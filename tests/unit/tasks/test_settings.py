"""The tasks new, user-data and client-env: files, flags, what is printed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.server import size_limits
from mlflow_image.tasks import settings
from mlflow_settings import userdata

GOOD = "schema_version: 1\nserver: {port: 8001}\n"
SECRET = "canary-key"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No image, no terminal, no key of the user, an own folder."""
    monkeypatch.setattr(settings, "newest", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


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
    settings.client_env_task(Context(), settings="s.yaml", url="http://h:8000", ca="own.pem")
    assert (tmp_path / "own.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert f"export AWS_CA_BUNDLE={tmp_path}/own.pem" in capsys.readouterr().out


def test_contradicting_flags_are_refused() -> None:
    with pytest.raises(Exit):
        settings.client_env_task(Context(), name="x", url="http://h")
    with pytest.raises(Exit):
        settings.client_env_task(Context(), url="http://h", format="xml")
