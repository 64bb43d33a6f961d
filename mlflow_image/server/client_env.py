"""What a client of a server sets in its environment, each variable with its reason.

With artifacts that go through the server, that is its address and nothing else. Clients that use
the store themselves need its address, a key and what boto3 has to know.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from mlflow_settings import proxy
from mlflow_settings.blocks import hdfs, hosts, sources
from mlflow_settings.blocks.auth import Basic
from mlflow_settings.blocks.hdfs import Hdfs
from mlflow_settings.blocks.s3 import S3
from mlflow_settings.settings import Settings

#: The addresses that the server always accepts; a test compares them with the server's own, which
#: are in the image only (mlflow_launch/guards/doors.py).
PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
#: In place of what is not known here, or not shown.
OWN_KEY = "YOUR_OWN_KEY"
SERVER = "SERVER_ADDRESS"
KRB5_NAME = "krb5.conf"


@dataclass(frozen=True)
class Variable:
    """One variable. known: False when the value is for the reader to replace."""

    name: str
    value: str = field(repr=False)
    reason: str
    known: bool = True


def variables(
    url: str,
    settings: Settings | None,
    ca_file: str,
    hadoop: str = "",
    *,
    with_secrets: bool = False,
) -> list[Variable]:
    """What a client sets.

    url: of the server as its clients see it. settings: of the server, if they are known.
    ca_file: where the client has the store's CA certificate. hadoop: where it has Hadoop's files.
    """
    found = [Variable("MLFLOW_TRACKING_URI", url, "where the server is", SERVER not in url)]
    if settings and settings.tls.self_signed:
        reason = "the authority that the server's machine has made"
        found.append(Variable("MLFLOW_TRACKING_SERVER_CERT_PATH", ca_file, reason))
    if settings and settings.auth.basic:
        found += _account(settings.auth.basic, with_secrets=with_secrets)
    store = settings.artifact_store.s3 if settings else None
    if store and store.access == "direct":
        found += _direct(store, ca_file, with_secrets=with_secrets)
    elif store and store.clients_reach_endpoint and store.ca_certificate:
        reason = "large files go to and from the store itself, whose CA this is"
        found.append(Variable("REQUESTS_CA_BUNDLE", ca_file, reason))
    cluster = direct_hdfs(settings)
    if cluster:
        found += _of_cluster(cluster, hadoop)
    return found


def direct_hdfs(settings: Settings | None) -> Hdfs | None:
    """The cluster that clients use themselves, if they do."""
    cluster = settings.artifact_store.hdfs if settings else None
    return cluster if cluster and cluster.access == "direct" else None


def hadoop_files(cluster: Hdfs) -> Mapping[str, str]:
    """The files that clients of a cluster have in one folder: name -> text."""
    found = {
        "core-site.xml": hdfs.as_xml(cluster.core_site()),
        "hdfs-site.xml": hdfs.as_xml(cluster.hdfs_site()),
    }
    if cluster.krb5_text:
        found[KRB5_NAME] = f"# {hdfs.MADE_BY}\n{cluster.krb5_text}"
    return found


def _of_cluster(cluster: Hdfs, folder: str) -> Iterator[Variable]:
    yield Variable("HADOOP_CONF_DIR", folder, "where core-site.xml and hdfs-site.xml are")
    if cluster.krb5_text:
        yield Variable("KRB5_CONFIG", f"{folder}/{KRB5_NAME}", "the realm, and where its KDCs are")
    if not cluster.is_secure:
        reason = f"a user of the cluster who may write to {cluster.path}"
        yield Variable("HADOOP_USER_NAME", cluster.user or "YOUR_NAME", reason, bool(cluster.user))


def address(settings: Settings) -> str:
    """The URL of a server of which only the settings are known."""
    names = [name for name in _names(settings) if "*" not in name]
    if not names:
        return f"{settings.scheme}://{SERVER}{settings.port_in_url}"
    has_port = re.search(r":\d+$", names[0])
    return f"{settings.scheme}://{names[0]}" + ("" if has_port else settings.port_in_url)


def _names(settings: Settings) -> tuple[str, ...]:
    """The names of a server, those of its certificate first, as in a URL."""
    return (*map(hosts.in_url, settings.tls.names), *settings.server.allowed_hosts)


def refused_name(url: str, settings: Settings) -> str:
    """The host of a URL, as allowed_hosts has it, if the server refuses requests to it, or "".

    MLflow compares the Host header literally, and only entries with a * as patterns. Addresses of
    private networks always pass, and the machine's own, which are not known here.
    """
    parts = urlsplit(url)
    name = parts.netloc.lower()
    entries = hosts.host_entries(_names(settings))
    listed = any(name == entry or ("*" in entry and fnmatch(name, entry)) for entry in entries)
    host = parts.hostname or ""
    return "" if listed or _is_private(host) else hosts.in_url(host)


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in one for one in PRIVATE if one.version == address.version)


def _account(basic: Basic, *, with_secrets: bool) -> Iterator[Variable]:
    """How a client signs in: as the first user whose password is known here, if it may be shown."""
    known = [one for one in (*basic.users, basic.admin) if isinstance(one.password, str)]
    if with_secrets and known:
        name, password, is_known = known[0].name, str(known[0].password), True
    else:
        name, password, is_known = "YOUR_NAME", "YOUR_PASSWORD", False
    reason = "the server asks for a name and a password"
    yield Variable("MLFLOW_TRACKING_USERNAME", name, reason, is_known)
    yield Variable("MLFLOW_TRACKING_PASSWORD", password, reason, is_known)


def _direct(store: S3, ca_file: str, *, with_secrets: bool) -> Iterator[Variable]:
    if store.endpoint_url:
        yield Variable("MLFLOW_S3_ENDPOINT_URL", store.endpoint_url, "the store that clients use")
    if store.region:
        yield Variable("AWS_DEFAULT_REGION", store.region, "the bucket's region")
    names = ("access_key_id", "secret_access_key", "session_token")
    for name in names:
        value = getattr(store, name)
        if name == "session_token" and not value:
            continue
        shown = with_secrets and isinstance(value, str) and value != ""
        reason = f"a key that may read and write {store.uri}"
        yield Variable(f"AWS_{name.upper()}", str(value) if shown else OWN_KEY, reason, shown)
    if store.ca_certificate:
        yield Variable("AWS_CA_BUNDLE", ca_file, "the CA of the store's certificate")
    if store.addressing != "auto":
        reason = "how the bucket is named in requests"
        yield Variable("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", store.addressing, reason)
    reason = "which checksums the store takes"
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        yield Variable(name, store.checksums, reason)


def ca_of(settings: Settings | None, own: str = "") -> str:
    """The CA certificates that clients need, as PEM; "" when they need none or none is here.

    own: of the server's certificate, if that is not public.
    """
    found = own
    store = settings.artifact_store.s3 if settings else None
    if settings and store and isinstance(store.ca_certificate, str) and needs_store_ca(settings):
        found += store.ca_certificate.strip() + "\n"
        if store.access != "direct":
            # REQUESTS_CA_BUNDLE stands in for the public CAs, which other requests need.
            found += Path(DEFAULT_CA_BUNDLE_PATH).read_text(encoding="utf-8")
    return found


def lacks_ca(settings: Settings, found: str) -> str:
    """Where the rest of the certificates is that clients need, or ""."""
    store = settings.artifact_store.s3
    if settings.tls.self_signed and not found:
        return f"`sudo cat {proxy.CA}` on the server"
    if store and needs_store_ca(settings) and isinstance(store.ca_certificate, sources.FromFile):
        return f"the file {store.ca_certificate.path} on the server"
    return ""


def needs_store_ca(settings: Settings) -> bool:
    """Whether clients need a CA certificate of the store that is not public."""
    store = settings.artifact_store.s3
    if not store or not store.ca_certificate:
        return False
    return store.access == "direct" or store.clients_reach_endpoint


def shell(found: Sequence[Variable]) -> str:
    """Lines for `eval` or a shell's start file."""
    return _lines(found, lambda one: f"export {one.name}={shlex.quote(one.value)}")


