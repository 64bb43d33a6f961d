"""The tasks for the people who log to a server: client-env and client-kit."""

from __future__ import annotations

import contextlib
import sys
import zipfile
from pathlib import Path

from invoke.context import Context

from mlflow_image import files, progress
from mlflow_image.checks.smoke.check import checked_url
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find
from mlflow_image.images.find import Image
from mlflow_image.paths import typed_path
from mlflow_image.server import certificates, client_env, client_kit, user_data, vms
from mlflow_image.server.client_kit import Kit
from mlflow_image.tasks import output
from mlflow_image.tasks.task import refuse_unknown, task
from mlflow_settings.blocks.hdfs import MADE_BY, Hdfs
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.settings import Settings

HADOOP_FOLDER = "hadoop-conf"
KIT_FILE = "mlflow-client-kit.zip"


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
    url, known, own = of_server(name, settings, url)
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


@task(
    name="client-kit",
    help={
        "name": "of a VM",
        "settings": "instead: the server's settings file",
        "url": "instead, or besides --settings: the server's address",
        "out": f"the zip; default: {KIT_FILE}",
        "ca": "file with the CA certificates that clients need and that are not here",
        "with-secrets": "also the first user's password and the key of the store; the zip is then "
        "readable by you alone",
    },
)
def client_kit_task(
    context: Context,
    name: str = "",
    settings: str = "",
    url: str = "",
    out: str = KIT_FILE,
    ca: str = "",
    with_secrets: bool = False,
) -> None:
    """Write a zip for the people who log to a server, with a check."""
    target = output.target(out)
    refuse_other_zip(target)
    given = pem_of(ca) if ca else ""
    url_given = bool(url)
    url, known, own = of_server(name, settings, url)
    own += given
    if known and not given and (where := client_env.lacks_ca(known, own)):
        raise Refusal(
            f"clients need a CA certificate that is not here: {where}",
            remedy="copy it to a file, and name that with --ca",
        )
    image = find.newest() if settings or url_given else image_of(name)
    kit = Kit(url, known, own, image, with_secrets)
    (files.write_private if with_secrets else files.write)(target, client_kit.write(kit))
    held = ", ".join(
        part
        for part, is_there in (
            (f"MLflow {kit.mlflow}", True),
            ("the CA certificate", bool(client_env.ca_of(known, own))),
            ("Hadoop's files", bool(kit.cluster)),
            ("the plugin for HDFS", bool(kit.wheel)),
        )
        if is_there
    )
    progress.say(f"{target} is written: {url}, {held}")
    if kit.cluster and not kit.wheel:
        progress.warn("the plugin for HDFS is missing: it is in an image, and there is none here")
    if with_secrets:
        progress.say("it contains secrets; only you can read it")
    if gaps := client_kit.placeholders(kit):
        progress.say(f"whoever gets it replaces in .env: {', '.join(gaps)}")
    progress.say(f"next: unpack it, and follow {client_kit.FOLDER}/README.txt")


def of_server(name: str, settings: str, url: str) -> tuple[str, Settings | None, str]:
    """The address, the settings and the machine's own CA of the server that the flags mean."""
    if name and (settings or url):
        raise Refusal("--name excludes --settings and --url", remedy="use one of them")
    url = checked_url(url) if url else ""
    known: Settings | None = None
    own = ""
    if settings:
        known = user_data.checked(typed_path(settings), find.newest())
    elif not url:
        url, known = of_vm(name)
        if known and known.tls.self_signed:
            own = certificates.authority(vms.find(name or vms.DEFAULT_NAME))
    if known and url and (name_refused := client_env.refused_name(url, known)):
        entry = f"add {name_refused} to server.allowed_hosts"
        progress.warn(f"the server answers 403 to that address, if it is not its own: {entry}")
    return url or client_env.address(known or Settings()), known, own


def image_of(name: str) -> Image | None:
    """The image of a VM; the newest one when it is no longer here."""
    try:
        return find.resolve(vms.find(name or vms.DEFAULT_NAME).record.image)
    except Failure:
        return find.newest()


def pem_of(file: str) -> str:
    """The certificates in a file that the user names."""
    try:
        text = typed_path(file).read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        raise Refusal(f"--ca {file} cannot be read: {error}", remedy="name a PEM file") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Refusal(f"--ca {file} has no certificate", remedy="name a PEM file")
    return text.strip() + "\n"


def refuse_other_zip(path: Path) -> None:
    """Replace kits only."""
    if not path.exists():
        return
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as found:
        if f"{client_kit.FOLDER}/{client_kit.DESCRIPTION}" in found.namelist():
            return
    raise Refusal(f"{path} exists and is not a client kit", remedy="give another --out")


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
            start = text[: text.index(MADE_BY) + len(MADE_BY)].encode()
            output.refuse_other(folder / name, start, "one that this made", "--hadoop")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            files.write(folder / name, text)
        progress.warn(f"written to {folder}: {', '.join(made)}")
    elif not folder.exists():
        progress.warn(f"clients need Hadoop's files: --hadoop {folder.name} writes them")
    if image := find.newest():
        wheels = sorted((image.directory / find.CLIENTS_NAME).glob("*.whl"))
        for wheel in wheels:
            progress.warn(f"clients install {wheel}, and libgssapi-krb5-2 of their system")
    if isinstance(cluster.krb5_conf, FromFile):
        where = cluster.krb5_conf.path
        progress.warn(f"clients need a krb5.conf: {where} on the server; KRB5_CONFIG names it")
    if cluster.is_secure:
        progress.warn("clients run kinit, or set KRB5_CLIENT_KTNAME to a keytab of their own")
