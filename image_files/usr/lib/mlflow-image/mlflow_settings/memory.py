"""What mlflow-configure remembers between boots, in /var/lib/mlflow-image (root only).

Settings become the last good ones when the server has become ready with them: until then they are
in tried.yaml, and server-is-ready renames that file if its hash is that of the document in force
(/run/mlflow/document). A document with which the server did not come up is remembered by its hash,
so that a boot does not try it again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlflow_settings import files
from mlflow_settings.wording import visible

STATE = Path("var/lib/mlflow-image")


class Memory:
    """The files below one root directory."""

    def __init__(self, root: Path) -> None:
        self.folder = root / STATE

    @property
    def has_proven(self) -> bool:
        """Whether the server has ever been ready with a document."""
        return (self.folder / "last-good.yaml").exists()

    @property
    def good(self) -> Path:
        """The document to go back to: proven, or the only one that was ever in force."""
        proven, tried = self.folder / "last-good.yaml", self.folder / "tried.yaml"
        return proven if self.has_proven or not tried.exists() else tried

    def try_out(self, text: str) -> str:
        """Note a document that is now in force; returns why that could not be stored, or ""."""
        # Another document there must not become the last good one.
        if _read(self.folder / "tried.yaml") != text:
            self.forget_tried()
        return "" if self.is_proven(text) else self._store("tried.yaml", text)

    def is_proven(self, text: str) -> bool:
        """Whether the server has been ready with this document."""
        return _read(self.folder / "last-good.yaml") == text

    def prove(self, text: str) -> None:
        """The server runs with this document already: nothing in it took a restart."""
        tried = self.folder / "tried.yaml"
        if _read(tried) == text:
            tried.replace(self.folder / "last-good.yaml")

    def keep_only_proven(self) -> None:
        """A proven document, or none, is in force again."""
        if self.has_proven:
            self.forget_tried()

    def forget_tried(self) -> None:
        """Another document is in force."""
        (self.folder / "tried.yaml").unlink(missing_ok=True)

    def has_failed(self, text: str) -> bool:
        """Whether the server did not come up with this document when it was applied."""
        return _read(self.folder / "did-not-start") == hash_of(text)

    def note_failed(self, text: str) -> None:
        """The server did not come up with this document."""
        self.forget_tried()
        self._store("did-not-start", hash_of(text))

    def forget_failed(self) -> None:
        """The operator wants to try again."""
        (self.folder / "did-not-start").unlink(missing_ok=True)

    @property
    def databases(self) -> frozenset[str]:
        """The paths of databases that existed before."""
        return frozenset((_read(self.folder / "databases") or "").splitlines())

    def add_database(self, path: str) -> str:
        """Note that a database exists; returns why that could not be stored, or ""."""
        if path in self.databases:
            return ""
        lines = sorted({*self.databases, path})
        return self._store("databases", "".join(f"{line}\n" for line in lines))

    def _store(self, name: str, content: str) -> str:
        """A full disk must not keep the server from starting."""
        try:
            files.write_if_changed(self.folder / name, content, 0o600, durable=True)
        except OSError as error:
            return visible(f"/{STATE / name} could not be written: {error.strerror}")
        return ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def hash_of(text: str) -> str:
    """The sha256 of a document, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
