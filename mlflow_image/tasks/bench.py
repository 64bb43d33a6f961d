"""Task that measures: bench."""

from __future__ import annotations

from invoke.context import Context

from mlflow_image import bench, bench_boot, bench_build, images, progress
from mlflow_image.errors import Refusal
from mlflow_image.tasks.task import task

PARTS = ("rate", "boot", "build")


@task(
    name="bench",
    help={
        "only": "one of rate, boot, build; default: all three, some 30 minutes without KVM",
        "image": "the image to boot: id, folder or disk file; default: the newest",
        "packages": "the package set that is built: full or server",
        "rounds": "how often each boot is repeated",
        "json": "print the figures as JSON, and nothing else, on stdout",
    },
)
def measure(
    context: Context,
    only: str = "",
    image: str = "",
    packages: str = "full",
    rounds: int = 2,
    json: bool = False,
) -> None:
    """Measure call rate, boot and build times against their goals.

    Ratios come from one run, for machines are noisy.
    """
    if only and only not in PARTS:
        raise Refusal(f"--only {only}: unknown", remedy=f"one of {', '.join(PARTS)}")
    wanted = [only] if only else list(PARTS)
    figures: list[bench.Figure] = []
    if "rate" in wanted:
        with progress.step("one client's log_batch rate") as step:
            figures += bench.rate(step)
    if "boot" in wanted:
        with progress.step("power-on to the first logged run") as step:
            figures += bench_boot.measure(images.resolve(image or None), rounds, step)
    if "build" in wanted:
        with progress.step("build times") as step:
            figures += bench_build.measure(packages, step)
    if json:
        print(bench.as_json(figures))
    else:
        progress.out.print(bench.table(figures))
