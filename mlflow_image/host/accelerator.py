"""How QEMU runs the guest's processor on this host: KVM if it works, else emulation (TCG)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.errors import Refusal

FORCED_BY = "MLFLOW_IMAGE_ACCEL"
KVM_DEVICE = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")

QEMU_ARGS = {
    "kvm": ("-accel", "kvm", "-cpu", "max"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"),
}


@dataclass(frozen=True)
class Accelerator:
    """`kvm` or `tcg`, the reason, and the arguments for QEMU."""

    name: str
    reason: str

    @property
    def qemu_args(self) -> tuple[str, ...]:
        return QEMU_ARGS[self.name]

    def __str__(self) -> str:
        speed = (
            "hardware virtualisation" if self.name == "kvm" else "emulation, several times slower"
        )
        return f"{self.name.upper()} ({speed}): {self.reason}"


def choose(
    environ: Mapping[str, str] = os.environ, kvm: Path = KVM_DEVICE, cpuinfo: Path = CPUINFO
) -> Accelerator:
    """The accelerator for this host; MLFLOW_IMAGE_ACCEL=kvm or =tcg overrides the choice.

    It is not enough that /dev/kvm can be opened: on hosts without vmx or svm in
    /proc/cpuinfo, KVM_CREATE_VM succeeded and the firmware ran, but every stock kernel
    hung. Raises Refusal when the variable has another value.
    """
    forced = environ.get(FORCED_BY, "").strip().lower()
    if forced:
        if forced not in QEMU_ARGS:
            raise Refusal(
                f"{FORCED_BY}={forced!r}: unknown accelerator", remedy="set it to kvm or tcg"
            )
        return Accelerator(forced, f"forced by {FORCED_BY}")
    if not kvm.exists():
        return Accelerator("tcg", f"{kvm} does not exist")
    if problem := _cannot_open(kvm):
        return Accelerator("tcg", f"{kvm} cannot be opened ({problem})")
    flag = _virtualisation_flag(cpuinfo)
    if not flag:
        return Accelerator("tcg", f"{kvm} opens, but {cpuinfo} shows neither vmx nor svm")
    return Accelerator("kvm", f"{kvm} opens and the processor has {flag}")


def _cannot_open(device: Path) -> str:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _virtualisation_flag(cpuinfo: Path) -> str:
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return ""
    words = flags.group(1).split() if flags else []
    return next((flag for flag in ("vmx", "svm") if flag in words), "")
