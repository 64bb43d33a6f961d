"""KVM is chosen only if it works, and the reason is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.host import accelerator


@pytest.fixture
def kvm(tmp_path: Path) -> Path:
    device = tmp_path / "kvm"
    device.touch()
    return device


def cpuinfo(tmp_path: Path, flags: str) -> Path:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\nbugs\t\t: vmx_unchecked\n")
    return file


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_kvm_needs_its_device_and_the_processors_flag(kvm: Path, tmp_path: Path, flag: str) -> None:
    chosen = accelerator.choose({}, kvm, cpuinfo(tmp_path, flag))
    assert chosen.name == "kvm"
    assert flag in chosen.reason
    assert chosen.qemu_args[:2] == ("-accel", "kvm")


def test_a_device_without_the_processors_flag_means_emulation(kvm: Path, tmp_path: Path) -> None:
    chosen = accelerator.choose({}, kvm, cpuinfo(tmp_path, "lahf_lm"))
    assert chosen.name == "tcg"
    assert "neither vmx nor svm" in chosen.reason
    assert "tcg,thread=multi,tb-size=1024" in chosen.qemu_args


def test_a_device_that_is_missing_or_cannot_be_opened_means_emulation(tmp_path: Path) -> None:
    flags = cpuinfo(tmp_path, "vmx")
    assert "does not exist" in accelerator.choose({}, tmp_path / "none", flags).reason
    assert "cannot be opened" in accelerator.choose({}, tmp_path, flags).reason


@pytest.mark.parametrize("name", ["kvm", "TCG"])
def test_the_environment_can_force_either(tmp_path: Path, name: str) -> None:
    chosen = accelerator.choose({accelerator.FORCED_BY: name}, tmp_path / "none", tmp_path)
    assert chosen.name == name.lower()
    assert accelerator.FORCED_BY in chosen.reason


def test_an_unknown_forced_accelerator_is_refused() -> None:
    with pytest.raises(Refusal, match="xen"):
        accelerator.choose({accelerator.FORCED_BY: "xen"})
