"""VMs with a name, kept in the checkout: create, find, power on and off, remove."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from mlflow_settings.document import Faults
from mlflow_settings.settings import Settings, check

DEFAULT_NAME = "mlflow"
UNITS = ("mlflow-configure", "mlflow-tracking")
RECORD_NAME = "vm.json"
#: The settings that the VM was created with, where they are known.
SETTINGS_NAME = "settings.yaml"
#: A label of a host name (RFC 1123), because the name is also the guest's host name.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Record:
    """What is stored about a VM when it is created. created: seconds since 1970."""

    name: str
    image: str
    guest_port: int
    created: float
    scheme: str = "http"


@dataclass(frozen=True)
class Vm:
    """A VM with a name, and its machine."""

    record: Record
    machine: Machine

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def port(self) -> int | None:
        """The port on 127.0.0.1 that is forwarded to the server; None before the first start."""
        return self.machine.forwarded.get(self.record.guest_port)

    @property
    def url(self) -> str:
        """The server's address on this host; empty before the first start."""
        return f"{self.record.scheme}://127.0.0.1:{self.port}" if self.port else ""

    @property
    def condition(self) -> str:
        """`stopped`, `running`, `paused` if QEMU paused it because this host could not write, or
        `ready` if the server answers a call that needs its database.
        """
        if not self.machine.running:
            return "stopped"
        if self.machine.paused:
            return "paused"
        answer = ready.probe(self.url + ready.MLFLOW_PROBE, timeout_s=5)
        return "running" if answer else "ready"


@dataclass(frozen=True)
class Options:
    """What a user can choose for a new VM.

    disk_bytes: None takes the image's disk size. port: on 127.0.0.1; 0 takes a free one.
    """

    memory_mib: int = 2048
    cpus: int = 2
    disk_bytes: int | None = None
    port: int = 0
    firmware: str = "bios"


