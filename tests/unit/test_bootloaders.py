"""bootloaders: the menu that a build VM wrote starts from the sealed disk's own root."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image import bootloaders, command
from mlflow_image.errors import Failure

OURS = "6d0e2a52-0a5a-4c1e-9d6c-3b5f0e1a7c01"
VENDORS = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
MENU = """### BEGIN /etc/grub.d/10_linux ###
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1  {id}
menuentry 'Ubuntu' --id 'gnulinux-simple-{id}' {{
\tlinux\t/boot/vmlinuz-5.15.0-190-generic root=UUID={id} ro  console=tty1 console=ttyS0
\tinitrd\t/boot/initrd.img-5.15.0-190-generic
}}
"""


@pytest.fixture
def menu(tmp_path: Path) -> Path:
    path = tmp_path / "boot" / "grub" / "grub.cfg"
    path.parent.mkdir(parents=True)
    return path


def name_our_root(menu: Path) -> None:
    tree = menu.parents[2]
    script = ["sh", "-c", bootloaders.NAME_OUR_ROOT, "sh", OURS]
    command.run(["env", f"--chdir={tree}", *script])


def test_a_vendor_s_root_becomes_ours_everywhere_in_the_menu(menu: Path) -> None:
    menu.write_text(MENU.format(id=VENDORS))
    name_our_root(menu)
    assert menu.read_text() == MENU.format(id=OURS)


def test_a_menu_that_names_our_root_is_not_touched(menu: Path) -> None:
    menu.write_text(MENU.format(id=OURS))
    before = menu.stat()
    name_our_root(menu)
    assert menu.read_text() == MENU.format(id=OURS)
    assert (menu.stat().st_ino, menu.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("root", ["PARTUUID=1234", "LABEL=cloudimg-rootfs", "/dev/vda1"])
def test_a_menu_with_a_root_that_would_not_be_found_is_refused(menu: Path, root: str) -> None:
    unfit = MENU.format(id=VENDORS).replace(f"UUID={VENDORS}", root)
    menu.write_text(MENU.format(id=VENDORS) + unfit)
    with pytest.raises(Failure) as caught:
        name_our_root(menu)
    assert f"starts a kernel without root=UUID={OURS}" in caught.value.evidence
    assert f"root={root}" in caught.value.evidence


def test_a_menu_that_starts_no_kernel_is_refused(menu: Path) -> None:
    menu.write_text("# empty\n")
    with pytest.raises(Failure) as caught:
        name_our_root(menu)
    assert "starts a kernel without" in caught.value.evidence