def dotenv(found: Sequence[Variable]) -> str:
    """A .env file, as python-dotenv and Docker read it: quotes only where both take them."""
    return _lines(found, lambda one: f"{one.name}={one.value}")


def python(found: Sequence[Variable]) -> str:
    """Python code for the top of a program."""
    body = _lines(found, lambda one: f"os.environ[{one.name!r}] = {one.value!r}")
    return f"import os\n\n{body}"


def notebook(found: Sequence[Variable]) -> str:
    """A cell for the top of a notebook: `%env` would expand $ and braces in a key."""
    return f"# Run this cell first, before mlflow is imported.\n{python(found)}"


def compose(found: Sequence[Variable]) -> str:
    """The `environment:` of a service in a Compose file, where $ is written twice."""

    def line(one: Variable) -> str:
        return f"{one.name}: {json.dumps(one.value.replace('$', '$$'))}"

    body = "".join(f"  {text}\n" for text in _lines(found, line).splitlines())
    return f"environment:\n{body}"


#: Name of a format -> what writes it.
FORMATS: Mapping[str, Callable[[Sequence[Variable]], str]] = {
    "shell": shell,
    "dotenv": dotenv,
    "python": python,
    "notebook": notebook,
    "compose": compose,
}


def _lines(found: Sequence[Variable], line: Callable[[Variable], str]) -> str:
    text = ""
    for one in found:
        note = "" if one.known else " (replace the value)"
        text += f"# {one.reason}{note}\n{line(one)}\n"
    return text
