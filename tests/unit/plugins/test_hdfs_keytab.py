"""What is in a keytab, and why it cannot be used."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from mlflow_hdfs import keytab

from mlflow_settings.blocks import kerberos


def counted(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def entry(principal: str, realm: str) -> bytes:
    names = principal.split("/")
    body = struct.pack(">H", len(names)) + counted(realm) + b"".join(map(counted, names))
    body += struct.pack(">IIBHH", 1, 0, 1, 18, 32) + bytes(32)
    return struct.pack(">i", len(body)) + body


HOLE = struct.pack(">i", -7) + bytes(7)
GOOD = b"\x05\x02" + entry("mlflow", "A.TEST") + HOLE + entry("mlflow", "A.TEST")
TWO = GOOD + entry("nn/host", "A.TEST")


def test_principals_are_named_once_and_in_order() -> None:
    assert keytab.principals(GOOD) == ["mlflow@A.TEST"]
    assert keytab.principals(TWO) == ["mlflow@A.TEST", "nn/host@A.TEST"]
    assert keytab.principals(b"\x05\x02") == []


@pytest.mark.parametrize("raw", [b"", b"root:x:0:0", b"\x05\x01" + GOOD[2:]])
def test_other_files_are_no_keytabs(raw: bytes) -> None:
    with pytest.raises(keytab.NotAKeytabError, match="05 02"):
        keytab.principals(raw)


@pytest.mark.parametrize("length", [4, 8, 12, 20])
def test_a_keytab_that_is_cut_off_is_none(length: int) -> None:
    with pytest.raises(keytab.NotAKeytabError, match="cut off"):
        keytab.principals(GOOD[:length])


@pytest.mark.parametrize("raw", [TWO, TWO + bytes(8), *(TWO[:size] for size in range(2, 250, 3))])
def test_the_servers_settings_read_the_same_in_a_keytab(raw: bytes) -> None:
    try:
        found = keytab.principals(raw)
    except keytab.NotAKeytabError:
        found = []
    assert kerberos.principals(raw) == found


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("", ""),
        ("mlflow", ""),
        ("mlflow@A.TEST", ""),
        ("mlflow@B.TEST", "has no key of mlflow@B.TEST, but of mlflow@A.TEST"),
        ("bob", "has no key of bob, but of mlflow@A.TEST"),
    ],
)
def test_the_keytab_must_have_the_principal(tmp_path: Path, user: str, said: str) -> None:
    file = tmp_path / "a.keytab"
    file.write_bytes(GOOD)
    variables = {"KRB5_CLIENT_KTNAME": f"FILE:{file}", "MLFLOW_KERBEROS_USER": user}
    assert keytab.trouble(variables).endswith(said)
    assert bool(keytab.trouble(variables)) == bool(said)


def test_a_keytab_that_cannot_be_read_is_said_with_its_path(tmp_path: Path) -> None:
    said = keytab.trouble({"KRB5_CLIENT_KTNAME": str(tmp_path / "none")})
    assert said == f"the keytab {tmp_path / 'none'} cannot be read: No such file or directory"


def test_without_a_keytab_there_is_no_trouble() -> None:
    assert keytab.trouble({}) == ""
