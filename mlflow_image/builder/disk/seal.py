"""Removes from a tree what a build leaves behind; every image passes through here.

`python -m mlflow_image.builder.disk.seal TREE BUILD_VM_FILES` runs as root of the unpacked
tree; `tree_filter` calls it. Listed paths that do not exist are ignored.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.builder.disk.tarball import files_of
from mlflow_image.host import rootless

#: Files and folders to remove, as globs below the root; /* keeps the folder itself.
REMOVED = (
    # The build's own identity and access.
    "root/.ssh",
    "root/.*_history",
    "root/.cache",
    "root/.lesshst",
    "home/*",
    "etc/sudoers.d/90-cloud-init-users",
    "etc/ssh/sshd_config.d/50-cloud-init.conf",
    # The machine's identity: a clone makes its own.
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/udev/rules.d/70-persistent-net.rules",
    "etc/netplan/50-cloud-init.yaml",
    "var/lib/dhcp/*",
    "var/lib/NetworkManager",
    # Cloud-init's state: it must run again on the clone.
    "var/lib/cloud/*",
    "etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    # The host's way to the network.
    "etc/apt/apt.conf.d/*proxy*",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/pip.conf",
    "root/.config",
    "root/.netrc",
    "root/.pip",
    "usr/local/share/ca-certificates/*",
    # Logs, rotated logs, journals; logs that packages own are emptied below.
    "var/log/journal/*",
    "var/log/cloud-init*",
    "var/log/apt/*",
    "var/log/*.gz",
    "var/log/*.[0-9]",
    "var/log/installer",
    # Caches, backups, locks, time stamps.
    "run/*",
    "tmp/*",
    "tmp/.[!.]*",
    "var/tmp/*",
    "var/lib/apt/lists/*",
    "var/lib/apt/daily_lock",
    "var/lib/apt/periodic/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/lock",
    "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/*-old",
    "var/cache/man/*",
    "var/backups/*",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/systemd/timers/*",
    "var/lib/systemd/timesync/*",
    "var/lib/systemd/catalog/database",
    "var/lib/update-notifier/*",
    "var/lib/private/systemd",
    "etc/passwd-",
    "etc/shadow-",
    "etc/group-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "etc/.pwd.lock",
    "etc/.updated",
    "var/.updated",
    "lost+found",
    # Server state: a clone starts empty.
    "var/lib/mlflow/*",
    "var/lib/mlflow-image/*",
)

#: Folders that must exist, with these modes.
KEPT_FOLDERS = {
    "var/lib/apt/lists/partial": 0o700,
    "var/cache/apt/archives/partial": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "root": 0o700,
}


def tree_filter(tree: Path, build_vm_files: Path) -> None:
    """Seal an unpacked tree in place; see REMOVED.

    build_vm_files: the folder of files that only a build VM has.
    """
    rootless.run([sys.executable, "-m", "mlflow_image.builder.disk.seal", tree, build_vm_files])


def seal(tree: Path, build_vm_files: Path) -> None:
    """Remove, empty and fix; called as root of the tree."""
    remove_laid(build_vm_files, tree)
    for pattern in REMOVED:
        for found in tree.glob(pattern):
            if not found.parent.resolve().is_relative_to(tree.resolve()):
                continue  # behind a link that leads to the host's own folder
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
    for name, mode in KEPT_FOLDERS.items():
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name).chmod(mode)
    # Empty, not absent: then systemd makes a new id without treating the boot as a first boot.
    (tree / "etc/machine-id").write_text("")
    (tree / "etc/hostname").write_text("localhost\n")
    empty_logs(tree / "var/log")
    clamp_password_dates(tree / "etc/shadow")


def remove_laid(laid: Path, tree: Path) -> None:
    """Remove from the tree every file of the folder `laid` that is still unchanged there."""
    for file in files_of(laid):
        found = tree / file.relative_to(laid)
        if file.is_symlink():
            same = found.is_symlink() and found.readlink() == file.readlink()
        else:
            regular = found.is_file() and not found.is_symlink()
            same = regular and found.read_bytes() == file.read_bytes()
        if same:
            found.unlink()


def empty_logs(folder: Path) -> None:
    """Truncate every log; the files stay, with their owners and modes."""
    for log in folder.rglob("*"):
        if log.is_file() and not log.is_symlink():
            log.write_bytes(b"")


def clamp_password_dates(shadow: Path) -> None:
    """Set password dates after SOURCE_DATE_EPOCH to it (shadow(5), third field, in days)."""
    day = SOURCE_DATE_EPOCH // 86400

    def clamp(match: re.Match[str]) -> str:
        return match[1] + str(min(int(match[2]), day))

    text = shadow.read_text()
    shadow.write_text(re.sub(r"^([^:\n]*:[^:\n]*:)(\d+)", clamp, text, flags=re.MULTILINE))


if __name__ == "__main__":
    seal(Path(sys.argv[1]), Path(sys.argv[2]))