def create(name: str, image: Image, data: UserData, options: Options) -> Vm:
    """Create a VM and power it on; it is removed again if it does not start.

    Raises Refusal or Refusals for a name or a port in use, an unusable image, and too little
    memory or disk.
    """
    check_name(name)
    with locked(name):
        directory = folder_of(name)
        if directory.exists():
            raise Refusal(
                f"a VM named {name} already exists",
                remedy=f"choose another --name, or remove it with {command_for('down', name)}",
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
            record = Record(name, image.id, data.guest_port, time.time(), data.scheme)
            write_record(directory, record)
            if data.settings is not None:
                files.write_private(directory / SETTINGS_NAME, data.settings)
            made.start()
        except BaseException:
            _delete(made)
            raise
        return Vm(record, made)


def write_record(directory: Path, record: Record) -> None:
    files.write_private(directory / RECORD_NAME, json.dumps(asdict(record)))


def power_on(vm: Vm) -> None:
    """Start a stopped VM on its own disk, or continue a paused one.

    Raises Refusal when it is already running.
    """
    with locked(vm.name):
        vm.machine.start()


def wait_until_ready(
    vm: Vm,
    on_wait: OnWait,
    timeout_s: float = machine.BOOT_TIMEOUT_S,
    on_trouble: OnWait = machine.silent,
) -> str:
    """Wait until the server is ready; returns the address that the guest reports.

    If the settings have another port than was known when the VM was created, the host's port is
    redirected to it; `find` the VM again to see it. Raises Failure with the guest's console
    lines and the commands to inspect the VM, which is kept.
    """
    try:
        url = ready.wait(vm.machine, on_wait, on_trouble=on_trouble, timeout_s=timeout_s)
        port, scheme = ready.guest_port(url), url.partition(":")[0]
        known = ready.is_guest_loopback(url) or port in vm.machine.forwarded
        if known and scheme == vm.record.scheme:
            return url
        if not known:
            vm.machine.redirect(vm.record.guest_port, port)
        write_record(vm.machine.directory, replace(vm.record, guest_port=port, scheme=scheme))
        return ready.wait(vm.machine, on_wait, on_trouble=on_trouble, timeout_s=timeout_s)
    except Failure as failure:
        if not vm.machine.directory.exists():
            raise Failure(f"VM {vm.name} was removed while it booted") from failure
        require_not_paused(vm)
        commands = [command_for(task, vm.name) for task in ("logs", "ssh", "console")]
        raise Failure(
            f"VM {vm.name}: {failure.what}",
            evidence=failure.evidence,
            remedy=f"inspect the VM ({', '.join(commands)}) or remove it "
            f"({command_for('down', vm.name)})",
        ) from failure


def power_off(vm: Vm) -> bool:
    """Shut a VM down; returns False when the guest did not shut down in time and was killed.

    Raises Failure when QEMU paused the VM, because this host could not write its disk.
    """
    with locked(vm.name):
        require_not_paused(vm)
        return vm.machine.power_off()


def require_not_paused(vm: Vm) -> None:
    """Raise Failure if QEMU paused the VM because this host could not write its disk."""
    if why := vm.machine.paused:
        start, down = command_for("start", vm.name), command_for("down", vm.name)
        why.what = f"VM {vm.name}: {why.what}"
        why.add_remedy(f"then continue it with {start}; nothing is lost. To remove it: {down}")
        raise why


def remove(name: str) -> bool:
    """End a VM and delete everything of it; returns False when there was none."""
    check_name(name)
    with locked(name):
        directory = folder_of(name)
        if not directory.exists():
            return False
        try:
            vm = machine.load(directory)
        except Failure:
            # Its creation was interrupted before anything was started.
            shutil.rmtree(directory)
        else:
            _delete(vm)
        return True


def find(name: str) -> Vm:
    """The VM with this name; when there is none, raises Refusal with the names that exist."""
    check_name(name)
    try:
        record = Record(**json.loads((folder_of(name) / RECORD_NAME).read_text()))
        return Vm(record, machine.load(folder_of(name)))
    except (OSError, ValueError, TypeError, Failure) as error:
        if folder_of(name).exists():
            raise Refusal(
                f"the creation of VM {name} was interrupted",
                remedy=f"remove it with {command_for('down', name)}",
            ) from error
        others = ", ".join(vm.name for vm in find_all())
        raise Refusal(
            f"there is no VM named {name}",
            remedy=f"existing VMs: {others}" if others else "create one with `invoke up`",
        ) from error


def settings_of(vm: Vm) -> Settings | None:
    """The settings that a VM was created with; None when they are not known."""
    try:
        text = (vm.machine.directory / SETTINGS_NAME).read_text(encoding="utf-8")
        return check(text, SETTINGS_NAME)
    except (OSError, Faults):
        return None


def find_all() -> list[Vm]:
    """All VMs of this checkout, sorted by name, except those that are not complete."""
    found = []
    for file in sorted(vms_folder().glob(f"*/{RECORD_NAME}")):
        try:
            found.append(find(file.parent.name))
        except Refusal:
            continue
    return found


def backing_files() -> set[Path]:
    """Every disk that a VM needs, with all backing files below it; these must not be removed.

    Includes the throwaway VMs of every checkout.
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
    """Only one command at a time may change a VM; raises Refusal at once if another one does."""
    locks = paths.HERE.state / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"vm-{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise Refusal(
            f"another command is changing VM {name}", remedy="try again when it has finished"
        ) from error


def check_name(name: str) -> None:
    """Raise Refusal for a name that is not a valid host name."""
    if not NAME.fullmatch(name):
        raise Refusal(
            f"{name!r} is not a valid VM name",
            remedy="use at most 63 lower-case letters, digits and hyphens; "
            "begin and end with a letter or digit",
        )


def vms_folder() -> Path:
    return paths.HERE.state / "vms"


def folder_of(name: str) -> Path:
    return vms_folder() / name


def command_for(task: str, name: str, *words: str) -> str:
    """The command line of a task for this VM, in backquotes; the default name needs no flag.

    words: further ones, quoted for a shell where they need it.
    """
    flag = [] if name == DEFAULT_NAME else ["--name", name]
    return f"`invoke {' '.join([task, *flag, *map(shlex.quote, words)])}`"


def journal_command(follow: bool) -> str:
    """The shell line that shows the journal of MLflow's units in the guest."""
    units = " ".join(f"--unit={unit}" for unit in UNITS)
    return f"journalctl --no-pager --output=short-iso {units}" + (" --follow" if follow else "")


def _delete(made: Machine) -> None:
    """End a machine's QEMU and remove its directory."""
    made.kill()
    shutil.rmtree(made.directory)
