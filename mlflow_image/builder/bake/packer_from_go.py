"""Builds a newer Packer and its qemu plugin from pinned Go modules; returns their paths.

`go install MODULE@VERSION` cannot be used: it asks for the newest version of the module,
which not every module proxy serves, and it ignores the `replace` line that Packer needs.
So each program has its own module under scripts/host/go: one requirement, Packer's own
replacement, and a go.sum that pins every byte. The go command's own configuration says
where modules are downloaded from.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mlflow_image import command, files, paths, progress, space
from mlflow_image.errors import Failure, Refusal

RECIPES = paths.HERE.root / "scripts" / "host" / "go"
#: The oldest Go that can read a `go 1.21.0` line.
OLDEST_GO = (1, 21)
#: Modules take 2.0 GB, compiled packages 0.8 GB, programs 0.1 GB (with Go 1.26).
NEEDED_DISK_MIB = 3800
#: Only modules that go.sum lists; no paths of this host in the programs.
BUILD = ("build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-v")


@dataclass(frozen=True)
class Recipe:
    """The versions of Packer and of its qemu plugin, and the pinned modules of both."""

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
        """A hash of everything that determines the programs, except the Go compiler."""
        digest = hashlib.sha256()
        for folder in self.folders:
            for file in sorted(folder.iterdir()):
                digest.update(f"{folder.name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]


#: Module proxies do not serve every version of these modules; they serve these.
KNOWN = {"1.11.2": Recipe("1.11.2", "1.0.9")}


@dataclass(frozen=True)
class PackerInstall:
    """A Packer program and its plugin directory (for the variable PACKER_PLUGIN_PATH)."""

    binary: Path
    plugin_dir: Path


def ensure(version: str = "1.11.2") -> PackerInstall:
    """The pinned Packer with its qemu plugin, built now (about 3 min) if necessary.

    Raises Refusal for a version without a recipe, a missing or too old Go, and too little
    disk; Failure with Go's last output when the build fails.
    """
    if version not in KNOWN:
        raise Refusal(f"there is no recipe for Packer {version}", remedy=f"use {', '.join(KNOWN)}")
    recipe = KNOWN[version]
    home = folder_of(recipe)
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.parent / f"{home.name}.lock"):
        if not home.is_dir():
            require_go()
            require_disk(home.parent)
            build_into(home, recipe)
    (home / "packer").touch()  # the cache removes the least recently used entries first
    return PackerInstall(home / "packer", home / "plugins")


def is_built(version: str = "1.11.2") -> bool:
    """Whether this Packer was built before."""
    return folder_of(KNOWN[version]).is_dir()


def folder_of(recipe: Recipe) -> Path:
    """The folder of a recipe's programs."""
    return paths.cache() / "packer" / f"{recipe.packer}-{recipe.key}"


def programs() -> set[Path]:
    """Where the programs of every recipe are, or will be: files for a build to claim."""
    return {folder_of(recipe) / "packer" for recipe in KNOWN.values()}


def require_go() -> None:
    """Raise Refusal unless PATH has a Go that can read the recipes."""
    remedy = (
        f"install Go {'.'.join(map(str, OLDEST_GO))} or newer and put it on PATH, "
        "or install Packer and pass it with --packer"
    )
    if not shutil.which("go"):
        raise Refusal("Packer is built with Go, but go is not on this host's PATH", remedy=remedy)
    # GOTOOLCHAIN=local: report the installed Go, not a newer one that it could download.
    printed = command.run(["go", "version"], env={"GOTOOLCHAIN": "local"}).stdout
    match = re.search(r"go(\d+)\.(\d+)", printed)
    if not match or (int(match[1]), int(match[2])) < OLDEST_GO:
        raise Refusal(f"Packer cannot be built with this Go: {printed.strip()}", remedy=remedy)


def require_disk(folder: Path) -> None:
    """Raise Refusal when there is too little free disk for a build."""
    remedy = "free some space, or set MLFLOW_IMAGE_CACHE to a folder on a larger disk"
    if fault := space.shortage(NEEDED_DISK_MIB, folder, remedy):
        raise Refusal(f"Packer cannot be built now: {fault}")


def build_into(home: Path, recipe: Recipe) -> None:
    """Build and install next to `home`, check that the programs work, and rename the folder.

    Go's modules and compiled packages are kept until a build succeeds, so that an interrupted
    build continues where it stopped.
    """
    packer_folder, plugin_folder = recipe.folders
    go_cache = home.parent / "go"
    with files.new_folder(home) as new:
        work = new / "work"
        work.mkdir()
        plugin = work / "packer-plugin-qemu"
        with progress.step(f"Building Packer {recipe.packer} from Go modules") as step:
            go_build(packer_folder, "packer", new / "packer", go_cache, step)
        with progress.step(f"Building packer-plugin-qemu {recipe.plugin}") as step:
            go_build(plugin_folder, "packer-plugin-qemu", plugin, go_cache, step)
        with progress.step("Installing the plugin"):
            install_plugin(new, plugin, work)
            require_working(new, recipe, work)
        shutil.rmtree(work)
    shutil.rmtree(go_cache, ignore_errors=True)


def go_build(recipe: Path, name: str, target: Path, go_cache: Path, step: progress.Step) -> None:
    """Compile one program; go's `-v` prints each package that it compiles."""
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
        remedy="`go env GOPROXY` shows where Go downloads modules from: check that it is reachable",
    )


def install_plugin(new: Path, plugin: Path, work: Path) -> None:
    """Let Packer install the plugin, with the file name and checksum that it expects."""
    source = "github.com/hashicorp/qemu"
    (new / "plugins").mkdir()
    env = packer_environment(new, work)
    command.run([new / "packer", "plugins", "install", "--path", plugin, source], env=env)


def require_working(new: Path, recipe: Recipe, work: Path) -> None:
    """Raise Failure unless the programs report the recipe's versions."""
    env = packer_environment(new, work)
    version = command.run([new / "packer", "version"], env=env).stdout
    plugins = command.run([new / "packer", "plugins", "installed"], env=env).stdout
    wanted = f"packer-plugin-qemu_v{recipe.plugin}_"
    if f"Packer v{recipe.packer}" not in version or wanted not in plugins:
        raise Failure(
            f"the built programs do not report Packer v{recipe.packer} and {wanted}*",
            evidence=version + plugins,
        )


def packer_environment(home: Path, work: Path) -> Mapping[str, str]:
    """Variables that stop Packer from calling its vendor and from writing to the user's home."""
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CONFIG_DIR": str(work),
        "PACKER_PLUGIN_PATH": str(home / "plugins"),
        "TMPDIR": str(work),
    }


def main() -> int:
    """Build if necessary and print the paths, as lines that a shell can read."""
    if platform.system() != "Linux":
        progress.warn(f"this was not tested on {platform.system()}")
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
