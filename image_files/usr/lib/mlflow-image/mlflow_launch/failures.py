"""What remains of a failed start: its reason for the console, and the pause before the next one.

The unit's directory in /run outlives the process. server-has-ended, which systemd runs afterwards
as root, prints the reason from there and doubles the pause; server-is-ready forgets both.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow_launch import notify, places
from mlflow_launch.log import say, warn

# systemd waits this long itself: RestartSec of the unit.
UNIT_PAUSE_S = 5
LONGEST_PAUSE_S = 300
# Up to the last @: a password may contain / and @.
_CREDENTIALS = re.compile(r"//\S*@")
# Variables whose values are no secrets; every other value is taken out of a reason.
_SHOWN = re.compile(
    r"_?MLFLOW_(SERVER_\w+|BACKEND_STORE_URI|ARTIFACTS_DESTINATION|HOST|PORT|WORKERS|SERVE_ARTIFACTS"
    r"|DISABLE_TELEMETRY|ENABLE_WORKSPACES|DEFAULT_ARTIFACT_ROOT"
    r"|AUTH_CONFIG_PATH|BASIC_AUTH_FAIL_CLOSED|CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX|IMAGE_\w+|S3_ENDPOINT_URL|EXPOSE_PROMETHEUS"
    r"|BOTO_CLIENT_ADDRESSING_STYLE|SQLALCHEMYSTORE_\w+|\w+_TIMEOUT(_SECONDS)?)"
    r"|AWS_(EC2_METADATA_DISABLED|SHARED_CREDENTIALS_FILE|CA_BUNDLE|DEFAULT_REGION|RE\w+_CHECKSUM_\w+)"
    r"|USER|LOGNAME|PGPASSFILE|prometheus_multiproc_dir"
    r"|HADOOP_(CONF_DIR|TOKEN_FILE_LOCATION|USER_NAME)|KRB5\w+|MLFLOW_(KERBEROS|HDFS)_\w+"
)


def wait_before_start(run: Path) -> None:
    """Sleep for the rest of the pause that the last failed start left in `run`."""
    try:
        pause_s = int((run / "pause").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    pause_s = min(pause_s, LONGEST_PAUSE_S) - UNIT_PAUSE_S
    if pause_s > 0:
        notify.status(f"the last start failed; waiting {pause_s} s before the next")
        say(f"the last start failed: waiting {pause_s} s more before this one")
        time.sleep(pause_s)


def ensure_temporary_directory() -> None:
    """Use the unit's directory in memory for temporary files if the disk takes none (full disk).

    Without a usable one, MLflow's command ends before it has looked at anything.
    """
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        os.environ["TMPDIR"] = str(places.unit_directory())
        tempfile.tempdir = None
        warn(f"no file can be written to /tmp ({error.strerror}): is the disk full?")


def note(reason: str, environment: Mapping[str, str]) -> None:
    """Log why this start failed, and leave it for the console, on one line and without secrets."""
    line = without_secrets(reason.strip(), environment).partition("\n")[0]
    say(f"not serving: {line}")
    with contextlib.suppress(OSError):
        (places.unit_directory() / "reason").write_text(f"{line}\n", encoding="utf-8")


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """A text without credentials in URLs and without the values of variables that may be secret."""
    secret = (value for name, value in environment.items() if not _SHOWN.fullmatch(name))
    # An error may quote a value, or only a line of it.
    forms = {form for value in secret for form in (value, repr(value)[1:-1], *value.splitlines())}
    for form in sorted(forms, key=len, reverse=True):
        if len(form.strip()) > 3:
            text = text.replace(form.strip(), "(...)")
    return _CREDENTIALS.sub("//(...)@", text)
