"""Tasks for VMs with a name: up, status, ssh, logs, console, stop, start, down."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.errors import Failure, Refusal, as_typed
from mlflow_image.host import accelerator
from mlflow_image.images import find
from mlflow_image.paths import typed_path
from mlflow_image.server import arrival, certificates, ready, user_data, vms
from mlflow_image.server.vms import DEFAULT_NAME, Options, Vm
from mlflow_image.tasks.task import TerminalClosed, task, whole_number
from mlflow_image.vm import console, firmware
from mlflow_settings import signals

NAME_HELP = {"name": f"which VM; default: {DEFAULT_NAME}"}


@task(
    help={
        "name": f"name of the VM, and its host name; default: {DEFAULT_NAME}",
        "image": "an id or folder of dist/, or a qcow2 file; default: the newest image",
        "user-data": "file with cloud-init user-data, which the VM gets byte for byte; "
        "default: cloud-init/sqlite.yaml",
        "settings": "settings file, instead of user-data",
        "memory": "memory in MiB; default: 2048",
        "cpus": "number of processors; default: 2",
        "disk": "size of the VM's disk, e.g. 20G; default: the image's size",
        "port": "port on 127.0.0.1 for the server; default: a free one",
        "firmware": "bios (default), uefi or secureboot",
    }
)
def up(
    context: Context,
    name: str = DEFAULT_NAME,
    image: str = "",
    user_data: str = "",
    settings: str = "",
    memory: str = "2048",
    cpus: str = "2",
    disk: str = "",
    port: str = "",
    firmware: str = "bios",
) -> None:
    """Boot a VM from an image and wait until its server is ready."""
    chosen = find.resolve(image or None)
    data = read_data(user_data, settings, chosen, name)
    options = Options(
        memory_mib=whole_number("memory", memory),
        cpus=whole_number("cpus", cpus),
        disk_bytes=size_bytes(disk) if disk else None,
        port=port_number(port) if port else 0,
        firmware=firmware_name(firmware),
    )
    vm = vms.create(name, chosen, data, options)
    try:
        for warning in data.warnings:
            progress.warn(warning)
        progress.say(str(accelerator.choose()))
        follow(vm, data.settings)
    except TerminalClosed:
        raise
    except KeyboardInterrupt:
        vms.remove(name)
        progress.warn(f"VM {name} was removed: it was not ready yet")
        raise


@task(help={})
def status(context: Context) -> None:
    """Show the VMs of this checkout and their addresses."""
    found = vms.find_all()
    if not found:
        progress.say("there is no VM; create one with `invoke up`")
        return
    rows = [("name", "state", "server", "memory", "firmware", "created", "image")]
    for vm in found:
        spec = vm.machine.spec
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(vm.record.created))
        memory = f"{spec.memory_mib} MiB"
        row = (vm.name, vm.condition, vm.url, memory, spec.firmware, created, vm.record.image)
        rows.append(row)
    for line in columns(rows):
        progress.say(line)
    for vm in found:
        if warning := certificates.warning(vm):
            progress.warn(f"VM {vm.name}: {warning}")
        try:
            vms.require_not_paused(vm)
        except Failure as failure:
            progress.warn(str(failure))


@task(
    name="ssh",
    help={**NAME_HELP, "command": "run this in the VM and exit with its exit code"},
)
def ssh_task(context: Context, name: str = DEFAULT_NAME, command: str = "") -> None:
    """Log in to a VM, or run one command in it, as a user with sudo.

    The command may also stand after two dashes: `invoke ssh -- sudo mlflow-admin --help`.
    """
    if rest := sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []:
        if command:
            raise Refusal("two commands are given", remedy="use --command, or words after --")
        command = shlex.join(rest)
    vm = running(name)
    words = vm.machine.ssh_argv(command or None)
    os.execvp(words[0], words)  # noqa: S606 - no shell is involved; ssh gets the terminal


@task(help={**NAME_HELP, "follow": "print new lines as they come, until Ctrl-C"})
def logs(context: Context, name: str = DEFAULT_NAME, follow: bool = False) -> None:
    """Show the journal of MLflow's units in a VM.

    If ssh does not answer, shows the VM's console instead.
    """
    vm = vms.find(name)
    if vm.machine.running and vm.machine.shell_answers():
        words = vm.machine.ssh_argv(vms.journal_command(follow))
        os.execvp(words[0], words)  # noqa: S606 - as above
    progress.say(f"(ssh does not answer; this is the console of VM {name})")
    for text in console.lines(vm.machine.directory, lambda: follow and vm.machine.running):
        progress.say(text)


@task(name="console", help=NAME_HELP)
def console_task(context: Context, name: str = DEFAULT_NAME) -> None:
    """Connect to a VM's serial console; Ctrl-] leaves it."""
    vm = running(name)
    progress.say(console.last_lines(vm.machine.directory))
    progress.say(f"-- console of VM {name}; Enter shows the prompt, Ctrl-] leaves --")
    console.attach(vm.machine.directory)


