"""Finished results of a project, found by preset and name. No torch."""

import difflib
from pathlib import Path

from pcb.errors import UserError
from pcb.pipeline.manifest import COMPLETE
from pcb.pipeline.tasks import Pipeline


def finished_folder(pipeline: Pipeline, root: Path, model: str | None) -> Path:
    """Return the folder of a finished model, of the first that there is without a name.

    Raises UserError that says which command makes it.
    """
    names = pipeline.variants("train")
    if model is not None and model not in names:
        near = difflib.get_close_matches(model, names, 1)
        which = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
        raise UserError(f"preset {pipeline.name} has no model {model!r}{which}")
    wanted = names if model is None else [model]
    for name in wanted:
        folder = root / pipeline.task("train", name).artifact
        if (folder / COMPLETE).is_file():
            return folder
    which = "no model" if model is None else f"model {model}"
    state = "is finished" if model is None else "is not finished"
    raise UserError(
        f"{which} of preset {pipeline.name} {state} here; `{_command(pipeline)}` makes "
        f"{'one' if model is None else 'it'}"
    )


def _command(pipeline: Pipeline) -> str:
    short = {"mini": "make reproduce", "smoke": "make smoke"}
    return short.get(pipeline.name, f"make reproduce PRESET={pipeline.name}")
