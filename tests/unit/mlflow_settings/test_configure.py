"""mlflow-configure: which settings apply after each boot, and what it reports."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlflow_settings import configure, database, render
from mlflow_settings.blocks.server import Server
from mlflow_settings.settings import Settings

PROGRAM = Path(__file__).parents[3] / "image_files/usr/bin/mlflow-configure"
IS_READY = PROGRAM.parents[1] / "lib/mlflow-image/server-is-ready"
GOOD = "schema_version: 1\nserver: {port: 8001}\n"
OTHER = "schema_version: 1\nserver: {port: 8002}\n"
BAD = "schema_version: 1\nserver: {prot: 8001}\nmore: hush-hush\n"
DATABASE = "var/lib/mlflow/mlflow.db"


class Machine:
    """A root directory with the files of the image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (
            "etc/mlflow",
            "run",
            "dev",
            "var/lib/mlflow",
            "opt/mlflow/share/mlflow-image",
        ):
            (root / folder).mkdir(parents=True)
        (root / database.TEMPLATES / database.RUNS).write_bytes(b"migrated and empty")
        (root / database.TEMPLATES / database.USERS).write_bytes(b"no users")

    def give(self, text: str | None) -> None:
        settings = self.root / "etc/mlflow/settings.yaml"
        settings.unlink(missing_ok=True)
        if text is not None:
            settings.write_text(text)

    def boot(self) -> int:
        """Configure as a boot does: with an empty /run."""
        for path in (self.root / "run").rglob("*"):
            if path.is_file():
                path.unlink()
        return configure.main(["--root", str(self.root)])

    def become_ready(self) -> str:
        """What systemd runs once the server answers; returns what it prints."""
        return subprocess.run(
            ["sh", IS_READY, self.root], capture_output=True, text=True, check=True
        ).stdout

    @property
    def port(self) -> str | None:
        """The port that the launcher would use; None when it would not start."""
        file = self.root / "run/mlflow/server.json"
        refused = (self.root / "run/mlflow/refused").exists()
        assert file.exists() != refused, "exactly one of server.json and refused"
        return None if refused else str(self.environment["MLFLOW_PORT"])

    @property
    def environment(self) -> dict[str, str]:
        loaded = json.loads((self.root / "run/mlflow/server.json").read_text())
        return dict(loaded["environment"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_good_settings_are_applied_and_remembered_once_the_server_is_ready(
    machine: Machine,
) -> None:
    machine.give(GOOD)
    assert machine.boot() == 0
    assert machine.port == "8001"
    assert not (machine.root / "var/lib/mlflow-image/last-good.yaml").exists()
    assert machine.become_ready() == "mlflow-ready http://127.0.0.1:8001\n"
    assert (machine.root / "var/lib/mlflow-image/last-good.yaml").read_text() == GOOD


def test_other_users_cannot_read_the_rendered_and_remembered_files(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    modes = {
        path: stat.S_IMODE((machine.root / path).stat().st_mode)
        for path in (
            "run/mlflow",
            "run/mlflow/server.json",
            "var/lib/mlflow-image",
            "var/lib/mlflow-image/last-good.yaml",
        )
    }
    assert list(modes.values()) == [0o750, 0o640, 0o700, 0o600]


def test_bad_settings_leave_the_last_good_ones_in_force(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    machine.give(BAD)
    capsys.readouterr()
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("mlflow-configure: ") for line in lines)
    lines = [line for line in lines if "workers" not in line]
    assert len(lines) == 3
    assert 'settings.yaml:2: server.prot: unknown key; did you mean "port"?' in lines[0]
    assert "last good settings stay in force" in lines[2]
    assert (machine.root / "var/lib/mlflow-image/last-good.yaml").read_text() == GOOD


def test_bad_settings_on_a_first_boot_start_nothing_and_report_why(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(BAD)
    assert machine.boot() == configure.REFUSED
    assert machine.port is None
    assert "server.prot" in (machine.root / "run/mlflow/refused").read_text()
    assert "the server does not start: 2 faults" in capsys.readouterr().out
    assert not (machine.root / DATABASE).exists()


def test_corrected_settings_remove_the_refusal(machine: Machine) -> None:
    machine.give(BAD)
    machine.boot()
    machine.give(GOOD)
    assert configure.main(["--root", str(machine.root)]) == 0
    assert machine.port == "8001"


def test_without_any_settings_the_server_listens_on_the_machine_only(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.boot() == 0
    assert machine.environment["MLFLOW_HOST"] == "127.0.0.1"
    assert (machine.root / "run/mlflow/url").read_text() == "http://127.0.0.1:8000\n"
    lines = capsys.readouterr().out.splitlines()
    assert any("workers: 2 (auto: 2 processors and 2048 MiB of memory)" in line for line in lines)
    lines = [line for line in lines if "database" not in line and "workers" not in line]
    assert len(lines) == len(configure.NO_USER_DATA)
    assert "schema_version: 1" in lines[-1]
    assert not (machine.root / "var/lib/mlflow-image/last-good.yaml").exists()


def test_missing_settings_are_a_fault_and_change_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.give(None)
    capsys.readouterr()
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    assert "/etc/mlflow/settings.yaml is missing" in capsys.readouterr().out


def test_a_new_database_is_the_migrated_empty_one(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    assert (machine.root / DATABASE).read_bytes() == b"migrated and empty"
    assert stat.S_IMODE((machine.root / DATABASE).stat().st_mode) == 0o640
    assert [path.name for path in (machine.root / "var/lib/mlflow").iterdir()] == ["mlflow.db"]


def test_a_new_database_does_not_change_the_callers_umask(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without root, the database is created in this process.
    monkeypatch.setattr("mlflow_settings.files._as_service_user", lambda work: work())
    machine.give(GOOD + "backend_store: {sqlite: /var/lib/mlflow/a/b.db}\n")
    before = os.umask(0o022)
    try:
        machine.boot()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert stat.S_IMODE((machine.root / "var/lib/mlflow/a").stat().st_mode) == 0o750


def test_an_existing_database_is_never_changed(machine: Machine) -> None:
    (machine.root / DATABASE).write_bytes(b"precious")
    machine.give(GOOD)
    machine.boot()
    machine.boot()
    assert (machine.root / DATABASE).read_bytes() == b"precious"


@pytest.mark.parametrize("text", [GOOD, BAD, None])
def test_a_missing_database_is_never_replaced_by_an_empty_one(
    machine: Machine, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    (machine.root / DATABASE).unlink()
    machine.give(text)
    assert machine.boot() == configure.REFUSED
    assert machine.port is None
    assert not (machine.root / DATABASE).exists()
    assert "/var/lib/mlflow/mlflow.db existed before and is missing" in capsys.readouterr().out


def test_the_operator_can_choose_an_empty_database(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    (machine.root / DATABASE).unlink()
    (machine.root / "var/lib/mlflow-image/databases").write_text("")
    assert machine.boot() == 0
    assert (machine.root / DATABASE).exists()


def test_the_same_settings_again_change_nothing(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    watched = [
        machine.root / path
        for path in ("run/mlflow/server.json", "var/lib/mlflow-image/last-good.yaml")
    ]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in watched]
    assert configure.configure(machine.root) == (False, 0)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in watched] == before


def test_changed_settings_are_reported_as_a_change(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.give(OTHER)
    assert configure.configure(machine.root) == (True, 0)
    assert machine.port == "8002"


def test_a_failure_to_write_is_a_refusal_and_not_an_endless_wait(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow_settings.files.copy_new", full)
    machine.give(GOOD)
    assert machine.boot() == configure.FAILED
    assert machine.port is None
    # The launcher is in the group and must be able to read the reason.
    assert stat.S_IMODE((machine.root / "run/mlflow/refused").stat().st_mode) == 0o640


def test_a_failure_to_apply_keeps_the_settings_of_the_running_server(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    machine.give(GOOD)
    machine.boot()
    machine.give(OTHER)
    monkeypatch.setattr("mlflow_settings.files.ensure_directory", full)
    assert configure.main(["--root", str(machine.root), "--apply"]) == configure.FAILED
    assert machine.port == "8001"
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("mlflow-configure: the settings could not be applied: ")


def test_without_root_nothing_is_changed_and_the_reason_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("nothing may be configured")

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(configure, "configure", touched)
    assert configure.main(["--apply"]) == configure.FAILED
    assert "only root" in capsys.readouterr().out


def test_no_secret_reaches_the_console_or_the_refusal(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "schema_version: 1\nserver:\n  extra_environment: {LD_PRELOAD: hush-hush, N: 1}\n"
    machine.give(text)
    machine.boot()
    refused = (machine.root / "run/mlflow/refused").read_text()
    assert "LD_PRELOAD" in refused
    assert "hush" not in refused + capsys.readouterr().out


def test_check_reports_every_fault_and_changes_nothing(machine: Machine) -> None:
    machine.give(BAD)
    file = machine.root / "etc/mlflow/settings.yaml"
    before = sorted(path for path in machine.root.rglob("*"))
    # The program itself, in isolated mode, as an operator runs it.
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "--check", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "settings.yaml:2: server.prot" in done.stdout
    assert done.stderr == ""
    assert sorted(path for path in machine.root.rglob("*")) == before


def test_check_and_apply_together_are_refused() -> None:
    with pytest.raises(SystemExit) as stopped:
        configure.main(["--check", "--apply"])
    assert stopped.value.code == 2


def test_an_error_that_nobody_foresaw_keeps_the_last_good_settings(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    check = configure.check

    def fail_for_the_new(text: str, name: str, **options: Any) -> object:
        if name == "settings.yaml":
            raise RuntimeError("hush-hush")
        return check(text, name, **options)

    monkeypatch.setattr(configure, "check", fail_for_the_new)
    machine.give(OTHER)
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    printed = capsys.readouterr().out
    assert "could not be checked: RuntimeError in test_configure.py:" in printed
    assert "hush" not in printed


@pytest.mark.parametrize("step", ["check", "render", "decide"])
def test_any_error_without_good_settings_tells_the_launcher_not_to_wait(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("hush-hush")

    monkeypatch.setattr(configure, step, fail)
    machine.give(GOOD)
    assert machine.boot() != 0
    assert machine.port is None
    printed = capsys.readouterr().out
    assert "the server does not start: " in printed
    assert "hush" not in printed


@pytest.mark.parametrize("value", [r'"\UFFFFFFFF"', r'"\ud800"', "8000.0", "[" * 300 + "]" * 300])
def test_no_value_disarms_the_last_good_settings(machine: Machine, value: str) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.give(f"schema_version: 1\nserver: {{port: {value}}}\n")
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"


def test_settings_that_were_never_proven_do_not_replace_those_that_were(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    machine.give(OTHER)
    machine.boot()  # and the server does not become ready
    machine.give(BAD)
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    machine.become_ready()
    assert (machine.root / "var/lib/mlflow-image/last-good.yaml").read_text() == GOOD


def test_an_empty_settings_file_counts_as_damaged(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    machine.give("")
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    assert "settings.yaml:1: is empty" in capsys.readouterr().out


def test_settings_with_which_the_server_does_not_come_up_are_taken_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(configure.applying, "reset_configure", lambda: None)
    monkeypatch.setattr(configure.applying, "restart", lambda _: machine.port == "8001")
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    machine.give(OTHER)
    apply = ["--root", str(machine.root), "--apply"]
    assert configure.main(apply) == configure.STAYED
    assert machine.port == "8001"
    printed = capsys.readouterr().out
    assert "the server did not become ready" in printed
    assert "the last good settings stay in force" in printed
    # A reboot does not try them again; the operator can.
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    assert "the server did not start with these settings" in capsys.readouterr().out
    monkeypatch.setattr(configure.applying, "restart", lambda _: True)
    assert configure.main(apply) == 0
    assert machine.port == "8002"
    machine.become_ready()
    assert machine.boot() == 0
    assert machine.port == "8002"


def test_apply_starts_a_server_that_has_stopped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(configure.applying, "reset_configure", lambda: None)
    monkeypatch.setattr(configure.applying, "state_of_server", lambda: "inactive")
    monkeypatch.setattr(configure.applying, "ensure_running", lambda _: asked.append(1) or True)
    machine.give(GOOD)
    machine.boot()
    assert configure.main(["--root", str(machine.root), "--apply"]) == 0
    assert asked


def test_a_full_disk_keeps_no_server_from_starting(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    write = configure.files.write_if_changed

    def full_disk(path: Path, *rest: object, **named: object) -> object:
        if "var" in path.parts:
            raise OSError(28, "No space left on device")
        return write(path, *rest, **named)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("mlflow_settings.files.write_if_changed", full_disk)
    machine.give(OTHER)
    assert machine.boot() == 0
    assert machine.port == "8002"
    assert "tried.yaml could not be written: No space left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("block", "path"),
    [("backend_store: {sqlite: ", "file/x.db"), ("artifact_store: {local: ", "file/deep/x")],
)
def test_a_path_below_a_file_is_a_fault(
    machine: Machine, block: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(GOOD)
    machine.boot()
    (machine.root / "var/lib/mlflow/file").write_text("")
    machine.give(f"schema_version: 1\n{block}/var/lib/mlflow/{path}}}\n")
    assert machine.boot() == configure.STAYED
    assert machine.port == "8001"
    expected = "cannot be created: /var/lib/mlflow/file is not a directory"
    assert expected in capsys.readouterr().out


def test_only_an_address_that_is_listened_on_is_announced() -> None:
    assert render.url(Settings(), ("2001:db8::7",)) == "http://127.0.0.1:8000"
    every = Settings(server=Server(host="::"))
    assert render.url(every, ("10.0.2.15", "2001:db8::7")) == "http://[2001:db8::7]:8000"
    assert render.url(every, ("10.0.2.15",)) == "http://10.0.2.15:8000"


def test_only_the_document_in_force_becomes_the_last_good_one(machine: Machine) -> None:
    machine.give(GOOD)
    machine.boot()
    # Another document was stored, but never came into force.
    (machine.root / "var/lib/mlflow-image/tried.yaml").write_text(OTHER)
    machine.become_ready()
    assert not (machine.root / "var/lib/mlflow-image/last-good.yaml").exists()


def test_proven_settings_are_never_marked_as_failed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.give(GOOD)
    machine.boot()
    machine.become_ready()
    monkeypatch.setattr(configure.applying, "reset_configure", lambda: None)
    monkeypatch.setattr(configure.applying, "restart", lambda _: False)
    (machine.root / "run/mlflow/server.json").unlink()  # so that --apply restarts the server
    assert configure.main(["--root", str(machine.root), "--apply"]) == configure.FAILED
    assert machine.boot() == 0
    assert machine.port == "8001"