@task(help=NAME_HELP)
def stop(context: Context, name: str = DEFAULT_NAME) -> None:
    """Shut a VM down; it keeps its disk."""
    vm = vms.find(name)
    if not vm.machine.running:
        progress.say(f"VM {name} is not running")
        return
    with progress.step(f"shutting VM {name} down"):
        clean = vms.power_off(vm)
    if not clean:
        progress.warn(f"VM {name} did not shut down in time and was killed")


@task(help=NAME_HELP)
def start(context: Context, name: str = DEFAULT_NAME) -> None:
    """Start a stopped VM on its own disk, or continue a paused one."""
    vm = vms.find(name)
    vms.power_on(vm)
    try:
        follow(vm)
    except KeyboardInterrupt:
        progress.warn(f"VM {name} keeps running; stop it with {vms.command_for('stop', name)}")
        raise


@task(help=NAME_HELP)
def down(context: Context, name: str = DEFAULT_NAME) -> None:
    """Stop a VM and remove it, including its disk."""
    removed = vms.remove(name)
    progress.say(f"VM {name} was removed" if removed else f"there is no VM named {name}")


def follow(vm: Vm, settings: str | None = None) -> None:
    """Wait until a VM's server is ready, show the progress, print how to use it.

    settings: the text that must have arrived; raises Failure when it has not.
    """
    with progress.step(f"waiting for VM {vm.name}") as step:
        inside = vms.wait_until_ready(
            vm,
            lambda at: step.update(f"the guest is at {at}"),
            on_trouble=lambda line: progress.warn(f"{line} (the server starts when it can)"),
        )
    vm = vms.find(vm.name)  # its port is known only now
    if settings is not None:
        arrival.require_same(vm, settings)
    if ready.is_guest_loopback(inside):
        progress.warn(
            f"the server of VM {vm.name} is only reachable from inside the VM, at {inside}"
        )
        progress.say(f"shell     {vms.command_for('ssh', vm.name)}")
        return
    progress.say(f"server    {vm.url} (inside the VM's network: {inside})")
    progress.say(f"shell     {vms.command_for('ssh', vm.name)}")
    user, shown = signals.made_password(vm.machine.current_boot.text) or ("", "")
    if user:
        command = as_typed(vms.command_for("ssh", vm.name, "--command", shown))
        progress.say(f"password  of {user}: {command}")
    if own_authority := vm.record.scheme == "https" and certificates.authority(vm):
        writes = vms.command_for("client-env", vm.name, "--ca", certificates.CA_FILE)
        progress.say(f"trust     {writes} writes the certificate of its authority for clients")
    stop_command, down_command = (vms.command_for(task, vm.name) for task in ("stop", "down"))
    progress.say(f"stop      {stop_command}, or remove: {down_command}")
    progress.say("")
    progress.say(f"export MLFLOW_TRACKING_URI={vm.url}")
    if user:
        progress.say(f"export MLFLOW_TRACKING_USERNAME={shlex.quote(user)}")
        progress.say(f"export MLFLOW_TRACKING_PASSWORD=$({command.strip('`')})")
    if own_authority:
        progress.say(f"export MLFLOW_TRACKING_SERVER_CERT_PATH=$PWD/{certificates.CA_FILE}")


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns, never cut, so that addresses and image ids can be copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def read_data(file: str, settings: str, image: find.Image, hostname: str) -> user_data.UserData:
    """The VM's user-data from either flag; raises Refusal when both are given."""
    if file and settings:
        raise Refusal("--user-data and --settings exclude each other", remedy="use one of them")
    if settings:
        return user_data.from_settings(typed_path(settings), image)
    path = typed_path(file) if file else user_data.DEFAULT
    return user_data.from_user_data(path, image, hostname)


def running(name: str) -> Vm:
    """The VM with this name; raises Refusal when it is not running, Failure when it is paused."""
    vm = vms.find(name)
    if not vm.machine.running:
        start_command = vms.command_for("start", name)
        raise Refusal(f"VM {name} is not running", remedy=f"start it with {start_command}")
    vms.require_not_paused(vm)
    return vm


def port_number(text: str) -> int:
    number = whole_number("port", text)
    if not 1 <= number <= 65535:
        raise Refusal(f"--port {number} is out of range", remedy="use a port from 1 to 65535")
    return number


def firmware_name(text: str) -> str:
    if text not in firmware.FIRMWARES:
        raise Refusal(
            f"--firmware {text!r} is unknown", remedy=f"use {', '.join(firmware.FIRMWARES)}"
        )
    return text


def size_bytes(text: str) -> int:
    """A size in binary units, such as 20G or 512M, in bytes; raises Refusal."""
    found = re.fullmatch(r"([0-9]{1,6})\s*([MGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise Refusal(f"--disk {text!r} is not a size", remedy="use a number and a unit, e.g. 20G")
    return int(found[1]) << {"M": 20, "G": 30, "T": 40}[found[2].upper()]
