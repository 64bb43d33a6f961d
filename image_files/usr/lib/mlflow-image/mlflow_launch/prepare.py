"""Runs when the image is built: makes the empty databases, the module lists and the module bundle.

The databases are migrated already. A name of MLflow that does not fit makes the build fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_launch import bundle, empty_database, mlflow_names, preload, rehearsal
from mlflow_launch.log import say

DESTINATION = Path("/opt/mlflow/share/mlflow-image")
# No -I: it would ignore PYTHONHASHSEED. -B: bytecode written by an import holds its source's time.
_PYTHON = (sys.executable, "-s", "-B")
# The list also names modules that the interpreter imports while it starts, and parent packages:
# importing them again does nothing, and leaving them out would take code.
_OWN_PACKAGES = ("mlflow_launch", "__main__", "__mp_main__", preload.FORBIDDEN)


def main(argv: list[str]) -> int:
    """Write the files below argv[0] (default: DESTINATION); returns the exit code."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Some modules import others in the order of a set. With a random seed in each process,
        # every build would list them in another order.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [*_PYTHON, sys.argv[0], *argv])  # noqa: S606
    if argv == ["--check-list"]:
        print("\n".join(_without_the_server(sys.stdin.read().split())))
        return 0
    directory = Path(argv[0]) if argv else DESTINATION
    directory.mkdir(parents=True, exist_ok=True)
    database, listed = directory / "empty.sqlite", directory / "preload.txt"
    empty_database.of_runs(database)
    every = _modules_of_a_server(database)
    write_list(listed, every)
    for kind, use in KINDS.items():
        use()
        new = [name for name in sys.modules if name not in set(every)]
        write_list(preload.list_of(kind, listed), new)
        every += new
    # Only now: it imports what belongs into the list of basic-auth.
    empty_database.of_users(directory / "empty-accounts.sqlite")
    site = Path(sysconfig.get_path("purelib"))
    link_pages(directory / "ui", site)
    compile_the_rest(every, site)
    count = bundle.write(directory / bundle.NAME, every, site)
    say(f"{directory / bundle.NAME}: {count} modules")
    return 0


def link_pages(link: Path, site: Path) -> None:
    """Name the folder of MLflow's pages and scripts, which nginx serves, without a version."""
    pages = site / mlflow_names.PAGES
    if not (pages / "index.html").exists():
        raise RuntimeError(f"this MLflow differs: there is no {pages}/index.html")
    link.unlink(missing_ok=True)
    link.symlink_to(pages)


def write_list(target: Path, names: Sequence[str]) -> None:
    """Write the list of those modules that can be imported before the settings are there."""
    sound = importable_early([name for name in names if _belongs(name)])
    empty_database.replace(target, "".join(f"{name}\n" for name in sound).encode())
    say(f"{target}: {len(sound)} modules")


