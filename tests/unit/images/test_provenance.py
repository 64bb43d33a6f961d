"""Provenance: the commit of a checkout, and whether the checkout has uncommitted changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.images import provenance
from mlflow_image.images.provenance import Commit
from mlflow_image.paths import Checkout


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    folder = tmp_path / "repository"
    identity = ("-c", "user.name=x", "-c", "user.email=x@y.z")
    command.run(["git", "init", "-q", folder])
    (folder / "file").write_text("one")
    command.run(["git", "-C", folder, "add", "file"])
    command.run(["git", "-C", folder, *identity, "commit", "-q", "-m", "one"])
    return Checkout(folder)


def test_the_commit_is_named_and_whether_the_checkout_is_clean(repository: Checkout) -> None:
    head = command.run(["git", "-C", repository.root, "rev-parse", "HEAD"]).stdout.strip()
    assert provenance.git(repository) == Commit(head, clean=True)
    (repository.root / "file").write_text("two")
    assert provenance.git(repository) == Commit(head, clean=False)
    assert provenance.git(repository, ("file",)) == Commit(head, clean=True)


def test_sources_without_git_have_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git(Checkout(tmp_path)) == Commit(None, clean=False)
