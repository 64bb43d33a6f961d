"""Makes a disk from a tree: GPT partition table, both boot loaders, ext4 root, fixed ids and times.

Makes the base and the sealed disk. The same tree gives the same bytes: ids are constants,
times are clamped, free blocks are holes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mlflow_image import command
from mlflow_image.builder.disk import bootloaders
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.builder.place import Place
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.host.qemu_img import MIB
from mlflow_image.inputs.operating_systems import OperatingSystem

ROOT_UUID = "6d0e2a52-0a5a-4c1e-9d6c-3b5f0e1a7c01"
HASH_SEED = "6d0e2a52-0a5a-4c1e-9d6c-3b5f0e1a7c02"
DISK_ID = "6D0E2A52-0A5A-4C1E-9D6C-3B5F0E1A7C03"

#: Partitions in sectors of 512 B: numbers and order as in the official cloud images.
BIOS_BOOT_LBA, BIOS_BOOT_SECTORS = 2048, 2048
ESP_LBA, ESP_SECTORS = 4096, bootloaders.ESP_MIB * 2048
ROOT_MIB = 2 + bootloaders.ESP_MIB
PARTITIONS = """label: gpt
label-id: {disk_id}
first-lba: 2048
14 : start={bios}, size={bios_size}, type=21686148-6449-6E6F-744E-656564454649, uuid={stem}14
15 : start={esp}, size={esp_size}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={stem}15
1 : start={root}, size={root_size}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid={stem}16
"""

#: What mke2fs prints when the file system is too small, as opposed to a full disk of the host.
NO_ROOM_IN_IMAGE = "Could not allocate"

#: Changes the unpacked tree in place, as the caller of rootless.run.
Filter = Callable[[Path], None]


def build(
    tree_tars: Iterable[Path],
    system: OperatingSystem,
    disk_mib: int,
    place: Place,
    tree_filter: Filter | None = None,
) -> Path:
    """Make `disk.raw` of `disk_mib` MiB from a tree in one or more tars; returns its path.

    `tree_filter` is applied to the unpacked tree. Needs no root and no loop device.
    Raises Failure when a tool fails or the tree does not fit.
    """
    work, step = place.work, place.step
    tree, disk = work / "tree", work / "disk.raw"
    step.update("unpacking the tree")
    unpack(tree_tars, tree)
    try:
        if tree_filter:
            step.update("removing what the build left")
            tree_filter(tree)
        step.update("boot loaders")
        rootless.run(["sh", "-c", FSTAB, "sh", tree, ROOT_UUID])
        bootloaders.install(tree, ROOT_UUID)
        clamp_times(tree)
        bootloaders.make_esp(tree, system, ROOT_UUID, work / "esp.img", SOURCE_DATE_EPOCH)
        step.update("file system")
        partition(disk, disk_mib)
        write_at(work / "esp.img", disk, ESP_LBA * bootloaders.SECTOR_BYTES)
        i386 = tree / "boot/grub/i386-pc"
        boot = bootloaders.take_out(i386 / "boot.img", work / "boot.img").read_bytes()
        core = bootloaders.take_out(i386 / "core.img", work / "core.img").read_bytes()
        bootloaders.write_bios_boot(disk, boot, core, BIOS_BOOT_LBA, BIOS_BOOT_SECTORS)
        make_root(tree, disk, disk_mib, work)
    finally:
        rootless.remove(tree)
    return disk


FSTAB = """set -eu
printf 'UUID=%s / ext4 defaults,errors=remount-ro 0 1\\n' "$2" > "$1/etc/fstab"
printf 'LABEL=UEFI /boot/efi vfat umask=0077,nofail 0 1\\n' >> "$1/etc/fstab"
chmod 0644 "$1/etc/fstab"
"""


def unpack(tree_tars: Iterable[Path], tree: Path) -> None:
    """Unpack a tree with owners, modes and extended attributes, one tar after the other."""
    rootless.remove(tree)
    tree.mkdir(parents=True)
    tar: list[str | Path] = [
        "tar",
        "-C",
        tree,
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-p",
    ]
    # Only real root can make device nodes; the guest mounts its own /dev at boot.
    tar += ["--exclude=./dev/*", "--warning=no-timestamp"]
    for tree_tar in tree_tars:
        rootless.run([*tar, "-xf", tree_tar])


def clamp_times(tree: Path) -> None:
    """No file of the tree is newer than SOURCE_DATE_EPOCH."""
    newer: list[str | Path] = ["find", tree, "-newermt", f"@{SOURCE_DATE_EPOCH}"]
    rootless.run([*newer, "-exec", "touch", "-h", "-d", f"@{SOURCE_DATE_EPOCH}", "{}", "+"])


def partition(disk: Path, disk_mib: int) -> None:
    """An empty disk with the three partitions."""
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(disk_mib * MIB)
    table = PARTITIONS.format(
        disk_id=DISK_ID,
        stem=ROOT_UUID[:-2].upper(),
        bios=BIOS_BOOT_LBA,
        bios_size=BIOS_BOOT_SECTORS,
        esp=ESP_LBA,
        esp_size=ESP_SECTORS,
        root=ROOT_MIB * 2048,
        root_size=(disk_mib - ROOT_MIB - 1) * 2048,
    )
    command.run(["sfdisk", "--quiet", disk], stdin=table)


def write_at(source: Path, disk: Path, offset: int) -> None:
    """Copy a file into the disk, leaving its blocks of zeros as holes."""
    with source.open("rb") as reader, disk.open("r+b") as writer:
        while chunk := reader.read(MIB):
            if chunk.strip(b"\0"):
                writer.seek(offset)
                writer.write(chunk)
            offset += len(chunk)


def make_root(tree: Path, disk: Path, disk_mib: int, work: Path) -> None:
    """Write the ext4 root file system with the whole tree into its partition."""
    size_kib = (disk_mib - ROOT_MIB - 1) * 1024
    options = (
        f"offset={ROOT_MIB * MIB},hash_seed={HASH_SEED},lazy_itable_init=0,lazy_journal_init=0"
    )
    fixed = ["env", f"E2FSPROGS_FAKE_TIME={SOURCE_DATE_EPOCH}"]
    mke2fs = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-U", ROOT_UUID, "-b", "4096"]
    try:
        rootless.run([*fixed, *mke2fs, "-E", options, "-d", tree, disk, f"{size_kib}k"])
    except Failure as failure:
        if NO_ROOM_IN_IMAGE not in failure.evidence:
            raise
        tree_kib = rootless.run(["du", "-sk", tree]).stdout.split()[0]
        raise Failure(
            f"the tree does not fit on the image's disk: it has {int(tree_kib) >> 10} MiB of "
            f"files, the root file system has {size_kib >> 10} MiB",
            evidence=failure.evidence,
            remedy=f"set disk_mib to more than {disk_mib}",
        ) from failure
    clamp_inode_times(disk, work)


def file_system(tree_tar: Path, folder: str, target: Path, work: Path) -> Path:
    """Make an ext4 file system of one folder of a tree, for a build VM; returns `target`."""
    tree = work / "tree"
    unpack([tree_tar], tree)
    try:
        # More than the files: inodes (one per 8 KiB), partly filled last blocks, folders.
        size_kib = (tree_tar.stat().st_size >> 10) * 5 // 4 + (64 << 10)
        options = ["-O", "^has_journal", "-i", "8192", "-m", "0"]
        mke2fs: list[str | Path] = ["mke2fs", "-q", "-t", "ext4", *options, "-d", tree / folder]
        rootless.run([*mke2fs, target, f"{size_kib}k"])
    finally:
        rootless.remove(tree)
    return target


def clamp_inode_times(disk: Path, work: Path) -> None:
    """Set the access and change times of every inode; e2fsprogs < 1.47.1 copies the source's.

    debugfs changes no byte where mke2fs has set them correctly.
    """
    device = f"{disk}?offset={ROOT_MIB * MIB}"
    env = {"E2FSPROGS_FAKE_TIME": str(SOURCE_DATE_EPOCH), "LC_ALL": "C"}
    dump = command.run(["dumpe2fs", device], env=env).stdout
    count = int(re.findall(r"Inode count:\s+(\d+)", dump)[0])
    free: set[int] = set()
    for listed in re.findall(r"Free inodes: ([\d, -]+)", dump):
        for part in filter(None, (part.strip() for part in listed.split(","))):
            first, _, last = part.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    used = (n for n in range(1, count + 1) if n not in free and (n == 2 or n >= 11))
    at = f"@{SOURCE_DATE_EPOCH}"
    script = work / "times.debugfs"
    fields = ("atime", "ctime", "crtime")
    script.write_text("".join(f"sif <{n}> {field} {at}\n" for n in used for field in fields))
    command.run(["debugfs", "-w", "-f", script, device], env=env)
