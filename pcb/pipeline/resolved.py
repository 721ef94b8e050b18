"""Resolved settings, by stage and task: the file whose parts DVC's stages depend on. No torch.

params.yaml says what differs: presets extend each other, models take a preset's defaults, sampling
configs are made from lists. This file says what each task gets, and only what decides its result,
with the versions of the stages; so a DVC stage that tracks its part of it, and what its tasks read,
is stale exactly when one of its tasks is.
"""

import json
from pathlib import Path
from typing import Any

from pcb.config.paths import RESOLVED
from pcb.config.stages import STAGES
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import write_atomic


def settings_file(preset: str) -> Path:
    """Return where a preset's resolved settings stand."""
    return RESOLVED / f"{preset}.json"


def resolved_settings(pipeline: Pipeline) -> dict[str, Any]:
    """Return ``{stage: settings}``, and ``{stage: {variant: settings}}`` where there are several.

    What all variants of a stage share is the same in each of them. A stage of which the preset has
    no task has no settings. Beside the stages stands ``{"versions": {stage: number}}``.
    """
    found: dict[str, Any] = {stage: {} for stage in STAGES}
    found["versions"] = {stage.name: stage.version for stage in STAGES.values()}
    for task in pipeline:
        if task.variant == "all":
            found[task.stage] = task.settings
        else:
            found[task.stage][task.variant] = task.settings
    return found


def write_settings(pipeline: Pipeline) -> Path:
    """Write the resolved settings, if they are not those that the file says; return its path."""
    path = settings_file(pipeline.name)
    text = json.dumps(resolved_settings(pipeline), indent=1, sort_keys=True) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    return path
