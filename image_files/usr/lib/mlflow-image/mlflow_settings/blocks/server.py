"""The block `server`: where the server listens, and which hosts and pages it accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlflow_settings.blocks import hosts
from mlflow_settings.blocks.block import Block, Given, Machine, text_faults
from mlflow_settings.blocks.environment import is_known, variable_fault
from mlflow_settings.wording import Worded

# Of the first process and the machine's own programs; of each worker (measured: 190 to 250 MB).
_OTHER_MIB = 600
_WORKER_MIB = 350
_MOST_WORKERS = 8
# MLflow's functions for metrics write one file for each process there.
PROMETHEUS_FILES = "/run/mlflow-tracking/prometheus"
DEFAULT_PORT = 8000
#: The port of HTTP, which nginx takes instead of the server.
HTTP = 80
_UNITS = {"M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Timeouts:
    """In seconds; None: MLflow's default."""

    artifacts_s: int | None = None
    gateway_s: int | None = None
    webhooks_s: int | None = None


@dataclass(frozen=True)
class Server(Block):
    """Where the server listens, and which hosts and pages it accepts."""

    host: str = "0.0.0.0"  # noqa: S104 - the VM's network limits access; docs/settings.md
    port: int = DEFAULT_PORT
    workers: int | str = "auto"
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    prometheus: bool = False
    upload_limit: str = "none"
    timeouts: Timeouts = field(default_factory=Timeouts)
    job_execution: bool = False
    allow_unknown_variables: bool = False
    # A secret: repr=False keeps it out of tracebacks and logs.
    extra_environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    OWNED: ClassVar[Mapping[str, str]] = {
        "FORWARDED_ALLOW_IPS": "server.trusted_proxies",
        "MLFLOW_HOST": "server.host",
        "MLFLOW_PORT": "server.port",
        "MLFLOW_WORKERS": "server.workers",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "server.allowed_hosts",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "server.allowed_origins",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "server.allowed_hosts",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "server.job_execution",
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "server.timeouts",
        "MLFLOW_EXPOSE_PROMETHEUS": "server.prometheus",
        "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS": "server.timeouts",
        "MLFLOW_IMAGE_UPLOAD_LIMIT": "server.upload_limit",
        "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "server.timeouts",
        "prometheus_multiproc_dir": "server.prometheus",
    }

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rules for hosts, origins, proxies and extra_environment."""
        yield from text_faults(given, "host", hosts.listening_address_fault)
        yield from text_faults(given, "allowed_hosts", hosts.allowed_host_fault)
        yield from text_faults(given, "allowed_origins", hosts.allowed_origin_fault)
        yield from text_faults(given, "trusted_proxies", hosts.proxy_fault)
        for name, value in extra_variables(given).items():
            if reason := variable_fault(name, value):
                yield Worded(("extra_environment", name), reason.message, "", reason.remedy)

    def environment(self, machine: Machine) -> Mapping[str, str]:
        """Everything but extra_environment, which must not override another block."""
        own_names = [*self.allowed_hosts, *map(hosts.in_url, machine.addresses)]
        variables = {
            "MLFLOW_HOST": self.host,
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": str(self.workers_on(machine)),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts.host_entries(own_names)),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": str(self.job_execution).lower(),
        }
        if origins := hosts.origin_entries(own_names, self.allowed_origins, self.port):
            variables["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
        if self.trusted_proxies:
            # Of uvicorn. By way of nginx, a request comes from this machine.
            variables["FORWARDED_ALLOW_IPS"] = ",".join(("127.0.0.1", *self.trusted_proxies))
        if self.prometheus:
            # The second is what MLflow makes of the first; it is read while MLflow is imported.
            variables["MLFLOW_EXPOSE_PROMETHEUS"] = PROMETHEUS_FILES
            variables["prometheus_multiproc_dir"] = PROMETHEUS_FILES
        if self.upload_limit != "none":
            size = int(self.upload_limit[:-1]) << _UNITS[self.upload_limit[-1]]
            variables["MLFLOW_IMAGE_UPLOAD_LIMIT"] = str(size)
        limits = {
            "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": self.timeouts.artifacts_s,
            "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS": self.timeouts.gateway_s,
            "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": self.timeouts.webhooks_s,
        }
        return {**variables, **{name: str(limit) for name, limit in limits.items() if limit}}

    @property
    def inner_port(self) -> int:
        """The port by which the machine's own programs reach the server."""
        return DEFAULT_PORT if self.port == HTTP else self.port

    def workers_on(self, machine: Machine) -> int:
        """The number of workers: as it was written, or what suits the machine (auto).

        Two for one processor, because a worker that waits for a store needs none.
        """
        if isinstance(self.workers, int):
            return self.workers
        in_memory = (machine.memory_mib - _OTHER_MIB) // _WORKER_MIB
        return max(1, min(max(2, machine.processors), in_memory, _MOST_WORKERS))

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Server:
        """Host names and origins become lower case: MLflow compares them literally."""
        values = dict(given)
        for key in ("allowed_hosts", "allowed_origins"):
            if key in values:
                values[key] = tuple(name.lower() for name in values[key])
        values["trusted_proxies"] = tuple(values.get("trusted_proxies", ()))
        values["timeouts"] = Timeouts(**values.get("timeouts", {}))
        return super().from_given(values)


def extra_variables(given: Given) -> Mapping[str, object]:
    """extra_environment as it was written; empty when it is not a block of keys."""
    variables = given.get("extra_environment")
    return variables if isinstance(variables, dict) else {}


def unknown_variables(given: Given) -> list[str]:
    """The names in extra_environment that MLflow does not document, sorted."""
    return sorted(name for name in extra_variables(given) if not is_known(name))
