"""The tracking server: its user, its permissions, its answers."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

PROBE = "http://127.0.0.1:8000/api/2.0/mlflow/experiments/get?experiment_id=0"
GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=60).read().decode())"


def test_a_call_through_the_database_succeeds(host: Host) -> None:
    answer = host.check_output(f"python3 -c '{GET}' '{PROBE}'")
    assert json.loads(answer)["experiment"]["name"] == "Default"


def test_a_new_database_is_in_wal_mode(root: Any) -> None:
    # SQLite's "Database File Format", bytes 18 and 19 of the header: 2 is WAL.
    header = root("head -c 20 /var/lib/mlflow/mlflow.db | tail -c 2 | od -An -tu1")
    assert header.split() == ["2", "2"]


def test_the_launcher_knows_this_mlflow(root: Any) -> None:
    journal = root("journalctl --quiet --no-pager --unit mlflow-tracking.service")
    assert "modules imported early" in journal
    assert "this MLflow" not in journal
    assert "starting over" not in journal


def test_the_services_are_enabled_and_active(host: Host) -> None:
    for name in ("mlflow-configure", "mlflow-tracking"):
        service = host.service(name)
        assert service.is_enabled, name
        assert service.is_running, name


def test_every_process_of_the_server_runs_as_the_user_mlflow(root: Any) -> None:
    pids = root("cat /sys/fs/cgroup/system.slice/mlflow-tracking.service/cgroup.procs").split()
    assert len(pids) >= 2
    assert {root(f"stat -c %U /proc/{pid}") for pid in pids} == {"mlflow"}


def test_the_user_mlflow_has_a_fixed_id_and_no_shell(host: Host) -> None:
    user = host.user("mlflow")
    assert (user.uid, user.gid) == (900, 900)
    assert user.shell in ("/usr/sbin/nologin", "/sbin/nologin")


def test_the_unit_is_hardened_to_an_exposure_of_1_3_or_better(root: Any) -> None:
    verdict = root("systemd-analyze security --no-pager mlflow-tracking.service | tail -n 1")
    exposure = float(verdict.split(":")[1].split()[0])
    assert 0 < exposure <= 1.3, verdict


def test_the_server_gets_more_cpu_time_while_the_machine_boots(root: Any) -> None:
    assert root("systemctl show -P StartupCPUWeight mlflow-tracking.service").strip() == "1000"
    assert root("systemctl show -P CPUWeight mlflow-tracking.service").strip() == "[not set]"


def test_the_environment_has_the_packages_of_a_server(host: Host, image: dict[str, Any]) -> None:
    names = ["mlflow", "boto3", "psycopg2-binary", "uvloop", "flask-wtf"]
    names += ["prometheus-flask-exporter"]
    code = "import importlib.metadata as m, sys; print(*(m.version(n) for n in sys.argv[1:]))"
    found = host.check_output(f"/opt/mlflow/bin/python -c '{code}' {' '.join(names)}").split()
    assert found == [image["packages"][name] for name in names]


#: Without MLflow, whose import takes 15 s in an emulated VM.
HDFS = """
import importlib.metadata as metadata, hdfs_native, mlflow_hdfs
points = metadata.entry_points(group="mlflow.artifact_repository")
print(*sorted(f"{one.name}={one.value}" for one in points if "hdfs" in one.value))
"""


def test_hdfs_and_its_kerberos_work_without_java(host: Host) -> None:
    found = host.check_output(f"/opt/mlflow/bin/python -c '{HDFS}'")
    plugin = "mlflow_hdfs:artifact_repository"
    assert found == f"hdfs={plugin} viewfs={plugin}"
    host.check_output("ldconfig -p | grep -F libgssapi_krb5.so.2")
    for program in ("kinit", "klist"):
        assert host.exists(program)
    assert not host.exists("java")


def test_the_environment_is_byte_compiled(host: Host) -> None:
    folder = "/opt/mlflow/lib/python3.*/site-packages/mlflow"
    sources = int(host.check_output(f"find {folder} -name '*.py' -not -path '*/tests/*' | wc -l"))
    compiled = int(host.check_output(f"find {folder} -name '*.pyc' | wc -l"))
    assert sources > 500
    assert compiled >= sources * 0.99


#: Prints the sources whose bytecode does not match, or is compared with the source at every import:
#: the magic number is followed by flags (1: unchecked) and the source's hash (PEP 552).
OF_ANOTHER_SOURCE = """
import importlib.util as util, pathlib
folder = pathlib.Path(util.find_spec("mlflow").origin).parent / "server"
sources = {p: pathlib.Path(util.cache_from_source(p)) for p in folder.rglob("*.py")}
assert len(sources) > 20
for source, compiled in sources.items():
    expected = bytes([1, 0, 0, 0]) + util.source_hash(source.read_bytes())
    if compiled.read_bytes()[4:16] != expected:
        print(source)
