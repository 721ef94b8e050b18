"""The check for result folders that DVC does not follow, before hours are spent. No torch."""

from pathlib import Path

from pcb.config.paths import ARTIFACTS, MANIFESTS, REPORTS, RESULTS


def linked_folders(preset: str) -> list[str]:
    """Say of each folder of results that is a symbolic link that it cannot be published."""
    places: list[Path] = [RESULTS, ARTIFACTS, MANIFESTS, ARTIFACTS / preset, REPORTS]
    places += sorted((ARTIFACTS / preset).glob("*")) if (ARTIFACTS / preset).is_dir() else []
    return [
        f"{place} is a symbolic link, which DVC does not follow, so that these results can be "
        "neither published nor restored; make it a folder (a disk of its own may be mounted there) "
        "and put DVC's cache on the other disk with `dvc cache dir`"
        for place in places
        if place.is_symlink()
    ]
