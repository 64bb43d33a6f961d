"""A certificate authority of its own, for peers with TLS."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """The files of one certificate and its key, PEM."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates below one folder; `certificate` is the CA's own.

    complete: with what Python 3.13 asks for (key identifiers and usages), as current CAs do.
    """

    def __init__(
        self, folder: Path, name: str = "mlflow-image test CA", *, complete: bool = True
    ) -> None:
        self._complete = complete
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        made = self._builder(self._name, self._key, days=3650).add_extension(constraints, True)
        if complete:
            made = made.add_extension(_usage(for_signing=True), True)
        self.certificate = folder / "ca.pem"
        self.certificate.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def issue(self, *names: str, days: int = 365) -> Issued:
        """A server's certificate for these DNS names and addresses. days: negative: expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = self._builder(subject, key, days).add_extension(alternatives, False)
        return self._write(f"{names[0]}{days}", builder, key)

    def issue_client(self, name: str, organization: str) -> Issued:
        """A client's certificate, as Kubernetes reads it: a user's name and a group."""
        key = ec.generate_private_key(ec.SECP256R1())
        group = x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)
        subject = x509.Name([group, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name.replace(":", "-"), self._builder(subject, key, days=365), key)

    def _write(
        self, stem: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey
    ) -> Issued:
        if self._complete:
            builder = builder.add_extension(_usage(for_signing=False), True)
        file = self._folder / f"{stem}.pem"
        file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.with_suffix(".key").write_bytes(private)
        file.with_suffix(".key").chmod(0o600)
        return Issued(file, file.with_suffix(".key"))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * day)
            .not_valid_after(now + days * day)
        )
        if not self._complete:
            return made
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return made.add_extension(own, False).add_extension(issuer, False)


def _usage(*, for_signing: bool) -> x509.KeyUsage:
    """Of a CA, or of a server."""
    return x509.KeyUsage(
        digital_signature=not for_signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=for_signing,
        crl_sign=for_signing,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
