"""What HDFS and Kerberos say becomes a cause and a remedy; the texts are real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_hdfs import faults, kinds

PLUGIN = Path(__file__).parents[3] / "plugins" / "mlflow-hdfs"
_CODES = (
    'GssMajorCodes { raw: "0x00070000", calling_error: "none", routine_error: "GSS_S_NO_CRED", '
    'supplementary_info: "0x0000" }'
)
_NO_CREDENTIALS = (
    "No credentials were supplied, or the credentials were unavailable or inaccessible: "
)


def gss(text: str) -> RuntimeError:
    return RuntimeError(f'GSSAPIError({_CODES}, 2529639053, "{_NO_CREDENTIALS}{text}")')


def rpc(name: str, text: str) -> RuntimeError:
    return RuntimeError(f'RPCError("org.apache.hadoop.{name}", "{text}\\n\\tat org.apache.Java")')


CASES = {
    "no-ticket": gss("No Kerberos credentials available (default cache: MEMORY:x)"),
    "expired": gss("Ticket expired"),
    "skew": gss("Clock skew too great"),
    "unknown-principal": gss("Client 'bob@PEERS.TEST' not found in Kerberos database"),
    "wrong-realm": gss("Server krbtgt/OTHER@PEERS.TEST not found in Kerberos database"),
    "unknown-server": gss("Server nn/x@PEERS.TEST not found in Kerberos database"),
    "no-kdc": gss("Cannot contact any KDC for realm 'PEERS.TEST'"),
    "old-keys": gss("Decrypt integrity check failed"),
    "token": rpc("security.token.SecretManager$InvalidToken", "token (x) can't be found in cache"),
    "safe-mode": rpc("hdfs.server.namenode.SafeModeException", "Name node is in safe mode."),
    "standby": rpc("ipc.StandbyException", "Operation category READ is not supported in state"),
    "no-datanode": rpc("x.IOException", "File /a could only be written to 0 of the 1 nodes"),
    "busy": rpc("hdfs.server.namenode.NotReplicatedYetException", "Not replicated yet: /a"),
    "quota": rpc("hdfs.protocol.NSQuotaExceededException", "The NameSpace quota is exceeded"),
    "permission": rpc(
        "security.AccessControlException",
        'Permission denied: user=mlflow, access=WRITE, inode=\\"/top\\":root:root:drwxr-xr-x',
    ),
    "exists": FileExistsError("/a/b (is not a directory)"),
    "missing": FileNotFoundError("File does not exist: /a"),
    "dns": OSError("failed to lookup address information: Name or service not known"),
    "address": RuntimeError('InvalidArgument("No NameNode hosts found")'),
    "not-kerberos": OSError("RPC listener disconnected"),
    "unreachable": OSError("Connection refused (os error 111)"),
    "sasl": RuntimeError('SASLError("no common protection")'),
    "not-a-namenode": RuntimeError("InvalidRPCResponse(DecodeError { description: BufferUnderflow"),
    "configuration": RuntimeError('XmlParseError("unexpected end of stream")'),
    "keytab": gss("Unsupported key table format version number"),
    "other": RuntimeError("Something else"),
}


#: Words of other faults in a path, and in the classes of Java's stack.
MISLEADING = {
    "permission": rpc(
        "security.AccessControlException",
        'Permission denied: user=bob, access=WRITE, inode=\\"/keytab/no such file\\":root',
    ),
    "quota": RuntimeError(
        'RPCError("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "The DiskSpace quota '
        'is exceeded\\n\\tat org.apache.hadoop.security.AccessControlException.timed_out")'
    ),
}


@pytest.fixture(autouse=True)
def no_keytab(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("KRB5_CLIENT_KTNAME", "MLFLOW_KERBEROS_USER", "HADOOP_TOKEN_FILE_LOCATION")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_recognised_by_what_was_said(name: str) -> None:
    kind, said = faults.describe(CASES[name])
    assert kind.name == name
    assert kind.cause
    assert said


def test_a_datanode_that_refuses_is_not_taken_for_the_namenode() -> None:
    error = faults.NoDatanodeError("Connection refused (os error 111)")
    assert faults.describe(error)[0].name == "no-datanode"


def test_each_kind_has_a_name_of_its_own_and_tells_what_to_do() -> None:
    names = [kind.name for kind in (*kinds.KINDS, kinds.OTHER)]
    assert len(set(names)) == len(names)
    assert [kind.name for kind in kinds.KINDS if not kind.remedy] == ["missing"]


def test_only_what_was_said_is_repeated_without_java_and_rust() -> None:
    assert faults.said(CASES["no-kdc"]) == "Cannot contact any KDC for realm 'PEERS.TEST'"
    assert faults.said(CASES["permission"]) == (
        'Permission denied: user=mlflow, access=WRITE, inode="/top":root:root:drwxr-xr-x'
    )
    assert faults.said(RuntimeError('InvalidPath("a\\u{fc}b")')) == "aüb"
    assert faults.said(RuntimeError("")) == "RuntimeError"


def test_a_keytab_that_is_none_is_said_instead_of_no_ticket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.keytab"
    file.write_text("root:x:0:0")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(file))
    kind, _ = faults.describe(CASES["no-ticket"])
    assert (kind.name, kind.cause) == (
        "keytab",
        f"{file} is not a keytab: it does not begin with the bytes 05 02",
    )
    assert faults.describe(CASES["permission"])[0].name == "permission"


def test_an_expired_ticket_of_who_has_a_keytab_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.keytab"
    file.write_bytes(b"\x05\x02")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(file))
    kind = faults.kind_of(CASES["expired"])
    assert (kind.name, kind.transient) == ("not-renewed", True)


def test_a_token_that_does_not_fit_is_said_instead_of_no_ticket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HADOOP_TOKEN_FILE_LOCATION", "/run/token")
    kind, _ = faults.describe(CASES["no-ticket"])
    assert (kind.name, kind.cause.partition(" has ")[0]) == ("token", "/run/token")


def test_neither_mlflow_nor_the_library_is_imported() -> None:
    line = (
        "import sys; sys.modules.update(mlflow=None, hdfs_native=None); "
        f"sys.path.insert(0, {str(PLUGIN)!r}); from mlflow_hdfs import faults; "
        "print(faults.describe(OSError('Connection refused (os error 111)'))[0].name)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", line], capture_output=True, text=True)
    assert done.stdout == "unreachable\n", done.stderr


@pytest.mark.parametrize("name", MISLEADING)
def test_paths_and_javas_stack_do_not_mislead(name: str) -> None:
    assert faults.kind_of(MISLEADING[name]).name == name


def test_a_server_does_not_ask_its_clients_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {}
    for on_server in ("", "true"):
        monkeypatch.setenv(faults.ON_SERVER, on_server)
        codes[on_server] = faults.code_of(faults.kind_of(CASES["no-ticket"]))
    assert codes == {"": "UNAUTHENTICATED", "true": "TEMPORARILY_UNAVAILABLE"}


def test_every_kind_of_fault_has_a_text() -> None:
    assert set(CASES) == {kind.name for kind in (*kinds.KINDS, kinds.OTHER)}
