"""The vendor's cloud image as the base, from a stand-in server on loopback.

Canonical's image has 700 MB, on a host that cannot be reached from every network. The stand-in
serves a disk made of the distribution's packages, including cloud-init, in a release folder with
the vendor's layout, signed by a key of the test. Unlike the vendor's images it has no snapd, no
separate /boot and no 40-force-partuuid.cfg, so the code that handles those is not tested here.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from mlflow_image import command, progress
from mlflow_image.builder import keys, layers
from mlflow_image.builder.bake.in_vm import How
from mlflow_image.builder.bake.layer import Job
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.disk import raw as raw_disk
from mlflow_image.builder.disk import tree
from mlflow_image.builder.make_layer import make_layer
from mlflow_image.builder.place import Place
from mlflow_image.files import hash_file
from mlflow_image.host import qemu_img
from mlflow_image.inputs import cloud_image, definition, gather
from mlflow_image.inputs.gather import Freshness
from mlflow_image.paths import cache

from .conftest import CHECKOUT, Tasks, record_times, restored, verified_manifest

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not shutil.which("gpg"), reason="needs gpg, to sign the stand-in"),
]
FILE = "ubuntu-22.04-server-cloudimg-amd64.img"


@dataclass(frozen=True)
class Signer:
    """Makes keys and signatures in a GnuPG home of this test."""

    home: Path

    def gpg(self, *words: str | Path) -> str:
        argv: list[str | Path] = ["gpg", "--homedir", self.home, "--batch", "--quiet", "--yes"]
        return command.run([*argv, "--pinentry-mode", "loopback", *words]).stdout

    def make(self, name: str) -> str:
        """Make a key without a passphrase; returns its fingerprint."""
        words = ("--passphrase", "", "--quick-generate-key", f"{name}@example.org")
        self.gpg(*words, "ed25519", "sign", "never")
        listed = self.gpg("--with-colons", "--list-keys", f"{name}@example.org")
        return next(line.split(":")[9] for line in listed.splitlines() if line[:3] == "fpr")

    def sign(self, file: Path, name: str) -> None:
        signature = file.with_name(f"{file.name}.gpg")
        key = f"{name}@example.org"
        self.gpg("--local-user", key, "--output", signature, "--detach-sign", "--armor", file)


@dataclass(frozen=True)
class StandIn:
    """The vendor's server on loopback, its release folder, and the pins that name it."""

    folder: Path
    address: str
    signer: Signer
    fingerprint: str
    keyring: Path
    pins: Path

    def publish(self, listing: str, key: str = "vendor") -> None:
        """Write and sign the release's list of hashes."""
        (self.folder / "SHA256SUMS").write_text(listing)
        self.signer.sign(self.folder / "SHA256SUMS", key)

    def offer(self, sha256: str, key: str = "vendor") -> None:
        """Publish and sign the image's hash, and pin the same hash."""
        self.publish(f"{sha256} *{FILE}\n", key)
        self.pin(sha256)

    def pin(self, sha256: str) -> None:
        row = {
            "release": self.address,
            "file": FILE,
            "sha256": sha256,
            "signer": self.fingerprint,
            "keyring": str(self.keyring),
        }
        self.pins.write_text(yaml.safe_dump({"ubuntu-22.04": row}))


#: The size of the vendor's image. It is smaller than the image to build: the root has to grow.
CLOUD_DISK_MIB = 2252


