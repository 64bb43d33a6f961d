"""cloud-init's errors reach the console in one line each, and no value of the user-data does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_settings import cloudinit

SECRET = "hunter2-7f3c"
#: As an image printed them: an entry with `owner: ubuntu:ubuntu`.
OWNER = (
    "('write_files', OSError('Unknown user or group: \"getpwnam(): name not found: "
    "\\'ubuntu\\'\"'))"
)
FAILED = (
    "Running module write_files (<module 'cloudinit.config.cc_write_files' from '/x.py'>) failed"
)


def status(root: Path, errors: list[str], warnings: list[str]) -> Path:
    file = root / "run/cloud-init/status.json"
    file.parent.mkdir(parents=True)
    stage = {"errors": errors, "recoverable_errors": {"WARNING": warnings}, "finished": 1.0}
    document = {"v1": {"datasource": "NoCloud", "stage": None, "init": stage}}
    file.write_text(json.dumps(document))
    return root


def test_an_owner_that_does_not_exist_yet_is_named_once(tmp_path: Path) -> None:
    assert cloudinit.errors(status(tmp_path, [OWNER], [FAILED])) == (
        "cloud-init: the module write_files failed: there is no user or group ubuntu yet "
        "(see /var/log/cloud-init.log)",
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f'Failed loading yaml blob. Invalid format at line 3 column 2: "{SECRET}"', "line 3"),
        (f"Failed at merging in cloud config part from part-002: {SECRET}", "part-002"),
        (f"Unhandled non-multipart (text/x-not-multipart) userdata: '{SECRET}'", "not-multipart"),
        (f"('write_files', ValueError('{SECRET}'))", "write_files failed with ValueError"),
        ("Unknown encoding type rot13, assuming text/plain", "rot13"),
        ("cloud-config failed schema validation! You may run", "cloud-init schema --system"),
        ("Invalid cloud-config provided: Please run 'sudo cloud-init schema", "cloud-init schema"),
        (f"something new about {SECRET}", "may contain values"),
    ],
)
def test_a_message_is_repeated_without_values(tmp_path: Path, message: str, words: str) -> None:
    (line,) = cloudinit.errors(status(tmp_path, [], [message]))
    assert words in line
    assert SECRET not in line


def test_many_messages_are_cut(tmp_path: Path) -> None:
    many = [f"Unknown encoding type a{number}" for number in range(50)]
    assert len(cloudinit.errors(status(tmp_path, many, []))) == cloudinit.MAX_LINES


@pytest.mark.parametrize("text", ["", "[]", '{"v1": 5}', '{"v1": {"init": {"errors": null}}}'])
def test_a_status_of_another_form_says_nothing(tmp_path: Path, text: str) -> None:
    status(tmp_path, [], [])
    (tmp_path / "run/cloud-init/status.json").write_text(text)
    assert cloudinit.lines(tmp_path) == ()


def test_passwords_that_user_data_wants_for_ssh_are_said_to_be_off(tmp_path: Path) -> None:
    assert cloudinit.lines(tmp_path) == ()
    file = tmp_path / "etc/ssh/sshd_config.d/50-cloud-init.conf"
    file.parent.mkdir(parents=True)
    file.write_text("PasswordAuthentication no\n")
    assert cloudinit.lines(tmp_path) == ()
    file.write_text("PasswordAuthentication yes\n")
    assert "keys only" in cloudinit.lines(tmp_path)[0]
