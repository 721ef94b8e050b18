"""ADM's protocol: its reference file seen through Inception (method section 7)."""

from collections.abc import Mapping
from pathlib import Path

from pcb.errors import UserError
from pcb.metrics.image_files import ImageFiles
from pcb.metrics.inception import WIDTHS, Inception
from pcb.metrics.parts import Extraction
from pcb.metrics.statistics import Statistics
from pcb.metrics.target import Target, read_statistics
from pcb.runtime.progress import Progress


def check_statistics(path: Path) -> tuple[Statistics, Statistics]:
    """Return the stored statistics of a reference .npz, of pool and of spatial features.

    Takes a second. Raises UserError if the file lacks them, or if they are no statistics.
    """
    pool, spatial = read_statistics(path)
    if spatial is None:
        raise UserError(
            f"{path}: its statistics have no mu_s and sigma_s, which sFID compares with; is it "
            "ADM's reference file?"
        )
    return pool, spatial


def adm_target(extraction: Extraction, reference: ImageFiles, progress: Progress) -> Target:
    """Return the stored statistics of a reference .npz and the features of its images.

    Raises UserError if the file lacks statistics, or if they are of another extractor; for
    Inception's before any image is looked at.
    """
    pool, spatial = check_statistics(reference.path)
    stored = {"mu": len(pool.mean), "mu_s": len(spatial.mean)}
    if isinstance(extraction.extractor, Inception):
        _check_widths(reference.path, stored, WIDTHS)
    features = extraction.run(reference, progress)
    spatial_width = 0 if features.spatial is None else len(features.spatial.total)
    seen = {"mu": features.pool.shape[1], "mu_s": spatial_width}
    _check_widths(reference.path, stored, seen)
    return Target(features.pool, pool, spatial)


def _check_widths(path: Path, stored: Mapping[str, int], seen: Mapping[str, int]) -> None:
    if stored != seen:
        raise UserError(
            f"{path}: its statistics have {stored} features, the extractor {seen}; is it ADM's "
            "reference file?"
        )
