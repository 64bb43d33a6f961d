"""A database and an S3 store for a VM, and the examples in cloud-init/ with their values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_image.paths import HERE
from mlflow_settings import userdata
from tests.peers import postgresql, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.postgresql import Postgresql
from tests.peers.s3 import S3

EXAMPLES = HERE.root / "cloud-init"


@dataclass(frozen=True)
class Stores:
    """PostgreSQL behind pgbouncer, and versitygw, both with TLS."""

    database: Postgresql
    store: S3

    @property
    def values(self) -> dict[str, str]:
        """What replaces the values in capitals."""
        return {
            "workers: auto": "workers: auto\n  prometheus: true",
            "DATABASE_HOST": postgresql.HOST,
            "port: 6432": f"port: {self.database.pooled_port}",
            "DATABASE_NAME": postgresql.DATABASE,
            "DATABASE_USER": postgresql.USER,
            "DATABASE_PASSWORD": self.database.password,
            "sslmode: verify-full": "sslmode: verify-full\n    ca_certificate: |\n"
            + textwrap.indent(self.database.ca, "      ").rstrip(),
            "BUCKET_NAME": s3.BUCKET,
            "STORE_ENDPOINT": f"https://{s3.HOST}:{self.store.port}",
            "STORE_REGION": "us-east-1",
            "SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "ACCESS_KEY_ID": s3.ACCESS_KEY,
            "access: proxied": "access: proxied\n    addressing: path\n    ca_certificate: |\n"
            + textwrap.indent(self.store.ca, "      ").rstrip(),
        }

    def settings(self, example: str = "postgresql-s3.yaml", **changed: str) -> str:
        """The settings of an example. changed: what replaces other parts of its text."""
        text = userdata.unwrap((EXAMPLES / example).read_bytes())
        for before, after in {**self.values, **changed}.items():
            assert before in text, before
            text = text.replace(before, after)
        return text


@contextmanager
def running(folder: Path) -> Iterator[Stores]:
    """Run both; skips the test where one of them cannot run."""
    if lacking := postgresql.missing():
        pytest.skip(f"missing: {lacking}")
    if versitygw.program() is None:
        pytest.skip("versitygw cannot be built here: Go and its module proxy are needed")
    authority = Authority(folder / "ca")
    with (
        postgresql.running(authority) as database,
        versitygw.running(folder / "s3", authority) as store,
    ):
        yield Stores(database, store)
