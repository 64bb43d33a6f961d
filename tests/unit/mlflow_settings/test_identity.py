"""The certificate that nginx shows: the machine's, an authority's, or the operator's."""

from __future__ import annotations

import ssl
import stat
import time
from pathlib import Path

import pytest

from mlflow_settings import identity, renew
from mlflow_settings.blocks import certificate
from mlflow_settings.blocks.block import Machine
from mlflow_settings.blocks.tls import Acme, SelfSigned, Tls

OWN = Tls(self_signed=SelfSigned(("mlflow.example.com",)))
MACHINE = Machine(("10.0.2.15",))
FOLDER = Path("var/lib/mlflow-image/tls")


def names(text: str) -> tuple[str, ...]:
    return certificate.names_of(certificate.decoded(text))


def test_without_tls_there_is_none(tmp_path: Path) -> None:
    assert identity.ensure(tmp_path, Tls(), MACHINE) is None
    assert list(tmp_path.iterdir()) == []


def test_the_machines_own_is_for_all_its_names_and_signed_by_its_authority(tmp_path: Path) -> None:
    found = identity.ensure(tmp_path, OWN, MACHINE)
    assert found is not None
    assert {"mlflow.example.com", "10.0.2.15", "localhost", "127.0.0.1", "::1"} <= set(
        names(found.chain)
    )
    assert certificate.pair_fault(found.chain, found.key) is None
    context = ssl.create_default_context(cadata=found.ca)
    assert len(context.get_ca_certs()) == 1
    assert stat.S_IMODE((tmp_path / FOLDER / "ca-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / FOLDER / "key.pem").stat().st_mode) == 0o600


def test_it_stays_the_same_until_its_names_change(tmp_path: Path) -> None:
    first = identity.ensure(tmp_path, OWN, MACHINE)
    assert identity.ensure(tmp_path, OWN, MACHINE) == first
    moved = identity.ensure(tmp_path, OWN, Machine(("10.0.2.16",)))
    assert first is not None
    assert moved is not None
    assert moved.chain != first.chain
    assert moved.ca == first.ca  # clients need not be told
    assert "10.0.2.16" in names(moved.chain)


def test_it_is_made_again_a_month_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = identity.ensure(tmp_path, OWN, MACHINE)
    later_s = time.time() + 370 * 24 * 3600
    monkeypatch.setattr(identity.time, "time", lambda: later_s)
    assert first is not None
    assert renew.ends_soon(first.chain, later_s).startswith("the certificate ends in 2")
    again = identity.ensure(tmp_path, OWN, MACHINE)
    assert again is not None
    assert (again.chain != first.chain, again.ca == first.ca) == (True, True)


def test_until_an_authority_has_issued_one_the_machines_own_serves(tmp_path: Path) -> None:
    acme = Tls(acme=Acme("ops@example.com", ("mlflow.example.com",)))
    own = identity.ensure(tmp_path, acme, MACHINE)
    assert own is not None
    assert own.ca
    elsewhere = identity.ensure(tmp_path / "authority", OWN, MACHINE)
    assert elsewhere is not None
    issued = tmp_path / identity.ISSUED
    issued.mkdir(parents=True)
    (issued / "fullchain.pem").write_text(elsewhere.chain)
    (issued / "privkey.pem").write_text(own.key)  # certbot was interrupted
    assert identity.ensure(tmp_path, acme, MACHINE) == own
    (issued / "privkey.pem").write_text(elsewhere.key)
    shown = identity.ensure(tmp_path, acme, MACHINE)
    assert shown == identity.Identity(elsewhere.chain, elsewhere.key)
    other = Tls(acme=Acme("ops@example.com", ("mlflow.example.com", "b.example.com")))
    assert identity.ensure(tmp_path, other, MACHINE) != shown


def test_what_openssl_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "openssl"
    program.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(identity, "OPENSSL", str(program))
    with pytest.raises(OSError, match="no space left"):
        identity.ensure(tmp_path, OWN, MACHINE)


def test_certbot_is_told_everything_and_no_secret() -> None:
    acme = Acme("ops@example.com", ("a.example.com", "b.example.com"), "https://acme.example.com/d")
    words = list(renew.words(acme))
    assert words[:2] == ["/usr/bin/certbot", "certonly"]
    assert words[words.index("--server") + 1] == "https://acme.example.com/d"
    assert [words[at + 1] for at, word in enumerate(words) if word == "-d"] == list(acme.names)


def test_the_reason_of_a_refusal_is_found_in_certbots_output() -> None:
    output = """\
Saving debug log to /var/lib/mlflow-acme/logs/letsencrypt.log
Requesting a certificate for a.example.com
Certbot failed to authenticate some domains (authenticator: webroot).
  Domain: a.example.com
  Type:   dns
  Detail: DNS problem: NXDOMAIN looking up A for a.example.com
Some challenges have failed.
"""
    assert renew.reasons(output) == [
        "a.example.com: DNS problem: NXDOMAIN looking up A for a.example.com"
    ]
    assert renew.reasons("") == ["certbot said nothing"]
    away = "An unexpected error occurred:\nValueError: Requesting localhost/dir: refused\n"
    assert renew.reasons(away) == ["ValueError: Requesting localhost/dir: refused"]


def test_an_answer_that_certbot_loses_is_taken_from_its_log() -> None:
    output = "An unexpected error occurred:\nAttributeError: can't set attribute\n"
    log = "Error: urn:ietf:params:acme:error:rejectedIdentifier :: a.example.com is forbidden\n"
    assert renew.reasons(output, log) == ["a.example.com is forbidden"]
