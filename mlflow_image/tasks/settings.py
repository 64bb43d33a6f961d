"""Tasks around a settings file: new, user-data."""

from __future__ import annotations

import gzip
import re
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace

from invoke.context import Context

from mlflow_image import files, progress
from mlflow_image.errors import Refusal
from mlflow_image.images import find
from mlflow_image.paths import typed_path
from mlflow_image.server import (
    new_hdfs,
    new_settings,
    size_limits,
    user_data,
)
from mlflow_image.server.new_settings import Choices
from mlflow_image.tasks import output, questions
from mlflow_image.tasks.task import refuse_unknown, task, whole_number
from mlflow_settings.blocks.kerberos import keytab_fault
from mlflow_settings.blocks.pem import certificate_fault
from mlflow_settings.placeholders import NAMES

DEFAULT_FILE = "settings.yaml"


@task(
    help={
        "out": f"the file to write; default: {DEFAULT_FILE}",
        "seed": "start from a tutorial's server: "
        + "; ".join(f"{name}: {title}" for name, title in new_settings.TITLES.items()),
        "postgresql": "the database's URI, best without its password, which is asked for; "
        "default: SQLite",
        "s3": "the artifacts' place, s3://BUCKET/FOLDER; a key is taken from AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY, or asked for; default: files on the machine",
        "endpoint": "the store's address, if it is not AWS",
        "region": "the bucket's region",
        "database-ca": "file with the CA certificate of the database",
        "store-ca": "file with the CA certificate of the store",
        "hdfs": "instead: a folder of a Hadoop cluster, hdfs://NAMENODE:8020/FOLDER",
        "principal": "who the server is for the cluster's Kerberos, such as mlflow@EXAMPLE.COM",
        "keytab": "file with the principal's keytab, which is copied into the settings",
        "kdc": "host of the realm's KDC",
        "hdfs-user": "in a cluster without Kerberos: the user's name",
        "direct": "clients use the store themselves, with keys or tickets of their own",
        "port": "the server's port; default: 8000",
        "passwords": "users sign in with passwords; the machine makes the first one",
        "https": "HTTPS with a certificate of the machine's own, for these DNS names, with commas "
        "between them; `localhost` if there is none",
        "force": "replace the file if it exists",
    }
)
def new(
    context: Context,
    out: str = DEFAULT_FILE,
    seed: str | None = None,
    postgresql: str | None = None,
    s3: str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    database_ca: str = "",
    store_ca: str = "",
    hdfs: str | None = None,
    principal: str = "",
    keytab: str = "",
    kdc: str = "",
    hdfs_user: str = "",
    direct: bool = False,
    port: str = "",
    passwords: bool = False,
    https: str | None = None,
    force: bool = False,
) -> None:
    """Write a commented settings file, from flags or questions.

    What is not known stays in capitals in the file, for you to replace.
    """
    flags = {"seed": seed, "postgresql": postgresql, "s3": s3, "hdfs": hdfs}
    refuse_empty({**flags, "endpoint": endpoint, "region": region, "https": https})
    refuse_unknown("seed", seed or "", ("", *new_settings.SEEDS))
    target = output.target(out)
    if target.exists() and not force:
        raise Refusal(f"{target} exists", remedy="choose another --out, or replace it with --force")
    choices = new_settings.SEEDS.get(seed or "", Choices())
    choices = replace(choices, port=whole_number("port", port) if port else choices.port)
    if not any(flags.values()) and sys.stdin.isatty():
        choices = questions.ask(choices, pem)
    if postgresql:
        choices = new_settings.with_database(choices, postgresql)
        if re.search(r"//[^@/]*:[^/]*@", postgresql):
            progress.warn("the password was typed in a command: your shell may have kept it")
    if s3:
        choices = new_settings.with_place(choices, s3)
    choices = with_cluster(choices, hdfs, (principal, keytab, kdc, hdfs_user))
    if choices.cluster and s3:
        raise Refusal("--s3 is given besides HDFS", remedy="keep one of them")
    if choices.place == new_settings.LOCAL and (endpoint or region or store_ca):
        flag = "--endpoint, --region and --store-ca"
        raise Refusal(f"{flag} are for artifacts in S3", remedy="add --s3 s3://BUCKET/FOLDER")
    if direct and choices.place == new_settings.LOCAL and not choices.cluster:
        remedy = "add --s3 or --hdfs with its place"
        raise Refusal("--direct is for artifacts in S3 or HDFS", remedy=remedy)
    if isinstance(choices.database, str) and database_ca:
        raise Refusal("--database-ca is for PostgreSQL", remedy="add --postgresql with its URI")
    choices = replace(
        choices,
        endpoint=endpoint or choices.endpoint,
        region=region or choices.region,
        access="direct" if direct else choices.access,
        database_ca=pem(database_ca, "--database-ca ") or choices.database_ca,
        store_ca=pem(store_ca, "--store-ca ") or choices.store_ca,
        passwords=passwords or choices.passwords,
        https=tuple(filter(None, map(str.strip, https.split(",")))) if https else choices.https,
    )
    choices = new_settings.checked(choices)  # before secrets are typed
    choices = new_settings.checked(questions.with_secrets(choices))
    text = new_settings.text_of(choices)
    files.write_private(target, text)
    progress.say(f"{target} is written; only you can read it")
    progress.say(new_settings.summary(choices))
    if without := new_settings.without_ca(choices):
        named = " and ".join(without)
        progress.say(f"certificates are checked with public CAs; {named}: a company's own")
    if gaps := [name for name in NAMES if name in text]:
        progress.say(f"replace in it: {', '.join(gaps)}")
    progress.say(f"next: `invoke up --settings {out}`, or `invoke user-data --settings {out}`")


