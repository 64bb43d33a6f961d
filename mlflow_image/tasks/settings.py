"""Tasks around a settings file: new, user-data, client-env."""

from __future__ import annotations

import getpass
import gzip
import os
import sys
from dataclasses import replace
from pathlib import Path

from invoke.context import Context

from mlflow_image import files, progress
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find
from mlflow_image.paths import typed_path
from mlflow_image.server import client_env, new_settings, size_limits, user_data, vms
from mlflow_image.server.new_settings import Choices
from mlflow_image.tasks.task import refuse_unknown, task
from mlflow_settings.blocks.pem import certificate_fault
from mlflow_settings.placeholders import NAMES
from mlflow_settings.settings import Settings

DEFAULT_FILE = "settings.yaml"
DEFAULT_CA = "mlflow-ca.pem"


@task(
    help={
        "out": f"the file to write; default: {DEFAULT_FILE}",
        "seed": f"start from a tutorial's server: {', '.join(new_settings.SEEDS)}",
        "postgresql": "the database's URI, best without its password, which is asked for",
        "s3": "the artifacts' place, s3://BUCKET/FOLDER; a key is taken from AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY, or asked for",
        "endpoint": "the store's address, if it is not AWS",
        "region": "the bucket's region",
        "database-ca": "file with the CA certificate of the database",
        "store-ca": "file with the CA certificate of the store",
        "direct": "clients use the store themselves, with keys of their own",
        "force": "replace the file if it exists",
    }
)
def new(
    context: Context,
    out: str = DEFAULT_FILE,
    seed: str = "",
    postgresql: str = "",
    s3: str = "",
    endpoint: str = "",
    region: str = "",
    database_ca: str = "",
    store_ca: str = "",
    direct: bool = False,
    force: bool = False,
) -> None:
    """Write a commented settings file, from flags or questions.

    What is not known stays in capitals in the file, for you to replace.
    """
    target = typed_path(out)
    if target.exists() and not force:
        raise Refusal(f"{target} exists", remedy="choose another --out, or replace it with --force")
    refuse_unknown("seed", seed, ("", *new_settings.SEEDS))
    choices = new_settings.SEEDS.get(seed, Choices())
    asked = not any((seed, postgresql, s3)) and sys.stdin.isatty()
    if asked:
        choices = ask(choices)
    if postgresql:
        choices = new_settings.with_database(choices, postgresql)
    if s3:
        choices = new_settings.with_place(choices, s3)
    choices = replace(
        choices,
        endpoint=endpoint or choices.endpoint,
        region=region or choices.region,
        access="direct" if direct else choices.access,
        database_ca=pem(database_ca),
        store_ca=pem(store_ca),
    )
    text = new_settings.text_of(with_secrets(choices))
    files.write_private(target, text)
    progress.say(f"{target} is written; only you can read it")
    if gaps := [name for name in NAMES if name in text]:
        progress.say(f"replace in it: {', '.join(gaps)}")
    progress.say(f"next: `invoke up --settings {out}`, or `invoke user-data --settings {out}`")


@task(
    name="user-data",
    help={
        "settings": "the settings file",
        "out": "write to this file, which only you can read; default: standard output",
        "compress": "compress with gzip, which cloud-init unpacks",
    },
)
def user_data_task(
    context: Context, settings: str = DEFAULT_FILE, out: str = "", compress: bool = False
) -> None:
    """Check a settings file and print it as user-data."""
    if compress and not out and sys.stdout.isatty():
        raise Refusal("--compress writes no text", remedy="give a file with --out")
    raw = user_data.from_settings(typed_path(settings), newest()).raw
    raw = gzip.compress(raw, mtime=0) if compress else raw
    for warning in size_limits.warnings(raw, compressed=compress):
        progress.warn(warning)
    if out:
        files.write_private(typed_path(out), raw)
        progress.say(f"{out}: {len(raw)} bytes of user-data; only you can read the file")
    else:
        sys.stdout.buffer.write(raw)
        sys.stdout.flush()


