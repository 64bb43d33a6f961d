"""What the launcher says of stores: causes from the drivers' texts, changes, and where it waits."""

from __future__ import annotations

import os
import signal
import ssl
import sys
import time
from pathlib import Path

import pytest

from mlflow_launch.stores import hdfs, postgresql, reach, s3, watch
from mlflow_launch.stores.watch import Look, Stores
from mlflow_settings import signals
from mlflow_settings.blocks.hdfs import Hdfs, as_xml

#: A driver's text (libpq 17, PostgreSQL 15, pgbouncer 1.18) -> a part of the answer.
TEXTS = {
    'server certificate for "localhost" does not match host name "db"': "another name",
    "SSL error: certificate verify failed": "not signed by the CA",
    "SSL error: ssl/tls alert certificate expired": "has expired",
    "server does not support SSL, but SSL was required": "no TLS on this port",
    'FATAL:  no pg_hba.conf entry for host "::1", user "u", database "d", no encryption': "TLS;",
    'FATAL:  no pg_hba.conf entry for host "::1", user "u", database "d", SSL encryption': "accept",
    'FATAL:  password authentication failed for user "u"': "user or the password",
    "FATAL:  SASL authentication failed": "user or the password",
    'FATAL:  role "u" does not exist': "user or the password",
    'FATAL:  database "d" does not exist': "no such database",
    "FATAL:  no such database: d": "no such database",
    "FATAL:  sorry, too many clients already": "too many connections",
    "FATAL:  no more connections allowed (max_client_conn)": "too many connections",
    "FATAL:  the database system is starting up": "starting or stopping",
    "FATAL:  server login has been failing, try again later (server_login_retry)": "pgbouncer",
    'connection to server at "h" (1.2.3.4), port 5432 failed: timeout expired': "does not answer",
    "received invalid response to SSL negotiation: H": "no PostgreSQL",
    "server closed the connection unexpectedly": "closed the connection",
}


class RefusedError(Exception):
    """Like botocore's ClientError."""

    def __init__(self, code: str, message: str = "no") -> None:
        super().__init__(message)
        self.response = {"Error": {"Code": code, "Message": message}}


@pytest.mark.parametrize(
    ("ca", "remedy"),
    [
        ("/run/mlflow/postgresql-ca.pem", "correct ca_certificate"),
        ("/etc/ssl/certs/ca-certificates.crt", "write its CA as ca_certificate"),
    ],
)
def test_a_ca_that_was_left_out_is_told_apart_from_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch, ca: str, remedy: str
) -> None:
    class Driver:
        Error = ConnectionError

        @staticmethod
        def connect(**_: object) -> None:
            raise ConnectionError("SSL error: certificate verify failed")

    given = {"host": "h", "dbname": "d", "sslrootcert": ca}
    monkeypatch.setattr(postgresql, "_arguments", lambda uri: given)
    monkeypatch.setattr(postgresql.reach, "trouble", lambda *_: "")
    monkeypatch.setitem(sys.modules, "psycopg2", Driver)
    assert postgresql.trouble("postgresql://").endswith(remedy)


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_of_the_database_has_its_cause(text: str) -> None:
    assert TEXTS[text] in postgresql.cause(text)


def test_an_unknown_error_of_the_database_is_repeated() -> None:
    assert postgresql.cause("x\nFATAL:  ahem\n") == "it refused the connection: FATAL:  ahem"
    assert "no reason" in postgresql.cause("")


def test_every_code_of_s3_has_its_cause_and_a_remedy() -> None:
    for code, meaning in s3._CODES.items():
        assert s3.cause(RefusedError(code)) == meaning
        assert ";" in meaning
    assert s3.cause(RefusedError("Odd", "strange\nmore")) == "it refused a request: Odd: strange"


def test_tls_faults_of_s3_are_told_apart() -> None:
    def cause(text: str) -> str:
        return s3.cause(ssl.SSLCertVerificationError(text))

    assert "signed by a known CA" in cause("certificate verify failed: unable to get local issuer")
    assert "another name" in cause("Hostname mismatch, certificate is not valid for 'h'")
    assert "expired" in cause("certificate has expired")
    assert "no TLS" in s3.cause(ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"))


def test_a_name_and_a_port_are_told_apart() -> None:
    assert "does not resolve; correct x.host" in reach.trouble("no.such.host.invalid", 1, "x.host")
    assert "port 1 refuses the connection" in reach.trouble("127.0.0.1", 1, "x")


def test_every_namenode_of_the_settings_is_asked_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Hdfs("/mlflow", nameservice="cluster1", namenodes=("localhost:1", "localhost:2"))
    (tmp_path / "hdfs-site.xml").write_text(as_xml(store.hdfs_site()))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    said = hdfs.trouble(store.uri)
    for port in (1, 2):
        assert f"localhost port {port} refuses the connection" in said


def test_files_of_the_machine_are_not_looked_at() -> None:
    local = Stores("sqlite:////x.db", "/var/lib/mlflow/artifacts", {})
    assert local.kinds == ()
    watch.wait(local)


def test_a_look_that_dies_is_no_good_answer() -> None:
    assert Look(lambda: "").result() == ""
    assert Look(lambda: "wrong").result() == "wrong"
    killed = Look(lambda: os.kill(os.getpid(), signal.SIGKILL) or "")
    assert "could not be looked at: exit code -9" in killed.result()
    assert "exit code 1" in Look(lambda: str(1 / 0)).result()


def test_a_look_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOOK_S", 1)
    look = Look(lambda: time.sleep(30) or "")
    assert look.result() == "the stores did not answer within 1 s; check firewalls and DNS"


def test_every_change_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    found = iter(["", "database: down", "database: down", "", ""])

    class Changing(Stores):
        def trouble(self, *, write: bool) -> str:
            assert not write
            return next(found)

    for _ in range(5):
        watch.look_again(Changing("postgresql+psycopg2://u@h/d", "s3://b", {}))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "warning: database: down" in lines[0]
    assert watch.REACHED in lines[1]
    assert (tmp_path / watch.NAME).read_text() == f"{watch.REACHED}\n"


def test_the_host_knows_the_words_of_the_launcher() -> None:
    assert watch.REACHED == signals.STORES_REACHED
    for text in ("database: x", "database d on h port 1: x", "artifact store, bucket b: x"):
        assert text.startswith(signals.STORES)
