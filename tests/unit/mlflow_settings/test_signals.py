"""Signals: what the guest prints on its console is what the host finds there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mlflow_settings import configure, signals

IMAGE_FILES = Path(__file__).parents[3] / "image_files"
LIBRARY = IMAGE_FILES / "usr/lib/mlflow-image"
URL = "http://10.0.2.15:8000"


def on_the_console(line: str) -> str:
    """A line as the journal forwards it to the console, between lines of others."""
    return f"[   41.0] systemd[1]: before\n[   42.12] python3[611]: {line}\n[   43.0] after\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folders that the scripts of mlflow-tracking.service use."""
    for folder in ("run/mlflow", "run/mlflow-tracking", "dev", "var/lib/mlflow"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dev/console").touch()
    return tmp_path


def ended(root: Path, exit_status: str, reason: str = "") -> str:
    """What the console shows after the server's process has ended."""
    if reason:
        (root / "run/mlflow-tracking/reason").write_text(reason)
    result = "success" if exit_status == "0" else "exit-code"
    (root / "dev/console").write_text("")
    subprocess.run(
        ["sh", LIBRARY / "server-has-ended", root],
        env={**os.environ, "SERVICE_RESULT": result, "EXIT_STATUS": exit_status},
        check=True,
    )
    return (root / "dev/console").read_text()


def test_the_ready_line_is_found_in_the_console_text() -> None:
    assert signals.ready_url(on_the_console(signals.ready_line(URL))) == URL
    assert signals.ready_url(on_the_console("MLflow tracking server")) is None


def test_the_last_ready_line_counts() -> None:
    text = on_the_console(signals.ready_line("http://10.0.2.15:1")) + signals.ready_line(URL)
    assert signals.ready_url(text) == URL


def test_a_server_that_is_ready_is_announced_on_the_console(root: Path) -> None:
    (root / "run/mlflow/url").write_text(f"{URL}\n")
    done = subprocess.run(
        ["sh", LIBRARY / "server-is-ready", root], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert (root / "dev/console").read_text() == f"{signals.ready_line(URL)}\n"


def test_the_first_boot_is_marked_as_served_after_its_files(root: Path) -> None:
    (root / "run/mlflow/url").write_text(f"{URL}\n")
    instance = root / "var/lib/cloud/instance"
    instance.mkdir(parents=True)
    subprocess.run(["sh", LIBRARY / "server-is-ready", root], capture_output=True, check=True)
    assert (instance / "mlflow-image-served").exists()


def test_failed_starts_are_reported_with_growing_pauses(root: Path) -> None:
    lines = [ended(root, "1", "IntegrityError: UNIQUE\x1b[2J constraint\n") for _ in range(9)]
    pauses = [int(re.findall(r"the next start is in (\d+) s", line)[0]) for line in lines]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    expected = "mlflow-tracking: the server has ended: IntegrityError: UNIQUE[2J constraint;"
    assert lines[0].startswith(expected)
    # It will be tried again, so the host goes on waiting.
    assert signals.refused_settings(on_the_console(lines[0])) == []


def test_a_damaged_pause_counts_as_none(root: Path) -> None:
    (root / "run/mlflow/pause").write_text("x1\n")
    assert "in 5 s" in ended(root, "1")


def test_a_stop_or_a_ready_server_resets_the_pause(root: Path) -> None:
    ended(root, "1")
    ended(root, "1")
    assert ended(root, "0") == ""
    assert "in 5 s" in ended(root, "1")
    (root / "run/mlflow/url").write_text(URL)
    subprocess.run(["sh", LIBRARY / "server-is-ready", root], capture_output=True, check=True)
    assert "in 5 s" in ended(root, "1")


def test_a_reason_without_restart_ends_the_hosts_wait(root: Path) -> None:
    line = ended(root, "78", "the database is of another MLflow")
    assert signals.refused_settings(on_the_console(line)) == [
        "the server does not start: the database is of another MLflow"
    ]
    assert ended(root, "78") == ""  # mlflow-configure has reported refused settings itself


def test_the_unit_that_prints_signals_prints_on_the_console() -> None:
    unit = IMAGE_FILES / "usr/lib/systemd/system/mlflow-configure.service"
    assert "StandardOutput=journal+console" in unit.read_text()


def test_refused_settings_are_found_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "etc/mlflow/settings.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("schema_version: 1\nserver: {prot: 1}\n")
    assert configure.main(["--root", str(tmp_path)]) == configure.REFUSED
    printed = capsys.readouterr().out.splitlines()
    console = "".join(map(on_the_console, printed))
    found = signals.refused_settings(console)
    assert [signals.configure_line(message) for message in found] == printed
    assert found[0].startswith("settings.yaml:2: server.prot")
    assert found[-1].startswith(signals.no_server(""))


def test_a_failure_to_write_is_found_as_well() -> None:
    printed = signals.configure_line(signals.no_server("No space left on device"))
    assert signals.refused_settings(on_the_console(printed)) == [
        "the server does not start: No space left on device"
    ]


def test_settings_that_are_refused_while_good_ones_stay_in_force_are_not_reported() -> None:
    printed = signals.configure_line("1 fault in /etc/mlflow/settings.yaml: the last good ones")
    assert signals.refused_settings(on_the_console(printed)) == []


def test_the_last_word_of_the_guest_about_its_stores_counts() -> None:
    down = "[   30.1] report-store[7]: mlflow-tracking: database: the name db does not resolve\r\n"
    up = "mlflow-tracking: the stores can be reached again\r\n"
    assert signals.store_trouble("login: ") == ""
    assert signals.store_trouble(down) == "database: the name db does not resolve"
    assert signals.store_trouble(down + up) == ""
    assert signals.store_trouble(down + up + down.replace("name", "host"))
    assert signals.store_trouble("mlflow-tracking: the server has ended: x\n") == ""


def test_the_host_finds_how_to_read_a_password_that_the_machine_made() -> None:
    line = signals.configure_line(signals.first_password("the admin", "/var/x"))
    text = f"[  20.1] python3[300]: {line}\r\n[  20.2] python3[300]: {line}\r\n"
    assert signals.made_password(text) == ("the admin", "sudo cat /var/x")
    assert signals.made_password("mlflow-configure: the server starts") is None
