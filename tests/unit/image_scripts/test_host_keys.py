"""host-keys: sshd is told about keys of other types, and only about those that exist."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image/host-keys"


def served(root: Path) -> str:
    """Run the script; returns what sshd is told in addition to sshd_config."""
    subprocess.run([SCRIPT, root], check=True)
    return (root / "run/mlflow-image-sshd.conf").read_text()


def test_a_machine_with_its_own_key_only_serves_no_other(tmp_path: Path) -> None:
    (tmp_path / "etc/ssh").mkdir(parents=True)
    assert served(tmp_path) == ""


def test_a_key_of_another_type_is_served_until_it_is_gone(tmp_path: Path) -> None:
    key = tmp_path / "etc/ssh/ssh_host_ecdsa_key"
    key.parent.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    assert served(tmp_path) == "HostKey /etc/ssh/ssh_host_ecdsa_key\n"
    key.unlink()
    assert served(tmp_path) == ""
