"""All paths, relative to the project's root. No torch.

`results/` and `reports/` are in git or DVC; `.pcb/` is this checkout's own and may be deleted.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
RESULTS = Path("results")
MANIFESTS = RESULTS / "manifests"
"""In git: the small file that describes each result."""
ARTIFACTS = RESULTS / "artifacts"
"""In DVC: the data of each result."""
RESOLVED = RESULTS / "settings"
"""In git: each preset's resolved settings, which DVC's stages depend on."""
PINS = RESULTS / "pins.json"
"""In git: size and SHA-256 of the first copy that was seen of each file without published hash."""
REPORTS = Path("reports")
LOGS = Path("logs")
STATE = Path(".pcb")
LOCKS = STATE / "locks"
STALENESS = STATE / "staleness"
JOBS = STATE / "jobs"
HASHES = STATE / "seen"
"""Remembered hashes of large files."""
EVALUATIONS = STATE / "evaluate"
"""Features that `pcb evaluate` keeps."""


def token_part(size: int) -> str:
    """Return the sub-folder of the token cache that holds one scale: `s008`."""
    return f"s{size:03d}"


def held_out_part(size: int) -> str:
    """Return the sub-folder that holds the same scale of held-out images: `held-out-s008`."""
    return f"held-out-{token_part(size)}"
