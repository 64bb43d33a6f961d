"""Builds a newer Packer and its qemu plugin from pinned Go modules; hands on where they are.

`go install MODULE@VERSION` does not do: it asks for the newest version of the module,
which not every module proxy serves, and it ignores the `replace` line that Packer needs.
So each program has a module of its own under scripts/host/go: one requirement, Packer's
own replacement, and a go.sum that pins every byte. From where the modules come is the go
command's own configuration.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mlflow_image import command, paths, progress
from mlflow_image.errors import Failure, Refusal

RECIPES = paths.HERE.root / "scripts" / "host" / "go"
#: The oldest that reads a `go 1.21.0` line.
OLDEST_GO = (1, 21)
#: Modules 2.0 GB, compiled packages 0.8 GB, programs 0.1 GB, with Go 1.26.
NEEDED_BYTES = 4_000_000_000
#: Programs without debug paths, needing no C compiler, from exactly what go.sum lists.
BUILD = ("build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-v")


@dataclass(frozen=True)
class Recipe:
    """One Packer, the qemu plugin that goes with it, and the pinned modules of both."""

    packer: str
    plugin: str

    @property
    def folders(self) -> tuple[Path, Path]:
        return (
            RECIPES / f"packer-{self.packer}",
            RECIPES / f"packer-plugin-qemu-{self.plugin}",
        )

    @property
    def key(self) -> str:
        """A hash of everything that decides what is built, except the Go compiler."""
        digest = hashlib.sha256()
        for folder in self.folders:
            for file in sorted(folder.iterdir()):
                digest.update(f"{folder.name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]


#: Not every version of these modules is served by every proxy: these are.
KNOWN = {"1.11.2": Recipe("1.11.2", "1.0.9")}


@dataclass(frozen=True)
class PackerInstall:
    """A Packer program and its plugin directory, to be given as PACKER_PLUGIN_PATH."""

    binary: Path
    plugin_dir: Path


def ensure(version: str = "1.11.2") -> PackerInstall:
    """The pinned Packer with its qemu plugin, built now (about 3 min) if it is not there yet.

    Raises Refusal for a version without a recipe, a missing or too old Go, and too little
    disk; Failure with Go's last output when the build fails.
    """
    if version not in KNOWN:
        raise Refusal(
            f"there is no recipe for Packer {version}", remedy=f"choose one of {', '.join(KNOWN)}"
        )
    recipe = KNOWN[version]
    home = folder_of(recipe)
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.parent / f"{home.name}.lock"):
        if not home.is_dir():
            require_go()
            require_disk(home.parent)
            build_into(home, recipe)
    (home / "packer").touch()  # the cache removes first what was used least recently
    return PackerInstall(home / "packer", home / "plugins")


def is_built(version: str = "1.11.2") -> bool:
    """Whether `ensure` would find it there."""
    return folder_of(KNOWN[version]).is_dir()


def folder_of(recipe: Recipe) -> Path:
    """Where a recipe's programs are kept."""
    return paths.cache() / "packer" / f"{recipe.packer}-{recipe.key}"


def require_go() -> None:
    """Raise Refusal unless a Go that can read the recipes is on PATH."""
    remedy = (
        f"install Go {'.'.join(map(str, OLDEST_GO))} or newer and put it on PATH, "
        "or install Packer and name it with --packer"
    )
    if not shutil.which("go"):
        raise Refusal("Packer is built with Go, and there is no go on this host", remedy=remedy)
    # GOTOOLCHAIN=local: the question is which Go is here, not which one it could fetch.
    said = command.run(["go", "version"], env={"GOTOOLCHAIN": "local"}).stdout
    match = re.search(r"go(\d+)\.(\d+)", said)
    if not match or (int(match[1]), int(match[2])) < OLDEST_GO:
        raise Refusal(f"Packer cannot be built with this Go: {said.strip()}", remedy=remedy)


def require_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise Refusal(
            f"building Packer takes {progress.human_bytes(NEEDED_BYTES)} for a while, and "
            f"{folder} has {progress.human_bytes(free)} free",
            remedy="free some space, or set MLFLOW_IMAGE_CACHE to a larger disk",
        )


def build_into(home: Path, recipe: Recipe) -> None:
    """Build and install beside `home`, see that it works, and rename it into its place.

    Go's modules and compiled packages stay until a build succeeds, so that one that was
    interrupted goes on where it was; then they are removed.
    """
    packer_folder, plugin_folder = recipe.folders
    go_cache = home.parent / "go"
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as scratch:
        new, work = Path(scratch) / "new", Path(scratch) / "work"
        new.mkdir()
        work.mkdir()
        plugin = work / "packer-plugin-qemu"
        with progress.step(f"Building Packer {recipe.packer} from Go modules") as step:
            go_build(packer_folder, "packer", new / "packer", go_cache, step)
        with progress.step(f"Building packer-plugin-qemu {recipe.plugin}") as step:
            go_build(plugin_folder, "packer-plugin-qemu", plugin, go_cache, step)
        with progress.step("Installing the plugin"):
            install_plugin(new, plugin, work)
            require_working(new, recipe, work)
        new.rename(home)
    shutil.rmtree(go_cache, ignore_errors=True)


def go_build(recipe: Path, name: str, target: Path, go_cache: Path, step: progress.Step) -> None:
    """Compile one program; go's `-v` names each package as it comes."""
    command.stream(
        ["go", *BUILD, "-o", target, f"github.com/hashicorp/{name}"],
        step.update,
        cwd=recipe,
        env={
            "CGO_ENABLED": "0",
            "GOCACHE": str(go_cache / "build"),
            "GOFLAGS": "",
            "GOMODCACHE": str(go_cache / "modules"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        },
        remedy="Go takes modules from where `go env GOPROXY` says: check that it is reachable",
    )


def install_plugin(new: Path, plugin: Path, work: Path) -> None:
    """Let Packer put the plugin where it looks for it: named by API version, with a checksum."""
    source = "github.com/hashicorp/qemu"
    (new / "plugins").mkdir()
    env = packer_environment(new, work)
    command.run([new / "packer", "plugins", "install", "--path", plugin, source], env=env)


def require_working(new: Path, recipe: Recipe, work: Path) -> None:
    """Raise Failure unless what was built says that it is what was asked for."""
    env = packer_environment(new, work)
    version = command.run([new / "packer", "version"], env=env).stdout
    plugins = command.run([new / "packer", "plugins", "installed"], env=env).stdout
    wanted = f"packer-plugin-qemu_v{recipe.plugin}_"
    if f"Packer v{recipe.packer}" not in version or wanted not in plugins:
        raise Failure(
            f"the build of Packer {recipe.packer} with {wanted}… made something else",
            evidence=version + plugins,
        )


def packer_environment(home: Path, work: Path) -> Mapping[str, str]:
    """Packer without a call to its maker and without a folder in the user's home."""
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CONFIG_DIR": str(work),
        "PACKER_PLUGIN_PATH": str(home / "plugins"),
        "TMPDIR": str(work),
    }


def main() -> int:
    """Build if need be and print where things are, as lines that a shell can read."""
    if platform.system() != "Linux":
        progress.warn(f"untried on {platform.system()}")
    try:
        install = ensure(*sys.argv[1:2])
    except Failure as failure:
        progress.err.print(f"error: {failure}", markup=False)
        return failure.exit_code
    progress.say(f"PACKER={install.binary}")
    progress.say(f"PACKER_PLUGIN_PATH={install.plugin_dir}")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
