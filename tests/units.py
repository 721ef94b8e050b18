"""Making units with results of a few bytes: for tests of what stands around a stage's work."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pcb.config import Preset
from pcb.config.loader import load_params, parse_preset
from pcb.pipeline.run import Job, run_unit
from pcb.pipeline.tasks import Pipeline
from pcb.pipeline.workflow import REPORT_PAGES
from pcb.runtime.atomic import write_atomic
from pcb.runtime.progress import Progress

ROOT = Path(__file__).parent.parent


def pipeline_of(name: str = "smoke", params: Path = ROOT / "params.yaml") -> Pipeline:
    """Return the units of a preset."""
    return Pipeline(name, parse_preset(load_params(params), name))


def job_of(preset: Preset, stage: str, folder: Path, **inputs: Path) -> Job:
    """Return what the entry of a stage gets; `inputs` are the folders that it reads, by stage."""
    unit = next(unit for unit in Pipeline("tests", preset) if unit.stage == stage)
    folder.mkdir(parents=True, exist_ok=True)
    return Job(
        unit=unit,
        preset=preset,
        folder=folder,
        inputs=inputs,
        facts={},
        progress=partial(Progress, unit.name),
    )


def write_key(job: Job) -> Mapping[str, object]:
    """Make a result that depends on nothing but the unit's key, or its parts' keys."""
    for part, key in job.unit.parts:
        write_atomic(job.folder / part / "key.txt", key)
    if not job.unit.parts:
        write_atomic(job.folder / "key.txt", job.unit.key)
    if job.unit.stage == "report":
        for page in REPORT_PAGES:
            write_atomic(job.folder / page, job.unit.key)
    return {"bytes": 16}


def make_all(pipeline: Pipeline) -> None:
    """Make every unit of a pipeline that is not complete."""
    for unit in pipeline:
        run_unit(unit, pipeline.preset, write_key)
