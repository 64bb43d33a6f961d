"""mlflow-configure: checks the settings file and renders it into /run/mlflow.

Invalid settings never replace valid ones. Runs as root at every boot, and when an operator runs
`mlflow-configure --apply`. What it remembers (memory.py) is readable by root only: the last good
document as it was written (never the rendered files), and the paths of known databases.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_settings import apply as applying
from mlflow_settings import cloudinit, database, files, identity, made, proxy, signals
from mlflow_settings.blocks import auth, hdfs, hosts
from mlflow_settings.blocks.block import Machine
from mlflow_settings.blocks.server import Server, unknown_variables
from mlflow_settings.document import Fault, Faults
from mlflow_settings.memory import STATE, Memory, hash_of
from mlflow_settings.render import OPTIONAL_FILES, render
from mlflow_settings.settings import Settings, check
from mlflow_settings.wording import visible

SETTINGS = Path("etc/mlflow/settings.yaml")
RUN = Path("run/mlflow")
SERVER_STATE = Path("var/lib/mlflow")

# Exit codes. STAYED: the settings are refused and the last good ones stay in force; the unit
# counts that as a success, because the server runs. REFUSED: there are no good settings either.
FAILED = 1
REFUSED = 2
STAYED = 3

NO_USER_DATA = (
    "no settings found: the server listens only inside this machine, on 127.0.0.1:8000",
    "to configure it, boot with user-data that writes /etc/mlflow/settings.yaml (write_files),",
    "or write that file here (start with `schema_version: 1`) and run mlflow-configure --apply",
)


@dataclass(frozen=True)
class Verdict:
    """Which settings apply, and what to report.

    settings: None when the server must not start. faults: one line each, reported first. lines:
    reported at the end. good_text: the document to keep as the last good one, or None.
    """

    settings: Settings | None
    lines: tuple[str, ...]
    faults: tuple[str, ...] = ()
    good_text: str | None = None
    exit_code: int = 0


def main(argv: Sequence[str]) -> int:
    """Run the program; returns its exit code."""
    root, checked_file, apply = Path("/"), None, False
    if argv:
        # A boot passes no arguments and saves this import: 10 ms, and 100 in an emulated guest.
        from mlflow_settings.arguments import parse

        arguments = parse(argv)
        root, checked_file, apply = arguments.root, arguments.check, arguments.apply
    if checked_file is not None:
        return check_file(checked_file)
    if root == Path("/") and os.geteuid() != 0:
        say("only root can apply settings: use sudo; --check FILE needs no privileges")
        return FAILED
    try:
        changed, exit_code = configure(root, again=apply)
    except Exception as error:  # whatever it is, the launcher must not wait for settings
        reason = _reason(error)
        if apply:
            say(f"the settings could not be applied: {reason}")
        else:
            _refuse_to_start(root, reason)
        return FAILED
    if apply and exit_code == 0:
        return put_in_force(root, changed)
    return exit_code


def put_in_force(root: Path, changed: bool) -> int:
    """Restart the server where its settings changed; go back to the last good ones if it fails."""
    applying.reset_configure()
    memory, text = Memory(root), _text_or_none(root / SETTINGS)
    if changed:
        applying.proxy(_has_proxy(root))
    elif text is not None and applying.state_of_server() == "active":
        memory.prove(text)
    if applying.restart(say) if changed else applying.ensure_running(say):
        if _has_proxy(root):
            applying.renew_certificate()
        return 0
    say("the server did not become ready: `journalctl --unit mlflow-tracking` says why")
    if not changed or text is None or memory.is_proven(text) or not memory.has_proven:
        return FAILED
    memory.note_failed(text)
    _, exit_code = configure(root)
    applying.proxy(_has_proxy(root))
    if not applying.restart(say):
        say("the server did not become ready with the last good settings either")
        return FAILED
    say(f"the server runs again with the last good settings; /{SETTINGS} was left as it is")
    return exit_code


def _has_proxy(root: Path) -> bool:
    return (root / proxy.CONFIGURATION.lstrip("/")).exists()


def check_file(path: Path) -> int:
    """Print every fault of a settings file; needs no privileges and changes nothing."""
    try:
        check(_read(path), path.name)
    except Faults as refused:
        for fault in refused.faults:
            print(fault)
        return REFUSED
    except OSError as error:
        print(f"{path}: cannot be read: {error.strerror}")
        return REFUSED
    print(f"{path}: the settings are valid")
    return 0


def configure(root: Path, *, again: bool = False) -> tuple[bool, int]:
    """Decide which settings apply below `root`, and write them.

    again: also try a document with which the server did not come up before. Returns (whether
    anything changed, exit code). Raises OSError.
    """
    files.give_to_service(root / SERVER_STATE)
    files.ensure_directory(root / STATE, 0o700)
    files.ensure_directory(root / RUN, 0o750, files.SERVICE_USER)
    with files.locked(root / STATE / "lock"):
        if again:
            Memory(root).forget_failed()
        verdict = decide(root)
        for line in (*cloudinit.lines(root), *verdict.faults):
            say(line)
        changed = _apply(root, verdict)
        for line in verdict.lines:
            say(line)
    return changed, verdict.exit_code


def decide(root: Path) -> Verdict:
    """Which settings apply: those of the settings file, the last good ones, or none."""
    memory = Memory(root)
    try:
        text = _read(root / SETTINGS)
        proven = memory.is_proven(text)
        settings = check(text, SETTINGS.name, read=_reader(root), take_expired=proven)
        database.refuse_unusable(root, settings, SETTINGS.name)
    except FileNotFoundError:
        if not memory.good.exists():
            return Verdict(Settings(server=Server(host="127.0.0.1")), NO_USER_DATA)
        return _fall_back(root, (f"/{SETTINGS} is missing; write it again",))
    except Faults as refused:
        return _fall_back(root, tuple(map(str, refused.faults)))
    except OSError as error:
        return _fall_back(root, (f"/{SETTINGS} cannot be read: {error.strerror}",))
    except Exception as error:
        return _fall_back(root, (f"/{SETTINGS} could not be checked: {_reason(error)}",))
    if memory.has_failed(text) and memory.good.exists():
        fault = f"/{SETTINGS}: the server did not start with these settings when they were applied"
        return _fall_back(root, (f"{fault}; correct them, then run mlflow-configure --apply",))
    lines = (*_unknown_variables(settings), f"/{SETTINGS} is in force")
    return Verdict(settings, lines, good_text=text)


def say(line: str) -> None:
    """Print one line for the journal and the console; the host reads it there (signals.py)."""
    print(signals.configure_line(visible(line)), flush=True)


def _reason(error: Exception) -> str:
    """An unexpected error in one line. Only the text of an OSError holds no setting's value."""
    if isinstance(error, OSError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"


def _unknown_variables(settings: Settings) -> tuple[str, ...]:
    names = unknown_variables({"extra_environment": dict(settings.server.extra_environment)})
    if not names:
        return ()
    return (f"allow_unknown_variables: the server also gets {', '.join(names)}",)


def _fall_back(root: Path, faults: tuple[str, ...]) -> Verdict:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    last_good = Memory(root).good
    try:
        settings = check(_read(last_good), last_good.name, read=_reader(root), take_expired=True)
        database.refuse_unusable(root, settings, last_good.name)
    except FileNotFoundError:
        line = signals.no_server(f"{count} in /{SETTINGS}, and no earlier good settings exist")
        return Verdict(None, (line,), faults, exit_code=REFUSED)
    except Faults as refused:
        faults = (*faults, *(str(fault) for fault in refused.faults))
        line = signals.no_server(f"{count} in /{SETTINGS}, and the last good ones are refused too")
        return Verdict(None, (line,), faults, exit_code=REFUSED)
    except Exception as error:
        faults = (*faults, f"{last_good.name} could not be checked: {_reason(error)}")
        line = signals.no_server(f"{count} in /{SETTINGS}, and the last good ones are refused too")
        return Verdict(None, (line,), faults, exit_code=REFUSED)
    line = f"{count} in /{SETTINGS}: the last good settings stay in force"
    return Verdict(settings, (line,), faults, exit_code=STAYED)


def _refuse_to_start(root: Path, reason: str) -> None:
    say(signals.no_server(reason))
    # Without this file the launcher waits for settings until systemd's timeout.
    with contextlib.suppress(OSError):
        files.write_if_changed(root / RUN / "refused", f"{reason}\n", 0o640, files.SERVICE_USER)


def _apply(root: Path, verdict: Verdict) -> bool:
    run = root / RUN
    if verdict.settings is None:
        (run / "server.json").unlink(missing_ok=True)
        (run / "url").unlink(missing_ok=True)
        reasons = "\n".join((*verdict.faults, *verdict.lines)) + "\n"
        return files.write_if_changed(run / "refused", reasons, 0o640, files.SERVICE_USER)
    (run / "refused").unlink(missing_ok=True)
    memory = Memory(root)
    database.ensure(root, verdict.settings, say)
    if verdict.good_text is None:
        memory.keep_only_proven()
    elif problem := memory.try_out(verdict.good_text):
        say(problem)
    machine = Machine()
    if root == Path("/"):
        machine = files.this_machine()
        applying.allow_metadata_service(verdict.settings.artifact_store.uses_role)
    _advise(verdict.settings, machine)
    device, own = (root / SERVER_STATE).stat().st_dev, None
    if proxy.is_used(verdict.settings):
        files.ensure_directory(root / proxy.FOLDER.lstrip("/"), 0o750, proxy.USER)
        own = identity.ensure(root, verdict.settings.tls, machine)
    if verdict.settings.artifact_store.hdfs:
        files.ensure_directory(root / hdfs.FOLDER.lstrip("/"), 0o750, files.SERVICE_USER)
    rendered = render(verdict.settings, machine, device, own)
    changed = renewed = False
    # The first is server.json: written last, because the launcher waits for it.
    for file in reversed(rendered):
        target = root / file.path.lstrip("/")
        wrote = files.write_if_changed(
            target, file.content, file.mode, file.group, owner=file.owner
        )
        changed |= wrote and not file.live
        renewed |= wrote and file.live
    if renewed and not changed:
        say("the keytab is another one: the server uses it for its next ticket")
    for path in set(OPTIONAL_FILES) - {file.path for file in rendered}:
        (root / path.lstrip("/")).unlink(missing_ok=True)
    # Last: the server that becomes ready next runs with this document (server-is-ready).
    if verdict.good_text is None:
        (run / "document").unlink(missing_ok=True)
    else:
        files.write_if_changed(run / "document", hash_of(verdict.good_text), 0o600)
    return changed


def _advise(settings: Settings, machine: Machine) -> None:
    """Say what was decided for this machine, and what does not fit it."""
    addresses, server, basic = machine.addresses, settings.server, settings.auth.basic
    if addresses and server.host == "0.0.0.0" and all(":" in one for one in addresses):  # noqa: S104
        say('this machine has IPv6 addresses only, but the server listens on IPv4: set host: "::"')
    if basic and basic.is_made:
        say(signals.first_password(basic.admin.name, auth.MADE_PASSWORD))
    if basic is None and (public := hosts.public(server.host, addresses)):
        say(
            f"everybody who can reach {public} may read and delete everything: add "
            "`auth: {basic: {}}`, or set server.host to a private address"
        )
    if server.workers == "auto":
        found = f"{machine.processors} processors and {machine.memory_mib} MiB of memory"
        say(f"workers: {server.workers_on(machine)} (auto: {found})")


def _reader(root: Path) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path == auth.MADE_PASSWORD:
            made.ensure_password(root)
        return (root / path.lstrip("/")).read_bytes()

    return read


def _text_or_none(path: Path) -> str | None:
    try:
        return _read(path)
    except (OSError, Faults):
        return None


def _read(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = Fault(path.name, (), line, "", "is not UTF-8 text", "save it as UTF-8")
        raise Faults([fault]) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
