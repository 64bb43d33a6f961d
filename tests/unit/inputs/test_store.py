"""store: a file that it returns has the requested hash, whatever happened before."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.files import hash_file
from mlflow_image.inputs.store import Store
from tests.unit.conftest import Served

CONTENT = b"what was pinned" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "incoming").rglob("*"))


def test_a_fetched_file_is_stored_under_its_hash(store: Store, served: Served) -> None:
    served.files["/a.deb"] = CONTENT
    path = store.fetch(f"{served.address}/a.deb", SHA256, "a.deb")
    assert path == store.path(SHA256)
    assert path.read_bytes() == CONTENT
    assert store.has(SHA256)
    assert leftovers(store) == []


def test_a_stored_file_is_not_fetched_again(store: Store, served: Served) -> None:
    served.files["/a.deb"] = CONTENT
    for _ in range(2):
        store.fetch(f"{served.address}/a.deb", SHA256, "a.deb")
    assert served.asked == ["/a.deb"]


def test_a_file_with_another_hash_than_the_pinned_one_is_refused_and_named(
    store: Store, served: Served
) -> None:
    served.files["/a.deb"] = b"evil"
    with pytest.raises(Failure) as caught:
        store.fetch(f"{served.address}/a.deb", SHA256, "a.deb")
    found = hashlib.sha256(b"evil").hexdigest()
    assert caught.value.what == f"a.deb has the wrong sha256: {found}; the pinned one is {SHA256}"
    assert not store.has(SHA256)
    assert leftovers(store) == []


def test_a_truncated_download_is_refused_and_named(store: Store, served: Served) -> None:
    served.files["/a.deb"] = CONTENT
    served.cut_short.add("/a.deb")
    with pytest.raises(Failure, match=rf"a\.deb.*{served.address}/a\.deb"):
        store.fetch(f"{served.address}/a.deb", SHA256, "a.deb")
    assert not store.has(SHA256)
    assert leftovers(store) == []
    served.cut_short.clear()
    assert store.fetch(f"{served.address}/a.deb", SHA256, "a.deb").read_bytes() == CONTENT


def test_a_file_that_the_server_lacks_is_named_with_its_url(store: Store, served: Served) -> None:
    with pytest.raises(Failure, match=rf"a\.deb could not be fetched from {served.address}/gone"):
        store.fetch(f"{served.address}/gone", SHA256, "a.deb")


def test_an_altered_file_is_fetched_again(store: Store, served: Served) -> None:
    served.files["/a.deb"] = CONTENT
    store.fetch(f"{served.address}/a.deb", SHA256, "a.deb").write_bytes(b"altered")
    again = store.fetch(f"{served.address}/a.deb", SHA256, "a.deb")
    assert again.read_bytes() == CONTENT
    assert len(served.asked) == 2


def test_an_altered_file_is_not_returned(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    entry = store.add(file, SHA256, "a.deb")
    assert store.verified(SHA256, "a.deb") == entry
    entry.write_bytes(b"altered")
    with pytest.raises(Failure, match=r"the store's copy of a\.deb was altered") as caught:
        store.verified(SHA256, "a.deb")
    assert "invoke fetch" in caught.value.remedy
    assert not entry.exists()


def test_a_missing_file_is_named(store: Store) -> None:
    assert not store.intact(SHA256)
    with pytest.raises(Failure, match=r"a\.deb .* is not in the store"):
        store.verified(SHA256, "a.deb")


def test_an_altered_file_is_not_intact(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    entry = store.add(file, SHA256, "a.deb")
    assert store.intact(SHA256)
    entry.write_bytes(b"altered")
    assert not store.intact(SHA256)
    assert not entry.exists()


def test_adding_moves_the_file_and_makes_it_readable(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    file.chmod(0o600)
    entry = store.add(file, SHA256, "a.deb")
    assert not file.exists()
    assert entry.stat().st_mode & 0o777 == 0o644
    assert list(entry.parent.iterdir()) == [entry], "no temporary file is left"


def test_two_fetches_at_once_download_once(cache: Path, served: Served) -> None:
    served.files["/a.deb"] = CONTENT
    served.open.clear()

    def fetch() -> bytes:
        store = Store(cache / "store")  # as in two programs that share only the files
        return store.fetch(f"{served.address}/a.deb", SHA256, "a.deb").read_bytes()

    with ThreadPoolExecutor(2) as pool:
        fetches = [pool.submit(fetch) for _ in range(2)]
        time.sleep(0.2)  # both have started: one downloads, the other waits for it
        served.open.set()
        assert [fetch.result() for fetch in fetches] == [CONTENT, CONTENT]
    assert served.asked == ["/a.deb"]


def test_a_lock_has_one_holder_at_a_time(cache: Path) -> None:
    held: list[str] = []
    waited: list[str] = []

    def hold(name: str) -> None:
        with Store(cache).locked("layer", lambda: waited.append(name)):
            held.append(f"{name} begins")
            time.sleep(0.1)
            held.append(f"{name} ends")

    threads = [threading.Thread(target=hold, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = ("one", "two") if held[0] == "one begins" else ("two", "one")
    assert held == [f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"]
    assert waited == [second]


def test_a_hash_is_the_one_that_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert hash_file(tmp_path / "file") == SHA256
