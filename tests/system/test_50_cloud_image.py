"""The vendor's cloud image as the base, from a stand-in server on loopback.

In place of Canonical's image (700 MB from a host that not every network reaches) the stand-in
serves a disk made here of the distribution's packages, cloud-init among them, in a release folder
with the vendor's layout, signed by a key that the test makes. It has no snapd, no /boot of its own
and no 40-force-partuuid.cfg, which the vendor's have: what is done about those is not tested.
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
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.disk import raw as raw_disk
from mlflow_image.builder.disk import tree
from mlflow_image.builder.make_layer import Job, make_layer
from mlflow_image.builder.place import Place
from mlflow_image.files import hash_file
from mlflow_image.host import qemu_img
from mlflow_image.inputs import cloud_image, definition, gather
from mlflow_image.inputs.gather import Freshness
from mlflow_image.paths import cache

from .conftest import CHECKOUT, Tasks, kept_as_they_are, made, told

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not shutil.which("gpg"), reason="the stand-in signs with gpg"),
]
FILE = "ubuntu-22.04-server-cloudimg-amd64.img"


@dataclass(frozen=True)
class Signer:
    """A key made for this test, in a GnuPG home of its own."""

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
    """The vendor's place: a release folder on loopback, and the pins that name it."""

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
        """Sign the image's hash, and pin the same one."""
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


#: As large as the vendor's: smaller than the disk that is asked for, so the root has to grow.
CLOUD_DISK_MIB = 2252


