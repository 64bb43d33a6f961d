"""An MLflow that differs from what the launcher expects is served by its stock command.

The launcher runs as it does in the image, with tests/standins/mlflow_site/ as the environment's
packages, altered in one place. test_launch_native.py does the same with the real MLflow.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SITE = CHECKOUT / "tests/standins/mlflow_site"
LAUNCHER = CHECKOUT / "image_files/usr/lib/mlflow-image/mlflow-launch"
PATIENCE_S = 20.0

COMMAND_LINE = "sound = command_line\ndef command_line():\n    return {}\n"

#: What is appended to the stand-in's server package, and what the warning must contain.
ALTERATIONS = {
    "the function has another name": (
        "run = _exec_cmd\ndel _exec_cmd\ndef start(argv):\n    return run(argv, extra_env={})\n",
        "mlflow.server has no _exec_cmd",
    ),
    "the function has other parameters": (
        "def _exec_cmd(cmd, env):\n    return subprocess.Popen(cmd)\n"
        "def start(argv):\n    return _exec_cmd(argv, {})\n",
        "mlflow.server._exec_cmd takes other arguments",
    ),
    "the function is called with other arguments": (
        "def start(argv):\n    return _exec_cmd(tuple(argv))\n",
        "it calls _exec_cmd with other arguments",
    ),
    "the server is a subprocess": (
        "def start(argv):\n    return subprocess.Popen(argv)\n",
        "it starts its server by subprocess.Popen, not by _exec_cmd",
    ),
    "the server replaces the command": (
        "def start(argv):\n    os.execv(argv[0], argv)\n",
        "it starts its server by os.exec, not by _exec_cmd",
    ),
    "the server is forked": (
        "def start(argv):\n    child = os.fork()\n"
        "    if child == 0:\n        import uvicorn\n        uvicorn.serve()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))\n"
        "    os.wait()\n    sys.exit(0)\n",
        "it starts its server by os.fork, not by _exec_cmd",
    ),
    "the server runs in the command's own process": (
        "def start(argv):\n    import uvicorn\n    uvicorn.serve()\n",
        "it starts its server by socket.bind, not by _exec_cmd",
    ),
    "the server is spawned by multiprocessing": (
        "def start(argv):\n    import multiprocessing, uvicorn\n"
        "    process = multiprocessing.get_context('spawn').Process(target=uvicorn.serve)\n"
        "    process.start()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: process.terminate())\n"
        "    process.join()\n    sys.exit(0)\n",
        "it starts its server without _exec_cmd",
    ),
    "the application comes from a factory": (
        COMMAND_LINE.format("[*sound()[:-1], '--factory', 'mlflow.server.auth:create_app']"),
        "--host --port --workers --factory mlflow.server.auth:create_app`",
    ),
    "the application is another one": (
        COMMAND_LINE.format("[*sound()[:-1], 'mlflow.server:app']"),
        "--workers mlflow.server:app`",
    ),
    "uvicorn gets another option": (
        COMMAND_LINE.format("[*sound()[:-1], '--env-file=secret', sound()[-1]]"),
        "--workers --env-file mlflow.server.fastapi_app:app`",
    ),
    "the command needs a name that only its own process has": (
        COMMAND_LINE.format("sys.modules['__main__'].cli and sound()"),
        "AttributeError: module '__main__' has no attribute 'cli'",
    ),
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the stand-ins, and the launcher's folders."""

    python: Path
    site: Path
    run: Path
    port: int

    def append(self, module: str, code: str) -> None:
        with (self.site / module).open("a") as file:
            file.write(f"\n{code}")

    def start(self) -> subprocess.Popen[str]:
        """The launcher, as the unit starts it; its notifications go to run/notify."""
        variables = {
            **os.environ,
            "MLFLOW_IMAGE_RUN": str(self.run),
            "MLFLOW_IMAGE_PRELOAD": str(self.run / "preload.txt"),
            "NOTIFY_SOCKET": "notify",
        }
        return subprocess.Popen(
            [self.python, "-I", LAUNCHER],
            cwd=self.run,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    shutil.copytree(SITE, site, dirs_exist_ok=True)
    run = tmp_path / "run"
    run.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    document = {
        "format": 1,
        "environment": {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(port)},
        "stock_command": False,
    }
    (run / "server.json").write_text(json.dumps(document))
    return Environment(place / "bin" / Path(sys.executable).name, site, run, port)


@pytest.fixture
def notified(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the launcher's notifications arrive, as in systemd."""
    monkeypatch.chdir(environment.run)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("notify")
        listening.settimeout(PATIENCE_S)
        yield listening


def served_by_the_stock_command(
    environment: Environment, notified: socket.socket
) -> tuple[str, list[str]]:
    """Start the launcher, wait until it is ready, stop it; returns its output and notifications."""
    process = environment.start()
    received: list[str] = []
    try:
        while not received or not received[-1].startswith("READY=1"):
            received.append(notified.recv(4096).decode())
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate(timeout=PATIENCE_S)[0]
        print(output)  # pytest shows it when the test fails
    assert process.returncode == 0
    assert started
    assert not psutil.wait_procs(started, timeout=PATIENCE_S)[1]
    return output, received


@pytest.mark.budget(5)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_mlflow_is_served_by_its_stock_command_with_a_warning(
    name: str, environment: Environment, notified: socket.socket
) -> None:
    code, sentence = ALTERATIONS[name]
    environment.append("mlflow/server/__init__.py", code)
    output, received = served_by_the_stock_command(environment, notified)
    (warning,) = [line for line in output.splitlines() if "starting the stock" in line]
    assert "warning: this MLflow (of an unknown version) differs: " in warning
    assert sentence in warning
    assert "secret" not in warning
    assert warning.endswith("starting the stock `mlflow server`, which starts slower")
    ready, status = received[-1].splitlines()
    assert ready == "READY=1"
    assert status.startswith("STATUS=serving with the stock `mlflow server`: this MLflow")
    assert sentence in status


@pytest.mark.budget(5)
@pytest.mark.parametrize("module", ["mlflow/server/fastapi_app.py", "uvloop.py"])
def test_a_missing_module_leads_to_the_stock_command(
    module: str, environment: Environment, notified: socket.socket
) -> None:
    (environment.site / module).unlink()
    output, _ = served_by_the_stock_command(environment, notified)
    name = module.removesuffix(".py").replace("/", ".")
    assert f"differs: there is no module {name}; starting the stock" in output


@pytest.mark.budget(5)
def test_an_application_that_cannot_be_imported_leads_to_the_stock_command(
    environment: Environment, notified: socket.socket
) -> None:
    environment.append("mlflow/server/fastapi_app.py", "del app")
    output, _ = served_by_the_stock_command(environment, notified)
    assert "differs: the launcher stopped at AttributeError: " in output
    assert "has no attribute 'app'" in output


@pytest.mark.budget(5)
def test_the_text_of_an_unexpected_error_is_not_in_the_arguments_of_the_next_process(
    environment: Environment, notified: socket.socket
) -> None:
    environment.append("mlflow/server/fastapi_app.py", "raise ValueError('postgresql://me:pw@db')")
    output, received = served_by_the_stock_command(environment, notified)
    assert "differs: the launcher stopped at ValueError; starting" in output
    assert not [text for text in received if "pw@db" in text]


@pytest.mark.budget(5)
def test_a_start_that_mlflow_refuses_ends_with_exit_code_1(environment: Environment) -> None:
    environment.append(
        "mlflow/server/__init__.py", "def start(argv):\n    print('no database')\n    sys.exit(3)\n"
    )
    process = environment.start()
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 1
    assert "no database" in output
    assert "not serving: `mlflow server` ended with exit code 3" in output
    assert "stock" not in output


@pytest.mark.budget(5)
def test_a_command_that_fails_in_the_stock_way_too_ends_with_exit_code_1(
    environment: Environment,
) -> None:
    environment.append("mlflow/server/__init__.py", "raise ImportError('no such library')")
    process = environment.start()
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 1
    assert "starting the stock `mlflow server`" in output
    assert output.count("ImportError: no such library") >= 2


@pytest.mark.budget(5)
def test_a_command_that_ends_without_a_server_is_not_waited_for(environment: Environment) -> None:
    environment.append("mlflow/server/__init__.py", "def run_server():\n    pass\n")
    process = environment.start()
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 1
    assert "differs: `mlflow server` ends without starting a server" in output


@pytest.mark.budget(5)
def test_job_execution_runs_the_stock_command_without_a_warning(
    environment: Environment, notified: socket.socket
) -> None:
    server = environment.run / "server.json"
    server.write_text(server.read_text().replace("false", "true"))
    output, received = served_by_the_stock_command(environment, notified)
    assert "job execution is on: starting the stock `mlflow server`" in output
    assert "warning" not in output
    assert "STATUS=serving with the stock `mlflow server`: job execution is on" in received[-1]


@pytest.mark.budget(5)
def test_a_port_in_use_is_named_and_mlflow_is_not_blamed(environment: Environment) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", environment.port))
        other.listen()
        process = environment.start()
        output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode != 0
    assert f"port {environment.port} is already in use by another program" in output
    assert "it starts its server without" not in output


@pytest.mark.budget(5)
@pytest.mark.parametrize("error", ["NameError", "TypeError"])
def test_the_text_of_an_error_in_the_command_is_not_in_the_arguments_either(
    error: str, environment: Environment, notified: socket.socket
) -> None:
    code = f"def start(argv):\n    raise {error}('postgresql://me:pw@db')\n"
    environment.append("mlflow/server/__init__.py", code)
    process = environment.start()
    process.communicate(timeout=PATIENCE_S)
    received = []
    notified.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            received.append(notified.recv(4096).decode())
    assert any(f"differs: {error}" in text for text in received)
    assert not [text for text in received if "pw@db" in text]
