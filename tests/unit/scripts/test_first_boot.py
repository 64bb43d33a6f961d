"""The programs that put right what a power cut during the first boot has left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"
KEY = "etc/ssh/ssh_host_ed25519_key"
MARK = "var/lib/cloud/instance/mlflow-image-durable"


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
    (root / MARK).touch()
    assert run("first-boot", "begin", root) == ""
    assert (root / "var/lib/cloud/instances/i-1/sem").is_dir()


def test_before_the_first_boot_nothing_happens(tmp_path: Path) -> None:
    assert run("first-boot", "begin", tmp_path) == ""
    assert run("first-boot", "end", tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_an_orderly_shutdown_leaves_the_mark(root: Path) -> None:
    assert run("first-boot", "end", root) == ""
    assert (root / MARK).exists()
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
    assert "was empty or damaged" in run("host-keys", root)
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
