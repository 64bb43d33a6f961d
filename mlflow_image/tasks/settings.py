"""Tasks around a settings file: new, user-data, client-env."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from invoke.context import Context

from mlflow_image import files, progress
from mlflow_image.checks.smoke.check import checked_url
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find
from mlflow_image.paths import typed_path
from mlflow_image.server import certificates, client_env, new_settings, size_limits, user_data, vms
from mlflow_image.server.new_settings import Choices
from mlflow_image.tasks import output, questions
from mlflow_image.tasks.task import refuse_unknown, task, whole_number
from mlflow_settings.blocks import hdfs
from mlflow_settings.blocks.hdfs import Hdfs
from mlflow_settings.blocks.pem import certificate_fault
from mlflow_settings.placeholders import NAMES
from mlflow_settings.settings import Settings

DEFAULT_FILE = "settings.yaml"
HADOOP_FOLDER = "hadoop-conf"


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
        "direct": "clients use the store themselves, with keys of their own",
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
    direct: bool = False,
    port: str = "",
    passwords: bool = False,
    https: str | None = None,
    force: bool = False,
) -> None:
    """Write a commented settings file, from flags or questions.

    What is not known stays in capitals in the file, for you to replace.
    """
    flags = {"seed": seed, "postgresql": postgresql, "s3": s3}
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
    if choices.place == new_settings.LOCAL and (endpoint or region or direct or store_ca):
        flag = "--endpoint, --region, --direct and --store-ca"
        raise Refusal(f"{flag} are for artifacts in S3", remedy="add --s3 s3://BUCKET/FOLDER")
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
    raw = user_data.from_settings(typed_path(settings), newest()).raw
    raw = gzip.compress(raw, mtime=0) if compress else raw
    for warning in size_limits.warnings(raw, compressed=compress):
        progress.warn(warning)
    if target:
        files.write_private(target, raw)
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
        "ca": f"where the CA certificates are, or are written; default: {certificates.CA_FILE}",
        "hadoop": "folder for core-site.xml, hdfs-site.xml and krb5.conf, if clients use HDFS "
        f"themselves; they are written; default: {HADOOP_FOLDER}",
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
    hadoop: str = "",
) -> None:
    """Print the variables that clients of a server set."""
    refuse_unknown("format", format, tuple(client_env.FORMATS))
    if name and (settings or url):
        raise Refusal("--name excludes --settings and --url", remedy="use one of them")
    url = checked_url(url) if url else ""
    known: Settings | None = None
    own = ""
    if settings:
        known = user_data.checked(typed_path(settings), newest())
    elif not url:
        url, known = of_vm(name)
        if known and known.tls.self_signed:
            own = certificates.authority(vms.find(name or vms.DEFAULT_NAME))
    if known and url and (name_refused := client_env.refused_name(url, known)):
        entry = f"add {name_refused} to server.allowed_hosts"
        progress.warn(f"the server answers 403 to that address, if it is not its own: {entry}")
    url = url or client_env.address(known or Settings())
    file = typed_path(ca or certificates.CA_FILE).resolve()
    pem_text = client_env.ca_of(known, own)
    if pem_text:
        write_ca(file, pem_text, ca)
    if known and (where := client_env.lacks_ca(known, pem_text)):
        progress.warn(f"clients need a CA certificate: {where}; copy it to {file}")
    folder = typed_path(hadoop or HADOOP_FOLDER).resolve()
    if cluster := client_env.direct_hdfs(known):
        write_hadoop(folder, cluster, hadoop)
    found = client_env.variables(url, known, str(file), str(folder), with_secrets=with_secrets)
    sys.stdout.write(client_env.FORMATS[format](found))
    if any(not one.known and one.value == client_env.OWN_KEY for one in found):
        more = (
            "" if with_secrets else "; --with-secrets shows the server's, if the settings hold it"
        )
        progress.warn(f"replace {client_env.OWN_KEY} with a key of the client{more}")
    if client_env.SERVER in url:
        progress.warn("replace SERVER_ADDRESS, or give the server's address with --url")


def of_vm(name: str) -> tuple[str, Settings | None]:
    """The address and the settings of a VM; raises Refusal when there is none."""
    try:
        vm = vms.find(name or vms.DEFAULT_NAME)
    except Failure as failure:
        if not name:
            failure.add_remedy("for another server, give --settings or --url")
        raise
    known = vms.settings_of(vm)
    if not vm.url:
        start = vms.command_for("start", vm.name)
        raise Refusal(f"VM {vm.name} has not started yet", remedy=f"start it with {start}")
    if known is None:
        progress.warn(f"the settings of VM {vm.name} are not known: only its address is shown")
    return vm.url, known


def write_ca(path: Path, text: str, asked: str) -> None:
    """Write the CA's certificate where the user wants it; else say how to get it."""
    if asked:
        path = output.target(asked, "--ca")
        output.refuse_other(path, b"-----BEGIN CERTIFICATE", "a certificate", "--ca")
        files.write(path, text)
    elif not path.exists():
        progress.warn(f"clients need the CA certificate: --ca {path.name} writes it")


def write_hadoop(folder: Path, cluster: Hdfs, asked: str) -> None:
    """Write Hadoop's files where the user wants them; else say how to get them, and what else."""
    if asked:
        made = client_env.hadoop_files(cluster)
        for name, text in made.items():
            start = text[: text.index(hdfs.MADE_BY) + len(hdfs.MADE_BY)].encode()
            output.refuse_other(folder / name, start, "one that this made", "--hadoop")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            files.write(folder / name, text)
        progress.warn(f"written to {folder}: {', '.join(made)}")
    elif not folder.exists():
        progress.warn(f"clients need Hadoop's files: --hadoop {folder.name} writes them")
    if image := newest():
        wheels = sorted((image.directory / find.CLIENTS_NAME).glob("*.whl"))
        for wheel in wheels:
            progress.warn(f"clients install {wheel}, and libgssapi-krb5-2 of their system")
    if cluster.is_secure:
        progress.warn("clients run kinit, or set KRB5_CLIENT_KTNAME to a keytab of their own")


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


def newest() -> find.Image | None:
    """The newest image, whose schema decides; None when there is none."""
    try:
        return find.resolve()
    except Failure:
        return None
