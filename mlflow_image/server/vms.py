"""VMs with a name, kept in the checkout: made, found again, powered on and off, removed."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mlflow_image import files, paths
from mlflow_image.errors import Failure, Refusal
from mlflow_image.host import qemu_img
from mlflow_image.images.find import Image
from mlflow_image.server import ready
from mlflow_image.server.user_data import UserData
from mlflow_image.vm import machine
from mlflow_image.vm.boot import OnWait
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec

DEFAULT_NAME = "mlflow"
UNITS = ("mlflow-configure", "mlflow-tracking", "mlflow-ready")
RECORD_NAME = "vm.json"
#: A label of a host name (RFC 1123), because the guest is called so.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Record:
    """What is written down of a VM when it is made. created: seconds since 1970."""

    name: str
    image: str
    guest_port: int
    created: float


@dataclass(frozen=True)
class Vm:
    """A VM with its name, and the QEMU behind it."""

    record: Record
    machine: Machine

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def port(self) -> int | None:
        """The port on 127.0.0.1 that leads to the server; None before the first start."""
        return self.machine.forwarded.get(self.record.guest_port)

    @property
    def url(self) -> str:
        """The server's address as this host sees it; empty before the first start."""
        return f"http://127.0.0.1:{self.port}" if self.port else ""

    @property
    def condition(self) -> str:
        """`stopped`, `running`, or `ready` when the server answers through its database."""
        if not self.machine.running:
            return "stopped"
        answer = ready.probe(self.url + ready.MLFLOW_PROBE, timeout_s=5)
        return "running" if answer else "ready"


@dataclass(frozen=True)
class Options:
    """What a user may choose for a new VM; port 0 is a free one, disk_bytes None the image's."""

    memory_mib: int = 2048
    cpus: int = 2
    disk_bytes: int | None = None
    port: int = 0
    firmware: str = "bios"


def create(name: str, image: Image, data: UserData, options: Options) -> Vm:
    """Make a VM and power it on; it is gone again when it does not start.

    Raises Refusal(s) for a name or a port in use, a bad image, too little memory or disk.
    """
    check_name(name)
    with locked(name):
        directory = folder_of(name)
        if directory.exists():
            raise Refusal(
                f"a VM named {name} exists already",
                remedy=f"choose another --name, or remove it: {command_for('down', name)}",
            )
        spec = Spec(
            backing=image.disk,
            memory_mib=options.memory_mib,
            cpus=options.cpus,
            disk_bytes=options.disk_bytes,
            forwards={data.guest_port: options.port},
            firmware=options.firmware,
            hostname=name,
            ssh_user=image.login,
        )
        made = machine.create(directory, spec, data.raw)
        try:
            record = Record(name, image.id, data.guest_port, time.time())
            files.write_private(directory / RECORD_NAME, json.dumps(asdict(record)))
            made.start()
        except BaseException:
            _delete(made)
            raise
        return Vm(record, made)


def power_on(vm: Vm) -> None:
    """Start a stopped VM on the disk that it has; raises Refusal when it runs."""
    with locked(vm.name):
        vm.machine.start()


def wait_until_ready(vm: Vm, on_wait: OnWait, timeout_s: float = machine.BOOT_TIMEOUT_S) -> str:
    """Wait for the server; returns the address that the guest gives for itself.

    Raises Failure with what the guest said, and how to look at the VM, which stays.
    """
    try:
        return ready.wait(vm.machine, on_wait, timeout_s=timeout_s)
    except Failure as failure:
        if not vm.machine.directory.exists():
            raise Failure(f"VM {vm.name} was removed while it booted") from failure
        looks = [command_for(task, vm.name) for task in ("logs", "ssh", "console")]
        raise Failure(
            f"VM {vm.name}: {failure.what}",
            evidence=failure.evidence,
            remedy=f"the VM is kept for a look ({', '.join(looks)}); "
            f"{command_for('down', vm.name)} removes it",
        ) from failure


def power_off(vm: Vm) -> bool:
    """Shut a VM down; returns False when it had to be cut off because the guest did not go."""
    with locked(vm.name):
        return vm.machine.power_off()


def remove(name: str) -> bool:
    """End and remove everything of a VM; returns False when there was none."""
    check_name(name)
    with locked(name):
        directory = folder_of(name)
        if not directory.exists():
            return False
        try:
            _delete(machine.load(directory))
        except Failure:
            # A crash left it half made: nothing was started yet.
            shutil.rmtree(directory)
        return True


def find(name: str) -> Vm:
    """The VM of this name; raises Refusal, naming those that exist, when there is none."""
    check_name(name)
    try:
        record = Record(**json.loads((folder_of(name) / RECORD_NAME).read_text()))
        return Vm(record, machine.load(folder_of(name)))
    except (OSError, ValueError, TypeError, Failure) as error:
        if folder_of(name).exists():
            raise Refusal(
                f"VM {name} was not made completely",
                remedy=f"{command_for('down', name)} removes it",
            ) from error
        others = ", ".join(vm.name for vm in find_all())
        raise Refusal(
            f"there is no VM named {name}",
            remedy=f"--name one of: {others}" if others else "`invoke up` makes one",
        ) from error


def find_all() -> list[Vm]:
    """All VMs of this checkout, by name; half-made ones are left out."""
    found = []
    for file in sorted(vms_folder().glob(f"*/{RECORD_NAME}")):
        try:
            found.append(find(file.parent.name))
        except Refusal:
            continue
    return found


def backing_files() -> set[Path]:
    """Every disk that a VM stands on, its backing chain included: nobody may remove these.

    Throwaway VMs count while they live, those of other checkouts too.
    """
    directories = [*vms_folder().glob("*"), *(paths.cache() / "machines").glob("*/vm")]
    found: set[Path] = set()
    for directory in directories:
        try:
            found |= set(qemu_img.backing_chain(machine.load(directory).spec.backing))
        except Failure:
            continue
    return found


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One command at a time may change a VM; raises Refusal at once when another does."""
    locks = paths.HERE.state / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"vm-{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise Refusal(
            f"another command is at work on VM {name}", remedy="wait until it has ended"
        ) from error


def check_name(name: str) -> None:
    """Refuse a name that cannot be a host name."""
    if not NAME.fullmatch(name):
        raise Refusal(
            f"{name!r} cannot be a VM's name",
            remedy="use lower-case letters, digits and hyphens, 63 at most",
        )


def vms_folder() -> Path:
    return paths.HERE.state / "vms"


def folder_of(name: str) -> Path:
    return vms_folder() / name


def command_for(task: str, name: str) -> str:
    """How a task is typed for this VM; the default name needs no flag."""
    flag = "" if name == DEFAULT_NAME else f" --name {name}"
    return f"`invoke {task}{flag}`"


def journal_command(follow: bool) -> str:
    """The shell line that shows what MLflow's units have logged in the guest."""
    units = " ".join(f"--unit={unit}" for unit in UNITS)
    return f"journalctl --no-pager --output=short-iso {units}" + (" --follow" if follow else "")


def _delete(made: Machine) -> None:
    """End a machine's QEMU and remove its directory."""
    made.kill()
    shutil.rmtree(made.directory)