"""


def test_the_bytecode_matches_its_sources(host: Host) -> None:
    assert host.check_output(f"/opt/mlflow/bin/python -c '{OF_ANOTHER_SOURCE}'") == ""


def test_the_launcher_is_compiled_for_the_python_that_runs_it(host: Host) -> None:
    show_tag = "import sys; print(sys.implementation.cache_tag)"
    tag = host.check_output(f"/opt/mlflow/bin/python -c '{show_tag}'")
    folder = "/usr/lib/mlflow-image/mlflow_launch"
    sources = int(host.check_output(f"ls {folder}/*.py | wc -l"))
    assert sources > 5
    assert int(host.check_output(f"ls {folder}/__pycache__/*.{tag}.pyc | wc -l")) == sources


def test_only_ssh_and_the_server_listen(root: Any) -> None:
    sockets = root("ss -Hltn").splitlines()
    addresses = [line.split()[3].rsplit(":", 1) for line in sockets]
    reachable = {port for address, port in addresses if not address.startswith("127.")}
    assert reachable == {"22", "8000"}


def test_settings_are_readable_by_root_only(root: Any) -> None:
    assert root("stat -c '%a %U' /etc/mlflow/settings.yaml") == "600 root"


def test_no_secret_is_in_the_arguments_or_unit_of_the_server(root: Any) -> None:
    assert root("systemctl show -p ExecStart --value mlflow-tracking.service").count("sqlite") == 0


def test_the_server_cannot_ask_the_metadata_services_of_clouds(root: Any) -> None:
    denied = root("systemctl show -P IPAddressDeny mlflow-tracking.service").split()
    assert {"169.254.0.0/16", "fd00:ec2::254/128", "fe80::a9fe:a9fe/128"} <= set(denied)


def test_the_settings_of_a_ready_server_are_the_last_good_ones(root: Any) -> None:
    root("cmp /etc/mlflow/settings.yaml /var/lib/mlflow-image/last-good.yaml")
    assert root("ls /var/lib/mlflow-image").split().count("tried.yaml") == 0


def test_the_first_boot_is_on_the_disk_when_the_server_is_ready(root: Any) -> None:
    root("test -e /var/lib/cloud/instance/mlflow-image-served")
    root("systemctl start mlflow-image-first-boot-end.service")
    root("test -e /var/lib/cloud/instance/mlflow-image-durable")


def test_uploads_go_through_the_guards_of_the_image(host: Host, root: Any) -> None:
    put = (
        "import urllib.request as u;"
        'r = u.Request("http://localhost:8000/api/2.0/mlflow-artifacts/artifacts/contract/x",'
        'data=b"xyz", method="PUT"); print(u.urlopen(r).status)'
    )
    assert host.check_output(f"python3 -c '{put}'") == "200"
    read = 'import os; print(os.getxattr("{}", "user.mlflow_image.length").decode())'
    place = "/var/lib/mlflow/artifacts/contract/x"
    assert root(f"python3 -c '{read.format(place)}'") == "3"


def test_mlflow_is_on_the_path_of_the_login_user(host: Host) -> None:
    assert host.check_output("command -v mlflow") == "/usr/local/bin/mlflow"


def test_interrupted_uploads_are_swept_and_others_stay(root: Any) -> None:
    folder = "/var/lib/mlflow/artifacts"
    root(f"cd {folder} && sudo -u mlflow touch .artifact.uploading.new ordinary")
    root(f"cd {folder} && sudo -u mlflow touch -d '2 days ago' .artifact.uploading.old ordinary")
    root("systemctl start mlflow-sweep.service")
    left = root(f"ls -A {folder}").split()
    assert ".artifact.uploading.old" not in left
    assert {".artifact.uploading.new", "ordinary"} <= set(left)
    assert root("systemctl is-enabled mlflow-sweep.timer") == "enabled"
