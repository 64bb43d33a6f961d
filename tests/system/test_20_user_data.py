"""What `up` says about user-data is what the image's own cloud-init does with it; no VM runs."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from mlflow_image.errors import Refusals
from mlflow_image.images import find
from mlflow_image.server import user_data
from mlflow_image.server.user_data import UserData
from mlflow_settings import userdata

SETTINGS = "schema_version: 1\nserver:\n  port: 9000\n"
PLAIN = userdata.wrap(SETTINGS)
OTHER = b"#cloud-config\nwrite_files:\n  - {path: /etc/motd, content: hello}\n"
JINJA = b"## template: jinja\n"
SECRET = "hunter2-7f3c"
DAMAGED = (
    b"MIME-Version: 1.0\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n"
    b"aGVsbG8=\n"
)
Judge = Callable[[bytes], UserData]

#: The settings' entry alone, to be put below other entries.
ENTRY = PLAIN.split(b"write_files:\n")[1]


def mime(*parts: bytes, encode: str = "7bit") -> bytes:
    """A multi-part archive of cloud-config parts, as `cloud-init devel make-mime` makes it."""
    archive = EmailMessage()
    archive["MIME-Version"] = "1.0"
    archive.make_mixed()
    for number, part in enumerate(parts):
        attached = EmailMessage()
        kind = "x-shellscript" if part.startswith(b"#!") else "cloud-config"
        kind = "jinja2" if part.startswith(JINJA) else kind
        attached.set_content(part.decode(), subtype=kind, cte=encode)
        attached.add_header("Content-Disposition", "attachment", filename=f"{number}.yaml")
        archive.attach(attached)
    return archive.as_bytes()


def with_entry_before(entry: str) -> bytes:
    return f"#cloud-config\nwrite_files:\n{entry}".encode() + ENTRY


@pytest.fixture
def judge(image: Path, tmp_path: Path) -> Judge:
    def judged(raw: bytes) -> UserData:
        file = tmp_path / "u.yaml"
        file.write_bytes(raw)
        return user_data.from_user_data(file, find.in_folder(image), "a-name")

    return judged


@pytest.mark.budget(60)
@pytest.mark.verifies("user-data in every form that cloud-init takes is read as cloud-init does")
@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        b"\n" + PLAIN,
        b"#Cloud-Config" + PLAIN.removeprefix(b"#cloud-config"),
        b"#cloud-config\nx: &a [1]\ny: *a\n" + PLAIN.removeprefix(b"#cloud-config\n"),
        gzip.compress(PLAIN),
        mime(PLAIN),
        mime(PLAIN, encode="base64"),
        gzip.compress(mime(b"#cloud-config\nhostname: x\n", PLAIN)),
        mime(
            OTHER,
            b"#cloud-config\nmerge_how: list(append)+dict(recurse_list)+str()\n"
            + PLAIN.removeprefix(b"#cloud-config\n"),
        ),
        b"#cloud-config-archive\n- |\n" + b"".join(b"  " + li for li in PLAIN.splitlines(True)),
        b"## template: jinja\n" + PLAIN,
        PLAIN.replace(b"/etc/mlflow/", b"/proc/self/root/etc/mlflow//"),
        with_entry_before("  - {path: /x, owner: 'ubuntu:ubuntu', defer: true}\n"),
        with_entry_before("  - {path: /x, owner: 'mlflow:mlflow'}\n"),
    ],
    ids=[
        "plain",
        "blank line",
        "capitals",
        "anchors",
        "gzip",
        "mime",
        "base64",
        "gzip of mime",
        "merged",
        "archive",
        "jinja",
        "odd path",
        "deferred owner",
        "owner of the image",
    ],
)
def test_the_settings_are_found_in_every_form(judge: Judge, raw: bytes) -> None:
    data = judge(raw)
    assert data.raw == raw
    assert data.guest_port == 9000
    assert data.settings == (None if b"jinja" in raw else SETTINGS)
    assert [warning for warning in data.warnings if "schema" not in warning] == []


@pytest.mark.budget(60)
@pytest.mark.verifies("user-data from which cloud-init would not write the settings is refused")
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            with_entry_before("  - {path: /x, owner: 'ubuntu:ubuntu'}\n"),
            ["write_files[0]", "ubuntu", "defer: true"],
        ),
        (with_entry_before("  - {path: /x, encoding: b64, content: a}\n"), ["write_files[0]"]),
        (
            PLAIN.split(b"    content: |")[0] + b"    encoding: b64\n    content: abc\n",
            ["u.yaml:3", "write_files[0]", "its content is not base64"],
        ),
        (
            PLAIN.split(b"    content: |")[0] + b"    encoding: gz+b64\n    content: aGVsbG8=\n",
            ["u.yaml:3", "write_files[0]", "its content is not gzip"],
        ),
        (PLAIN + b"  -\n", ["write_files: fails", "writes no file: an entry is empty"]),
        (PLAIN + b"  - 7\n", ["write_files: fails", "writes no file: an entry is empty"]),
        (PLAIN + b"users: []\nwrite_files: []\n", ["u.yaml:3", "replaces", "merge_how"]),
        (mime(PLAIN, OTHER), ["replaces", "merge_how"]),
        (gzip.compress(mime(PLAIN, OTHER)), ["0.yaml", "replaces"]),
        (
            mime(
                PLAIN,
                b"#cloud-config\nmerge_how: list(append)+dict(recurse_list)+str()\n"
                + PLAIN.removeprefix(b"#cloud-config\n"),
            ),
            ["second time"],
        ),
        (b"schema_version: 1\n", ["not cloud-config", "--settings"]),
        (b"# cloud-config\n", ["not cloud-config"]),
        (b"#cloud-config\n- a\n", ["not a block of keys"]),
        (b"#cloud-config\na: \xff\n", ["u.yaml:2", "UTF-8"]),
        (DAMAGED, ["cannot be read by cloud-init"]),
        (b"#cloud-config\na: [\n", ["u.yaml:3", "not YAML"]),
        (b'#cloud-config\nhost: "\\UFFFFFFFF"\n', ["u.yaml:2", "does not exist"]),
        (PLAIN.replace(b'"0600"', b'"0644"'), ["u.yaml:5", "permissions", '"0600"']),
        (PLAIN.replace(b'    permissions: "0600"\n', b""), ["permissions", "missing"]),
        (PLAIN + b"    append: true\n", ["append"]),
        (PLAIN + b"    defer: true\n", ["defer", "too late"]),
        (PLAIN + b"    encoding: rot13\n", ["rot13", "b64"]),
        (PLAIN + ENTRY, ["second time"]),
        (PLAIN.replace(b"9000", b"99999"), ["u.yaml:9", "server.port"]),
        (mime(PLAIN.replace(b"9000", b"99999")), ["u.yaml:18", "server.port"]),
        (PLAIN + b"cloud_init_modules: [ssh]\n", ["cloud_init_modules"]),
        (
            JINJA + PLAIN + f"password: {{{{ {SECRET.partition('-')[0]} x\n".encode(),
            [f"u.yaml:{len(PLAIN.splitlines()) + 2}", "is not valid Jinja"],
        ),
        (
            gzip.compress(mime(PLAIN, JINJA + b"#cloud-config\na: {{ hunter2 x\n")),
            ["u.yaml (1.yaml):3: is not valid Jinja"],
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_user_data_whose_settings_do_not_arrive_is_refused(
    judge: Judge, raw: bytes, words: list[str]
) -> None:
    with pytest.raises(Refusals) as refusal:
        judge(raw)
    shown = "\n".join(refusal.value.faults)
    assert [word for word in words if word not in shown] == [], shown
    assert SECRET.partition("-")[0] not in shown


@pytest.mark.budget(30)
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (PLAIN + b"runcmd: [ln -s /x /etc/mlflow/settings.yaml]\n", "runcmd names /etc/mlflow"),
        (mime(PLAIN, b"#!/bin/sh\necho >> /etc/mlflow/settings.yaml\n"), "the script 1.yaml names"),
        (PLAIN + b"ssh_pwauth: true\n", "keys only"),
        (PLAIN + b"mlflow: {}\n", "schema"),
        (PLAIN + f"chpasswd: {SECRET}\n".encode(), "schema: chpasswd: the value is not"),
        (PLAIN + b"  - {path: /x, owner: 'ubuntu:ubuntu'}\n", "defer: true"),
        (b"#cloud-config\npackages: [jq]\n", "from inside the VM"),
        (b"#include https://example.com/\n", "includes other URLs"),
        (b"#!/bin/sh\n", "script"),
        (
            b"## template: jinja\n" + PLAIN.replace(b"9000", b"{{ v1.region }}"),
            "the machine knows: region",
        ),
        (JINJA + PLAIN + b"fqdn: '{{ ds.meta_data.a.b }}'\n", "variables that only the machine"),
        (
            PLAIN.replace(b"content: |", b"source: {uri: https://example.com/}\n    content: |"),
            "from a URL",
        ),
        (
            PLAIN.split(b"    content: |")[0]
            + f"    source: {{uri: 'https://user:{SECRET}@example.com/?sig={SECRET}'}}\n".encode(),
            "from a URL",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_known_or_may_surprise_is_a_warning(
    judge: Judge, raw: bytes, words: str
) -> None:
    shown = "\n".join(judge(raw).warnings)
    assert words in shown, shown
    assert SECRET not in shown


@pytest.mark.budget(30)
@pytest.mark.verifies("a Jinja template in user-data runs nothing on the host")
def test_a_template_runs_nothing_on_the_host(judge: Judge, tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-template"
    for call in (
        f"cycler.__init__.__globals__.os.popen('touch {made}').read()",
        f"''.__class__.__mro__[1].__subclasses__()[0].__init__.__globals__['{made}']",
        f"'{{0.__class__.__init__.__globals__[os]}}'.format(cycler) ~ '{made}'",
    ):
        judged = judge(JINJA + PLAIN + f'runcmd: ["{{{{ {call} }}}}"]\n'.encode())
        assert "not checked" in "\n".join(judged.warnings)
        assert "not allowed" in "\n".join(judged.warnings)
    assert not made.exists()


@pytest.mark.budget(30)
def test_a_template_gets_what_is_known_of_the_vm(judge: Judge) -> None:
    named = b'hostname: "{{ ds.meta_data.local_hostname }}"\nfqdn: "{{ v1.cloud_name }}"\n'
    assert judge(JINJA + PLAIN + named).warnings == ()


@pytest.mark.budget(30)
def test_settings_that_unpack_to_megabytes_are_refused(judge: Judge) -> None:
    content = base64.b64encode(gzip.compress(b"#" * 3_000_000)).decode()
    text = (
        PLAIN.decode().split("    content: |")[0]
        + f"    encoding: gz+b64\n    content: {content}\n"
    )
    with pytest.raises(Refusals, match="bytes long"):
        judge(text.encode())
