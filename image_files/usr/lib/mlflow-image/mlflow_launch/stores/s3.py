"""What is wrong with an S3 store: one small object is written, read and deleted there.

Sources: AWS's "Error responses" of S3, botocore.exceptions; MinIO and Ceph use the same codes.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mlflow_launch.stores import reach

SCHEME = "s3://"
PROBE_FOLDER = "mlflow-image-probe"
_BLOCK = "artifact_store.s3"
_CHECKSUM = "it refuses boto3's checksums; write checksums: when_required"
#: S3's error code -> what it means, and what to do.
_CODES = {
    "NoSuchBucket": "there is no such bucket; create it, or correct bucket",
    "AccessDenied": "access is denied; the key needs to read, write, list and delete below prefix",
    "AllAccessDisabled": "access is denied; the bucket is disabled",
    "InvalidAccessKeyId": "it does not know the key; correct access_key_id",
    "XAdminUserNotFound": "it does not know the key; correct access_key_id",  # versitygw
    "SignatureDoesNotMatch": "it refused the key's secret; correct secret_access_key",
    "ExpiredToken": "the temporary key has expired; write a new one",
    "InvalidToken": "it refused session_token; write the one that belongs to the key",
    "RequestTimeTooSkewed": "the machine's clock is wrong; `timedatectl` shows it",
    "PermanentRedirect": "the bucket is in another region; correct region",
    "AuthorizationHeaderMalformed": "the bucket is in another region; correct region",
    "IllegalLocationConstraintException": "the bucket is in another region; correct region",
    "301": "the bucket is in another region; correct region",
    "MissingContentLength": _CHECKSUM,
    "XAmzContentSHA256Mismatch": _CHECKSUM,
    "BadDigest": _CHECKSUM,
    "InvalidChecksum": _CHECKSUM,
    "QuotaExceeded": "the bucket's quota is used up; delete something, or raise it",
    "SlowDown": "it asks for fewer requests; nothing to do",
    "ServiceUnavailable": "it is not available now; nothing to do",
}


def trouble(place: str, environment: Mapping[str, str], *, write: bool = True) -> str:
    """Why MLflow cannot use s3://BUCKET/FOLDER, in one line with a remedy; "" when it can.

    write: False only lists. environment: boto3's and MLflow's variables, which must also be those
    of this process.
    """
    endpoint = environment.get("MLFLOW_S3_ENDPOINT_URL", "")
    if endpoint:
        split = urlsplit(endpoint)
        port = split.port or (443 if split.scheme == "https" else 80)
        if reason := reach.trouble(str(split.hostname), port, f"{_BLOCK}.endpoint_url"):
            return f"artifact store: {reason}"
    bucket, _, prefix = place.removeprefix(SCHEME).partition("/")
    named = f"artifact store, bucket {bucket}" + (f" at {endpoint}" if endpoint else "")
    try:
        _use(_client(environment), bucket, f"{prefix}/{PROBE_FOLDER}".lstrip("/"), write=write)
    except Exception as error:  # botocore raises many kinds, urllib3 and ssl some more
        return f"{named}: {cause(error)}"
    return ""


def cause(error: Exception) -> str:
    """What an error of boto3 means, and what to do."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    if code in _CODES:
        return _CODES[code]
    name, text = type(error).__name__, str(error)
    if name in ("NoCredentialsError", "CredentialRetrievalError", "MetadataRetrievalError"):
        return "the machine has no role that gives a key; write access_key_id or attach a role"
    if name in ("SSLError", "SSLCertVerificationError") or "CERTIFICATE_VERIFY" in text:
        return _tls(text)
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"):
        return "it does not answer; check endpoint_url, region and the network"
    if name == "ParamValidationError":
        return "boto3 refuses the bucket's name; correct bucket"
    if "NotImplemented" in code or "checksum" in text.lower():
        return _CHECKSUM
    shown = f"{code}: " if code else f"{name}: "
    message = getattr(error, "response", {}).get("Error", {}).get("Message", "")
    return f"it refused a request: {shown}{message or text}".splitlines()[0][:300]


def _tls(text: str) -> str:
    if "expired" in text:
        return "its certificate has expired; renew it there"
    if "doesn't match" in text or "not valid for" in text or "mismatch" in text:
        return "its certificate is for another name; write that name in endpoint_url"
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text:
        return "it speaks no TLS on this port; write http://, or correct the port"
    if "CERTIFICATE_VERIFY" in text or "certificate verify failed" in text:
        return "its certificate is not signed by a known CA; write its CA as ca_certificate"
    return "TLS failed; check endpoint_url and ca_certificate"


def _client(environment: Mapping[str, str]) -> Any:
    boto3: Any = importlib.import_module("boto3")
    config: Any = importlib.import_module("botocore.config")
    return boto3.client(
        "s3",
        endpoint_url=environment.get("MLFLOW_S3_ENDPOINT_URL") or None,
        config=config.Config(
            signature_version="s3v4",
            connect_timeout=reach.CONNECT_S,
            read_timeout=20,
            retries={"total_max_attempts": 2},
            s3={"addressing_style": environment.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")},
        ),
    )


def _use(client: Any, bucket: str, folder: str, *, write: bool) -> None:
    if not write:
        client.list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1)
        return
    # Several servers may share a bucket.
    key, content = f"{folder}/{socket.gethostname()}-{os.getpid()}", b"mlflow-image"
    client.put_object(Bucket=bucket, Key=key, Body=content)
    found = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.delete_object(Bucket=bucket, Key=key)
    if found != content:
        raise OSError(f"{len(found)} other bytes came back instead of the {len(content)} written")
