"""Both boot loaders, from the tree's own tools: GRUB for BIOS, the signed shim for UEFI.

The ESP has the files that grub-install writes in the guest, so that updates replace all of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.inputs.operating_systems import OperatingSystem

SECTOR_BYTES = 512
ESP_MIB = 64
ESP_VOLUME_ID = "6d0e2a52"

#: shim's companions in the tree; the first path that exists is used. The fallback program starts
#: what BOOTX64.CSV names, after shim was started from EFI/BOOT.
FALLBACK = ("usr/lib/shim/fbx64.efi.signed", "usr/lib/shim/fbx64.efi")
MOK_MANAGER = ("usr/lib/shim/mmx64.efi.signed", "usr/lib/shim/mmx64.efi")
BOOT_ENTRIES = "usr/lib/shim/BOOTX64.CSV"

#: Run as root of the tree, in it. $1: root UUID.
INSTALL_GRUB = r"""
set -eu
umask 022
mkdir -p boot/grub/i386-pc boot/efi
cp usr/lib/grub/i386-pc/*.mod usr/lib/grub/i386-pc/*.lst usr/lib/grub/i386-pc/boot.img \
   boot/grub/i386-pc/
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$1" > boot/grub/early.cfg
chroot . /usr/bin/grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img \
   -c /boot/grub/early.cfg -p /boot/grub biosdisk part_gpt ext2 search search_fs_uuid
# With core.efi, updates of shim and GRUB also update the EFI partition.
mkdir -p boot/grub/x86_64-efi
cp usr/lib/grub/x86_64-efi/*.mod usr/lib/grub/x86_64-efi/*.lst boot/grub/x86_64-efi/
chroot . /usr/bin/grub-mkimage -O x86_64-efi -o /boot/grub/x86_64-efi/core.efi \
   -c /boot/grub/early.cfg -p /boot/grub part_gpt ext2 search search_fs_uuid
rm boot/grub/early.cfg
"""

#: Does what update-grub does, with the tree's own tools and settings, and gives the same bytes.
#: There is no disk yet, so a stand-in for grub-probe gives the answers of the finished guest.
#: Run as root of the tree, in it, in a mount namespace of its own. $1: root UUID.
MAKE_MENU = r"""
set -eu
umask 022
mkdir -p dev
# Not sticky, the default of a tmpfs: writing to another user's /dev/null would be denied.
mount -t tmpfs -o mode=0755 boot-menu dev
mkdir -p dev/disk/by-uuid
: > "dev/disk/by-uuid/$1"
: > dev/null
mount --bind /dev/null dev/null
cat > dev/grub-probe <<END
#!/bin/sh
for word; do
  case \$word in --target=*) target=\${word#--target=} ;; esac
done
case \$target in
  device) echo /dev/vda1 ;;
  disk) echo /dev/vda ;;
  fs) echo ext2 ;;
  fs_uuid) echo $1 ;;
  partmap) echo gpt ;;
esac
END
chmod 0755 dev/grub-probe
mount --bind dev/grub-probe usr/sbin/grub-probe
# Run with a clean environment: the host's variables must not change the bytes.
chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /usr/sbin/grub-mkconfig -o /boot/grub/grub.cfg
"""

#: Refuses a menu by which the guest would not find its root. Run in the tree. $1: root UUID.
CHECK_MENU = r"""
menu=boot/grub/grub.cfg
kernels=$(grep -E '^[[:space:]]*linux[[:space:]].*vmlinuz' "$menu" || echo none)
if other=$(printf '%s\n' "$kernels" | grep -v " root=UUID=$1"); then
  printf '/%s starts a kernel without root=UUID=%s:\n%s\n' "$menu" "$1" "$other" >&2
  exit 1
fi
"""


def install(tree: Path, root_uuid: str) -> None:
    """Put GRUB's modules, core image and menu into the tree."""
    for script in (INSTALL_GRUB, MAKE_MENU, CHECK_MENU):
        rootless.run(["env", f"--chdir={tree}", "sh", "-c", script, "sh", root_uuid])


def write_bios_boot(disk: Path, boot: bytes, core: bytes, first_lba: int, sectors: int) -> None:
    """Write GRUB's two images where the firmware and boot.img look for them.

    boot is boot.img (one sector), core is core.img for the BIOS-boot partition that
    starts at `first_lba` and has `sectors`. Does what grub-bios-setup does, which needs
    a block device. Layout: grub-core/boot/i386/pc/{boot,diskboot}.S of GRUB 2.06.
    """
    padded = bytearray(core + b"\0" * (-len(core) % SECTOR_BYTES))
    count = len(padded) // SECTOR_BYTES
    if len(boot) != SECTOR_BYTES or boot[510:] != b"\x55\xaa" or count > sectors:
        raise Failure(f"GRUB's boot images do not fit: boot {len(boot)} B, core {count} sectors")
    # The last block list of core's first sector: (start, sectors, segment) of the rest.
    _, rest, segment = struct.unpack_from("<QHH", padded, SECTOR_BYTES - 12)
    if segment != 0x820 or rest != count - 1:
        raise Failure(f"core.img has an unknown layout: segment {segment:#x}, {rest} sectors")
    struct.pack_into("<QHH", padded, SECTOR_BYTES - 12, first_lba + 1, count - 1, 0x820)
    with disk.open("r+b") as file:
        old = file.read(SECTOR_BYTES)
        sector = bytearray(boot)
        sector[0x03:0x5A] = old[0x03:0x5A]  # BIOS parameter block
        sector[0x1B8:0x200] = old[0x1B8:0x200]  # disk id, protective partition, signature
        struct.pack_into("<Q", sector, 0x5C, first_lba)  # where core.img starts
        sector[0x66:0x68] = b"\x90\x90"  # boot from the BIOS's drive number, as for hard disks
        file.seek(0)
        file.write(sector)
        file.seek(first_lba * SECTOR_BYTES)
        file.write(padded)


def make_esp(tree: Path, system: OperatingSystem, root_uuid: str, image: Path, epoch: int) -> None:
    """A FAT file system with the distribution's signed shim and GRUB, as `image`.

    GRUB's grub.cfg in it only finds the root file system and hands over to its own.
    Raises Failure when the tree lacks one of the files.
    """
    folder = image.parent
    vendor = f"EFI/{system.efi_vendor}"
    sources = {
        "EFI/BOOT/BOOTX64.EFI": system.shim,
        "EFI/BOOT/fbx64.efi": FALLBACK,
        "EFI/BOOT/mmx64.efi": MOK_MANAGER,
        f"{vendor}/shimx64.efi": system.shim,
        f"{vendor}/mmx64.efi": MOK_MANAGER,
        f"{vendor}/grubx64.efi": (system.grub_efi,),
        f"{vendor}/BOOTX64.CSV": (BOOT_ENTRIES,),
    }
    files = {
        target: take_out(first(tree, paths), folder / target.replace("/", "-"))
        for target, paths in sources.items()
    }
    files[f"{vendor}/grub.cfg"] = folder / "efi.cfg"
    (folder / "efi.cfg").write_text(
        f"search.fs_uuid {root_uuid} root\n"
        "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    )
    with image.open("wb") as file:
        file.truncate(ESP_MIB << 20)
    mkfs = ["mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-n", "UEFI", "-i", ESP_VOLUME_ID]
    command.run([*mkfs, image])
    env = {"TZ": "UTC", "SOURCE_DATE_EPOCH": str(epoch)}  # mtools stamps new entries with it
    folders = ["::/EFI", "::/EFI/BOOT", f"::/{vendor}"]
    command.run(["mmd", "-i", image, *folders], env=env)
    for target, source in files.items():
        os.utime(source, (epoch, epoch))
        command.run(["mcopy", "-m", "-i", image, source, f"::/{target}"], env=env)


def first(tree: Path, paths: Sequence[str]) -> Path:
    """The first of these files that the tree has; raises Failure when it has none."""
    for path in paths:
        if exists(tree / path):
            return tree / path
    raise Failure(f"the tree has no {' or '.join(paths)}, which the EFI partition needs")


def exists(path: Path) -> bool:
    return rootless.run(["test", "-e", path], check=False).returncode == 0


def take_out(source: Path, target: Path) -> Path:
    """Copy a file out of the tree, readable for this process whoever owns it there."""
    rootless.run(["cp", "--dereference", source, target])
    rootless.run(["chmod", "0644", target])
    return target
