"""Sealed: nothing of the build is left, and the clone has an identity of its own."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "pattern",
    [
        "/root/.bash_history",
        "/root/.cache",
        "/root/.config",
        "/root/.netrc",
        "/etc/pip.conf",
        "/etc/apt/apt.conf.d/*proxy*",
        "/etc/apt/apt.conf.d/99mmdebstrap",
        "/usr/local/share/ca-certificates/*",
        "/etc/cloud/cloud-init.disabled",
        "/etc/systemd/network/*mlflow-image-build*",
        "/etc/systemd/system/*mlflow-image-build*",
        "/etc/systemd/system/default.target",
        "/etc/systemd/system/timers.target",
        "/var/lib/cloud/instances/build*",
        "/var/log/mmdebstrap*",
        "/tmp/script_*.sh",
        "/home/packer",
    ],
)
def test_nothing_of_the_build_is_left(root: Any, pattern: str) -> None:
    assert root(f"ls -d {pattern} 2>/dev/null || true") == ""


def test_no_key_of_the_build_is_accepted(root: Any) -> None:
    found = root("grep -hv '^no-port-forwarding' /root/.ssh/authorized_keys 2>/dev/null || true")
    assert found == ""


def test_the_logs_begin_with_this_boot(root: Any) -> None:
    boots = root("journalctl --list-boots --no-pager").splitlines()
    # Newer systemd prints a heading.
    assert [line.split()[0] for line in boots if not line.startswith("IDX")] == ["0"]


def test_the_machine_has_its_own_id(root: Any) -> None:
    assert len(root("cat /etc/machine-id")) == 32


def test_the_only_host_key_is_ed25519_and_newer_than_the_image(root: Any) -> None:
    assert root("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
    assert root("find /etc/ssh/ssh_host_ed25519_key -newer /etc/mlflow-image.json") != ""


def test_only_expected_users_can_log_in(root: Any) -> None:
    people = root("awk -F: '$3 >= 1000 && $3 < 65000 {print $1}' /etc/passwd").split()
    assert people in (["ubuntu"], ["debian"])


def test_apt_sources_are_the_public_ones_with_security(root: Any) -> None:
    sources = root("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
    lines = [line for line in sources.splitlines() if line.startswith(("deb ", "URIs:"))]
    assert lines
    assert "-security" in sources
    assert not any(word in sources for word in ("trusted=yes", "signed-by=/home", "copy:"))