def use_postgresql() -> None:
    """Import what a first connection needs; nothing listens there."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engine = sqlalchemy.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    with contextlib.suppress(sqlalchemy.exc.OperationalError):
        engine.connect()
    importlib.import_module("psycopg2.extras")


def use_s3() -> None:
    """Import what a first request needs; nothing listens there."""
    boto3: Any = importlib.import_module("boto3")
    exceptions: Any = importlib.import_module("botocore.exceptions")
    config: Any = importlib.import_module("botocore.config")
    importlib.import_module(mlflow_names.S3_ARTIFACTS)
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:1",
        region_name="none",
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106
        config=config.Config(retries={"total_max_attempts": 1}, signature_version="s3v4"),
    )
    with contextlib.suppress(exceptions.BotoCoreError):
        client.put_object(Bucket="none", Key="none", Body=b"none")


def use_hdfs() -> None:
    """Import what a first request needs. No client is made: it would start threads."""
    for name in ("hdfs_native", mlflow_names.HDFS_ARTIFACTS):
        importlib.import_module(name)


def use_basic_auth() -> None:
    """Import what the first user needs; no file is left."""
    module: Any = importlib.import_module(mlflow_names.AUTH)
    store = getattr(module, mlflow_names.AUTH_STORE)
    with tempfile.TemporaryDirectory() as scratch:
        store.init_db(f"sqlite:///{scratch}/accounts.db")
        password = "made for nobody"  # noqa: S105 - of a file that is deleted at once
        store.create_user("nobody", password)
        store.authenticate_user("nobody", password)
        store.engine.dispose()


#: For each kind of store and application (stores/watch.py, applications.py): what imports its
#: modules.
KINDS: Mapping[str, Callable[[], None]] = {
    "postgresql": use_postgresql,
    "s3": use_s3,
    "hdfs": use_hdfs,
    mlflow_names.AUTH_APP_NAME: use_basic_auth,
}


def compile_the_rest(names: Iterable[str], site: Path) -> None:
    """Write bytecode for imported modules below `site` that have none; it is never compared either.

    environment.sh does not compile test suites, and numpy.testing imports a module from one.
    """
    import py_compile  # not at the top: the list names what a server imports, and none imports this

    for name in names:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None or not str(spec.origin).startswith(f"{site}/"):
            continue
        if spec.cached and not Path(spec.cached).exists():
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(spec.origin, doraise=True, invalidation_mode=unchecked)


def importable_early(names: list[str]) -> list[str]:
    """The modules that a new process can import without importing mlflow.server."""
    again = [*_PYTHON, sys.argv[0], "--check-list"]
    done = subprocess.run(
        again, check=True, input="\n".join(names), stdout=subprocess.PIPE, encoding="utf-8"
    )
    sound = done.stdout.split()
    say(f"{len(names) - len(sound)} modules are not in the list because they need mlflow.server")
    return sound


def _without_the_server(names: list[str]) -> list[str]:
    """The modules that can all be imported, in this order, without importing mlflow.server.

    Each attempt is a fork: a module that was refused half-way leaves imported modules behind,
    which would hide the next one.
    """
    preload.preload_names([name for name in names if name.partition(".")[0] != "mlflow"])
    while culprits := _first_culprits(names):
        names = [
            name
            for name in names
            # Importing a module imports the packages above it first.
            if not any(f"{name}.".startswith(f"{culprit}.") for culprit in culprits)
        ]
    return names


def _first_culprits(names: list[str]) -> list[str]:
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.close(readable)
        for name in names:
            if reaching := preload.preload_names([name]).reaching:
                os.write(writable, "\n".join({*reaching, name}).encode())
                break
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        culprits = pipe.read().split()
    os.wait()
    return culprits


def _modules_of_a_server(database: Path) -> list[str]:
    """What a server has imported after its first calls, in the order of import."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "mlflow.db"
        copy.write_bytes(database.read_bytes())
        variables = {
            mlflow_names.BACKEND_STORE: f"sqlite:///{copy}",
            mlflow_names.REGISTRY_STORE: f"sqlite:///{copy}",
            mlflow_names.ARTIFACT_ROOT: "mlflow-artifacts:/",
            mlflow_names.ARTIFACT_DESTINATION: scratch,
            mlflow_names.SERVE_ARTIFACTS: "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        os.environ.update(variables)
        for needed in mlflow_names.IMPORTED_BY_A_SERVER:
            importlib.import_module(needed)
        module = importlib.import_module(mlflow_names.APPLICATION_MODULE)
        application: Any = getattr(module, mlflow_names.APPLICATION_NAME)
        for call, status in zip(
            rehearsal.CALLS, asyncio.run(rehearsal.statuses(application)), strict=True
        ):
            if status != 200:
                raise RuntimeError(f"MLflow answered {status} to the trial call {call}")
        return list(sys.modules)


def _belongs(name: str) -> bool:
    module = sys.modules.get(name)
    if module is None or getattr(module, "__spec__", None) is None:
        return False
    return not any(name == own or name.startswith(own + ".") for own in _OWN_PACKAGES)
