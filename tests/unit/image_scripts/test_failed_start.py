"""report-a-failed-start: what the console shows when a unit could not begin to start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = (
    Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image/report-a-failed-start"
).resolve()

#: Answers as systemd's own command does, from files NAME/PROPERTY. It refuses -.mount without --.
SYSTEMCTL_STANDIN = """\
#!/bin/sh
set -eu
cd "$(dirname "$0")/units"
if [ "$1" = list-units ]; then ls | grep mount | sed 's/$/ loaded/'; exit; fi
property=${2#--property=}
shift 3
if [ "$1" = -- ]; then shift; elif [ "${1#-}" != "$1" ]; then echo "invalid option" >&2; exit 1; fi
cat "./$1/$property"
"""


def reported(folder: Path, **units: dict[str, str]) -> str:
    """Standard output and errors. units: the properties of each."""
    (folder / "systemctl").write_text(SYSTEMCTL_STANDIN)
    (folder / "systemctl").chmod(0o755)
    named = {"mlflow-configure.service": {"ExecMainStatus": "0"}}
    named |= units
    for name, properties in named.items():
        (folder / "units" / name).mkdir(parents=True)
        for key, value in properties.items():
            (folder / "units" / name / key).write_text(f"{value}\n")
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", SCRIPT], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def mount(where: str, state: str) -> dict[str, str]:
    return {"Where": where, "What": "LABEL=mlflow-data", "ActiveState": state}


def test_a_disk_that_is_absent_is_named(tmp_path: Path) -> None:
    mounts = {"-.mount": mount("/", "active"), "x.mount": mount("/var/lib/mlflow", "inactive")}
    shown = reported(tmp_path, **mounts)
    assert shown == (
        "mlflow-configure: the server does not start: /var/lib/mlflow is not mounted, because "
        "LABEL=mlflow-data is absent or damaged; attach that disk, or remove its line from "
        "/etc/fstab, and reboot\n"
    )


def test_a_disk_that_the_server_does_not_need_is_not_named(tmp_path: Path) -> None:
    assert reported(tmp_path, **{"x.mount": mount("/srv", "failed")}) == ""


def test_a_program_that_systemd_could_not_start_is_named_with_the_space(tmp_path: Path) -> None:
    shown = reported(tmp_path, **{"mlflow-configure.service": {"ExecMainStatus": "226"}})
    assert "systemd could not run mlflow-configure (status 226, " in shown
    assert "available on /); free space" in shown
    assert shown.count("\n") == 1


def test_a_program_that_has_spoken_for_itself_is_not_repeated(tmp_path: Path) -> None:
    assert reported(tmp_path, **{"mlflow-configure.service": {"ExecMainStatus": "1"}}) == ""
