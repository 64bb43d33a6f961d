"""`pip install mlflow==<older>` in a booted VM: the launcher falls back, and the server serves."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_image.checks import smoke_image
from mlflow_image.checks.smoke import check
from mlflow_image.server import ready
from mlflow_image.vm import throwaway
from mlflow_image.vm.qemu import Spec
from mlflow_settings import userdata

pytestmark = pytest.mark.full

#: Its uvicorn command line has no --log-config; see also OLDER in test_launch_native.py.
OLDER = "3.10.1"
SETTINGS = (
    "schema_version: 1\n"
    f"server:\n  port: {smoke_image.PORT}\n  workers: 1\n  allowed_hosts: [{check.HOST_NAME}]\n"
)
#: The host's loopback, in a guest with QEMU's user-mode network.
HOST_IN_GUEST = "10.0.2.2"
PYTHON = "/opt/mlflow/bin/python"
JOURNAL = "sudo journalctl --boot --no-pager --output cat -u mlflow-tracking.service"
UNPACK_S = 1800


@pytest.mark.budget(1500)
@pytest.mark.verifies(f"`pip install mlflow=={OLDER}` in a VM: served by the stock command")
def test_an_older_mlflow_installed_by_pip_is_served_by_its_stock_command(
    image: Path, tmp_path: Path
) -> None:
    spec = Spec(backing=image / "disk.qcow2", hostname="older", forwards={smoke_image.PORT: 0})
    with throwaway.booted(
        spec, userdata.wrap(SETTINGS), until="started", logs=tmp_path / "logs"
    ) as vm:
        ready.wait(vm)
        vm.wait_for_ssh()
        before = json.loads(vm.run("cat /etc/mlflow-image.json").stdout)
        python = vm.run(f"{PYTHON} -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")
        wheels = tmp_path / "wheels"
        download(OLDER, before["packages"], python.stdout.strip(), wheels)
        (pip,) = wheels.glob("pip-*.whl")

        with serving(wheels) as port:
            url = f"http://{HOST_IN_GUEST}:{port}/"
            # /opt/mlflow has no pip of its own; pip runs from its wheel.
            fetch = f"urllib.request.urlretrieve('{url}{pip.name}', '/tmp/{pip.name}')"
            vm.run(f'python3 -c "import urllib.request; {fetch}"')
            vm.run("sudo systemctl stop mlflow-tracking.service")
            vm.run(
                f"sudo {PYTHON} /tmp/{pip.name}/pip install --quiet --root-user-action ignore "
                f"--no-index --find-links {url} --trusted-host {HOST_IN_GUEST} mlflow=={OLDER}",
                timeout_s=UNPACK_S,
            )
        # A newer schema than MLflow's own is refused, rightly: begin with no database.
        vm.run("sudo sh -c 'rm -f /var/lib/mlflow/mlflow.db*'")
        vm.run("sudo systemctl start mlflow-tracking.service", timeout_s=UNPACK_S)

        journal = vm.run(JOURNAL).stdout
        assert "packages have changed since the build" in journal
        assert f"warning: this MLflow ({OLDER}) differs: " in journal
        assert "starting the stock `mlflow server`" in journal
        status = vm.run("systemctl show -P StatusText mlflow-tracking.service").stdout
        assert status.startswith("serving with the stock `mlflow server`: this MLflow")
        assert vm.run("systemctl is-active mlflow-tracking.service").stdout == "active\n"
        report = check.check_server(
            f"http://{check.HOST_NAME}:{vm.forwarded[smoke_image.PORT]}",
            check.Options(
                keep=True,
                resolve=check.LOOPBACK,
                timeouts=smoke_image.TIMEOUTS,
                anonymous=True,
            ),
        )
        assert report.ok, [*report.rows, vm.run(JOURNAL).stdout[-5000:]]


def download(mlflow: str, present: dict[str, str], python: str, target: Path) -> None:
    """The wheels that an environment with the packages `present` lacks for this MLflow, and pip."""
    target.mkdir()
    wanted, resolved = target.parent / "wanted.in", target.parent / "resolved.txt"
    wanted.write_text(f"mlflow=={mlflow}\n")
    # uv keeps the versions of an output file that is there already, where it can.
    resolved.write_text("".join(f"{name}=={version}\n" for name, version in present.items()))
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header"]
    platform = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_35"]
    subprocess.run([*uv, *platform, wanted, "--output-file", resolved], check=True)
    pins = dict(line.split("==") for line in resolved.read_text().split() if "==" in line)
    others = [f"{name}=={pin}" for name, pin in pins.items() if present.get(name) != pin]
    assert f"mlflow=={mlflow}" in others
    tags = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)] + ["manylinux2014_x86_64"]
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        target,
    ]
    of_the_guest = ["--python-version", python, "--only-binary", ":all:"]
    of_the_guest += [word for tag in tags for word in ("--platform", tag)]
    subprocess.run([*pip, *of_the_guest, *others, "pip"], check=True)


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The folder over HTTP on the loopback; yields the port."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""
