"""Making tasks with results of a few bytes: for tests of what stands around a stage's work."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pcb.config import Preset
from pcb.config.loader import load_params, parse_preset
from pcb.config.stages import STAGES
from pcb.pipeline.job import Job
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.atomic import write_atomic
from pcb.runtime.progress import Progress

ROOT = Path(__file__).parent.parent


def pipeline_of(name: str = "smoke", params: Path = ROOT / "params.yaml") -> Pipeline:
    """Return the tasks of a preset."""
    return Pipeline(name, parse_preset(load_params(params), name))


def job_of(preset: Preset, stage: str, folder: Path, **inputs: Path) -> Job:
    """Return what the entry of a stage gets; `inputs` are the folders that it reads, by stage."""
    task = next(task for task in Pipeline("tests", preset) if task.stage == stage)
    folder.mkdir(parents=True, exist_ok=True)
    return Job(
        task=task,
        preset=preset,
        folder=folder,
        inputs=inputs,
        progress=partial(Progress, task.name),
    )


def write_key(job: Job) -> Mapping[str, object]:
    """Make a result that depends on nothing but the task's key, or its partitions' keys."""
    for part, key in job.task.partitions:
        write_atomic(job.folder / part / "key.txt", key)
    if not job.task.partitions:
        write_atomic(job.folder / "key.txt", job.task.key)
    for page in STAGES[job.task.stage].pages:
        write_atomic(job.folder / page, job.task.key)
    return {"bytes": 16}


def make_all(pipeline: Pipeline) -> None:
    """Make every task of a pipeline that is not complete."""
    for task in pipeline:
        run_task(task, pipeline.preset, write_key)
