"""The commands of a tutorial's page that make its server, where no other test runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_settings import settings, userdata
from tests.peers import postgresql, s3
from tests.peers.tutorials import Tutorial

from ..conftest import Tasks

pytestmark = pytest.mark.full

VALUES = {
    "DATABASE_HOST": postgresql.HOST,
    "DATABASE_USER": postgresql.USER,
    "DATABASE_PASSWORD": "canary of the database",
    "BUCKET_NAME": s3.BUCKET,
    "STORE_REGION": "us-east-1",
    "SECRET_ACCESS_KEY": s3.SECRET_KEY,
    '"ACCESS_KEY_ID"': f'"{s3.ACCESS_KEY}"',
}


@pytest.mark.budget(60)
def test_the_commands_of_003_make_a_server_as_that_of_these_tests(
    tasks: Tasks, tmp_path: Path
) -> None:
    page = Tutorial("003")
    file, made = tmp_path / "settings.yaml", tmp_path / "user-data"
    done = tasks(*page.command("new", {"settings.yaml": str(file)}))
    assert done.returncode == 0, done.stdout + done.stderr
    text = file.read_text()
    for before, after in VALUES.items():
        assert before in text, before
        text = text.replace(before, after)
    file.write_text(text)
    given = {"settings.yaml": str(file), "user-data": str(made)}
    done = tasks(*page.command("user-data", given))
    assert done.returncode == 0, done.stdout + done.stderr
    found = settings.check(userdata.unwrap(made.read_bytes()), "page")
    assert found.backend_store.postgresql
    assert found.artifact_store.s3
    assert found.auth.basic
    assert found.tls.self_signed
