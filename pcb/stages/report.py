"""The stage `report`: tables, figures, verdicts and the page, from what the other stages made."""

from collections.abc import Mapping
from typing import Any

from pcb.pipeline.folder import NEW, replace_by_new
from pcb.pipeline.job import Job
from pcb.pipeline.tasks import Pipeline
from pcb.report.build import write_report
from pcb.report.evidence import Evidence


def run(job: Job) -> Mapping[str, Any]:
    """Write the report of a preset into the job's folder; return its verdicts."""
    return write_report(Evidence.of(Pipeline(job.task.preset, job.preset)), job.folder)


def run_partial(pipeline: Pipeline) -> str:
    """Write a report of what there is, and return a line that says how much that is."""
    folder = pipeline.task("report").artifact
    results = write_report(Evidence.of(pipeline), folder / NEW)
    replace_by_new(folder)
    run, configs = results["settings_run"], results["settings"]
    return f"{folder / 'index.html'}: {run} of {configs} sampling configs are in it"
