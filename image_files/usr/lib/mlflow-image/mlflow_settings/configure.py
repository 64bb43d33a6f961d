"""mlflow-configure: settings file in, /run/mlflow out; bad settings never replace good ones.

Runs as root at every boot and whenever an operator says `mlflow-configure --apply`. Of the state
it keeps, in /var/lib/mlflow-image, only root reads anything: the last good document as it was
checked (never what was rendered from it), and the paths of the databases that exist.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_settings import files, signals
from mlflow_settings.blocks.server import Server
from mlflow_settings.document import Fault, Faults
from mlflow_settings.render import render
from mlflow_settings.settings import Settings, check

SETTINGS = Path("etc/mlflow/settings.yaml")
RUN = Path("run/mlflow")
STATE = Path("var/lib/mlflow-image")
EMPTY_DATABASE = Path("opt/mlflow/share/mlflow-image/empty.sqlite")
SYSTEMCTL = "/usr/bin/systemctl"
SERVER_UNITS = ("mlflow-tracking.service", "mlflow-ready.service")

# Exit codes. STAYED: refused, and the last good settings stay in force; the unit counts that as a
# success, because the server serves. REFUSED: and there is nothing to fall back on.
FAILED = 1
REFUSED = 2
STAYED = 3

NO_USER_DATA = (
    "no settings were given: the server answers only inside this machine, on 127.0.0.1:8000",
    "to configure it, boot with user-data whose write_files writes /etc/mlflow/settings.yaml",
    "or write that file here (it begins with `schema_version: 1`): mlflow-configure --apply",
)


@dataclass(frozen=True)
class Verdict:
    """What is to be in force, and what to tell.

    settings: None when nothing may start. good_text: the document to remember as the last good
    one, or None. faults: each one line. exit_code: see the module.
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
        # Not imported at boot, where there are no arguments: 10 ms, and 100 in an emulated guest.
        from mlflow_settings.arguments import parse

        arguments = parse(argv)
        root, checked_file, apply = arguments.root, arguments.check, arguments.apply
    if checked_file is not None:
        return check_file(checked_file)
    if root == Path("/") and os.geteuid() != 0:
        say("only root may put settings in force (sudo); --check FILE needs no rights")
        return FAILED
    try:
        changed, exit_code = configure(root)
    except OSError as error:
        if apply:
            say(f"the settings could not be put in force: {error}")
        else:
            _refuse_to_start(root, str(error))
        return FAILED
    if apply and exit_code == 0:
        # A refusal at boot is mended.
        subprocess.call([SYSTEMCTL, "reset-failed", "--quiet", "mlflow-configure.service"])
    if apply and changed and exit_code == 0:
        say("the settings have changed: restarting the server")
        # mlflow-ready as well: it never ran where the boot's settings were refused.
        return subprocess.call([SYSTEMCTL, "restart", *SERVER_UNITS])
    if apply and exit_code == 0:
        say("nothing has changed: the server goes on")
    return exit_code


def check_file(path: Path) -> int:
    """Say whether a settings file is sound; needs no root and changes nothing."""
    try:
        check(_read(path), path.name)
    except Faults as refused:
        for fault in refused.faults:
            print(fault)
        return REFUSED
    except OSError as error:
        print(f"{path}: cannot be read: {error.strerror}")
        return REFUSED
    print(f"{path}: the settings are sound")
    return 0


def configure(root: Path) -> tuple[bool, int]:
    """Decide what is in force below `root`, and write it: (whether anything changed, exit code)."""
    files.ensure_directory(root / STATE, 0o700)
    files.ensure_directory(root / RUN, 0o750, files.SERVICE_USER)
    with files.locked(root / STATE / "lock"):
        verdict = decide(root)
        for fault in verdict.faults:
            say(fault)
        changed = _put_in_force(root, verdict)
        for line in verdict.lines:
            say(line)
    return changed, verdict.exit_code