@task(
    name="user-data",
    help={
        "settings": f"the settings file; default: {DEFAULT_FILE}",
        "out": "write to this file, which only you can read; default: standard output",
        "compress": "compress with gzip, which cloud-init unpacks",
    },
)
def user_data_task(
    context: Context,
    settings: str = DEFAULT_FILE,
    out: str | None = None,
    compress: bool = False,
) -> None:
    """Check a settings file and print it as user-data."""
    refuse_empty({"out": out})
    if compress and not out and sys.stdout.isatty():
        raise Refusal("--compress writes no text", remedy="give a file with --out")
    target = output.target(out) if out else None
    if target:
        output.refuse_other(target, b"#cloud-config", "user-data")
    raw = user_data.from_settings(typed_path(settings), find.newest()).raw
    raw = gzip.compress(raw, mtime=0) if compress else raw
    for warning in size_limits.warnings(raw, compressed=compress):
        progress.warn(warning)
    if target:
        files.write_private(target, raw)
        progress.say(f"{out}: {len(raw)} bytes of user-data; only you can read the file")
    else:
        sys.stdout.buffer.write(raw)
        sys.stdout.flush()


def with_cluster(choices: Choices, place: str | None, who: tuple[str, str, str, str]) -> Choices:
    """The choices with the flags for HDFS: principal, keytab file, KDC, user."""
    cluster = new_hdfs.of_uri(place) if place else choices.cluster
    principal, file, kdc, user = who
    if cluster is None:
        if any(who):
            flag = "--principal, --keytab, --kdc and --hdfs-user"
            raise Refusal(f"{flag} are for artifacts in HDFS", remedy="add --hdfs with its place")
        return choices
    who_it_is = new_hdfs.with_who(cluster, principal, base64_of(file), kdc, user)
    return replace(choices, cluster=who_it_is, place=new_settings.LOCAL, endpoint="", region="")


def base64_of(file: str) -> str:
    """A keytab as the settings have it; raises Refusal. "" for no file."""
    if not file:
        return ""
    try:
        text = b64encode(typed_path(file).read_bytes()).decode()
    except OSError as error:
        raise Refusal(f"--keytab {file} cannot be read: {error.strerror}") from error
    if reason := keytab_fault(text):
        raise Refusal(f"--keytab {file} {reason.message}", remedy=reason.remedy)
    return text


def refuse_empty(flags: Mapping[str, str | None]) -> None:
    """An unset variable of the shell must not choose another store."""
    for name, value in flags.items():
        if value is not None and not value.strip():
            raise Refusal(f"--{name} is empty", remedy="give it a value, or leave it out")


def pem(file: str, flag: str = "") -> str:
    """The CA certificates in a file; raises Refusal. flag: which names the file, for messages."""
    if not file:
        return ""
    try:
        text = typed_path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Refusal(f"{flag}{file} cannot be read: {error.strerror}") from error
    if reason := certificate_fault(text):
        raise Refusal(f"{flag}{file} {reason.message}", remedy=reason.remedy)
    return text
