"""One VM for the examples of examples/: PostgreSQL, S3, users and HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlflow_image.checks.record import README_TABLES
from mlflow_settings import userdata
from tests.peers import guest, stores
from tests.peers.stores import Stores

from ..conftest import Tasks, url_of

NAME = "test-days"
USER, PASSWORD = "ana", "canary-of-ana-s-working-day"
ADMIN = ("admin", "canary-of-the-administrator-s-day")
#: Added to the settings of cloud-init/postgresql-s3.yaml.
DOORS = f"""
auth:
  basic:
    admin: {{name: {ADMIN[0]}, password: "{ADMIN[1]}"}}
    users: [{{name: {USER}, password: "{PASSWORD}"}}]
tls:
  self_signed: {{names: [mlflow.example.com]}}
"""


def row(part: str) -> str:
    """The row of the README's table of days that has these words."""
    (found,) = (name for name in README_TABLES["days"] if part in name)
    return found


@dataclass(frozen=True)
class Day:
    """A server for a working day. url: as its clients see it. ca: of its certificate.

    words: what `client-env` and `client-kit` are told to find the server.
    """

    url: str
    ca: Path
    stores: Stores
    tasks: Tasks = field(repr=False)
    words: tuple[str, ...]

    def client_env(self, form: str = "dotenv") -> str:
        """What `invoke client-env` prints for the user of these tests."""
        shown = self.tasks(
            *("client-env", *self.words, "--format", form, "--with-secrets", "--ca", str(self.ca))
        )
        assert shown.returncode == 0, shown.stderr
        return shown.stdout

    @property
    def variables(self) -> dict[str, str]:
        """What a client sets, by name."""
        lines = (line for line in self.client_env().splitlines() if not line.startswith("#"))
        return dict(line.partition("=")[::2] for line in lines)


@pytest.fixture(scope="package")
def day(tasks: Tasks, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """A VM with everything that a team has; all tests of this folder share it."""
    folder = tmp_path_factory.mktemp("day")
    with stores.running(folder) as running:
        file = folder / "user-data"
        file.write_bytes(userdata.wrap(running.settings() + DOORS) + guest.NAMES)
        with tasks.vm(NAME, "--memory", "1536", "--user-data", str(file)) as up:
            yield Day(url_of(up), folder / "mlflow-ca.pem", running, tasks, ("--name", NAME))