@task(
    name="client-env",
    help={
        "name": "of a VM",
        "settings": "instead: the server's settings file",
        "url": "instead, or besides --settings: the server's address",
        "format": f"one of {', '.join(client_env.FORMATS)}; default: shell",
        "with-secrets": "also print the key of the store, if clients use it",
        "ca": f"where the store's CA certificate is, or is written; default: {DEFAULT_CA}",
    },
)
def client_env_task(
    context: Context,
    name: str = "",
    settings: str = "",
    url: str = "",
    format: str = "shell",
    with_secrets: bool = False,
    ca: str = "",
) -> None:
    """Print the variables that clients of a server set."""
    refuse_unknown("format", format, tuple(client_env.FORMATS))
    if name and (settings or url):
        raise Refusal("--name excludes --settings and --url", remedy="use one of them")
    known: Settings | None = None
    if settings:
        known = user_data.checked(typed_path(settings), newest())
    elif not url:
        vm = vms.find(name or vms.DEFAULT_NAME)
        url, known = vm.url, vms.settings_of(vm)
        if not url:
            start = vms.command_for("start", vm.name)
            raise Refusal(f"VM {vm.name} has not started yet", remedy=f"start it with {start}")
        if known is None:
            progress.warn(f"the settings of VM {vm.name} are not known: only its address is shown")
    url = url or client_env.address(known or Settings())
    if pem_text := client_env.ca_of(known):
        write_ca(typed_path(ca or DEFAULT_CA), pem_text, asked=bool(ca))
    file = str(typed_path(ca or DEFAULT_CA).resolve())
    found = client_env.variables(url, known, file, with_secrets=with_secrets)
    sys.stdout.write(client_env.FORMATS[format](found))
    if any(not one.known for one in found):
        progress.warn("replace the values in capitals; --with-secrets shows the server's own key")


def write_ca(path: Path, text: str, *, asked: bool) -> None:
    """Write the CA's certificate where the user wants it; else say how to get it."""
    if asked:
        files.write(path, text)
    elif not path.exists():
        progress.warn(f"clients need the store's CA certificate: --ca {path.name} writes it")


def ask(choices: Choices) -> Choices:
    """Five questions; an empty answer takes what is in brackets."""
    database = question("database: sqlite, or a PostgreSQL URI", new_settings.SQLITE)
    choices = new_settings.with_database(choices, database)
    choices = new_settings.with_place(choices, question("artifacts: local, or s3://...", "local"))
    if choices.place == new_settings.LOCAL:
        return choices
    endpoint = question("the store's address, https://...; empty for AWS", "")
    region = question("the bucket's region", "" if endpoint else "STORE_REGION")
    answer = question("do clients use the store themselves, with keys of their own?", "no")
    access = "direct" if answer.lower() in ("y", "yes") else "proxied"
    return replace(choices, endpoint=endpoint, region=region, access=access)


def with_secrets(choices: Choices) -> Choices:
    """The choices with the password and the key: asked for, or from boto3's variables."""
    database = choices.database
    if not isinstance(database, str) and database["password"] == new_settings.PASSWORD:
        database = {
            **database,
            "password": secret("the database's password", new_settings.PASSWORD),
        }
    if choices.place == new_settings.LOCAL:
        return replace(choices, database=database)
    key_id, key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (key_id and key):
        key_id = secret("the id of the store's key", choices.key_id)
        key = secret("the key's secret", choices.secret)
    return replace(choices, database=database, key_id=key_id, secret=key)


def question(text: str, default: str) -> str:
    progress.err.print(f"{text} [{default}]: " if default else f"{text}: ", end="", markup=False)
    return sys.stdin.readline().strip() or default


def secret(text: str, default: str) -> str:
    """Ask without showing the answer; without a terminal, the value stays in capitals."""
    if not sys.stdin.isatty():
        return default
    return getpass.getpass(f"{text} (empty: write it into the file later): ") or default


def pem(file: str) -> str:
    """The CA certificates in a file; raises Refusal."""
    if not file:
        return ""
    try:
        text = typed_path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror}") from error
    if reason := certificate_fault(text):
        raise Refusal(f"{file} {reason.message}", remedy=reason.remedy)
    return text


def newest() -> find.Image | None:
    """The newest image, whose schema decides; None when there is none."""
    try:
        return find.resolve()
    except Failure:
        return None
