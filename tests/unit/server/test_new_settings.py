"""Settings files that `invoke new` writes: valid once the capitals are replaced."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.server import new_settings
from mlflow_image.server.new_settings import Choices
from mlflow_settings import placeholders, settings
from mlflow_settings.document import Faults
from tests.unit import samples

URI = "postgresql://me:p%40ss%22x@db.example.com:6432/db1?sslmode=require"


@pytest.mark.parametrize("seed", new_settings.SEEDS)
def test_a_seeds_file_lacks_only_the_values_in_capitals(seed: str) -> None:
    text = new_settings.text_of(new_settings.SEEDS[seed])
    with pytest.raises(Faults, match="is still the example's"):
        settings.check(text, "x")
    special = {
        "STORE_ENDPOINT": "https://s.example.com",
        "KERBEROS_PRINCIPAL": samples.KEYTAB_PRINCIPAL,
        "KERBEROS_REALM": "EXAMPLE.COM",
        "KEYTAB_AS_BASE64": samples.KEYTAB,
    }
    for name in placeholders.NAMES:
        text = re.sub(rf"\b{name}\b", special.get(name, name.lower().replace("_", "-")), text)
    assert settings.check(text, "x")


def test_a_tutorials_uri_becomes_its_parts() -> None:
    choices = new_settings.with_place(
        new_settings.with_database(Choices(region="r1"), URI), "s3://runs/a/b/"
    )
    checked = settings.check(new_settings.text_of(replace(choices, key_id="k", secret="s")), "x")
    database = checked.backend_store.postgresql
    assert database
    assert (database.host, database.port, database.password) == (
        "db.example.com",
        6432,
        'p@ss"x',
    )
    assert database.sslmode == "require"
    assert checked.artifact_store.s3
    assert checked.artifact_store.s3.uri == "s3://runs/a/b"


def test_without_a_choice_everything_is_on_the_machine() -> None:
    checked = settings.check(new_settings.text_of(Choices()), "x")
    assert checked == settings.Settings()


def test_users_and_https_are_two_blocks() -> None:
    choices = Choices(passwords=True, https=("mlflow.example.com", "ml.example.com"))
    checked = settings.check(new_settings.text_of(choices), "x")
    assert checked.auth.basic
    assert checked.auth.basic.is_made
    assert checked.tls.names == ("mlflow.example.com", "ml.example.com")
    assert new_settings.summary(choices).endswith("users with passwords; HTTPS")


def test_a_uri_without_a_password_gets_one_in_capitals() -> None:
    choices = new_settings.with_database(Choices(), "postgresql://me@db.example.com/db1")
    assert not isinstance(choices.database, str)
    assert choices.database["password"] == new_settings.PASSWORD


def test_a_bad_uri_is_refused_without_repeating_it() -> None:
    for text in ("postgresql://me:hu@sh@db/db1", "mysql://me:hush@db/db1", "hush"):
        with pytest.raises(Refusal) as refused:
            new_settings.with_database(Choices(), text)
        assert "hush" not in str(refused.value)
    with pytest.raises(Refusal, match="s3a"):
        new_settings.with_place(Choices(), "s3a://b/c")
