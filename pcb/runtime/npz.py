"""Errors of damaged .npz files, explained. No torch."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcb.errors import UserError
from pcb.runtime.file_kind import ZIP_ERRORS, standin

_COMPRESSIONS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
_ENCRYPTED = 1
"""Bit of a zip's flags."""
_OTHERS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}


@contextmanager
def npz_errors_explained(path: Path) -> Iterator[None]:
    """Turn what reading an .npz raises inside into the UserError that says what is wrong with it.

    What stands in its place, another compression and encryption are told from damage.
    """
    try:
        what = standin(path)
        if what is not None:
            raise UserError(f"{path}: not a readable .npz ({what}); fetch or make it again")
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                _check_member(path, item)
        yield
    except (KeyError, UserError):
        raise
    except ZIP_ERRORS as error:
        raise UserError(f"{path}: not a readable .npz ({error})") from None


def _check_member(path: Path, item: zipfile.ZipInfo) -> None:
    """Refuse a member of a zip that Python cannot read."""
    reason = None
    if item.flag_bits & _ENCRYPTED:
        reason = "encrypted"
    elif item.compress_type not in _COMPRESSIONS:
        kind = _OTHERS.get(item.compress_type, f"method {item.compress_type}")
        reason = f"compressed by {kind}, which cannot be read here"
    if reason is not None:
        raise UserError(
            f"{path}: {item.filename} in it is {reason}; write it again with `np.savez`, or unpack "
            "and pack it without"
        )