def decide(root: Path) -> Verdict:
    """Which settings are to be in force: the given ones, the last good ones, or none."""
    last_good = root / STATE / "last-good.yaml"
    try:
        text = _read(root / SETTINGS)
        settings = check(text, SETTINGS.name)
        _refuse_lost_database(root, settings, SETTINGS.name)
    except FileNotFoundError:
        if not last_good.exists():
            return Verdict(Settings(server=Server(host="127.0.0.1")), NO_USER_DATA)
        return _fall_back(root, (f"/{SETTINGS} is gone; write it again",))
    except Faults as refused:
        return _fall_back(root, tuple(map(str, refused.faults)))
    except OSError as error:
        return _fall_back(root, (f"/{SETTINGS} cannot be read: {error.strerror}",))
    return Verdict(settings, (f"/{SETTINGS} is in force",), good_text=text)


def say(line: str) -> None:
    """Print one line for the journal and the console; the host reads it there (signals.py)."""
    print(signals.configure_line(line), flush=True)


def _fall_back(root: Path, faults: tuple[str, ...]) -> Verdict:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    last_good = root / STATE / "last-good.yaml"
    try:
        settings = check(_read(last_good), last_good.name)
        _refuse_lost_database(root, settings, last_good.name)
    except FileNotFoundError:
        line = signals.no_server(f"{count} in /{SETTINGS}, and no earlier good settings")
        return Verdict(None, (line,), faults, exit_code=REFUSED)
    except Faults as refused:
        faults = (*faults, *(str(fault) for fault in refused.faults))
        line = signals.no_server(f"{count} in /{SETTINGS}, and the last good settings fail")
        return Verdict(None, (line,), faults, exit_code=REFUSED)
    line = f"{count} in /{SETTINGS}: the last good settings stay in force"
    return Verdict(settings, (line,), faults, exit_code=STAYED)


def _refuse_to_start(root: Path, why: str) -> None:
    say(signals.no_server(why))
    # Without this file the launcher would wait for settings until systemd loses patience.
    with contextlib.suppress(OSError):
        files.write_if_changed(root / RUN / "refused", f"{why}\n", 0o640, files.SERVICE_USER)


def _put_in_force(root: Path, verdict: Verdict) -> bool:
    run = root / RUN
    if verdict.settings is None:
        (run / "server.json").unlink(missing_ok=True)
        (run / "url").unlink(missing_ok=True)
        reasons = "\n".join((*verdict.faults, *verdict.lines)) + "\n"
        return files.write_if_changed(run / "refused", reasons, 0o640, files.SERVICE_USER)
    (run / "refused").unlink(missing_ok=True)
    _ensure_database(root, verdict.settings)
    if verdict.good_text is not None:
        last_good = root / STATE / "last-good.yaml"
        files.write_if_changed(last_good, verdict.good_text, 0o600, durable=True)
    addresses = files.own_addresses() if root == Path("/") else ()
    changed = False
    # server.json comes last: the launcher waits for it.
    for rendered in reversed(render(verdict.settings, addresses)):
        target = root / rendered.path.lstrip("/")
        changed |= files.write_if_changed(target, rendered.content, rendered.mode, rendered.group)
    return changed


def _refuse_lost_database(root: Path, settings: Settings, name: str) -> None:
    """A database that was there and is gone is a fault: an empty one would look like data loss."""
    path = settings.backend_store.sqlite
    if path in _known_databases(root) and not (root / path.lstrip("/")).exists():
        raise Faults(
            [
                Fault(
                    name,
                    ("backend_store", "sqlite"),
                    1,
                    path,
                    f"the database {path} was there before and is gone",
                    "bring it back (is its disk mounted?), or, to begin with an empty one, "
                    f"remove its line from /{STATE}/databases",
                )
            ]
        )


def _ensure_database(root: Path, settings: Settings) -> None:
    """A new SQLite file starts as the migrated, empty one made at bake time (11 s less)."""
    path = settings.backend_store.sqlite
    database = root / path.lstrip("/")
    template = root / EMPTY_DATABASE
    if not database.exists() and template.exists():
        files.copy_new(template, database)
        say(f"{path} is a new, empty database")
    known = _known_databases(root)
    if database.exists() and path not in known:
        content = "".join(f"{one}\n" for one in sorted({*known, path}))
        files.write_if_changed(root / STATE / "databases", content, 0o600, durable=True)


def _known_databases(root: Path) -> frozenset[str]:
    try:
        return frozenset((root / STATE / "databases").read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return frozenset()


def _read(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Faults([Fault(path.name, (), line, "", "is not UTF-8 text")]) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
