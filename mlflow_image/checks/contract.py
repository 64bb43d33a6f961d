"""The image's contract: Testinfra tests, run against a VM that boots the sealed disk."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from mlflow_image import command, progress
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images.manifest import Verification
from mlflow_image.paths import HERE, Checkout
from mlflow_image.server import ready
from mlflow_image.server.user_data import DEFAULT_PORT
from mlflow_image.vm import machine, paused, throwaway
from mlflow_image.vm.qemu import Spec


def run(disk: Path, logs: Path, login: str = "ubuntu", checkout: Checkout = HERE) -> Verification:
    """Boot the disk with cloud-init/sqlite.yaml and run tests/image; returns the result.

    A VM that does not get ready has failed; its console lines are printed. Raises Refusal
    when this host cannot start a VM now, DiskFull or Paused when it cannot write the VM's disk:
    that says nothing about the image.
    """
    started = time.monotonic()
    logs.mkdir(parents=True, exist_ok=True)
    spec = Spec(disk, hostname="verify", ssh_user=login, forwards={DEFAULT_PORT: 0})
    try:
        with (
            progress.step("verifying: booting the sealed disk") as step,
            throwaway.booted(
                spec,
                (checkout.root / "cloud-init" / "sqlite.yaml").read_bytes(),
                until="started",
                logs=logs,
            ) as vm,
        ):
            ready.wait(vm, lambda at: step.phase_once(f"the guest is at {at}"))
            vm.wait_for_ssh(step.update)
            step.phase("running Testinfra")
            summary = testinfra(vm, logs, step, checkout)
    except (Refusal, *paused.HOST_ERRORS):
        raise
    except Failure as failure:
        progress.err.print(str(failure), markup=False)
        summary = f"the VM did not get ready: {failure.what}"
    passed = re.search(r"(\d+) passed", summary)
    good = bool(passed) and not re.search(r"(failed|error|did not)", summary)
    return Verification(
        result="passed" if good else "failed",
        tests=int(passed[1]) if passed else 0,
        summary=summary,
        seconds=round(time.monotonic() - started, 1),
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def testinfra(
    vm: machine.Machine, logs: Path, step: progress.Step, checkout: Checkout = HERE
) -> str:
    """Run the tests over ssh; returns pytest's last line. The full output is in testinfra.log."""
    words: list[str | Path] = [
        *(
            sys.executable,
            "-m",
            "pytest",
            checkout.root / "tests/image",
            "-q",
            "--color=no",
            "-p",
            "no:cacheprovider",
        ),
        f"--hosts=paramiko://{vm.spec.ssh_user}@127.0.0.1:{vm.ssh_port}",
        f"--ssh-identity-file={vm.key_path}",
        f"--ssh-extra-args=-o StrictHostKeyChecking=no -o UserKnownHostsFile={logs}/known_hosts",
    ]
    last: list[str] = []

    def on_line(line: str) -> None:
        if line.strip():
            last.append(line)
            step.update(line)

    try:
        command.stream(words, on_line, cwd=checkout.root, log=logs / "testinfra.log")
    except paused.HOST_ERRORS:
        raise
    except Failure as failure:
        if not last:
            raise
        progress.err.print(failure.evidence, markup=False)
    return last[-1] if last else "no output"


def require_passed(verification: Verification, logs: Path) -> None:
    """Raise Failure when the contract did not pass."""
    if not verification.passed:
        raise Failure(
            f"the image breaks its contract: {verification.summary}", remedy=f"full logs: {logs}"
        )