@pytest.fixture(scope="module")
def disk_of_ours(fetched: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bootable disk like a cloud image's: the packages alone, with nothing of a build VM's."""
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
def stand_in(disk_of_ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    place = tmp_path_factory.mktemp("vendor")
    folder = place / "release-20240101"
    folder.mkdir()
    (folder / FILE).symlink_to(disk_of_ours)
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # A socket's path is at most 107 characters long, and pytest's folders are deep.
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
    """Serves the release folder; `cut_short` lets the image end in the middle."""

    cut_short = False

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        if self.cut_short and self.path.endswith(".img"):
            outputfile.write(source.read(1 << 20))
            return
        super().copyfile(source, outputfile)

    def log_message(self, *_: object) -> None:
        """Nothing: the test's own output is what counts."""


@pytest.fixture(scope="module")
def sound(disk_of_ours: Path) -> str:
    """The hash of the served image."""
    return hash_file(disk_of_ours)


@pytest.fixture
def cold(
    tasks: Tasks, fetched: None, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tasks]:
    """Tasks over a cache that has all wheels, by hard links, and never saw a cloud image."""
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
def asked_for(tmp_path: Path) -> Path:
    """The image definition of a build on a cloud image."""
    file = tmp_path / "image.yaml"
    file.write_text(
        "os: ubuntu-22.04\nbase: cloud-image\npython: {distribution: system}\npackages: server\n"
    )
    return file


def refused(cold: Tasks, asked_for: Path, stand_in: StandIn) -> str:
    """What `invoke fetch` says when it fails as it should; no image is in the store."""
    done = cold("fetch", "--definition", str(asked_for))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    image = yaml.safe_load(stand_in.pins.read_text())["ubuntu-22.04"]
    store = gather.open_store()
    assert not store.has(image["sha256"])
    assert not list((store.root / "incoming").glob("*"))
    return done.stderr


@pytest.mark.budget(240)
def test_a_list_that_was_altered_after_signing_is_refused(
    cold: Tasks, asked_for: Path, stand_in: StandIn, sound: str
) -> None:
    stand_in.offer(sound)
    with (stand_in.folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64} *another.img\n")
    assert "bad signature" in refused(cold, asked_for, stand_in)


@pytest.mark.budget(60)
def test_a_list_that_another_key_signed_is_refused(
    cold: Tasks, asked_for: Path, stand_in: StandIn, sound: str
) -> None:
    stand_in.offer(sound, key="other")
    assert "signed by another key" in refused(cold, asked_for, stand_in)


@pytest.mark.budget(60)
def test_an_image_that_is_not_listed_is_refused(
    cold: Tasks, asked_for: Path, stand_in: StandIn, sound: str
) -> None:
    stand_in.publish(f"{sound} *another.img\n")
    stand_in.pin(sound)
    assert f"{FILE} is not listed in" in refused(cold, asked_for, stand_in)


@pytest.mark.budget(60)
def test_an_image_that_is_listed_with_another_hash_is_refused(
    cold: Tasks, asked_for: Path, stand_in: StandIn, sound: str
) -> None:
    stand_in.publish(f"{'0' * 64} *{FILE}\n")
    stand_in.pin(sound)
    output = refused(cold, asked_for, stand_in)
    assert FILE in output
    assert "0" * 64 in output
    assert sound in output


@pytest.mark.budget(60)
def test_an_image_with_other_bytes_than_the_signed_ones_is_refused(
    cold: Tasks, asked_for: Path, stand_in: StandIn
) -> None:
    stand_in.offer("0" * 64)
    assert f"{FILE} has the wrong sha256" in refused(cold, asked_for, stand_in)


@pytest.mark.budget(60)
def test_an_image_that_was_cut_short_is_refused(
    cold: Tasks,
    asked_for: Path,
    stand_in: StandIn,
    sound: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in.offer(sound)
    monkeypatch.setattr(QuietHandler, "cut_short", True)
    assert FILE in refused(cold, asked_for, stand_in)


@pytest.mark.budget(120)
@pytest.mark.verifies("cloud image as the base (stand-in): fetched, verified, base layer built")
def test_the_base_is_made_of_the_checked_image_without_a_network(
    cold: Tasks,
    asked_for: Path,
    stand_in: StandIn,
    sound: str,
    disk_of_ours: Path,
    record_property: Callable[..., None],
) -> None:
    stand_in.offer(sound)
    done = cold("fetch", "--definition", str(asked_for))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "apt packages" not in done.stdout

    for file in stand_in.folder.iterdir():
        file.rename(file.with_name(f"{file.name}.gone"))
    try:
        wanted = gather.gather(definition.read(asked_for), Freshness(offline=True))
        gather.fetch(wanted, offline=True)
        stack = keys.of(wanted)
        packer = Packer(Path("packer"), (1, 6, 6), "never started")
        make_layer(Job(layer=stack[0], below=(), inputs=wanted, how=How(packer)))
    finally:
        for file in stand_in.folder.iterdir():
            file.rename(file.with_name(file.name.removesuffix(".gone")))

    disk = stack[0].directory / "disk.qcow2"
    record = layers.read_record(stack[0].directory)
    assert record and record["parts"]["cloud image"] == f"{FILE} {sound[:12]}"
    assert cloud_image.has(wanted.cloud_image or pytest.fail("no image"), wanted.store)
    assert qemu_img.info(disk)["virtual-size"] == wanted.disk_mib << 20
    # Identical, and nothing but zeros behind the end of the smaller one.
    command.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", disk, disk_of_ours])
    command.run(["qemu-img", "check", "-q", disk])
    record_property("figure", f"base layer in {record['seconds']:.0f} s")


@pytest.mark.budget(1800)
@pytest.mark.verifies("build on a cloud image (stand-in), package set `server`; Testinfra")
def test_an_image_baked_on_a_cloud_image_keeps_the_contract(
    cold: Tasks,
    asked_for: Path,
    stand_in: StandIn,
    sound: str,
    record_property: Callable[..., None],
) -> None:
    stand_in.offer(sound)
    with kept_as_they_are():
        done = cold("build-image", "--definition", str(asked_for), timeout_s=3000)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        assert "/opt/mlflow will be made in a VM, because the chroot failed: " in done.stdout
        manifest = made((CHECKOUT / "dist" / "latest").resolve(), done.stdout)
    told(manifest, record_property)
