"""The programs that put right what a power cut during the first boot has left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"
KEY = "etc/ssh/ssh_host_ed25519_key"
DURABLE = "var/lib/cloud/instance/mlflow-image-durable"
SERVED = "var/lib/cloud/instance/mlflow-image-served"
SEM = "var/lib/cloud/instances/i-1/sem"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine in its first boot: cloud-init has begun with an instance."""
    for folder in ("etc/ssh", "etc/sudoers.d", "etc/mlflow", "var/lib/cloud/instances/i-1/sem"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/lib/cloud/sem").mkdir()
    (tmp_path / "var/lib/cloud/instance").symlink_to("instances/i-1")
    return tmp_path


def run(program: str, *words: str | Path) -> str:
    return subprocess.run(
        ["sh", LIBRARY / program, *words], capture_output=True, text=True, check=True
    ).stdout


def make_key(path: Path) -> bytes:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.read_bytes()


def test_an_interrupted_first_boot_is_repeated_without_its_empty_files(root: Path) -> None:
    empty = ("etc/ssh/ssh_host_ed25519_key", "etc/sudoers.d/90-cloud-init-users")
    for name in (*empty, "etc/mlflow/settings.yaml"):
        (root / name).touch()
    (root / "etc/ssh/sshd_config").touch()
    assert "it is repeated" in run("first-boot", "begin", root)
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert left == ["etc/ssh/sshd_config", "var/lib/mlflow-image/first-boot-repeats"]
    assert not (root / "var/lib/cloud/instance").is_symlink()
    assert not (root / "var/lib/cloud/instances").exists()


def test_files_with_content_stay(root: Path) -> None:
    (root / "etc/mlflow/settings.yaml").write_text("schema_version: 1\n")
    run("first-boot", "begin", root)
    assert (root / "etc/mlflow/settings.yaml").read_text() == "schema_version: 1\n"


def test_a_first_boot_that_is_on_the_disk_is_not_repeated(root: Path) -> None:
    (root / DURABLE).touch()
    assert run("first-boot", "begin", root) == ""
    assert (root / "var/lib/cloud/instances/i-1/sem").is_dir()


def test_before_the_first_boot_nothing_happens(tmp_path: Path) -> None:
    assert run("first-boot", "begin", tmp_path) == ""
    assert run("first-boot", "end", tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_after_the_server_was_ready_only_the_steps_behind_it_are_repeated(root: Path) -> None:
    (root / SERVED).touch()
    steps = ("disk_setup", "write_files", "users_groups", "ssh", "runcmd", "scripts_user")
    for step in (*steps, "write_files_deferred"):
        (root / SEM / f"config_{step}").touch()
    (root / KEY).touch()
    assert "its last steps are repeated" in run("first-boot", "begin", root)
    left = sorted(path.name for path in (root / SEM).iterdir())
    assert left == ["config_disk_setup", "config_ssh", "config_users_groups", "config_write_files"]
    assert (root / KEY).exists()


def test_a_disk_that_holds_a_database_is_never_set_up_again(root: Path) -> None:
    for step in ("disk_setup", "ssh"):
        (root / SEM / f"config_{step}").touch()
    (root / "var/lib/mlflow-image").mkdir()
    (root / "var/lib/mlflow-image/databases").write_text("/var/lib/mlflow/mlflow.db\n")
    assert "it is repeated" in run("first-boot", "begin", root)
    assert [path.name for path in (root / SEM).iterdir()] == ["config_disk_setup"]


def test_a_finished_first_boot_forgets_the_repeats(root: Path) -> None:
    run("first-boot", "begin", root)
    (root / "var/lib/cloud/instances/i-1").mkdir(parents=True)
    (root / "var/lib/cloud/instance").symlink_to("instances/i-1")
    run("first-boot", "end", root)
    assert not (root / "var/lib/mlflow-image/first-boot-repeats").exists()


def test_a_damaged_count_of_repeats_counts_as_none(root: Path) -> None:
    (root / "var/lib/mlflow-image").mkdir()
    (root / "var/lib/mlflow-image/first-boot-repeats").write_bytes(b"\0\0x")
    assert "it is repeated" in run("first-boot", "begin", root)


def test_an_orderly_shutdown_leaves_the_mark(root: Path) -> None:
    assert run("first-boot", "end", root) == ""
    assert (root / DURABLE).exists()
    assert run("first-boot", "begin", root) == ""


def test_a_machine_that_never_finishes_its_first_boot_does_not_repeat_it_for_ever(
    root: Path,
) -> None:
    for _ in range(3):
        assert "it is repeated" in run("first-boot", "begin", root)
        (root / "var/lib/cloud/instances/i-1").mkdir(parents=True)
        (root / "var/lib/cloud/instance").symlink_to("instances/i-1")
    assert "interrupted 4 times and is not repeated again" in run("first-boot", "begin", root)
    assert (root / "var/lib/cloud/instances/i-1").is_dir()


def test_a_machine_without_a_host_key_gets_one(root: Path) -> None:
    assert run("host-keys", root) == ""
    assert (root / KEY).stat().st_size > 0
    assert (root / f"{KEY}.pub").stat().st_size > 0


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"no key at all"])
def test_a_damaged_host_key_is_replaced_and_the_console_says_so(root: Path, content: bytes) -> None:
    (root / KEY).write_bytes(content)
    (root / f"{KEY}.pub").touch()
    assert "sshd cannot use" in run("host-keys", root)
    assert (root / f"{KEY}.damaged").read_bytes() == content
    assert b"PRIVATE KEY" in (root / KEY).read_bytes()
    assert (root / f"{KEY}.pub").read_text().startswith("ssh-ed25519 ")


def test_a_sound_host_key_of_any_kind_stays_and_no_other_is_made(root: Path) -> None:
    sound = make_key(root / "etc/ssh/ssh_host_rsa_key")
    assert run("host-keys", root) == ""
    assert (root / "etc/ssh/ssh_host_rsa_key").read_bytes() == sound
    assert not (root / KEY).exists()


def test_an_empty_public_part_is_written_again(root: Path) -> None:
    make_key(root / KEY)
    whole = (root / f"{KEY}.pub").read_text().split()[:2]
    (root / f"{KEY}.pub").write_text("")
    run("host-keys", root)
    assert (root / f"{KEY}.pub").read_text().split()[:2] == whole


def test_a_sound_host_key_that_others_may_read_stays_and_is_closed(root: Path) -> None:
    sound = make_key(root / KEY)
    (root / KEY).chmod(0o644)
    assert run("host-keys", root) == ""
    assert (root / KEY).read_bytes() == sound
    assert (root / KEY).stat().st_mode & 0o777 == 0o600
