"""Runs Packer: which program, its plugin, its progress, errors with the guest's console."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlflow_image import command, files, space
from mlflow_image.builder.bake.template import PackerBuild, Plugin, image_template
from mlflow_image.builder.place import Place
from mlflow_image.errors import Failure, Refusal
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step
from mlflow_image.vm import console, paused

#: The oldest version that the template works with; apt has it on Debian 12 and Ubuntu 22.04.
OLDEST = (1, 6, 6)
#: From this version the qemu builder is a plugin, and `required_plugins` names it.
FIRST_WITH_PLUGINS = (1, 10, 0)
QEMU_PLUGIN = Plugin("qemu", "github.com/hashicorp/qemu", ">= 1.0.9")
CONSOLE_LINES = 15
#: A socket's path has at most 107 bytes (unix(7)); Packer adds `/packer-plugin` and ten digits.
LONGEST_FOLDER_BYTES = 107 - len("/packer-plugin0123456789")
PACKER_LOG = "packer.log"
CONSOLE_LOG = "console.log"


@dataclass(frozen=True)
class Packer:
    """A Packer program on this host. plugin_dir: of its plugins, if not the usual one."""

    binary: Path
    version: tuple[int, int, int]
    how: str
    plugin_dir: Path | None = None

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        return (QEMU_PLUGIN,) if self.version >= FIRST_WITH_PLUGINS else ()

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    def __str__(self) -> str:
        return f"Packer {self.version_text} ({self.how}: {self.binary})"

    def environment(self, work: Path) -> dict[str, str]:
        """Its environment: no call over the network, no file outside `work`."""
        found = {
            "CHECKPOINT_DISABLE": "1",
            "PACKER_CACHE_DIR": str(work / "packer_cache"),
            "PACKER_NO_COLOR": "1",
            "TMPDIR": str(work),
        }
        if self.plugin_dir:
            found["PACKER_PLUGIN_PATH"] = str(self.plugin_dir)
        return found


def find(chosen: str = "", *, offline: bool = False) -> Packer:
    """The Packer to use: `chosen`, else the one on PATH, else one built with Go.

    Raises Refusal when the program is not Packer, is too old or has no qemu plugin, and when
    it would have to be built although `offline` is set.
    """
    if chosen:
        path = shutil.which(chosen)
        if not path:
            raise Refusal(
                f"--packer {chosen}: this program was not found",
                remedy="give its path, or leave --packer out to use the one on PATH",
            )
        return usable(Path(path), "--packer")
    if path := shutil.which("packer"):
        return usable(Path(path), "on PATH")
    return built_with_go(offline=offline)


def built_with_go(*, offline: bool) -> Packer:
    """The pinned Packer and qemu plugin, built from source on this host, then cached."""
    from mlflow_image.builder.bake import packer_from_go

    if offline and not packer_from_go.is_built():
        raise Refusal(
            "--offline, and this host has no Packer: building it needs a network",
            remedy="run `invoke fetch` once with a network, or name a Packer with --packer",
        )
    built = packer_from_go.ensure()
    return usable(built.binary, "built with Go", built.plugin_dir)


def usable(binary: Path, how: str, plugin_dir: Path | None = None) -> Packer:
    """A Packer program whose version and plugin are good; raises Refusal otherwise."""
    env = {"CHECKPOINT_DISABLE": "1"}
    if plugin_dir:
        env["PACKER_PLUGIN_PATH"] = str(plugin_dir)
    done = command.run([binary, "version"], check=False, env=env)
    match = re.match(r"Packer v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if not match:
        raise Refusal(
            f"{binary} is not HashiCorp Packer: `packer version` prints no version",
            remedy="another program of that name may come first on PATH; use --packer",
        )
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < OLDEST:
        raise Refusal(
            f"{binary} is Packer {done.stdout.split()[1]}; the oldest that works is v1.6.6",
            remedy="apt install packer (Debian 12, Ubuntu 22.04), or scripts/host/packer-from-go",
        )
    packer = Packer(binary, version, how, plugin_dir)
    if packer.plugins:
        installed = command.run([binary, "plugins", "installed"], check=False, env=env).stdout
        if "packer-plugin-qemu" not in installed:
            raise Refusal(
                f"Packer {packer.version_text} needs its qemu plugin, and none is installed",
                remedy=f"packer plugins install {QEMU_PLUGIN.source}; without internet: "
                "scripts/host/packer-from-go builds both",
            )
    return packer


@dataclass
class Run:
    """The progress of one Packer run, and its last output for an error message."""

    step: Step
    phase: str = "starting Packer"
    output: list[str] = field(default_factory=list)

    def on_line(self, line: str) -> None:
        """Follow Packer's output: its own milestones and the `::` lines of our scripts."""
        text = re.sub(r"^\s*(==> )?qemu\.layer: ?", "", line).rstrip()
        # -on-error=abort prints fifteen such lines after the output that matters.
        if not text or text.startswith("aborted: skipping cleanup of step"):
            return
        self.output = [*self.output[-60:], text]
        if text.startswith(":: "):
            self._enter(text.removeprefix(":: "))
        elif text.startswith("Waiting for SSH"):
            self._enter("booting the build VM")
        elif text.startswith("Gracefully halting"):
            self._enter("shutting down")
        else:
            self.step.update(text)

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.step.phase(phase)


