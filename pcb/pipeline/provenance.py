"""Provenance of a result: code, packages, machine, time. No torch."""

from datetime import UTC, datetime
from pathlib import Path

import pcb
from pcb.pipeline.manifest import Provenance
from pcb.runtime.environment import code_version, machine, package_versions


def provenance_now(seconds: float) -> Provenance:
    """Return the provenance of a result that took so many seconds and is finished now."""
    commit, modified = code_version(Path(pcb.__file__).parent)
    return Provenance(
        commit=commit,
        modified=modified,
        packages=package_versions(),
        machine=machine(),
        seconds=round(seconds, 3),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
