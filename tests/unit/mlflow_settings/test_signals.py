"""Signals: what the guest prints on its console is what the host finds there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mlflow_settings import configure, signals

READY_UNIT = (
    Path(__file__).parents[3] / "image_files/usr/lib/systemd/system/mlflow-ready.service"
).read_text()
URL = "http://10.0.2.15:8000"


def on_the_console(line: str) -> str:
    """A line as the journal forwards it to the console, between lines of others."""
    return f"[   41.0] systemd[1]: before\n[   42.12] python3[611]: {line}\n[   43.0] after\n"


def printed_by_the_ready_unit(url_file: Path) -> str:
    command = re.findall(r"^ExecStart=(.*)$", READY_UNIT, re.MULTILINE)[0]
    _, *arguments, file = shlex.split(command)
    assert file == "/run/mlflow/url"
    return subprocess.run(
        ["sed", *arguments, str(url_file)], capture_output=True, text=True, check=True
    ).stdout


def test_the_ready_line_is_found_in_the_console_text() -> None:
    assert signals.ready_url(on_the_console(signals.ready_line(URL))) == URL
    assert signals.ready_url(on_the_console("MLflow tracking server")) is None


def test_the_last_ready_line_counts() -> None:
    text = on_the_console(signals.ready_line("http://10.0.2.15:1")) + signals.ready_line(URL)
    assert signals.ready_url(text) == URL


def test_the_ready_unit_prints_the_ready_line(tmp_path: Path) -> None:
    url_file = tmp_path / "url"
    url_file.write_text(f"{URL}\n")
    assert printed_by_the_ready_unit(url_file) == f"{signals.ready_line(URL)}\n"


@pytest.mark.parametrize("unit", ["mlflow-ready.service", "mlflow-configure.service"])
def test_the_units_that_print_signals_print_on_the_console(unit: str) -> None:
    folder = Path(__file__).parents[3] / "image_files/usr/lib/systemd/system"
    assert "StandardOutput=journal+console" in (folder / unit).read_text()


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
