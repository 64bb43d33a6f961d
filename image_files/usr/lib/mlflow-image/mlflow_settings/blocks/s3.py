"""artifact_store.s3 and its URI: the rules, boto3's variables and the key's file.

Sources: AWS's "Bucket naming rules", botocore's configuration guide, MLflow's page "Artifact
Stores". The rule for names is wider than AWS's: other stores take more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import RUN, Given, RenderedFile, known_keys, text_faults
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded, shown

KEY_FILE = f"{RUN}/aws-credentials"
CA_FILE = f"{RUN}/s3-ca.pem"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PREFIX = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_PLACE = "write a place such as s3://bucket/artifacts"


@dataclass(frozen=True)
class S3:
    """A bucket. The four that may be secret or long: the text, or the file to read it from."""

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    access_key_id: str | FromFile = field(default="", repr=False)
    secret_access_key: str | FromFile = field(default="", repr=False)
    session_token: str | FromFile = field(default="", repr=False)
    ca_certificate: str | FromFile = ""
    addressing: str = "auto"
    checksums: str = "when_required"
    access: str = "proxied"
    clients_reach_endpoint: bool = False
    allowed_locations: tuple[str, ...] = ()

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> S3:
        """Of checked values."""
        values = {
            **sources.values(given),
            "prefix": given.get("prefix", "").rstrip("/"),
            "endpoint_url": given.get("endpoint_url", "").rstrip("/"),
            "allowed_locations": tuple(
                place.rstrip("/") for place in given.get("allowed_locations", ())
            ),
        }
        return cls(**known_keys(cls, values))

    @property
    def uri(self) -> str:
        """The place of this server's artifacts."""
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def locations(self) -> tuple[str, ...]:
        """Every place that experiments may name."""
        return (self.uri, *self.allowed_locations)

    @property
    def uses_role(self) -> bool:
        """Whether the machine's role is used, for lack of a key."""
        return not self.access_key_id

    def environment(self) -> Mapping[str, str]:
        """boto3's variables, and MLflow's for boto3."""
        variables = {
            "AWS_EC2_METADATA_DISABLED": str(not self.uses_role).lower(),
            "AWS_REQUEST_CHECKSUM_CALCULATION": self.checksums,
            "AWS_RESPONSE_CHECKSUM_VALIDATION": self.checksums,
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": self.addressing,
        }
        if not self.uses_role:
            variables["AWS_SHARED_CREDENTIALS_FILE"] = KEY_FILE
        if self.ca_certificate:
            variables["AWS_CA_BUNDLE"] = CA_FILE
        if self.region:
            variables["AWS_DEFAULT_REGION"] = self.region
        if self.endpoint_url:
            variables["MLFLOW_S3_ENDPOINT_URL"] = self.endpoint_url
        return variables

    def run_files(self) -> Iterator[RenderedFile]:
        """The key and the CA certificate."""
        names = ("access_key_id", "secret_access_key", "session_token")
        values = [(name, getattr(self, name)) for name in names]
        lines = [f"aws_{name} = {value}\n" for name, value in values if value]
        if lines and not any(isinstance(value, FromFile) for _, value in values):
            yield RenderedFile(KEY_FILE, "[default]\n" + "".join(lines), 0o600, owner="mlflow")
        if isinstance(self.ca_certificate, str) and self.ca_certificate:
            yield RenderedFile(CA_FILE, self.ca_certificate.strip() + "\n", 0o640)


def faults(given: Given) -> Iterator[Worded]:
    """The rules for the keys; paths start inside s3."""
    yield from text_faults(given, "bucket", _bucket_fault)
    yield from text_faults(given, "prefix", _prefix_fault)
    yield from text_faults(given, "endpoint_url", _endpoint_fault)
    yield from text_faults(given, "region", _region_fault)
    yield from text_faults(given, "allowed_locations", uri_fault)
    names = ("access_key_id", "secret_access_key", "session_token")
    yield from sources.faults(given, dict.fromkeys(names, _key_fault))
    yield from sources.ca_faults(given)
    if given and "region" not in given and "endpoint_url" not in given:
        yield Worded(
            ("region",),
            "is missing, which AWS needs",
            "",
            "write the bucket's region; for another store than AWS write endpoint_url",
        )
    key, secret = (name in given for name in names[:2])
    if key != secret:
        missing = names[1] if key else names[0]
        remedy = "write both, or neither to use the machine's role"
        yield Worded((missing,), "is missing", "", remedy)
    if "session_token" in given and not key:
        yield Worded(("session_token",), "is given without a key", "", "write the key, too")


def uri_fault(uri: str) -> Reason | None:
    """Why a text is not s3://BUCKET/FOLDER, or None."""
    scheme, separator, rest = uri.partition("://")
    if scheme in ("s3a", "s3n") and separator:
        return Reason(f"begins with {scheme}://, Hadoop's way", "write s3://")
    if scheme in ("hdfs", "viewfs") and separator:
        return Reason(f"begins with {scheme}://", "write hdfs: with namenode and path below it")
    if scheme != "s3" or not separator:
        return Reason(f"is {shown(uri)}, not a place in S3", _PLACE)
    if "@" in rest or "?" in rest:
        remedy = f"{_PLACE}; a key is written as access_key_id and secret_access_key"
        return Reason("has an @ or a ?, which no bucket has", remedy)
    bucket, _, prefix = rest.partition("/")
    return _bucket_fault(bucket) or _prefix_fault(prefix)


def parts_of_uri(uri: str) -> Mapping[str, Any]:
    """The parts of a sound URI as the keys of artifact_store.s3."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return {"bucket": bucket, "prefix": prefix}


def _bucket_fault(bucket: str) -> Reason | None:
    if _BUCKET.fullmatch(bucket):
        return None
    if "://" in bucket:
        return Reason(f"is {shown(bucket)}, a URI", "write only the bucket's name")
    if "/" in bucket:
        return Reason(
            f"is {shown(bucket)}, with a /", "write the bucket's name, the rest as prefix"
        )
    message = f"is {shown(bucket)}, not a bucket's name"
    return Reason(message, "use letters, digits, dots and hyphens")


def _prefix_fault(prefix: str) -> Reason | None:
    short = prefix.rstrip("/")
    if not prefix or (_PREFIX.fullmatch(short) and not {".", ".."} & set(short.split("/"))):
        return None
    return Reason(
        f"is {shown(prefix)}, not a folder such as team/artifacts",
        "use letters, digits and . _ = - between single slashes",
    )


def _region_fault(region: str) -> Reason | None:
    if _REGION.fullmatch(region):
        return None
    return Reason(f"is {shown(region)}, not a region", "write one such as eu-central-1")


def _endpoint_fault(url: str) -> Reason | None:
    example = "write an address such as https://storage.example.com"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return Reason("is not an address", example)
    if parts.scheme not in ("http", "https") or not host:
        return Reason(f"is {shown(url)}, without https:// or http://", example)
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+", host):
        return Reason(f"is {shown(url)}, with an unusual host name", example)
    if parts.username is not None or parts.query or parts.fragment:
        return Reason(f"is {shown(url)}, with more than a host and a port", example)
    if parts.path not in ("", "/"):
        return Reason(f"is {shown(url)}, with a path", "write the bucket as bucket, not here")
    return None


def _key_fault(text: str) -> Reason | None:
    if _KEY.fullmatch(text):
        return None
    return Reason("contains a blank, a line break or an unusual character", "copy it again")
