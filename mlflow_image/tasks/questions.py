"""The questions of `invoke new`: answers, secrets that are not shown, and what is read instead."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mlflow_image import progress
from mlflow_image.errors import Refusal
from mlflow_image.server import new_settings
from mlflow_image.server.new_settings import Choices

_T = TypeVar("_T")
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def ask(choices: Choices, read_ca: Callable[[str], str]) -> Choices:
    """Five questions, and one for each CA.

    An empty answer takes what is in brackets, and a wrong one is asked again.
    read_ca: the certificates in a file; "" for no file. Raises Refusals when the choices are wrong
    already.
    """
    new_settings.checked(choices)

    def database() -> Choices:
        text = "database: sqlite, or a PostgreSQL URI without its password"
        answer = question(text, new_settings.SQLITE)
        return new_settings.checked(new_settings.with_database(choices, answer))

    def place() -> Choices:
        text = "artifacts: local, or s3://BUCKET/FOLDER"
        placed = new_settings.with_place(choices, question(text, new_settings.LOCAL))
        new_settings.checked(replace(placed, region="STORE_REGION"))  # which is asked for later
        return placed

    def endpoint() -> Choices:
        given = question("the store's address, https://...; empty for AWS", "")
        region = "" if given else "STORE_REGION"
        return new_settings.checked(replace(choices, endpoint=given, region=region))

    def region() -> Choices:
        given = question("the bucket's region", choices.region)
        return new_settings.checked(replace(choices, region=given))

    def ca(of: str, known: str) -> str:
        other = "that of the database" if known else "public CAs"
        text = f"file with the CA certificate of the {of}; empty: {other}"
        return read_ca(question(text, "")) or known

    choices = _until_sound(database)
    if new_settings.checks_certificate(choices):
        asked = _until_sound(lambda: ca("database", ""))
        choices = replace(choices, database_ca=asked)
    choices = _until_sound(place)
    if choices.place == new_settings.LOCAL:
        return choices
    choices = _until_sound(endpoint)
    choices = _until_sound(region)
    if choices.endpoint.startswith("https://"):
        asked = _until_sound(lambda: ca("store", choices.database_ca))
        choices = replace(choices, store_ca=asked)
    direct = _until_sound(lambda: yes("do clients use the store themselves, with own keys?"))
    return replace(choices, access="direct" if direct else "proxied")


def with_secrets(choices: Choices) -> Choices:
    """The choices with the password and the key: asked for, or from boto3's variables."""
    database = choices.database
    if not isinstance(database, str) and database["password"] == new_settings.PASSWORD:
        known = database

        def password() -> Choices:
            typed = secret("the database's password", new_settings.PASSWORD)
            if _ESCAPE.search(typed):
                progress.say("the password is taken as it is: % and two digits are not decoded")
            return new_settings.checked(replace(choices, database={**known, "password": typed}))

        choices = _until_sound(password)
    if choices.place == new_settings.LOCAL:
        return choices
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    key_id, key, token = (os.environ.get(name, "") for name in names)
    if key_id and key:
        progress.say(f"the store's key is that of {names[0]}")
        if token:
            progress.warn(
                f"{names[2]} is set: this key is temporary, and ends while the server runs"
            )
        return replace(choices, key_id=key_id, secret=key, session_token=token)
    if key_id or key:
        progress.warn(f"only one of {names[0]} and {names[1]} is set: it is not used")

    def typed_key() -> Choices:
        typed_id = secret("the id of the store's key", choices.key_id)
        typed = secret("the key's secret", choices.secret)
        return new_settings.checked(replace(choices, key_id=typed_id, secret=typed))

    return _until_sound(typed_key)


def question(text: str, default: str) -> str:
    """The answer, or the default; the end of the input is an interruption."""
    progress.err.print(f"{text} [{default}]: " if default else f"{text}: ", end="", markup=False)
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return line.strip() or default


def yes(text: str) -> bool:
    """Yes or no; raises Refusal for another answer."""
    answer = question(text, "no").lower()
    if answer not in ("y", "yes", "n", "no"):
        raise Refusal("that is neither yes nor no")
    return answer.startswith("y")


def secret(text: str, default: str) -> str:
    """Ask without showing the answer; without a terminal, the value stays in capitals."""
    if not sys.stdin.isatty():
        return default
    try:
        return getpass.getpass(f"{text} (empty: write it into the file later): ") or default
    except EOFError:
        raise KeyboardInterrupt from None


def _until_sound(answered: Callable[[], _T]) -> _T:
    while True:
        try:
            return answered()
        except Refusal as refused:
            progress.warn(str(refused))
