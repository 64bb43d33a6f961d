"""The settings in a VM are compared with those that were checked; ssh is a stand-in."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_image.command import Completed
from mlflow_image.errors import Failure
from mlflow_image.server import arrival
from mlflow_image.vm.ssh import Unreachable

TEXT = "schema_version: 1\n"
HASH = hashlib.sha256(TEXT.encode()).hexdigest()


def vm(code: int, out: str = "", err: str = "") -> Any:
    def run(line: str, **_: object) -> Completed:
        assert "sha256sum" in line
        if code == 255:
            raise Unreachable("no answer")
        return Completed((line,), code, out, err, 0.1)

    machine = SimpleNamespace(run=run, console_text="mlflow-configure: no settings found\n")
    return SimpleNamespace(name="x", machine=machine)


def test_the_same_settings_are_accepted() -> None:
    arrival.require_same(vm(0, f"{HASH}  /etc/mlflow/settings.yaml\n"), TEXT)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (vm(0, f"{'0' * 64}  /etc/mlflow/settings.yaml\n"), "other settings than"),
        (vm(1, "", "sha256sum: x: No such file or directory\n"), "no settings, instead of"),
    ],
)
def test_other_settings_are_an_error_with_the_consoles_lines(found: Any, words: str) -> None:
    with pytest.raises(Failure, match=words) as failure:
        arrival.require_same(found, TEXT)
    assert "no settings found" in failure.value.evidence
    assert "`invoke down --name x`" in failure.value.remedy


@pytest.mark.parametrize("found", [vm(255), vm(1, "", "sudo: a password is required\n")])
def test_a_vm_that_cannot_be_asked_gets_a_warning(
    found: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arrival.require_same(found, TEXT)
    shown = capsys.readouterr()
    assert "not compared" in shown.out + shown.err
