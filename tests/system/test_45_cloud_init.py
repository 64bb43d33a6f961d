"""One VM with user-data in an unusual form that uses most of cloud-init's modules.

Its settings are overwritten through a link, and one entry fails after them, so `up` must notice
both; the modules must find their programs.
"""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from mlflow_settings import userdata

from .conftest import CHECKOUT, Tasks

NAME = "test-forms"
CANARY = "canary-b1946a"
SETTINGS = f"""\
schema_version: 1
server:
  port: 9000
  workers: 1
  extra_environment: {{AWS_SECRET_ACCESS_KEY: {CANARY}}}
"""
#: Merged with the settings' part. /dev/ram0 is a disk in memory, to be partitioned.
MODULES = """\
#cloud-config
merge_how: list(append)+dict(recurse_list)+str()
bootcmd:
  - [modprobe, brd, rd_nr=1, rd_size=131072, max_part=4]
  - [ln, -s, mlflow, /etc/link]
  # Nothing answers there: an update of apt's lists takes minutes, and the network may be absent.
  - echo 'Acquire::http::Proxy "http://127.0.0.1:9";' > /etc/apt/apt.conf.d/99-no-network
write_files:
  - {path: /home/ada/late, owner: "ada:ada", defer: true, content: late}
  - path: /etc/link/settings.yaml
    permissions: "0600"
    content: |
      schema_version: 1
      server: {port: 9000, workers: 1}
  - {path: /srv/never, owner: "ada:ada", content: never}
random_seed: {data: seed}
disk_setup:
  /dev/ram0: {table_type: gpt, layout: [50, 50], overwrite: true}
fs_setup:
  - {label: data, filesystem: ext4, device: /dev/ram0, partition: 1, overwrite: true}
mounts:
  - [/dev/ram0p1, /srv/data, ext4, "defaults,nofail"]
swap: {filename: /swap.img, size: 33554432}
ca_certs:
  trusted:
    - |
      -----BEGIN CERTIFICATE-----
      MIIBlDCCATugAwIBAgIUdHiY0I+qxlFu8TBMZv1TutTq9PwwCgYIKoZIzj0EAwIw
      HzEdMBsGA1UEAwwUbWxmbG93LWltYWdlLXRlc3QtY2EwIBcNMjYxMTI3MTkwNTI0
      WhgPMjEyNjExMDMxOTA1MjRaMB8xHTAbBgNVBAMMFG1sZmxvdy1pbWFnZS10ZXN0
      LWNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9E5bAU8aLh7pmZxbGAJMrpUC
      F9BOiNl7Sxnr2T0iWbXEv7e7wDIcd5HEtRePjChzLalF9nntvqW8XGe/4t5X/KNT
      MFEwHQYDVR0OBBYEFI41KvPWfhqgxsXLEYKd4/Tw9ow2MB8GA1UdIwQYMBaAFI41
      KvPWfhqgxsXLEYKd4/Tw9ow2MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
      RwAwRAIgJS4rZjuKDHhpNkfb8HsfSKwLt847Lh+G0RIi4ZTss3kCIEtI0UZikKTG
      OKRKgSsYl3D396j/zNb7zZw9y3+/Pl8Q
      -----END CERTIFICATE-----
groups: [team]
users:
  - default
  - {name: ada, groups: [team], shell: /bin/bash}
ssh_pwauth: true
chpasswd:
  expire: false
  users: [{name: ada, password: not-a-secret, type: text}]
timezone: Europe/Berlin
locale: C.UTF-8
apt:
  conf: |
    APT::Test "1";
  sources:
    own.list:
      source: "deb [signed-by=$KEY_FILE] https://apt.example.com/ jammy main"
      key: |
        -----BEGIN PGP PUBLIC KEY BLOCK-----

        mDMEawnUdBYJKwYBBAHaRw8BAQdAXSb+v9pMRWQSGmKRXumzw4Y9V9dwmKPYFXcV
        tTQlgXG0EHRlc3RAZXhhbXBsZS5jb22IkAQTFggAOBYhBLxti5bRXDvElTByfHPI
        Hu4cvBH5BQJrCdR0AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEHPIHu4c
        vBH5bbIBAOyUfoWIvYMWL5LBuDZrdQMk1z/Jvxo0NVT2FRPb/zMGAQCPAOKkyjm/
        XAVuVc8jeYsxXioI9qY8FCACV4ARbhiJCg==
        =Saz9
        -----END PGP PUBLIC KEY BLOCK-----
apt_pipelining: none
disable_ec2_metadata: true
runcmd:
  - [touch, /run/runcmd]
updates: {network: {when: [boot, hotplug]}}
final_message: the modules have run
"""
SCRIPT = "#!/bin/sh\ntouch /run/script\n"
#: A shell line in the VM -> what it must print.
PROOFS = {
    "sudo blkid -o value -s LABEL -s TYPE /dev/ram0p1": "data ext4",
    "sudo sfdisk -d /dev/ram0 | grep -c -e 'label: gpt' -e ^/dev/ram0p": "3",
    "findmnt -no TARGET,FSTYPE /dev/ram0p1": "/srv/data ext4",
    "swapon --show=NAME --noheadings": "/swap.img",
    "grep -c . /usr/local/share/ca-certificates/cloud-init-ca-cert-1.crt": "11",
    "grep -q OKRKgSsYl3D396j /etc/ssl/certs/ca-certificates.crt && echo trusted": "trusted",
    "id -Gn ada": "ada team",
    "sudo grep -c '^ada:[$]' /etc/shadow": "1",
    "readlink /etc/localtime": "/usr/share/zoneinfo/Europe/Berlin",
    "cat /etc/timezone": "Europe/Berlin",
    "apt-config dump APT::Test": 'APT::Test "1";',
    "cut -d' ' -f2- /etc/apt/sources.list.d/own.list": (
        "[signed-by=/etc/apt/cloud-init.gpg.d/own.gpg] https://apt.example.com/ jammy main"
    ),
    "ls /run/runcmd /run/script": "/run/runcmd /run/script",
    "sudo cat /home/ada/late": "late",
    "sudo sshd -T | grep ^passwordauthentication": "passwordauthentication no",
    "ip route show 169.254.169.254 | cut -d' ' -f1,2": "prohibit 169.254.169.254",
}