@pytest.fixture(scope="module")
def cloud_disk(fetched: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bootable disk like a cloud image: only the packages, no files for a build VM."""
    folder = tmp_path_factory.mktemp("cloud-image")
    wanted = gather.gather(definition.Definition(python="system"), Freshness(offline=True))
    system = wanted.definition.system
    assert wanted.packages
    with progress.step("a disk like a cloud image's") as step:
        place = Place(work=folder, result=folder, logs=folder, step=step)
        tar = tree.build(wanted.packages, system, wanted.store, place)
        raw = raw_disk.build([tar], system, CLOUD_DISK_MIB, place)
    qemu_img.to_qcow2(raw, folder / FILE)
    for spent in (tar, raw):
        spent.unlink()
    return folder / FILE


@pytest.fixture(scope="module")
def stand_in(cloud_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    place = tmp_path_factory.mktemp("vendor")
    folder = place / "release-20240101"
    folder.mkdir()
    (folder / FILE).symlink_to(cloud_disk)
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The path of a socket has at most 107 characters; those of pytest's folders are longer.
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        signer = Signer(Path(home))
        fingerprint = signer.make("vendor")
        signer.make("other")
        keyring = place / "vendor.gpg"
        signer.gpg("--output", keyring, "--export", "vendor@example.org")
        address = f"http://127.0.0.1:{server.server_port}"
        pins = place / "pins.yaml"
        yield StandIn(folder, address, signer, fingerprint, keyring, pins)
        command.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"])
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the release folder; with `cut_short`, the image ends after its first MiB."""

    cut_short = False

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        if self.cut_short and self.path.endswith(".img"):
            outputfile.write(source.read(1 << 20))
            return
        super().copyfile(source, outputfile)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def image_sha256(cloud_disk: Path) -> str:
    """The sha256 of the served image."""
    return hash_file(cloud_disk)


@pytest.fixture
def tasks_without_image(
    tasks: Tasks, fetched: None, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tasks]:
    """Tasks with a cache that has all wheels, as hard links, and no cloud image."""
    folder = cache() / "test-cloud-image"
    subprocess.run(["rm", "-rf", folder], check=True)
    (folder / "store").mkdir(parents=True)
    shared = (cache() / "store" / "sha256").resolve()
    subprocess.run(["cp", "-al", shared, folder / "store" / "sha256"], check=True)
    environment = {
        "MLFLOW_IMAGE_CACHE": str(folder),
        "MLFLOW_IMAGE_CLOUD_IMAGES": str(stand_in.pins),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield Tasks({**tasks.environment, **environment})
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def definition_file(tmp_path: Path) -> Path:
    """The image definition of a build on a cloud image."""
    file = tmp_path / "image.yaml"
    file.write_text(
        "os: ubuntu-22.04\nbase: cloud-image\npython: {distribution: system}\npackages: server\n"
    )
    return file


def refused(tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn) -> str:
    """The error of an `invoke fetch` that must fail, and must not add the image to the store."""
    done = tasks_without_image("fetch", "--definition", str(definition_file))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    image = yaml.safe_load(stand_in.pins.read_text())["ubuntu-22.04"]
    store = gather.open_store()
    assert not store.has(image["sha256"])
    assert not list((store.root / "incoming").glob("*"))
    return done.stderr


@pytest.mark.budget(240)
def test_checksums_that_were_altered_after_signing_are_refused(
    tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn, image_sha256: str
) -> None:
    stand_in.offer(image_sha256)
    with (stand_in.folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64} *another.img\n")
    assert "bad signature" in refused(tasks_without_image, definition_file, stand_in)


@pytest.mark.budget(60)
def test_checksums_signed_by_another_key_are_refused(
    tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn, image_sha256: str
) -> None:
    stand_in.offer(image_sha256, key="other")
    assert "signed by another key" in refused(tasks_without_image, definition_file, stand_in)


@pytest.mark.budget(60)
def test_an_image_that_is_not_listed_is_refused(
    tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn, image_sha256: str
) -> None:
    stand_in.publish(f"{image_sha256} *another.img\n")
    stand_in.pin(image_sha256)
    assert f"{FILE} is not listed in" in refused(tasks_without_image, definition_file, stand_in)


@pytest.mark.budget(60)
def test_an_image_listed_with_another_hash_is_refused(
    tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn, image_sha256: str
) -> None:
    stand_in.publish(f"{'0' * 64} *{FILE}\n")
    stand_in.pin(image_sha256)
    output = refused(tasks_without_image, definition_file, stand_in)
    assert FILE in output
    assert "0" * 64 in output
    assert image_sha256 in output


@pytest.mark.budget(60)
def test_an_image_that_does_not_match_the_signed_hash_is_refused(
    tasks_without_image: Tasks, definition_file: Path, stand_in: StandIn
) -> None:
    stand_in.offer("0" * 64)
    assert f"{FILE} has the wrong sha256" in refused(tasks_without_image, definition_file, stand_in)


@pytest.mark.budget(60)
def test_a_truncated_image_is_refused(
    tasks_without_image: Tasks,
    definition_file: Path,
    stand_in: StandIn,
    image_sha256: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in.offer(image_sha256)
    monkeypatch.setattr(QuietHandler, "cut_short", True)
    assert FILE in refused(tasks_without_image, definition_file, stand_in)


@pytest.mark.budget(120)
@pytest.mark.verifies("cloud image as the base (stand-in): fetched, verified, base layer built")
def test_the_base_layer_is_made_from_the_fetched_image_without_a_network(
    tasks_without_image: Tasks,
    definition_file: Path,
    stand_in: StandIn,
    image_sha256: str,
    cloud_disk: Path,
    record_property: Callable[..., None],
) -> None:
    stand_in.offer(image_sha256)
    done = tasks_without_image("fetch", "--definition", str(definition_file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "apt packages" not in done.stdout

    for file in stand_in.folder.iterdir():
        file.rename(file.with_name(f"{file.name}.gone"))
    try:
        wanted = gather.gather(definition.read(definition_file), Freshness(offline=True))
        gather.fetch(wanted, offline=True)
        stack = keys.of(wanted)
        packer = Packer(Path("packer"), (1, 6, 6), "never started")
        job = Job(layer="base", key=stack[0].key, below=(), inputs=wanted, how=How(packer))
        make_layer(stack[0], job)
    finally:
        for file in stand_in.folder.iterdir():
            file.rename(file.with_name(file.name.removesuffix(".gone")))

    disk = stack[0].directory / "disk.qcow2"
    record = layers.read_record(stack[0].directory)
    assert record and record["parts"]["cloud image"] == f"{FILE} {image_sha256[:12]}"
    assert cloud_image.has(wanted.cloud_image or pytest.fail("no image"), wanted.store)
    assert qemu_img.info(disk)["virtual-size"] == wanted.disk_mib << 20
    # Identical, with only zeros after the end of the smaller disk.
    command.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", disk, cloud_disk])
    command.run(["qemu-img", "check", "-q", disk])
    record_property("figure", f"base layer in {record['seconds']:.0f} s")


@pytest.mark.budget(1800)
@pytest.mark.verifies("build on a cloud image (stand-in), package set `server`; Testinfra")
def test_an_image_built_on_a_cloud_image_passes_the_contract(
    tasks_without_image: Tasks,
    definition_file: Path,
    stand_in: StandIn,
    image_sha256: str,
    record_property: Callable[..., None],
) -> None:
    stand_in.offer(image_sha256)
    with restored():
        done = tasks_without_image(
            "build-image", "--definition", str(definition_file), timeout_s=3000
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        assert "will be made in a VM, because the chroot failed: a cloud image" in done.stdout
        manifest = verified_manifest((CHECKOUT / "dist" / "latest").resolve(), done.stdout)
    record_times(manifest, record_property)
