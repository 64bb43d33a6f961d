"""The kinds of faults: how each is recognised, its cause, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

# Names of MLflow's error codes: this module does without MLflow.
INTERNAL_ERROR = "INTERNAL_ERROR"
INVALID = "INVALID_PARAMETER_VALUE"
PERMISSION_DENIED = "PERMISSION_DENIED"
MISSING = "RESOURCE_DOES_NOT_EXIST"
UNAUTHENTICATED = "UNAUTHENTICATED"
UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"


class Kind(NamedTuple):
    """A fault. code: the name of MLflow's error. transient: whether trying again may help."""

    name: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    code: str = INTERNAL_ERROR
    transient: bool = False


def _kind(
    name: str,
    pattern: str,
    cause: str,
    remedy: str,
    code: str = INTERNAL_ERROR,
    transient: bool = False,
) -> Kind:
    compiled = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return Kind(name, compiled, cause, remedy, code, transient)


_KERBEROS = (
    _kind(
        "token",
        r"SecretManager\$InvalidToken|token .*(is expired|can't be found)",
        "the delegation token has ended, or the cluster does not know it",
        "fetch a new one with `hdfs fetchdt`, to the file of HADOOP_TOKEN_FILE_LOCATION",
        UNAUTHENTICATED,
    ),
    _kind(
        "expired",
        r"ticket expired|credentials? .*expired|TKT_EXPIRED",
        "the Kerberos ticket has expired",
        "run kinit, or set KRB5_CLIENT_KTNAME to a keytab, which renews it",
        UNAUTHENTICATED,
    ),
    _kind(
        "skew",
        r"clock skew too great",
        "the clock of this machine, of the KDC and of the namenode differ by more than 5 minutes",
        "set the clock: `timedatectl` shows whether NTP is on",
        UNAUTHENTICATED,
    ),
    _kind(
        "unknown-principal",
        r"client .*not found in kerberos database|C_PRINCIPAL_UNKNOWN",
        "the KDC does not know this principal",
        "correct the principal; `klist -k FILE` shows those of a keytab",
        UNAUTHENTICATED,
    ),
    _kind(
        "wrong-realm",
        r"server krbtgt/.*not found in kerberos database|wrong principal|"
        r"realm .*(unknown|not local)|cannot find .*realm of",
        "the realm is not the cluster's",
        "correct default_realm and domain_realm in krb5.conf",
        UNAUTHENTICATED,
    ),
    _kind(
        "unknown-server",
        r"server .*not found in kerberos database|S_PRINCIPAL_UNKNOWN",
        "the KDC does not know the namenode or datanode by this name",
        "use the host name that the cluster's principals have, in namenode and in hdfs-site.xml",
        UNAUTHENTICATED,
    ),
    _kind(
        "no-kdc",
        r"cannot contact any kdc|cannot find kdc|cannot resolve .*kdc|KDC_UNREACH",
        "no KDC of the realm can be reached",
        "correct realm and kdcs in krb5.conf, and open port 88 to them",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "old-keys",
        r"preauthentication failed|password incorrect|decrypt integrity check failed",
        "the keytab's keys are not those of the principal any more",
        "fetch the newest keytab of the principal",
        UNAUTHENTICATED,
    ),
    _kind(
        "keytab",
        r"\A(?!.*AccessControlException).*("
        r"key ?tab(le)? .*(no such file|permission denied|not found|bad format)|"
        r"(no such file|permission denied).*key ?tab|no suitable keys|"
        r"unsupported key table format)",
        "the keytab cannot be read, or has no key of this principal",
        "`klist -k FILE` shows what is in it; the account of the server must be able to read it",
        UNAUTHENTICATED,
    ),
    _kind(
        "no-ticket",
        r"no kerberos credentials available|no credentials cache found|NO_CRED|"
        r"credentials cache file .*not found|can't find client principal",
        "there is no Kerberos ticket",
        "run kinit, or set KRB5_CLIENT_KTNAME to a keytab",
        UNAUTHENTICATED,
    ),
)
_HDFS = (
    _kind(
        "safe-mode",
        r"safe ?mode|SafeModeException|namenode still not started|RetriableException",
        "the namenode starts or is in safe mode, and takes no changes",
        "wait: it leaves that mode when its datanodes have reported; else "
        "`hdfs dfsadmin -safemode leave`",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "standby",
        r"StandbyException|operation category .* is not supported in state|all namenodes failed",
        "no namenode is active",
        "wait for the cluster's fail-over; name all its namenodes in hdfs-site.xml",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "no-datanode",
        r"could only be (written|replicated) to 0|no datanode|not enough datanodes|"
        r"NoDatanode|could not obtain block|replicas? .*(unavailable|failed)|"
        r"BlockMissing|all datanodes failed|DataTransferError|BlocksNotFound",
        "no datanode can take or give the data",
        "look at `hdfs dfsadmin -report`; clients must reach the datanodes' ports, too",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "busy",
        r"not replicated yet|NotReplicatedYet",
        "the datanodes have not reported the last block yet",
        "try again; if it lasts, look at `hdfs dfsadmin -report`",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "quota",
        r"QuotaExceeded",
        "the folder's quota is used up",
        "delete runs, or let the cluster's operator raise the quota",
    ),
    _kind(
        "permission",
        r"permission denied|AccessControlException",
        "HDFS does not allow this",
        "let the owner of the folder give the right, or use another principal",
        PERMISSION_DENIED,
    ),
    _kind(
        "exists",
        r"FileExistsError|FileAlreadyExists|ParentNotDirectory|is not a directory|is a directory",
        "a file is where a folder is wanted, or a folder where a file is",
        "use another artifact path, or delete what is there",
        INVALID,
    ),
    _kind(
        "missing",
        r"FileNotFound|does not exist|No such file",
        "there is no such file",
        "",
        MISSING,
    ),
)
_NETWORK = (
    _kind(
        "address",
        r"no namenode hosts found|no host for name service|UrlParseError|empty host|"
        r"fs\.defaultFS|no viewfs|mount table",
        "the address names no namenode, and there is no configuration that does",
        "write hdfs://NAMENODE:8020/FOLDER, or set HADOOP_CONF_DIR to the folder with the "
        "cluster's core-site.xml and hdfs-site.xml",
        INVALID,
    ),
    _kind(
        "not-a-namenode",
        r"InvalidRPCResponse|DecodeError",
        "another program than a namenode answers on this port",
        "write the port of dfs.namenode.rpc-address, 8020 on most clusters, and not that of a page",
        INVALID,
    ),
    _kind(
        "configuration",
        r"XmlParseError",
        "core-site.xml or hdfs-site.xml in HADOOP_CONF_DIR cannot be read",
        "copy both from a machine of the cluster",
        INVALID,
    ),
    _kind(
        "dns",
        r"failed to lookup address|name or service not known|dns error",
        "the host name does not resolve",
        "correct the namenode's name, or the machine's DNS",
        INVALID,
    ),
    _kind(
        "not-kerberos",
        r"RPC listener disconnected",
        "the namenode hangs up: it stops, or it wants Kerberos and is asked without",
        "if the cluster has Kerberos, hadoop.security.authentication in core-site.xml must say so",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "unreachable",
        r"connection refused|connection reset|broken pipe|timed? ?out|unreachable|"
        r"unexpected eof|unexpected end of file|early eof|connection aborted",
        "the cluster cannot be reached",
        "check that namenode and datanodes run, and that their ports are open",
        UNAVAILABLE,
        transient=True,
    ),
    _kind(
        "sasl",
        r"sasl|GSSAPI|GSS_S|GSS initiate failed",
        "Kerberos refused the connection",
        "compare hadoop.rpc.protection and dfs.data.transfer.protection with the cluster's",
        UNAUTHENTICATED,
    ),
)
KINDS = (*_KERBEROS, *_HDFS, *_NETWORK)
#: Instead of "expired" for who has a keytab: the library then names the last ticket.
NOT_RENEWED = _kind(
    "not-renewed",
    "",
    "the Kerberos ticket has expired, and the keytab gives no new one: no KDC answers, or the keys "
    "are not the principal's any more",
    "`kinit -k -t FILE PRINCIPAL` says which; open port 88 to the KDCs, or fetch the newest keytab",
    UNAVAILABLE,
    transient=True,
)
OTHER = _kind("other", "", "HDFS refused the request", "")
