"""report-clock-jump and use-cloud-time: what is reported, and which time server is used."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"
DROP_IN = "run/systemd/timesyncd.conf.d/50-mlflow-image.conf"


def reported(state: Path, moved_s: int) -> str:
    """What is reported if the clock was moved by so many seconds since the last report."""
    up = float(Path("/proc/uptime").read_text().split()[0])
    state.write_text(f"{round(time.time() - up) - moved_s}\n")
    done = subprocess.run(
        [SCRIPTS / "report-clock-jump", state], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("moved_s", [7200, -90])
def test_a_clock_that_was_off_by_more_than_a_minute_is_reported_once(
    tmp_path: Path, moved_s: int
) -> None:
    state = tmp_path / "started"
    first = reported(state, moved_s)
    assert first.startswith("the clock was ")
    assert first.rstrip().endswith(" UTC")
    direction = "behind" if moved_s > 0 else "ahead"
    assert f" s {direction}; now it shows 20" in first
    again = subprocess.run(
        [SCRIPTS / "report-clock-jump", state], check=True, capture_output=True, text=True
    )
    assert again.stdout == ""


@pytest.mark.parametrize("moved_s", [0, 50, -50])
def test_a_smaller_correction_is_not_reported(tmp_path: Path, moved_s: int) -> None:
    assert reported(tmp_path / "started", moved_s) == ""


@pytest.mark.parametrize(
    ("cloud", "server"),
    [
        ("aws", "169.254.169.123"),
        ("aws-china", "169.254.169.123"),
        ("gce", "metadata.google.internal"),
        ("oracle", "169.254.169.254"),
    ],
)
def test_the_cloud_provides_the_time_server(tmp_path: Path, cloud: str, server: str) -> None:
    assert use_cloud_time(tmp_path, cloud) == f"[Time]\nNTP={server}\n"


@pytest.mark.parametrize("cloud", ["nocloud", "ec2", "unknown"])
def test_other_clouds_change_nothing(tmp_path: Path, cloud: str) -> None:
    assert use_cloud_time(tmp_path, cloud) == ""


def test_servers_that_user_data_named_stay_in_use(tmp_path: Path) -> None:
    named = tmp_path / "etc/systemd/timesyncd.conf.d/cloud-init.conf"
    named.parent.mkdir(parents=True)
    named.write_text("[Time]\nNTP=ntp.example.com\n")
    assert use_cloud_time(tmp_path, "aws") == ""


def use_cloud_time(root: Path, cloud: str) -> str:
    """The drop-in for systemd-timesyncd; empty if there is none."""
    (root / "run/cloud-init").mkdir(parents=True)
    (root / "run/cloud-init/cloud-id").write_text(f"{cloud}\n")
    subprocess.run([SCRIPTS / "use-cloud-time", root], check=True)
    return (root / DROP_IN).read_text() if (root / DROP_IN).exists() else ""
