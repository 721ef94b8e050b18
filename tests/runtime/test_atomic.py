import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pcb.errors import UserError
from pcb.runtime.atomic import atomic, explain_disk_error, write_atomic


def test_file_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "codes.npy"
    with atomic(path) as hidden:
        np.save(hidden, np.arange(3))
        assert not path.exists()
        assert hidden.name.startswith(".")
    assert np.load(path).tolist() == [0, 1, 2]
    assert list(path.parent.iterdir()) == [path]


def test_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as hidden:
        hidden.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_linked_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "a.txt"
    cache.write_text("cached")
    os.link(cache, path)
    write_atomic(path, "new")
    assert (cache.read_text(), path.read_text()) == ("cached", "new")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match=f"{path}: no space left"), atomic(path):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_refused_folder_is_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(UserError, match=r"a\.txt: .*(denied|read-only)"), atomic(path):
        raise OSError(number, os.strerror(number), str(path))


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="results"):
        write_atomic(tmp_path / "results" / "a" / "b.txt", "x")


def test_other_errors_are_not_explained(tmp_path: Path) -> None:
    assert explain_disk_error(OSError(errno.EIO, "I/O"), tmp_path) is None
    assert explain_disk_error(RuntimeError("defect"), tmp_path) is None
    assert explain_disk_error(UserError("already plain"), tmp_path) is None


@pytest.mark.parametrize("kind", ["bytes", "numpy", "safetensors"])
def test_every_writer_reports_a_full_disk(small_disk: Path, kind: str) -> None:
    path, big = small_disk / f"big.{kind}.npy", np.zeros(1 << 20, dtype=np.uint8)
    with pytest.raises(UserError, match="no space left"), atomic(path) as hidden:
        if kind == "bytes":
            hidden.write_bytes(big.tobytes())
        elif kind == "numpy":
            np.save(hidden, big)
        else:
            save_file({"big": big}, hidden)
    assert list(small_disk.iterdir()) == []
