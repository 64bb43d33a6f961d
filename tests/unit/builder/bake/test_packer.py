"""Packer: which program is used or refused, and what a failed bake reports."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.builder.bake import packer, packer_from_go
from mlflow_image.builder.bake.packer import CONSOLE_LOG, PACKER_LOG, Packer, Run
from mlflow_image.builder.place import Place
from mlflow_image.errors import Failure, Refusal
from mlflow_image.progress import Step
from mlflow_image.space import DiskFull, Room
from mlflow_image.vm.paused import Paused
from tests.unit.samples import BUILD

Program = Callable[[str, str], Path]


def stand_in(version: str, plugins: str = "") -> str:
    """The body of a stand-in for Packer that prints this version and these plugins."""
    return f"""case "$1 $2" in
  "version ") echo "Packer v{version}" ;;
  "plugins installed") echo "{plugins}" ;;
esac"""


def test_the_packer_on_path_is_used(program: Program) -> None:
    binary = program("packer", stand_in("1.6.6"))
    found = packer.find()
    assert (found.binary, found.version, found.plugins) == (binary, (1, 6, 6), ())
    assert str(found) == f"Packer 1.6.6 (on PATH: {binary})"


def test_a_chosen_packer_is_preferred_to_the_one_on_path(program: Program) -> None:
    program("packer", stand_in("1.6.6"))
    other = program("packer-other", stand_in("1.9.4"))
    assert packer.find(str(other)).version == (1, 9, 4)
    assert packer.find("packer-other").how == "--packer"


def test_a_chosen_packer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Refusal, match="--packer /no/packer: this program was not found"):
        packer.find("/no/packer")


def test_a_long_cache_path_does_not_keep_packers_plugins_from_listening(tmp_path: Path) -> None:
    with packer.folder_for_sockets(tmp_path / "w") as near:
        assert near == tmp_path / "w"
    for work in (tmp_path / ("x" * 100), tmp_path / ("ä" * 50)):
        with packer.folder_for_sockets(work) as short, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{short}/packer-plugin0123456789")
        assert not short.exists()


@pytest.mark.parametrize("version", ["1.6.5", "1.5.9", "0.12.3"])
def test_a_packer_that_is_too_old_is_refused_with_a_remedy(program: Program, version: str) -> None:
    program("packer", stand_in(version))
    with pytest.raises(Refusal, match=rf"is Packer v{version}; the oldest that works") as caught:
        packer.find()
    assert "apt install packer" in caught.value.remedy


def test_another_program_named_packer_is_refused(program: Program) -> None:
    binary = program("packer", "echo 'skipping line: 1' >&2; exit 1")  # as cracklib's packer does
    with pytest.raises(Refusal, match=f"{binary} is not HashiCorp Packer") as caught:
        packer.find()
    assert "--packer" in caught.value.remedy


def test_a_new_packer_without_its_plugin_is_refused(program: Program) -> None:
    program("packer", stand_in("1.11.2"))
    with pytest.raises(Refusal, match=r"Packer 1\.11\.2 needs its qemu plugin") as caught:
        packer.find()
    assert "packer plugins install github.com/hashicorp/qemu" in caught.value.remedy


def test_a_new_packer_with_its_plugin_is_used(program: Program) -> None:
    program("packer", stand_in("1.11.2", "/p/packer-plugin-qemu_v1.0.9_x5.0_linux_amd64"))
    assert packer.find().plugins == (packer.QEMU_PLUGIN,)


def test_packer_is_not_built_when_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MLFLOW_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packer_from_go, "ensure", lambda: pytest.fail("it would be built"))
    with pytest.raises(Refusal, match="--offline, and this host has no Packer") as caught:
        packer.find(offline=True)
    assert "invoke fetch" in caught.value.remedy


def test_plugins_are_searched_in_the_given_folder(program: Program) -> None:
    body = stand_in("1.11.2", "$PACKER_PLUGIN_PATH/packer-plugin-qemu")
    binary = program("packer", f'test "$CHECKPOINT_DISABLE" = 1 || exit 9\n{body}')
    found = packer.usable(binary, "built with Go", Path("/plugins"))
    assert found.environment(Path("/scratch"))["PACKER_PLUGIN_PATH"] == "/plugins"


def test_packer_makes_no_network_calls_and_writes_only_to_its_work_folder() -> None:
    environment = Packer(Path("packer"), (1, 6, 6), "a test").environment(Path("/scratch"))
    assert environment == {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": "/scratch/packer_cache",
        "PACKER_NO_COLOR": "1",
        "TMPDIR": "/scratch",
    }


OUTPUT = """==> qemu.layer: Retrieving ISO
==> qemu.layer: Starting VM, booting disk image
==> qemu.layer: Waiting for SSH to become available...
==> qemu.layer: Connected to SSH!
==> qemu.layer: Provisioning with shell script: /checkout/scripts/guest/10-python.sh
    qemu.layer: :: installing 96 wheels
    qemu.layer: Prepared 96 packages
    qemu.layer: :: byte-compiling
==> qemu.layer: Gracefully halting virtual machine...

