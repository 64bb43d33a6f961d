"""One VM: a QEMU process on an overlay disk, with its console and ssh.

`throwaway` creates VMs that exist during one check only; `server.vms` keeps VMs with a name.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mlflow_image.command import Completed
from mlflow_image.errors import Failure, Refusal
from mlflow_image.host import accelerator, processes, qemu_img
from mlflow_image.vm import (
    boot,
    console,
    firmware,
    monitor,
    paused,
    ports,
    preflight,
    qemu,
    seed,
    ssh,
)
from mlflow_image.vm.boot import OnWait
from mlflow_image.vm.qemu import Spec
from mlflow_image.vm.state import State, load_state, save_state

QEMU_LOG = "qemu.log"
MONITOR_TIMEOUT_S = 30.0
#: A boot takes 45 s under TCG on an idle host, several times that on a busy one.
BOOT_TIMEOUT_S = 900.0
POWER_OFF_TIMEOUT_S = 120.0
#: The power button is pressed again: a guest that is still booting drops the first event.
PRESS_AGAIN_S = 15.0


def silent(_: str) -> None:
    """An OnWait that reports nothing."""


def create(directory: Path, spec: Spec, user_data: bytes) -> Machine:
    """Create a VM's directory (0700): key, seed, overlay, UEFI variables. Starts nothing.

    The guest gets the user-data byte for byte. The directory must not exist. Raises
    Refusals when this host cannot run the VM; the directory is removed after any error.
    """
    preflight.check(spec, directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    try:
        public_key = seed.make_key(directory)
        seed.write_iso(directory, user_data, seed.meta_data(spec.hostname, public_key))
        qemu_img.overlay(
            spec.backing,
            directory / qemu.OVERLAY_NAME,
            size_bytes=spec.disk_bytes,
        )
        firmware.make_variables(directory, spec.firmware)
        machine = Machine(directory, replace(spec, backing=spec.backing.resolve()), State())
        machine.save()
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return machine


def load(directory: Path) -> Machine:
    """The VM in a directory; raises Failure when there is none."""
    return Machine(directory, *load_state(directory))


class Machine:
    """A VM and its directory; use `create` or `load` to get one."""

    def __init__(self, directory: Path, spec: Spec, state: State) -> None:
        self.directory = directory
        self.spec = spec
        self.state = state
        self._shell: ssh.Shell | None = None

    @property
    def running(self) -> bool:
        process = self.state.process
        return process is not None and processes.is_alive(process)

    @property
    def paused(self) -> Failure | None:
        """Why QEMU paused the VM, because this host could not write its disk; None otherwise."""
        return paused.reason(self.directory) if self.running else None

    @property
    def forwarded(self) -> Mapping[int, int]:
        """Guest port -> port on 127.0.0.1, as of the last start."""
        return self.state.ports

    @property
    def ssh_port(self) -> int:
        return self.state.ports[22]

    @property
    def key_path(self) -> Path:
        return self.directory / seed.KEY_NAME

    @property
    def console_text(self) -> str:
        """What the guest has printed on its serial console in the current boot."""
        return console.read(self.directory, self.state.console_from)

    @property
    def current_boot(self) -> boot.Boot:
        """The current boot, for `boot.follow`."""
        return boot.Boot(self.directory, self.state.console_from, lambda: self.running)

    def start(self) -> None:
        """Power on, or continue a VM that QEMU paused; returns as soon as QEMU runs.

        Reuses the ports of the last start that are free. Raises Refusal when a wanted port is
        in use or the VM is already running, Refusals when the host still has too little space,
        and Failure with QEMU's output when it fails.
        """
        if self.paused:
            preflight.check_disk_space(self.directory)
            paused.resume(self.directory)
            return
        if self.running:
            raise Refusal(
                f"VM {self.spec.hostname} is already running",
                remedy="`invoke status` shows its address",
            )
        if not self.spec.backing.exists():
            raise Failure(
                f"the image of VM {self.spec.hostname} does not exist: {self.spec.backing}",
                remedy="restore the file; the VM's disk stores only the differences from it",
            )
        preflight.check_resources(self.spec, self.directory)
        wanted = ports.choose({22: 0, **self.spec.forwards}, last=self.state.ports)
        words = qemu.argv(self.spec, accelerator.choose(), wanted)
        beginning = console.size_bytes(self.directory)
        process = processes.start_detached(
            words,
            cwd=self.directory,
            stderr=self.directory / QEMU_LOG,
            dies_with_us=self.spec.throwaway,
        )
        self.state = State(process, {22: 0, **self.spec.forwards}, beginning)
        self.save()
        self.state = replace(self.state, ports=self._forwarded_by_qemu(wanted))
        self.save()

    def redirect(self, old: int, new: int) -> None:
        """Forward the host's port of one guest port to another, now and at later starts.

        Raises Failure when QEMU does not.
        """
        host = self.state.ports[old]
        for line in (
            f"hostfwd_remove net tcp:127.0.0.1:{host}",
            f"hostfwd_add net tcp:127.0.0.1:{host}-:{new}",
        ):
            answer = monitor.human(self.directory, line)
            if answer and "removed" not in answer:
                raise Failure(f"port {host} could not be forwarded to port {new}: {answer}")
        wanted = {new if guest == old else guest: p for guest, p in self.spec.forwards.items()}
        ports = {new if guest == old else guest: p for guest, p in self.state.ports.items()}
        self.spec, self.state = (
            replace(self.spec, forwards=wanted),
            replace(self.state, ports=ports),
        )
        self.save()

    def run(
        self, line: str, *, stdin: str | None = None, check: bool = True, timeout_s: float = 300
    ) -> Completed:
        """Run a shell line in the guest as its default user, which has sudo; see `ssh.Shell`."""
        return self._shell_now().run(line, stdin=stdin, check=check, timeout_s=timeout_s)

    def shell_answers(self) -> bool:
        """Whether the guest runs a command now."""
        return self._shell_now().answers()

    def ssh_argv(self, line: str | None = None) -> list[str]:
        """The arguments of ssh(1) for this VM: interactive, or for one shell line."""
        return ssh.argv(self.directory, self.ssh_port, self.spec.ssh_user, line)

    def wait_for_ssh(self, on_wait: OnWait = silent, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until ssh can run commands; raises Failure with the guest's console lines."""
        boot.follow(
            self.current_boot, "ssh", lambda _: self.shell_answers() or None, on_wait, timeout_s
        )

    def reboot(self, on_wait: OnWait = silent, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Reboot from inside the guest; returns when ssh answers in the new boot."""
        before = self._boot_id()
        self.state = replace(self.state, console_from=console.size_bytes(self.directory))
        self.save()
        self.run("sudo systemctl --no-block reboot")
        self._close_shell()
        boot.follow(
            self.current_boot,
            "ssh after the reboot",
            lambda _: self._boot_id() not in ("", before) or None,
            on_wait,
            timeout_s,
        )

    def power_off(self, *, timeout_s: float = POWER_OFF_TIMEOUT_S) -> bool:
        """Press the power button and wait; returns whether the guest shut down by itself.

        If it did not after `timeout_s`, QEMU is killed, which is like a power cut. Raises the
        reason of a pause: a paused VM cannot shut down.
        """
        process = self.state.process
        if process is None or not self.running:
            return True
        if why := self.paused:
            raise why
        self._close_shell()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not console.dead_end(self.console_text):
            try:
                monitor.execute(self.directory, "system_powerdown")
            except Failure:
                # QEMU may have exited since `running` was checked.
                if self.running:
                    raise
            if processes.wait_for_end(process, PRESS_AGAIN_S):
                return True
        self.kill()
        return False

    def kill(self) -> None:
        """End QEMU at once, like a power cut; does nothing when it is not running."""
        self._close_shell()
        if self.state.process is not None:
            processes.end(self.state.process)

    def copy_logs(self, target: Path) -> None:
        """Copy console.log and qemu.log into a directory."""
        target.mkdir(parents=True, exist_ok=True)
        for name in (qemu.CONSOLE_LOG, QEMU_LOG):
            if (self.directory / name).exists():
                shutil.copyfile(self.directory / name, target / name)

    def save(self) -> None:
        """Write the state file, so that another process can find this VM."""
        save_state(self.directory, self.spec, self.state)

    def _boot_id(self) -> str:
        try:
            done = self.run("cat /proc/sys/kernel/random/boot_id", timeout_s=30)
        except Failure:
            return ""
        return done.stdout.strip()

    def _shell_now(self) -> ssh.Shell:
        if self._shell is None:
            self._shell = ssh.Shell(self.directory, self.ssh_port, self.spec.ssh_user)
        return self._shell

    def _close_shell(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def _forwarded_by_qemu(self, expected: Mapping[int, int]) -> dict[int, int]:
        """Wait for QEMU's monitor and read the forwarded ports; raises Failure with qemu.log."""
        deadline = time.monotonic() + MONITOR_TIMEOUT_S
        while True:
            alive = self.running
            try:
                found = ports.forwarded(monitor.human(self.directory, "info usernet"))
                if found.keys() >= expected.keys():
                    return found
            except Failure:
                if alive and time.monotonic() < deadline:
                    time.sleep(processes.POLL_S)
                    continue
            self.kill()
            printed = (self.directory / QEMU_LOG).read_text(errors="replace")
            raise Failure("QEMU did not start", evidence=printed or "(QEMU printed nothing)")
