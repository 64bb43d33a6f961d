"""The image's contract, run by `invoke verify-image` against a booted VM (Testinfra, paramiko)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def image(host: Host) -> dict[str, Any]:
    """The image's own description, /etc/mlflow-image.json."""
    return json.loads(host.file("/etc/mlflow-image.json").content_string)


@pytest.fixture(scope="module")
def root(host: Host) -> Any:
    """Run a shell command as root; returns its output without the last newline."""

    def run(command: str) -> str:
        done = host.run("sudo sh -c %s", command)
        assert done.rc == 0, f"{command}: {done.stderr}"
        return done.stdout.rstrip("\n")

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip these tests without a VM; `invoke verify-image` boots one for them."""
    if not config.getoption("--hosts"):
        skip = pytest.mark.skip(reason="needs a booted VM: invoke verify-image")
        for item in items:
            item.add_marker(skip)
