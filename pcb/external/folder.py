"""`pcb import`: a folder in the released layout becomes results of a preset (method section 9).

The same tasks as `pcb tokenizer` and `pcb train NAME` make, by the same code: only that the
external files are those of the folder.
"""

from pathlib import Path

import msgspec

from pcb.config import Files
from pcb.errors import UserError
from pcb.external.catalog import config_of
from pcb.external.files import external_sha256
from pcb.external.released import CHECKPOINT, CONFIG, ReleasedConfig
from pcb.pipeline.job import entry_of
from pcb.pipeline.manifest import COMPLETE, read_manifest
from pcb.pipeline.run import run_task
from pcb.pipeline.task import Task
from pcb.pipeline.tasks import Pipeline


def import_folder(pipeline: Pipeline, folder: Path, model: str | None = None) -> int:
    """Make a preset's tokenizer and one of its models from a folder; return the exit status.

    Without a name, it is the model whose settings are those of the folder's config.yaml. Raises
    UserError if there is none, and for files that do not fit.
    """
    preset = pipeline.preset
    config = ReleasedConfig.read(folder / CONFIG)
    name = matching_model(pipeline, config) if model is None else model
    train = pipeline.task("train", name)
    released = preset.models[name].released
    if released is None:
        raise UserError(
            f"presets.{pipeline.name}.models.{name} is trained; to take released weights, give it "
            f"`released` instead of `training`, or choose another preset"
        )
    own = {
        "autoenc": config.autoencoder_checkpoint,
        config_of("autoenc"): config.autoencoder_config,
        released: folder / CHECKPOINT,
        config_of(released): config.path,
    }
    own_files = {**preset.files.own, **{key: str(path) for key, path in own.items()}}
    files = msgspec.structs.replace(preset.files, own=own_files)
    preset = msgspec.structs.replace(preset, files=files)
    for task, source in ((pipeline.task("tokenizer"), "autoenc"), (train, released)):
        again = _is_of_another_file(task, files, source)
        run_task(task, preset, entry_of(task.stage), force=again)
    return 0


def matching_model(pipeline: Pipeline, config: ReleasedConfig) -> str:
    """Return the name of the preset's one released model that a config describes.

    Raises UserError saying in what each differs, or naming those that fit.
    """
    models = pipeline.preset.models
    names = [name for name, run in models.items() if run.released is not None]
    differences = {name: config.differences(pipeline.preset, name) for name in names}
    fitting = [name for name in names if not differences[name]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"{config.path}: fits {' and '.join(fitting)} of preset {pipeline.name}; name one with "
            f"--model"
        )
    why = "; ".join(f"{name} has {', '.join(found)}" for name, found in differences.items())
    raise UserError(
        f"{config.path}: no released model of preset {pipeline.name} is this one: "
        f"{why or 'it has none'}"
    )


def _is_of_another_file(task: Task, files: Files, source: str) -> bool:
    """Say whether a task is complete, but was made from another file."""
    done = read_manifest(task.artifact / COMPLETE)
    return done is not None and done.results.get("sha256") != external_sha256(files, source)
