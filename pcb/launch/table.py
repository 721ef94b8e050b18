"""What a person sees of the jobs, from any terminal: a line a job."""

from pcb.errors import UserError
from pcb.launch.head import cancel, tail
from pcb.launch.record import JOBS, Record, all_records
from pcb.launch.squeue import JobState, job_states
from pcb.launch.submit import log_of

_HEADER = ("unit", "preset", "job", "share", "try", "state", "node", "progress")


def print_jobs() -> int:
    """Print the jobs of this folder and return 0; what the controller does not say is `unknown`."""
    records = list(all_records())
    states = job_states(job.job_id for record in records for job in record.jobs) or {}
    lines = [_HEADER, *(line for record in records for line in _lines(record, states))]
    if len(lines) == 1:
        print("no jobs were submitted from this folder, or all are done")
        return 0
    widths = [max(len(line[k]) for line in lines) for k in range(len(_HEADER))]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    return 0


def cancel_jobs(unit: str) -> int:
    """Cancel the jobs of one unit, by name, or of all; return 0.

    Raises UserError if there are none.
    """
    chosen = [record for record in all_records() if unit in ("", record.unit)]
    if not any(record.jobs for record in chosen):
        raise UserError(
            f"no jobs of {unit or 'this folder'} to cancel; `pcb jobs` shows what there is"
        )
    for record in chosen:
        cancel(record.jobs)
        stage, _, variant = record.unit.partition("/")
        (JOBS / record.preset / stage / f"{variant or 'all'}.json").unlink(missing_ok=True)
        print(f"{record.unit}: {len(record.jobs)} jobs cancelled")
    return 0


def _lines(record: Record, states: dict[str, JobState]) -> list[tuple[str, ...]]:
    """Return a line for each job of a unit."""
    found: list[tuple[str, ...]] = []
    for job in record.jobs:
        state = states.get(job.job_id, JobState(state="unknown"))
        share = "all" if job.share == (0, 1) else f"{job.share[0] + 1} of {job.share[1]}"
        said = next(iter(tail(log_of(job), 1)), "")
        told = (record.unit, record.preset, job.job_id, share, str(job.tries))
        found.append((*told, state.state, state.node, said))
    return found
