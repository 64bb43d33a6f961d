"""renew-certificate: runs each day, and soon after a boot, while nginx has a certificate.

Asks the authority for a certificate where the settings say so (`certbot`, which asks only when one
is missing or has a month left), puts the newest one in place, and warns when it ends soon.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlflow_settings import apply, configure, files, identity, proxy
from mlflow_settings.blocks import certificate
from mlflow_settings.blocks.tls import Acme
from mlflow_settings.configure import say
from mlflow_settings.document import Faults
from mlflow_settings.memory import STATE as STATE_OF_CONFIGURE
from mlflow_settings.memory import Memory, hash_of
from mlflow_settings.settings import Settings, check

CERTBOT = "/usr/bin/certbot"
STATE = Path(proxy.ACME)
_CA_FILE = Path(f"{proxy.FOLDER}/acme-ca.pem")
WARN_DAYS = 30
_DAY_S = 24 * 3600
#: The authority's answer in certbot's log (RFC 8555, 6.7).
_ANSWER = re.compile(r"urn:ietf:params:acme:error:\w+ :: (.*)")
#: How certbot's lines begin that do not say why it failed.
_CIRCUMSTANCES = (
    *("Account registered", "An unexpected error", "Ask for help", "Hint:", "Plugins selected"),
    *("Renewing an existing", "Requesting a certificate", "Saving debug log", "Some challenges"),
)
FAILED = 1


def main() -> int:
    """Run the program; returns its exit code."""
    root = Path("/")
    chosen = in_force(root)
    if chosen is None or not chosen.tls.way:
        return 0
    code = FAILED if chosen.tls.acme and not ask(chosen.tls.acme) else 0
    with files.locked(root / STATE_OF_CONFIGURE / "lock"):
        own = identity.ensure(root, chosen.tls, files.this_machine())
        changed = [
            files.write_if_changed(Path(file.path), file.content, file.mode, file.group)
            for file in proxy.files(chosen, own)
            if file.path != proxy.CONFIGURATION
        ]
    if any(changed):
        say("the server has a new certificate")
        apply.proxy(used=True)
    if own and (warning := ends_soon(own.chain)):
        say(warning)
    return code


def in_force(root: Path) -> Settings | None:
    """The settings that mlflow-configure has put in force; an edited file may wait for --apply."""
    memory = Memory(root)
    try:
        wanted = (root / configure.RUN / "document").read_text(encoding="utf-8")
    except OSError:
        return None
    for path in (root / configure.SETTINGS, memory.good):
        with contextlib.suppress(OSError, UnicodeDecodeError, Faults):
            text = path.read_text(encoding="utf-8")
            if hash_of(text) == wanted:
                return check(text, path.name, read=_read, take_expired=True)
    return None


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def ask(acme: Acme) -> bool:
    """Let certbot get or renew a certificate; returns whether it has one. Says why not."""
    Path(proxy.CHALLENGES).mkdir(parents=True, exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(STATE)}
    if acme.ca_certificate:
        files.write_if_changed(_CA_FILE, f"{acme.ca_certificate}\n", 0o644)
        environment["REQUESTS_CA_BUNDLE"] = str(_CA_FILE)
    done = subprocess.run(
        words(acme),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode:
        log = ""
        with contextlib.suppress(OSError):
            log = (STATE / "logs" / "letsencrypt.log").read_text(errors="replace")
        for line in reasons(done.stdout, log):
            say(f"the authority gave no certificate: {line}")
    return done.returncode == 0


def words(acme: Acme) -> Sequence[str]:
    """certbot's command line; nothing in it is secret."""
    names = [word for name in acme.names for word in ("-d", name)]
    folders = [word for one in ("config", "work", "logs") for word in (f"--{one}-dir", STATE / one)]
    return [
        *(CERTBOT, "certonly", "--non-interactive", "--agree-tos", "--keep-until-expiring"),
        *(
            "--expand",
            "--cert-name",
            identity.ISSUED.name,
            "--key-type",
            "ecdsa",
            "--email",
            acme.email,
        ),
        *("--server", acme.directory_url, "--webroot", "--webroot-path", proxy.CHALLENGES),
        *map(str, folders),
        *names,
    ]


def reasons(output: str, log: str = "") -> list[str]:
    """What certbot says of its failure, in at most three lines. log: the text of its own log."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    problems = _problems(lines)
    # certbot 2.1 with Python 3.11 loses the authority's answer, but logs it.
    if not problems and "AttributeError" in output:
        problems = [one.strip() for one in _ANSWER.findall(log)[-1:]]
    telling = [line for line in lines if not line.startswith(_CIRCUMSTANCES)]
    return (problems or telling or ["certbot said nothing"])[:3]


def _problems(lines: Sequence[str]) -> list[str]:
    """`NAME: REASON` of each name that the authority could not prove."""
    found, name = [], ""
    for line in lines:
        key, _, value = line.partition(":")
        name = value.strip() if key == "Domain" else name
        if key == "Detail":
            found.append(f"{name}: {value.strip()}")
    return found


def ends_soon(chain: str, now_s: float | None = None) -> str:
    """What to say of a certificate that ends within WARN_DAYS; "" otherwise."""
    found = certificate.decoded(chain)
    left_s = certificate.seconds_left(found, now_s)
    if left_s > WARN_DAYS * _DAY_S:
        return ""
    if left_s < 0:
        return f"the certificate has expired: {found['notAfter']}"
    return f"the certificate ends in {left_s / _DAY_S:.0f} days: {found['notAfter']}"
