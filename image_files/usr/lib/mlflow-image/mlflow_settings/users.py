"""mlflow-admin users: accounts and rights, for an operator who may have locked himself out.

Talks to the running server as the machine's own account (mlflow_launch/own_access.py), so that what
it changes is in force at once. Passwords are typed or made, and never in an argument.
Source: the user API of MLflow 3.17.2 (mlflow/server/auth/routes.py).
"""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_settings.blocks import auth

FAILED = 1
RESOURCES = ("experiment", "registered_model", "prompt")
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "DENY")
_TIMEOUT_S = 60


class RefusedError(Exception):
    """The server did not do what was asked; str() says why. code: MLflow's, or ""."""

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Api:
    """The user API of one server. secret: of the machine's own account."""

    url: str
    secret: str

    def call(self, method: str, path: str, **content: object) -> Mapping[str, Any]:
        """One call; its answer. Raises RefusedError."""
        target = f"{self.url}/api/{path}"
        body = None
        if method == "GET":
            target += "?" + urllib.parse.urlencode(content)
        else:
            body = json.dumps(content).encode()
        pair = base64.b64encode(f"{auth.OWN_NAME}:{self.secret}".encode()).decode("ascii")
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        request = urllib.request.Request(target, body, headers, method=method)  # noqa: S310
        # No proxy: it is this machine that is asked.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                found: Mapping[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except OSError as error:
            raise RefusedError(
                f"the server at {self.url} does not answer ({error}): "
                "`systemctl status mlflow-tracking` says why"
            ) from None


def main(argv: Sequence[str], url: str) -> int:
    """Run the command; returns its exit code. url: of the server, on this machine."""
    arguments = parser().parse_args(argv)
    try:
        secret = auth.OWN_ACCESS.read_text(encoding="ascii")
    except FileNotFoundError:
        print(
            "mlflow-admin users: the server has no users: add `auth: {basic: {}}` to the "
            "settings, then run mlflow-configure --apply (or it is still starting)",
            file=sys.stderr,
        )
        return FAILED
    except OSError as error:
        print(f"mlflow-admin users: {auth.OWN_ACCESS}: {error.strerror}", file=sys.stderr)
        return FAILED
    try:
        arguments.run(Api(url, secret), arguments)
    except RefusedError as refused:
        print(f"mlflow-admin users: {refused}", file=sys.stderr)
        return FAILED
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="mlflow-admin users",
        description="Accounts and rights of this server. Passwords are asked for, or read from the "
        "standard input when that is no terminal.",
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("list", list_users, "list the users")
    command = add("add", add_user, "make a user")
    command.add_argument("name")
    command.add_argument("--admin", action="store_true", help="make an administrator")
    command.add_argument("--made", action="store_true", help="make a password, and print it")
    command = add("passwd", change_password, "set a user's password, at once in force")
    command.add_argument("name")
    command.add_argument("--made", action="store_true", help="make a password, and print it")
    command = add("grant", grant, "give a user a right to one experiment or model")
    command.add_argument("name")
    command.add_argument("resource", choices=RESOURCES)
    command.add_argument("id", help="an experiment's number, or a model's name")
    command.add_argument("permission", choices=PERMISSIONS)
    command = add("admin", make_admin, "make a user an administrator, or an ordinary user again")
    command.add_argument("name")
    command.add_argument("--revoke", action="store_true", help="make an ordinary user")
    command = add("delete", delete, "delete a user; what he has logged stays")
    command.add_argument("name")
    return found


def list_users(api: Api, _arguments: argparse.Namespace) -> None:
    """Print each user on a line."""
    users = api.call("GET", "2.0/mlflow/users/list")["users"]
    for user in sorted(users, key=lambda one: str(one["username"])):
        own = "  (this machine's own)" if user["username"] == auth.OWN_NAME else ""
        print(f"{user['username']:30} {'admin' if user['is_admin'] else 'user'}{own}")


def add_user(api: Api, arguments: argparse.Namespace) -> None:
    """Make a user, and say so."""
    password = _password(arguments)
    api.call("POST", "2.0/mlflow/users/create", username=arguments.name, password=password)
    if arguments.admin:
        api.call("PATCH", "2.0/mlflow/users/update-admin", username=arguments.name, is_admin=True)
    print(f"created the {'administrator' if arguments.admin else 'user'} {arguments.name}")


def change_password(api: Api, arguments: argparse.Namespace) -> None:
    """Set a password, and say so."""
    path = "2.0/mlflow/users/update-password"
    api.call("PATCH", path, username=arguments.name, password=_password(arguments))
    print(f"changed the password of {arguments.name}")


def grant(api: Api, arguments: argparse.Namespace) -> None:
    """Give a right, instead of another one to the same."""
    whose = {
        "username": arguments.name,
        "resource_type": arguments.resource,
        "resource_id": arguments.id,
    }
    path = "3.0/mlflow/users/permissions"
    try:
        api.call("POST", f"{path}/grant", **whose, permission=arguments.permission)
    except RefusedError as refused:
        if refused.code != "RESOURCE_ALREADY_EXISTS":
            raise
        api.call("POST", f"{path}/revoke", **whose)
        api.call("POST", f"{path}/grant", **whose, permission=arguments.permission)
    print(f"{arguments.name}: {arguments.permission} for {arguments.resource} {arguments.id}")


def make_admin(api: Api, arguments: argparse.Namespace) -> None:
    """Make an administrator, or an ordinary user."""
    is_admin = not arguments.revoke
    path = "2.0/mlflow/users/update-admin"
    api.call("PATCH", path, username=arguments.name, is_admin=is_admin)
    print(f"{arguments.name} is {'an administrator' if is_admin else 'an ordinary user'} now")


def delete(api: Api, arguments: argparse.Namespace) -> None:
    """Delete a user."""
    api.call("DELETE", "2.0/mlflow/users/delete", username=arguments.name)
    print(f"deleted {arguments.name}")


def _password(arguments: argparse.Namespace) -> str:
    """A password that MLflow accepts: made, typed twice, or a line of the standard input."""
    if arguments.made:
        text = auth.new_password()
        print(text)
        return text
    if sys.stdin.isatty():
        text = getpass.getpass(f"Password for {arguments.name}: ")
        if text != getpass.getpass("Again: "):
            raise RefusedError("the two passwords differ")
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if reason := auth.password_fault(text):
        raise RefusedError(f"the password {reason.message}: {reason.remedy}")
    return text


def _refused(error: urllib.error.HTTPError) -> RefusedError:
    """What MLflow says."""
    text = error.read().decode("utf-8", "replace")
    if error.code == 401:
        reason = "the server does not know this machine's own account: restart mlflow-tracking"
        return RefusedError(reason)
    try:
        found = json.loads(text)
        return RefusedError(str(found["message"]), str(found.get("error_code", "")))
    except (ValueError, KeyError, TypeError):
        return RefusedError(f"the server answered {error.code}: {text.strip()[:200]}")
