"""Other programs: how they are run and reported; none of them outlives an error."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.paths import HERE
from tests.unit.samples import gone

#: Starts a child that sleeps for a minute, prints its pid, and waits.
WITH_CHILD = "sleep 60 >/dev/null 2>&1 & echo $!; wait"


@contextlib.contextmanager
def ctrl_c(after_s: float = 0) -> Iterator[None]:
    """Raise KeyboardInterrupt as Ctrl-C does; the timer is set here, or by the body."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def test_run_returns_both_streams_the_exit_code_and_the_time() -> None:
    done = command.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    assert done.argv[0] == "sh"
    assert done.seconds > 0


def test_run_passes_standard_input_and_adds_to_the_environment() -> None:
    script = 'cat; echo "$MINE"; test -n "$PATH"'
    done = command.run(["/bin/sh", "-c", script], stdin="typed\n", env={"MINE": "yes"})
    assert done.stdout == "typed\nyes\n"


def test_messages_of_programs_are_in_english_unless_the_caller_wants_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    show = ["sh", "-c", 'echo "$LC_ALL $LANGUAGE."']
    assert command.run(show).stdout == "C.UTF-8 .\n"
    assert command.run(show, env={"LC_ALL": "C"}).stdout == "C .\n"
    lines: list[str] = []
    command.stream(show, lines.append)
    assert lines == ["C.UTF-8 ."]


def test_run_uses_the_given_working_directory(tmp_path: Path) -> None:
    assert command.run(["pwd"], cwd=tmp_path).stdout == f"{tmp_path}\n"


def test_a_failing_program_is_named_with_its_exit_code_and_last_output() -> None:
    with pytest.raises(Failure) as caught:
        command.run(["sh", "-c", "echo no disk >&2; exit 4"], remedy="add a disk")
    assert caught.value.what == "`sh -c 'echo no disk >&2; exit 4'` ended with exit code 4"
    assert caught.value.evidence == "no disk"
    assert caught.value.remedy == "add a disk"


@pytest.mark.parametrize(("mode", "why"), [(0o755, "Exec format error"), (0o644, "Permission")])
def test_a_file_that_is_not_a_program_is_reported_in_one_line(
    tmp_path: Path, mode: int, why: str
) -> None:
    text = tmp_path / "notes"
    text.write_text("not a program\n")
    text.chmod(mode)
    for start in (lambda: command.run([text]), lambda: command.stream([text], print)):
        with pytest.raises(Failure, match=f"{text} could not be started: {why}"):
            start()


def test_standard_output_is_the_evidence_if_standard_error_is_empty() -> None:
    with pytest.raises(Failure) as caught:
        command.run(["sh", "-c", "echo only here; false"])
    assert caught.value.evidence == "only here"


def test_a_missing_program_is_reported_in_one_line_with_a_remedy() -> None:
    for call in (
        lambda: command.run(["no-such-program"]),
        lambda: command.stream(["no-such-program"], print),
    ):
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.what == "no-such-program was not found on this host"
        assert "invoke doctor" in caught.value.remedy


def test_a_program_that_takes_too_long_is_ended_and_named() -> None:
    with pytest.raises(Failure, match=r"`sleep 60` took longer than 1 s"):
        command.run(["sleep", "60"], timeout_s=0.6)


def test_ctrl_c_ends_a_program_and_its_children(tmp_path: Path) -> None:
    named = tmp_path / "pids"
    # The program ends at once, but its child ignores the signal. Packer has such a child,
    # which would continue to write into its folder.
    script = f"(trap '' INT; exec sleep 60) & echo $! $$ > {named}; wait"
    with ctrl_c(after_s=0.5), pytest.raises(KeyboardInterrupt):
        command.run(["bash", "-c", script])
    pids = named.read_text().split()
    assert len(pids) == 2
    assert all(gone(int(pid)) for pid in pids)


