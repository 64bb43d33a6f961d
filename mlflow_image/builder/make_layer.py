"""Makes one layer in a folder of its own and moves it into the cache when it is complete."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from mlflow_image import files, progress
from mlflow_image.builder import layers, requirements
from mlflow_image.builder.bake import layer as content
from mlflow_image.builder.bake.layer import Job
from mlflow_image.builder.layers import Layer
from mlflow_image.builder.place import Place, workplace
from mlflow_image.errors import Failure
from mlflow_image.space import DiskFull


def make_layer(layer: Layer, job: Job, *, remake: bool = False) -> None:
    """Make one layer, unless it is in the cache already.

    remake: make it even then, as --rebuild asks for. Raises Failure naming the layer and its
    logs, DiskFull with the space that it needs; the cache then holds only complete layers.
    """

    def on_wait() -> None:
        progress.say(f"waiting for another build that is making the layer {layer.name}")

    with job.inputs.store.locked(f"layer-{layer.name}-{layer.key[:16]}", on_wait):
        if layer.built and not remake:
            return  # another build made it in the meantime
        room = requirements.room_of_layer(layer.name, job.inputs)
        room.require()
        with (
            progress.step(f"{layer.name}: {layer.title}") as step,
            workplace(layer.name, step, job.checkout, keep_on_error=job.how.keep_on_error) as place,
        ):
            room = replace(room, scratch=place.work, also=(place.logs,))
            try:
                with room.guarded():
                    content.make(job, place)
                    room.check()
                    keep(layer, place)
            except Failure as failure:
                name_logs(failure, layer, place.logs)
                raise


def keep(layer: Layer, place: Place) -> None:
    """Move a finished layer into the cache, with its record and its logs."""
    place.step.phase("")
    record = layer.record(place.step.seconds, place.step.phases, place.result)
    files.write(place.result / layers.RECORD_NAME, json.dumps(record, indent=1))
    shutil.copytree(place.logs, place.result / "logs")
    files.flush_folder(place.result)
    if layer.directory.exists():
        # The record first: a folder without one is no layer, should we be killed here.
        (layer.directory / layers.RECORD_NAME).unlink(missing_ok=True)
        shutil.rmtree(layer.directory)
    layer.directory.parent.mkdir(parents=True, exist_ok=True)
    place.result.rename(layer.directory)


def name_logs(failure: Failure, layer: Layer, logs: Path) -> None:
    """Add to a failure which layer it was, and where its logs are if there are any."""
    if not isinstance(failure, DiskFull):  # names the layer already
        failure.what = f"the layer {layer.name} could not be made: {failure.what}"
    if any(logs.iterdir()) and str(logs) not in failure.remedy:
        failure.add_remedy(f"full logs: {logs}")
