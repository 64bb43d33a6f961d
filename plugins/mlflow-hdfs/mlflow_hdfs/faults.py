"""What HDFS and Kerberos say, as one MLflow error with its cause and a remedy.

The texts are those of Hadoop 3.4 and of MIT Kerberos 1.19 to 1.20, as hdfs-native passes them on;
`kinds.py` lists them. Neither MLflow nor hdfs-native is needed for `describe`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from mlflow_hdfs import keytab
from mlflow_hdfs.kinds import KINDS, NOT_RENEWED, OTHER, UNAUTHENTICATED, UNAVAILABLE, Kind

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

__all__ = ["Kind", "NoDatanodeError", "as_mlflow", "describe", "kind_of", "said"]

#: Set in a tracking server: its own ticket is at fault, and its client must not read that it has to
#: sign in.
ON_SERVER = "MLFLOW_HDFS_ON_SERVER"
_LONGEST = 300
_KEYTAB_REMEDY = "`klist -k FILE` shows what is in it; the server's account must be able to read it"
_UNFIT_REMEDY = (
    "write the namenode as the token does, as a rule by its IP address; tokens end after a week"
)
#: The library's errors in Rust's own notation: a name, and in its last quotes what was said.
_QUOTED = re.compile(r'\w+\((?:.*, )?"((?:[^"\\]|\\.)*)"\)\Z', re.DOTALL)
_ESCAPED = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r"}


class NoDatanodeError(Exception):
    """A namenode has answered, but a datanode cannot be reached: it says the same as the former."""


def kind_of(error: BaseException) -> Kind:
    """The first kind that fits."""
    # Not Java's stack: it names many classes and files.
    text = re.split(r"\n|\\n", f"{type(error).__name__}: {error}", maxsplit=1)[0]
    kind = next((kind for kind in KINDS if kind.pattern.search(text)), OTHER)
    renews = os.environ.get("KRB5_CLIENT_KTNAME") and not keytab.trouble()
    return NOT_RENEWED if kind.name == "expired" and renews else kind


def describe(error: BaseException) -> tuple[Kind, str]:
    """What kind of fault it is, and what was said in one line.

    A keytab or token that cannot be used is said: GSSAPI knows only that there is no ticket.
    """
    kind = kind_of(error)
    if kind.code == UNAUTHENTICATED and (reason := keytab.trouble()):
        kind = kind._replace(name="keytab", cause=reason, remedy=_KEYTAB_REMEDY)
    elif kind.name == "no-ticket" and (file := os.environ.get("HADOOP_TOKEN_FILE_LOCATION")):
        cause = f"{file} has no delegation token for this address, and there is no ticket"
        kind = kind._replace(name="token", cause=cause, remedy=_UNFIT_REMEDY)
    return kind, said(error)


def as_mlflow(error: BaseException, place: str) -> MlflowException:
    """The error that MLflow's users see. place: the address that was asked for."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    kind, words = describe(error)
    remedy = f" What to do: {kind.remedy}." if kind.remedy else ""
    text = f"{place}: {kind.cause}: {words}.{remedy}"
    return MlflowException(text, error_code=ErrorCode.Value(code_of(kind)))


def code_of(kind: Kind) -> str:
    """The name of MLflow's error code."""
    own_ticket = kind.code == UNAUTHENTICATED and os.environ.get(ON_SERVER)
    return UNAVAILABLE if own_ticket else kind.code


def said(error: BaseException) -> str:
    """The first line of what the other side said, without Java's stack and Rust's notation."""
    text = str(error)
    if quoted := _QUOTED.match(text):
        text = _ESCAPED.sub(_unescaped, quoted[1])
    first = text.strip().partition("\n")[0].strip()
    # Kerberos's own words stand behind those of GSSAPI.
    first = re.sub(r"^(No credentials were supplied|Unspecified GSS failure)[^:]*: ", "", first)
    # The library lists each datanode with all its fields.
    first = re.sub(r"\[DatanodeInfoProto.*", "its blocks' datanodes do not answer", first)
    return first.rstrip(".")[:_LONGEST] or type(error).__name__


def _unescaped(found: re.Match[str]) -> str:
    code, letter = found.groups()
    return chr(int(code, 16)) if code else _LETTERS.get(letter, letter)
