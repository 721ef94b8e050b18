"""The index of a split's image files: one row per image, as CSV, and which bytes it stands for.

Paths are relative to the tree, so that the same tree elsewhere has the same index.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pcb.data.tree import File
from pcb.errors import UserError
from pcb.runtime.atomic import atomic

COLUMNS = ("path", "label", "offset", "bytes", "crc32", "width", "height")
_NUMBERS = {name: np.int64 for name in COLUMNS[1:]}


@dataclass(frozen=True, kw_only=True)
class Index:
    """Columns of an index, all (n,)."""

    paths: NDArray[np.object_]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    checksums: NDArray[np.int64]
    """CRC-32 of each file's content."""

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, image: int) -> File:
        """Return where an image lies."""
        return File(
            path=self.paths[image],
            label=int(self.labels[image]),
            offset=int(self.offsets[image]),
            bytes=int(self.bytes[image]),
        )


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, all or nothing."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_index(path: Path) -> Index:
    """Read an index. Raises UserError if it is missing or not one."""
    try:
        table = pd.read_csv(path, dtype={"path": object, **_NUMBERS}, keep_default_na=False)
        columns = {name: table[name].to_numpy() for name in COLUMNS}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the stage `data` again") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not an index ({error}); make the stage `data` again") from None
    return Index(
        paths=columns["path"],
        labels=columns["label"],
        offsets=columns["offset"],
        bytes=columns["bytes"],
        checksums=columns["crc32"],
    )
