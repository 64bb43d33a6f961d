"""What HDFS and Kerberos say, as one MLflow error with its cause and a remedy.

The texts are those of Hadoop 3.4 and of MIT Kerberos 1.19 to 1.20, as hdfs-native passes them on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mlflow_hdfs import keytab
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)


class Kind(NamedTuple):
    """A fault. pattern: how it is recognised. transient: whether trying again may help."""

    pattern: re.Pattern[str]
    cause: str
    remedy: str
    code: int
    transient: bool = False


def _kind(
    pattern: str, cause: str, remedy: str, code: int = INTERNAL_ERROR, transient: bool = False
) -> Kind:
    return Kind(re.compile(pattern, re.IGNORECASE | re.DOTALL), cause, remedy, code, transient)


KINDS = (
    _kind(
        r"ticket expired|credentials? .*expired|TKT_EXPIRED",
        "the Kerberos ticket has expired",
        "run kinit, or set KRB5_CLIENT_KTNAME to a keytab, which renews it",
        UNAUTHENTICATED,
    ),
    _kind(
        r"clock skew too great",
        "the clock of this machine, of the KDC and of the namenode differ by more than 5 minutes",
        "set the clock: `timedatectl` shows whether NTP is on",
        UNAUTHENTICATED,
    ),
    _kind(
        r"client .*not found in kerberos database|C_PRINCIPAL_UNKNOWN",
        "the KDC does not know this principal",
        "correct the principal; `klist -k FILE` shows those of a keytab",
        UNAUTHENTICATED,
    ),
    _kind(
        r"server .*not found in kerberos database|S_PRINCIPAL_UNKNOWN",
        "the KDC does not know the namenode or datanode by this name",
        "use the host name that the cluster's principals have, in namenode and in hdfs-site.xml",
        UNAUTHENTICATED,
    ),
    _kind(
        r"cannot contact any kdc|cannot find kdc|cannot resolve .*kdc|KDC_UNREACH",
        "no KDC of the realm can be reached",
        "correct realm and kdcs in krb5.conf, and open port 88 to them",
        TEMPORARILY_UNAVAILABLE,
        transient=True,
    ),
    _kind(
        r"preauthentication failed|password incorrect|decrypt integrity check failed",
        "the keytab's keys are not those of the principal any more",
        "fetch the newest keytab of the principal",
        UNAUTHENTICATED,
    ),
    _kind(
        r"keytab .*(no such file|permission denied|not found|bad format)|"
        r"(no such file|permission denied).*keytab|no suitable keys|unsupported key table format",
        "the keytab cannot be read, or has no key of this principal",
        "`klist -k FILE` shows what is in it; the account of the server must be able to read it",
        UNAUTHENTICATED,
    ),
    _kind(
        r"no kerberos credentials available|no credentials cache found|NO_CRED|"
        r"credentials cache file .*not found",
        "there is no Kerberos ticket",
        "run kinit, or set KRB5_CLIENT_KTNAME to a keytab",
        UNAUTHENTICATED,
    ),
    _kind(
        r"wrong principal|realm .*(unknown|not local)|cannot find .*realm",
        "the realm is not the cluster's",
        "correct default_realm and domain_realm in krb5.conf",
        UNAUTHENTICATED,
    ),
    _kind(
        r"safe ?mode|SafeModeException",
        "the namenode is in safe mode and takes no changes",
        "wait: it leaves that mode when its datanodes have reported; else "
        "`hdfs dfsadmin -safemode leave`",
        TEMPORARILY_UNAVAILABLE,
        transient=True,
    ),
    _kind(
        r"StandbyException|operation category .* is not supported in state standby|"
        r"all namenodes failed",
        "no namenode is active",
        "wait for the cluster's fail-over; name all its namenodes in hdfs-site.xml",
        TEMPORARILY_UNAVAILABLE,
        transient=True,
    ),
    _kind(
        r"could only be (written|replicated) to 0|no datanode|not enough datanodes|"
        r"NoDatanodesAvailable|could not obtain block|replicas? .*(unavailable|failed)|"
        r"BlockMissing",
        "no datanode can take or give the data",
        "look at `hdfs dfsadmin -report`; clients must reach the datanodes' ports, too",
        TEMPORARILY_UNAVAILABLE,
        transient=True,
    ),
    _kind(
        r"QuotaExceeded",
        "the folder's quota is used up",
        "delete runs, or let the cluster's operator raise the quota",
    ),
    _kind(
        r"permission denied|AccessControlException",
        "HDFS does not allow this",
        "let the owner of the folder give the right, or use another principal",
        PERMISSION_DENIED,
    ),
    _kind(
        r"FileNotFound|does not exist|No such file",
        "there is no such file",
        "",
        RESOURCE_DOES_NOT_EXIST,
    ),
    _kind(
        r"failed to lookup address|name or service not known|dns error",
        "the host name does not resolve",
        "correct the namenode's name, or the machine's DNS",
        INVALID_PARAMETER_VALUE,
    ),
    _kind(
        r"connection refused|connection reset|broken pipe|timed? ?out|unreachable|"
        r"unexpected eof|early eof",
        "the cluster cannot be reached",
        "check that namenode and datanodes run, and that their ports are open",
        TEMPORARILY_UNAVAILABLE,
        transient=True,
    ),
    _kind(
        r"sasl|GSSAPI|GSS_S",
        "Kerberos refused the connection",
        "compare hadoop.rpc.protection and dfs.data.transfer.protection with the cluster's",
        UNAUTHENTICATED,
    ),
)
_KEYTAB_REMEDY = "`klist -k FILE` shows what is in it; the server's account must be able to read it"
_OTHER = _kind("", "HDFS refused the request", "")


def kind_of(error: BaseException) -> Kind:
    """The first kind that fits."""
    text = f"{type(error).__name__}: {error}"
    return next((kind for kind in KINDS if kind.pattern.search(text)), _OTHER)


def as_mlflow(error: BaseException, place: str) -> MlflowException:
    """The error that MLflow's users see. place: the address that was asked for."""
    kind = kind_of(error)
    if kind.code == UNAUTHENTICATED and (reason := keytab.trouble()):
        kind = kind._replace(cause=reason, remedy=_KEYTAB_REMEDY)
    remedy = f" What to do: {kind.remedy}." if kind.remedy else ""
    return MlflowException(f"{place}: {kind.cause}: {said(error)}.{remedy}", error_code=kind.code)


def said(error: BaseException) -> str:
    """The first line of what the other side said, without Java's stack."""
    text = str(error)
    inner = re.match(r'RPCError\("[\w.$]+", "(.*)"\)\Z', text, re.DOTALL)
    text = inner[1] if inner else text
    first = re.split(r"\n|\\n", text, maxsplit=1)[0]
    return first.replace('\\"', '"').strip().rstrip(".")[:300] or type(error).__name__
