"""ADM's protocol: its reference file seen through Inception (method section 7)."""

from pcb.errors import UserError
from pcb.metrics.image_files import ImageFiles
from pcb.metrics.parts import Extraction
from pcb.metrics.target import Target, read_statistics
from pcb.runtime.progress import Progress


def adm_target(extraction: Extraction, reference: ImageFiles, progress: Progress) -> Target:
    """Return the stored statistics of a reference .npz and the features of its images.

    Raises UserError if the file lacks statistics, or if they are of another extractor.
    """
    pool, spatial = read_statistics(reference.path)
    features = extraction.run(reference, progress)
    seen = {"mu": features.pool.shape[1]}
    stored = {"mu": len(pool.mean)}
    if features.spatial is not None:
        seen["mu_s"] = len(features.spatial.total)
        stored["mu_s"] = 0 if spatial is None else len(spatial.mean)
    if seen != stored:
        raise UserError(
            f"{reference.path}: its statistics have {stored} features, the extractor {seen}; is "
            "it ADM's reference file?"
        )
    return Target(features.pool, pool, spatial)