def archive(*parts: str) -> bytes:
    """A gzip-compressed MIME archive."""
    message = EmailMessage()
    message["MIME-Version"] = "1.0"
    message.make_mixed()
    for number, part in enumerate(parts):
        attached = EmailMessage()
        kind = "x-shellscript" if part.startswith("#!") else "cloud-config"
        attached.set_content(part, subtype=kind, cte="base64")
        attached.add_header("Content-Disposition", "attachment", filename=f"part-{number}")
        message.attach(attached)
    return gzip.compress(message.as_bytes())


@pytest.fixture(scope="module")
def up(
    tasks: Tasks, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.CompletedProcess[str]]:
    """What `up` printed for the VM."""
    file = tmp_path_factory.mktemp("user-data") / "archive.gz"
    file.write_bytes(archive(userdata.wrap(SETTINGS).decode(), MODULES, SCRIPT))
    done = tasks("up", "--name", NAME, "--memory", "1536", "--user-data", str(file))
    try:
        yield done
    finally:
        if done.returncode != 2:  # 2: refused, so the VM is not ours
            assert tasks("down", "--name", NAME).returncode == 0


def in_guest(tasks: Tasks, line: str) -> str:
    done = tasks("ssh", "--name", NAME, "--command", line, timeout_s=400)
    return " ".join(done.stdout.split())


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies("`up` fails when other settings arrive in the VM than those it checked")
def test_settings_that_are_overwritten_in_the_vm_are_noticed(
    up: subprocess.CompletedProcess[str],
) -> None:
    shown = up.stdout + up.stderr
    assert up.returncode == 1, shown
    assert "other settings than those that were checked" in shown
    assert "/etc/mlflow/settings.yaml is in force" in shown  # mlflow-configure's lines
    assert CANARY not in shown


def test_the_server_is_forwarded_at_the_port_in_the_archive(
    up: subprocess.CompletedProcess[str], tasks: Tasks
) -> None:
    state = json.loads((CHECKOUT / ".mlflow-image/vms" / NAME / "vm.json").read_text())
    assert state["guest_port"] == 9000
    assert NAME in tasks("status").stdout


def test_the_console_repeats_what_cloud_init_could_not_do(
    up: subprocess.CompletedProcess[str],
) -> None:
    console = (CHECKOUT / ".mlflow-image/vms" / NAME / "console.log").read_text(errors="replace")
    said = [line for line in console.splitlines() if "mlflow-configure: " in line]
    assert any("no user or group ada yet" in line for line in said), said
    assert any("sshd accepts keys only" in line for line in said), said


@pytest.mark.budget(120)
@pytest.mark.verifies("cloud-init's modules find their programs: disks, users, certificates, apt")
def test_the_modules_find_their_programs(
    up: subprocess.CompletedProcess[str], tasks: Tasks
) -> None:
    status = json.loads(in_guest(tasks, "cloud-init status --wait --format json"))
    messages = str(status["errors"]) + str(status["recoverable_errors"])
    answers = in_guest(tasks, "; echo ==; ".join(PROOFS)).split("==")
    found = dict(zip(PROOFS, map(str.strip, answers), strict=True))
    assert found == PROOFS
    assert len(status["errors"]) == 1, messages
    assert "write_files" in messages
