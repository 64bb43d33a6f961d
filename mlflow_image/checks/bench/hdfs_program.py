"""What `hdfs.py` runs in the Python environment of the image: hdfs-native, and the plugin over it.

Stands alone. Arguments: an address in HDFS, a local folder, megabytes, files, rounds. Prints the
seconds of each round as JSON: {"up": [[alone, plugin], ...], "down": ..., "list": ...}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PIECE_BYTES = 4 << 20
#: Threads that make the small files.
MAKERS = 8
#: Listings in a round: one takes some 0.1 s, and varies.
LISTS = 10


def main(uri: str, folder: Path, megabytes: int, files: int, rounds: int) -> None:
    library: Any = importlib.import_module("hdfs_native")
    plugin: Any = importlib.import_module("mlflow_hdfs.repository")
    connection: Any = importlib.import_module("mlflow_hdfs.connection")
    address, root = connection.parts(uri)
    client, repository = library.Client(address), plugin.HdfsArtifactRepository(uri)
    source, back = folder / "large.bin", folder / "back.bin"
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1_000_000))

    def up() -> None:
        writer = client.create(f"{root}/large.bin", library.WriteOptions(overwrite=True))
        with source.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                writer.write(piece)
        writer.close()

    def down() -> None:
        with back.open("wb") as output:
            for piece in client.read(f"{root}/large.bin"):
                output.write(piece)

    def make(number: int) -> None:
        client.create(f"{root}/many/{number:05}.txt").close()

    client.mkdirs(f"{root}/many", create_parent=True)
    with ThreadPoolExecutor(MAKERS) as pool:
        list(pool.map(make, range(files)))
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "up": (up, lambda: repository.log_artifact(str(source))),
        "down": (down, lambda: repository._download_file("large.bin", str(back))),
        "list": (
            lambda: list(client.list_status(f"{root}/many")),
            lambda: repository.list_artifacts("many"),
        ),
    }
    # Connections, and the datanode's own compiler.
    up()
    down()
    repository.list_artifacts()
    taken: dict[str, list[list[float]]] = {name: [] for name in pairs}
    for number in range(rounds):
        for name, pair in pairs.items():
            # In turn the one and the other is first: the disk's cache helps the second one.
            order = pair if number % 2 else pair[::-1]
            seconds = [seconds_of(one, LISTS if name == "list" else 1) for one in order]
            taken[name].append(seconds if number % 2 else seconds[::-1])
    if back.stat().st_size != source.stat().st_size or len(pairs["list"][1]()) != files:
        raise SystemExit("what came back differs from what was written")
    print(json.dumps(taken))


def seconds_of(action: Callable[[], object], times: int) -> float:
    """How long the action takes, on an average of so many times."""
    began_s = time.monotonic()
    for _ in range(times):
        action()
    return (time.monotonic() - began_s) / times


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
    finally:
        made: Any = importlib.import_module("mlflow_hdfs.repository")
        made.HdfsArtifactRepository(sys.argv[1]).delete_artifacts()
