"""Keytabs and Hadoop's files: what is in them, who can read them, what takes a restart."""

from __future__ import annotations

import stat
import struct

import pytest

from mlflow_settings import configure
from mlflow_settings.blocks import hdfs, kerberos
from tests.unit import samples

from .test_configure import Machine, machine

__all__ = ["machine"]

NAMES = ("mlflow@EXAMPLE.COM", "HTTP/host.example.com@EXAMPLE.COM")


def settings(keytab: str = samples.KEYTAB, kdc: str = "kdc1") -> str:
    return f"""\
schema_version: 1
artifact_store:
  hdfs:
    namenode: nn.example.com
    path: /mlflow
    principal: {samples.KEYTAB_PRINCIPAL}
    keytab: {keytab}
    krb5: {{realm: EXAMPLE.COM, kdcs: [{kdc}]}}
"""


def test_a_keytab_says_whose_keys_are_in_it() -> None:
    assert kerberos.principals(samples.keytab(*NAMES, NAMES[0])) == list(NAMES)


def test_a_hole_in_a_keytab_is_skipped() -> None:
    whole = samples.keytab(*NAMES)
    hole = struct.pack(">i", -5) + b"\0" * 5
    assert kerberos.principals(whole[:2] + hole + whole[2:]) == list(NAMES)


@pytest.mark.parametrize("size", range(2, len(samples.keytab(*NAMES)), 7))
def test_a_keytab_that_is_cut_off_is_read_as_far_as_it_goes(size: int) -> None:
    found = kerberos.principals(samples.keytab(*NAMES)[:size])
    assert found == list(NAMES)[: len(found)]


def test_the_files_are_written_and_only_the_service_reads_the_keytab(machine: Machine) -> None:
    machine.give(settings())
    assert machine.boot() == 0
    file = machine.root / hdfs.KEYTAB.lstrip("/")
    assert file.read_bytes() == samples.keytab(samples.KEYTAB_PRINCIPAL)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    folder = machine.root / hdfs.FOLDER.lstrip("/")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert sorted(one.name for one in folder.iterdir()) == ["core-site.xml", "hdfs-site.xml"]
    assert samples.KEYTAB not in (machine.root / "run/mlflow/server.json").read_text()


def test_another_keytab_takes_no_restart_and_another_kdc_does(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.give(settings())
    assert configure.configure(machine.root)[0] is True
    other = samples.keytab(samples.KEYTAB_PRINCIPAL, key=b"n" * 32)
    machine.give(settings(keytab=samples.b64encode(other).decode()))
    assert "the keytab is another one" not in capsys.readouterr().out
    assert configure.configure(machine.root) == (False, 0)
    assert "the keytab is another one" in capsys.readouterr().out
    assert (machine.root / hdfs.KEYTAB.lstrip("/")).read_bytes() == other
    machine.give(settings(kdc="kdc2"))
    assert configure.configure(machine.root) == (True, 0)


def test_a_new_keytab_stays_when_later_settings_are_bad(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure.applying, "reset_configure", lambda: None)
    monkeypatch.setattr(configure.applying, "state_of_server", lambda: "active")
    machine.give(settings())
    machine.boot()
    machine.become_ready()
    other = samples.keytab(samples.KEYTAB_PRINCIPAL, key=b"n" * 32)
    machine.give(settings(keytab=samples.b64encode(other).decode()))
    apply = ["--root", str(machine.root), "--apply"]
    assert configure.main(apply) == 0
    machine.give("schema_version: 1\nserver: {prot: 1}\n")
    assert configure.main(apply) == configure.STAYED
    assert (machine.root / hdfs.KEYTAB.lstrip("/")).read_bytes() == other
    machine.give(None)
    assert machine.boot() == configure.STAYED
    assert (machine.root / hdfs.KEYTAB.lstrip("/")).read_bytes() == other


def test_a_keytab_in_a_file_is_read_as_it_is(machine: Machine) -> None:
    source = machine.root / "etc/mlflow/mlflow.keytab"
    source.write_bytes(samples.keytab(samples.KEYTAB_PRINCIPAL))
    machine.give(settings(keytab="{from_file: /etc/mlflow/mlflow.keytab}"))
    assert machine.boot() == 0
    assert (machine.root / hdfs.KEYTAB.lstrip("/")).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "is not a keytab"),
        (b"no keytab at all", "is not a keytab"),
        (samples.keytab("other@EXAMPLE.COM"), 'has no key of "mlflow@EXAMPLE.COM"'),
        (samples.keytab("mlflow@EXAMPLE.COM")[:20], "is a keytab without a whole entry"),
    ],
)
def test_a_file_that_is_not_the_principals_keytab_is_refused(
    machine: Machine, capsys: pytest.CaptureFixture[str], raw: bytes, says: str
) -> None:
    (machine.root / "etc/mlflow/mlflow.keytab").write_bytes(raw)
    machine.give(settings(keytab="{from_file: /etc/mlflow/mlflow.keytab}"))
    assert machine.boot() == configure.REFUSED
    shown = capsys.readouterr().out
    assert "artifact_store.hdfs.keytab" in shown
    assert says in shown


def test_the_files_are_gone_when_the_store_is_another_one(machine: Machine) -> None:
    machine.give(settings())
    machine.boot()
    machine.give("schema_version: 1\n")
    assert configure.configure(machine.root)[0] is True
    for path in hdfs.FILES:
        assert not (machine.root / path.lstrip("/")).exists()
