"""The boot menu: every entry must start its kernel with this disk's root."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.builder.disk import bootloaders
from mlflow_image.errors import Failure

OURS = "6d0e2a52-0a5a-4c1e-9d6c-3b5f0e1a7c01"
MENU = f"""### BEGIN /etc/grub.d/10_linux ###
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1  {OURS}
menuentry 'Ubuntu' --id 'gnulinux-simple-{OURS}' {{
\tlinux\t/boot/vmlinuz-5.15.0-190-generic root=UUID={OURS} ro  console=tty1 console=ttyS0
\tinitrd\t/boot/initrd.img-5.15.0-190-generic
}}
"""


@pytest.fixture
def menu(tmp_path: Path) -> Path:
    path = tmp_path / "boot" / "grub" / "grub.cfg"
    path.parent.mkdir(parents=True)
    return path


def check(menu: Path) -> None:
    tree = menu.parents[2]
    script = ["sh", "-c", bootloaders.CHECK_MENU, "sh", OURS]
    command.run(["env", f"--chdir={tree}", *script])


def test_a_menu_that_names_our_root_is_accepted(menu: Path) -> None:
    menu.write_text(MENU)
    check(menu)


@pytest.mark.parametrize("root", ["PARTUUID=1234", "LABEL=cloudimg-rootfs", "/dev/vda1"])
def test_a_menu_that_names_another_root_is_refused(menu: Path, root: str) -> None:
    menu.write_text(MENU + MENU.replace(f"UUID={OURS}", root))
    with pytest.raises(Failure) as caught:
        check(menu)
    assert f"starts a kernel without root=UUID={OURS}" in caught.value.evidence
    assert f"root={root}" in caught.value.evidence


def test_a_menu_that_starts_no_kernel_is_refused(menu: Path) -> None:
    menu.write_text("# empty\n")
    with pytest.raises(Failure) as caught:
        check(menu)
    assert "starts a kernel without" in caught.value.evidence


def test_the_first_file_that_the_tree_has_is_used_for_the_efi_partition(tmp_path: Path) -> None:
    for name in ("second", "third"):
        (tmp_path / name).touch()
    found = bootloaders.first(tmp_path, ("first", "second", "third"))
    assert found == tmp_path / "second"


def test_a_file_that_the_efi_partition_needs_and_the_tree_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"no fbx64\.efi\.signed or fbx64\.efi, which the EFI"):
        bootloaders.first(tmp_path, ("fbx64.efi.signed", "fbx64.efi"))