def run(
    packer: Packer,
    build: PackerBuild,
    place: Place,
    checkout: Checkout = HERE,
    *,
    keep_on_error: bool,
) -> None:
    """Render, validate and run one Packer build in the scratch space of `place`.

    Raises Failure with the step, the last output, the console's last lines and the paths of
    the logs. keep_on_error: the VM of a failed build keeps running, for inspection.
    """
    work, logs = place.work, place.logs
    template = work / "image.pkr.hcl"
    files.write(template, image_template(build, packer.plugins, checkout))
    shutil.copyfile(template, logs / template.name)
    with folder_for_sockets(work) as sockets:
        env = {**packer.environment(work), "TMPDIR": str(sockets)}
        command.run([packer.binary, "validate", template], env=env, cwd=work)
        _build(packer, template, build, place, env, keep_on_error=keep_on_error)


def _build(
    packer: Packer,
    template: Path,
    build: PackerBuild,
    place: Place,
    env: Mapping[str, str],
    *,
    keep_on_error: bool,
) -> None:
    work, logs = place.work, place.logs
    progress = Run(place.step)
    on_error = "abort" if keep_on_error else "cleanup"
    try:
        command.stream(
            [packer.binary, "build", "-color=false", f"-on-error={on_error}", template],
            progress.on_line,
            env=env,
            cwd=work,
            log=logs / PACKER_LOG,
            keep_group=keep_on_error,
        )
    except paused.HOST_ERRORS:  # the VM is ended, whatever keep_on_error says
        raise
    except Failure as failure:
        full = space.says_so("\n".join(progress.output))  # of the host: see Room.guarded
        raise Failure(
            f"Packer failed while {progress.phase}"
            + (": the build VM's own disk is full" if full else ""),
            evidence=evidence(progress, logs),
            remedy=("set a larger disk_mib in image.yaml; " if full else "")
            + f"full logs: {logs / PACKER_LOG} and {logs / CONSOLE_LOG}"
            + (how_to_look(build, work) if keep_on_error else "; --on-error=abort keeps the VM"),
            of_guest=True,
        ) from failure


@contextmanager
def folder_for_sockets(work: Path) -> Iterator[Path]:
    """Where Packer's plugins listen: `work`, unless its path is too long for a Unix socket."""
    if len(os.fsencode(work)) <= LONGEST_FOLDER_BYTES:
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="mlflow-image-", dir="/tmp") as short:
        yield Path(short)


def evidence(run: Run, logs: Path) -> str:
    """The last output of the steps and the last lines of the guest's console."""
    lines = ["last output:", *(f"  {line}" for line in run.output[-command.LAST_LINES :])]
    log = logs / CONSOLE_LOG
    if log.is_file():
        text = console.clean(log.read_text(errors="replace"))
        lines += ["", "guest's console:"]
        lines += [f"  {line}" for line in command.last_lines(text, CONSOLE_LINES).splitlines()]
    return "\n".join(lines)


def how_to_look(build: PackerBuild, work: Path) -> str:
    """How to log into the VM of a failed build, and how to end it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        port = re.search(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-:22", words)
        if port and str(work) in words:
            found.append((process.pid, port[1]))
    if not found:
        return "; the VM is already gone"
    pid, port_number = found[0]
    ssh = f"ssh -i {build.key} -p {port_number} -o StrictHostKeyChecking=no root@127.0.0.1"
    return f"\nThe VM still runs: {ssh}\nEnd it with: kill {pid}; rm -r {work}"
