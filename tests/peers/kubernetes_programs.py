"""Kubernetes' own programs, built from pinned Go modules once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from mlflow_image.paths import HERE, cache

VERSION = "1.32.0"
#: One requirement, with releases in place of the folders that Kubernetes replaces modules by.
MODULE = HERE.root / "tests" / "peers" / "go" / f"kubernetes-{VERSION}"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
#: Without them the programs call themselves v0.0.0-master.
_VERSIONS = (
    f"-X k8s.io/component-base/version.gitVersion=v{VERSION}",
    "-X k8s.io/component-base/version.gitMajor=1",
    f"-X k8s.io/component-base/version.gitMinor={VERSION.split('.')[1]}",
)
#: About 9 minutes of two cores from nothing.
BUILD_S = 3600


def built() -> Path | None:
    """The folder of the programs, built if need be; None where they cannot be built."""
    key = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes())
    place = cache() / "peers" / f"kubernetes-{VERSION}-{key.hexdigest()[:12]}"
    if not (place / "complete").exists():
        if not shutil.which("go"):
            return None
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f"{place.name}.lock"):
            if not (place / "complete").exists():
                build(place)
    return place if (place / "complete").exists() else None


def build(place: Path) -> None:
    flags = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", _flags())
    packages = (f"k8s.io/kubernetes/cmd/{name}" for name in PROGRAMS)
    done = subprocess.run(
        ["go", "build", *flags, "-o", f"{place}/", *packages],
        cwd=MODULE,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode == 0:
        (place / "complete").touch()
    else:
        (place / "build.log").write_text(done.stdout + done.stderr)


def _flags() -> str:
    return " ".join(("-s -w", *_VERSIONS))