def test_a_program_on_the_terminal_prints_its_output_and_its_exit_code_is_returned(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.run_on_terminal(["sh", "-c", "pwd; exit 3"], cwd=tmp_path) == 3
    assert capfd.readouterr().out == f"{tmp_path}\n"


def test_ctrl_c_reaches_a_program_on_the_terminal(tmp_path: Path) -> None:
    script = f"trap 'echo cleaned > {tmp_path}/cleaned; exit' INT; sleep 60 & wait"
    with ctrl_c(after_s=0.5), pytest.raises(KeyboardInterrupt):
        command.run_on_terminal(["bash", "-c", script])
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"


def test_the_log_gets_the_command_its_output_and_its_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command.run(["sh", "-c", "echo first"], log=log)
    command.run(["sh", "-c", "echo second; exit 1"], log=log, check=False)
    lines = log.read_text().splitlines()
    assert lines[0] == "$ sh -c 'echo first'"
    assert lines[1] == "first"
    assert lines[2].startswith("[exit 0, ")
    assert lines[4] == "second"
    assert lines[5].startswith("[exit 1, ")


def test_evidence_is_the_last_lines_with_a_limited_length() -> None:
    text = "\n".join([*(f"line {n}" for n in range(100)), "x" * 10_000])
    lines = command.last_lines(text).splitlines()
    assert len(lines) == command.LAST_LINES
    assert lines[0] == "line 81"
    assert len(lines[-1]) == command.LINE_CHARS


def test_a_long_command_line_is_shortened_and_its_words_are_counted() -> None:
    shown = command.shown(["tool", *("word" for _ in range(99))])
    assert len(shown) < 200
    assert shown.endswith("(100 words)")


def test_stream_passes_on_each_line_of_both_streams_and_logs_them(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "echo one; echo two >&2; echo three"
    command.stream(["sh", "-c", script], lines.append, log=tmp_path / "log")
    assert lines == ["one", "two", "three"]
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"


def test_every_kind_of_line_end_is_recognised_also_between_two_reads() -> None:
    lines: list[str] = []
    script = (
        r"printf 'one\rtwo\r\nthr\303'; sleep 0.1; printf '\251e\r'; sleep 0.1; printf '\nfour'"
    )
    command.stream(["sh", "-c", script], lines.append)
    assert lines == ["one", "two", "thrée", "four"]


def test_a_failing_stream_is_reported_with_its_last_lines() -> None:
    script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; exit 7"
    with pytest.raises(Failure, match="exit code 7") as caught:
        command.stream(["sh", "-c", script], lambda _: None)
    assert caught.value.evidence.splitlines() == [f"line {n}" for n in range(31, 51)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_ends_the_program_and_its_children(error: type[BaseException]) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise error

    with pytest.raises(error):
        command.stream(["sh", "-c", WITH_CHILD], on_line)
    assert len(pids) == 1
    assert gone(pids[0])


def test_a_program_may_clean_up_before_it_ends(tmp_path: Path) -> None:
    def on_line(line: str) -> None:
        raise KeyboardInterrupt

    script = f"trap 'echo cleaned > {tmp_path}/cleaned; exit' INT; echo ready; sleep 60 & wait"
    with pytest.raises(KeyboardInterrupt):
        command.stream(["bash", "-c", script], on_line)
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"


def test_a_program_that_ignores_the_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command.stream(["sh", "-c", "trap '' INT; echo $$; sleep 60"], on_line)
    assert gone(pids[0])


def test_a_second_ctrl_c_ends_everything_at_once() -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            raise KeyboardInterrupt

    script = "trap '' INT; sleep 60 >/dev/null 2>&1 & echo $!; echo $$; wait; sleep 60"
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        command.stream(["sh", "-c", script], on_line)
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_child_that_a_program_left_running_is_ended() -> None:
    pids: list[str] = []
    command.stream(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], pids.append)
    assert gone(int(pids[0]))


def test_a_child_that_keeps_the_output_open_does_not_delay_the_end() -> None:
    pids: list[str] = []
    started = time.monotonic()
    command.stream(["sh", "-c", "sleep 60 & echo $!"], pids.append)
    assert time.monotonic() - started < 10
    assert gone(int(pids[0]))


def test_a_kept_group_survives_its_program_and_does_not_delay_the_end() -> None:
    lines: list[str] = []
    started = time.monotonic()
    script = "sleep 60 & echo $!; echo; printf 'no end of line'; exit 3"
    with pytest.raises(Failure, match="exit code 3") as caught:
        command.stream(["sh", "-c", script], lines.append, keep_group=True)
    assert time.monotonic() - started < 10
    child = psutil.Process(int(lines[0]))
    assert child.is_running()
    child.kill()
    assert lines[1:] == ["", "no end of line"]
    assert caught.value.evidence.endswith("no end of line")


def test_a_kill_of_this_process_ends_a_streamed_program_and_what_it_started() -> None:
    code = (
        "from mlflow_image import command\n"
        f"command.stream(['sh', '-c', {WITH_CHILD!r}], lambda pid: print(pid, flush=True))"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=HERE.root) as build:
        assert build.stdout
        child = int(build.stdout.readline())
        parent = psutil.Process(child).ppid()
        build.kill()
    assert gone(child)
    assert gone(parent)


def test_a_program_that_ended_leaves_no_guard() -> None:
    before = set(psutil.Process().children())
    command.stream(["true"], lambda _: None)
    assert set(psutil.Process().children()) <= before
