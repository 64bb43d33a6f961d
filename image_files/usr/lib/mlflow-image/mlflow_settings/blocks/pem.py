"""The rules for CA certificates: PEM text, as OpenSSL reads it."""

from __future__ import annotations

import re
import time

from mlflow_settings.wording import Reason

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def certificate_fault(text: str) -> Reason | None:
    """Why a text is not one or more usable CA certificates, or None.

    Only a certificate that has expired is compared with the clock, and only when all have: a
    machine may start with a clock that is years behind.
    """
    remedy = "write the whole certificate, from -----BEGIN CERTIFICATE----- on"
    if "PRIVATE KEY-----" in text:
        return Reason("contains a private key", "write only the certificate, and replace that key")
    if not _BLOCK.search(text):
        der = "convert a DER file with `openssl x509 -inform der -in FILE`"
        return Reason("is not a PEM certificate", f"{remedy}; {der}")
    import ssl  # here: most settings have no certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata="\n".join(_BLOCK.findall(text)))
    except (ssl.SSLError, ValueError):
        return Reason("is not a certificate that OpenSSL can read", remedy)
    ends = [str(one["notAfter"]) for one in context.get_ca_certs()]
    if ends and all(ssl.cert_time_to_seconds(end) < time.time() for end in ends):
        return Reason(f"has expired: {max(ends, key=ssl.cert_time_to_seconds)}", "write a new one")
    return None
