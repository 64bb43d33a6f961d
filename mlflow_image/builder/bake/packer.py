"""One Packer invocation: which Packer, its plugin, progress, errors with the guest's console."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlflow_image import command
from mlflow_image.builder.bake.template import Bake, Plugin, image_template
from mlflow_image.errors import Failure, Refusal
from mlflow_image.progress import Step

#: The oldest that our template renders for; apt has it on Debian 12 and Ubuntu 22.04.
OLDEST = (1, 6, 6)
#: From here on the qemu builder is a plugin, and `required_plugins` names it.
FIRST_WITH_PLUGINS = (1, 10, 0)
QEMU_PLUGIN = Plugin("qemu", "github.com/hashicorp/qemu", ">= 1.0.9")
CONSOLE_LINES = 15
PACKER_LOG = "packer.log"
CONSOLE_LOG = "console.log"


@dataclass(frozen=True)
class Packer:
    """A Packer program on this host, and where its plugins are if not in the usual place."""

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
        """Its settings: nothing is asked of the network, nothing is left outside `work`."""
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

    Raises Refusal when it is none, is too old, or lacks the qemu plugin that it needs, and when it
    is still to be built and there is to be no network.
    """
    if chosen:
        path = shutil.which(chosen)
        if not path:
            raise Refusal(
                f"--packer {chosen}: there is no such program",
                remedy="name one by its path, or leave it out for the one on PATH",
            )
        return usable(Path(path), "--packer")
    if path := shutil.which("packer"):
        return usable(Path(path), "on PATH")
    return built_with_go(offline=offline)


def built_with_go(*, offline: bool) -> Packer:
    """The pinned Packer and qemu plugin, built from source on this host and kept in the cache."""
    from mlflow_image.builder.bake import packer_from_go

    if offline and not packer_from_go.is_built():
        raise Refusal(
            "--offline, and there is no Packer on this host: building it takes a network",
            remedy="run `invoke fetch` once with a network, or name one with --packer",
        )
    built = packer_from_go.ensure()
    return usable(built.binary, "built with Go", built.plugin_dir)


def usable(binary: Path, how: str, plugin_dir: Path | None = None) -> Packer:
    """A Packer program, after a look at its version and plugin."""
    env = {"CHECKPOINT_DISABLE": "1"}
    if plugin_dir:
        env["PACKER_PLUGIN_PATH"] = str(plugin_dir)
    done = command.run([binary, "version"], check=False, env=env)
    match = re.match(r"Packer v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if not match:
        raise Refusal(
            f"{binary} does not say which Packer it is",
            remedy="another program of that name may come first on PATH; name one with --packer",
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
    """What is known of a Packer run while it goes on; the source of its error message."""

    step: Step
    phase: str = "starting Packer"
    output: list[str] = field(default_factory=list)

    def on_line(self, line: str) -> None:
        """Follow Packer's plain output: its own milestones and the `::` lines of our scripts."""
        text = re.sub(r"^\s*(==> )?qemu\.layer: ?", "", line).rstrip()
        # With -on-error=abort there are fifteen such lines, where one looks for the last output.
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


def bake(
    packer: Packer, plan: Bake, work: Path, logs: Path, step: Step, *, keep_on_error: bool
) -> None:
    """Render, validate and run one bake in `work`; its results are where `plan` says.

    Raises Failure with the step, the last output, the console's last lines and where the
    logs are. With keep_on_error the VM of a failed bake stays up for a look.
    """
    template = work / "image.pkr.hcl"
    template.write_text(image_template(plan, packer.plugins))
    env = packer.environment(work)
    shutil.copyfile(template, logs / template.name)
    command.run([packer.binary, "validate", template], env=env, cwd=work)
    run = Run(step)
    on_error = "abort" if keep_on_error else "cleanup"
    try:
        command.stream(
            [packer.binary, "build", "-color=false", f"-on-error={on_error}", template],
            run.on_line,
            env=env,
            cwd=work,
            log=logs / PACKER_LOG,
            keep_group=keep_on_error,
        )
    except Failure as failure:
        raise Failure(
            f"the bake failed while {run.phase}",
            evidence=evidence(run, logs),
            remedy=f"full logs: {logs / PACKER_LOG} and {logs / CONSOLE_LOG}"
            + (how_to_look(plan, work) if keep_on_error else "; --on-error=abort keeps the VM"),
        ) from failure


def evidence(run: Run, logs: Path) -> str:
    """The last command's output and the guest's console, as one would ask for them."""
    lines = ["last output:", *(f"  {line}" for line in run.output[-command.LAST_LINES :])]
    console = logs / CONSOLE_LOG
    if console.is_file():
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", console.read_text(errors="replace"))
        lines += ["", "guest's console:"]
        lines += [f"  {line}" for line in command.last_lines(text, CONSOLE_LINES).splitlines()]
    return "\n".join(lines)


def how_to_look(plan: Bake, work: Path) -> str:
    """How to log into the VM that a failed bake left, and how to end it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        port = re.search(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-:22", words)
        if port and str(work) in words:
            found.append((process.pid, port[1]))
    if not found:
        return "; the VM is already gone"
    pid, port_number = found[0]
    ssh = f"ssh -i {plan.key} -p {port_number} -o StrictHostKeyChecking=no root@127.0.0.1"
    return f"\nThe VM still runs: {ssh}\nEnd it with: kill {pid}; rm -r {work}"


def free_memory_mib() -> int:
    """Memory that a new process may take without swapping."""
    return int(psutil.virtual_memory().available) >> 20


def memory_mib() -> int:
    """Memory for a build VM: a third of what is free now, 1536 to 4096 MiB."""
    return max(1536, min(4096, free_memory_mib() // 3))