"""


def test_the_output_of_packer_is_shown_as_phases(step: Step) -> None:
    run = Run(step)
    seen = []
    for line in OUTPUT.splitlines():
        run.on_line(line)
        seen.append(run.phase)
    step.phase("")
    titles = [title for title, _ in step.phases]
    assert titles == [
        "booting the build VM",
        "installing 96 wheels",
        "byte-compiling",
        "shutting down",
    ]
    assert seen[0] == "starting Packer"
    assert run.output[6] == "Prepared 96 packages"
    assert len(run.output) == 9, "the empty line must not be kept"


def test_only_the_last_output_is_kept(step: Step) -> None:
    run = Run(step)
    for number in range(1000):
        run.on_line(f"    qemu.layer: line {number}")
    assert len(run.output) < 100
    assert run.output[-1] == "line 999"


def test_lines_about_a_skipped_cleanup_do_not_hide_the_last_output(step: Step) -> None:
    run = Run(step)
    run.on_line("    qemu.layer: this step fails")
    run.on_line('==> qemu.layer: aborted: skipping cleanup of step "stepRun"')
    assert run.output == ["this step fails"]


def test_evidence_is_the_last_output_and_the_guests_console(step: Step, tmp_path: Path) -> None:
    run = Run(step, output=["first", "uv: no such wheel"])
    console = "".join(f"\x1b[0;32m  OK  \x1b[0m line {n}\r\n" for n in range(40))
    (tmp_path / CONSOLE_LOG).write_text(console)
    lines = packer.evidence(run, tmp_path).splitlines()
    assert lines[:5] == ["last output:", "  first", "  uv: no such wheel", "", "guest's console:"]
    assert len(lines) == 5 + packer.CONSOLE_LINES
    assert lines[-1] == "    OK   line 39"


def test_evidence_without_a_console_is_only_the_output(step: Step, tmp_path: Path) -> None:
    assert packer.evidence(Run(step, output=["only"]), tmp_path) == "last output:\n  only"


def failing_build(
    program: Program, place: Place, *, keep: bool, last: str = "No solution found"
) -> Failure:
    """Run a stand-in for Packer that prints its arguments and fails at the wheels."""
    binary = program(
        "packer",
        """if [ "$1" = build ]; then
  echo "arguments: $*"
  echo "    qemu.layer: :: installing 96 wheels"
  echo "    qemu.layer: LAST"
  exit 1
fi""".replace("LAST", last),
    )
    (place.logs / CONSOLE_LOG).write_text("[  OK  ] Reached target\n")
    with pytest.raises(Failure) as caught:
        packer.run(Packer(binary, (1, 6, 6), "a test"), BUILD, place, keep_on_error=keep)
    return caught.value


def test_a_failed_build_reports_step_output_console_and_logs(
    program: Program, place: Place
) -> None:
    failure = failing_build(program, place, keep=False)
    logs = place.logs
    assert failure.exit_code == 1
    assert failure.what == "Packer failed while installing 96 wheels"
    assert "No solution found" in failure.evidence
    assert "Reached target" in failure.evidence
    assert str(logs / PACKER_LOG) in failure.remedy and "--on-error=abort" in failure.remedy
    assert "-on-error=cleanup" in (logs / PACKER_LOG).read_text()
    assert (logs / "image.pkr.hcl").is_file()


def test_a_full_disk_of_the_build_vm_is_not_taken_for_one_of_this_host(
    program: Program, place: Place
) -> None:
    room = Room("the layer python", place.work, 0, "clean up")
    with pytest.raises(Failure) as caught, room.guarded():
        raise failing_build(program, place, keep=False, last="tar: No space left on device")
    assert not isinstance(caught.value, DiskFull)
    assert "the build VM's own disk is full" in caught.value.what
    assert "set a larger disk_mib" in caught.value.remedy


def test_the_reason_of_a_paused_build_vm_is_passed_on(
    program: Program, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(*_: object, **__: object) -> None:
        raise Paused("a quota")

    binary = program("packer", "")
    monkeypatch.setattr(packer.command, "stream", pause)
    with pytest.raises(Paused):
        packer.run(Packer(binary, (1, 6, 6), "a test"), BUILD, place, keep_on_error=False)


def test_a_failed_build_that_keeps_its_vm_reports_the_state_of_the_vm(
    program: Program, place: Place
) -> None:
    failure = failing_build(program, place, keep=True)
    assert "the VM is already gone" in failure.remedy
    assert "-on-error=abort" in (place.logs / PACKER_LOG).read_text()


def test_a_kept_vm_is_found_by_its_work_folder_and_its_port(tmp_path: Path) -> None:
    idle = [sys.executable, "-c", "import sys; sys.stdin.read()", "qemu-system-x86_64"]
    forward = "user,hostfwd=tcp:127.0.0.1:2222-:22"
    with subprocess.Popen([*idle, f"{tmp_path}/output", forward], stdin=subprocess.PIPE) as vm:
        remedy = packer.how_to_look(BUILD, tmp_path)
        assert vm.stdin
        vm.stdin.close()
    assert "-p 2222" in remedy and BUILD.key in remedy
    assert f"End it with: kill {vm.pid}; rm -r {tmp_path}" in remedy


def test_a_template_that_packer_rejects_is_not_built(
    program: Program, tmp_path: Path, place: Place
) -> None:
    binary = program("packer", f"echo $1 >> {tmp_path}/calls; echo 'Unsupported argument'; exit 1")
    used = Packer(binary, (1, 6, 6), "a test")
    with pytest.raises(Failure, match="validate") as caught:
        packer.run(used, BUILD, place, keep_on_error=False)
    assert "Unsupported argument" in caught.value.evidence
    assert (tmp_path / "calls").read_text() == "validate\n"
