from pathlib import Path

import msgspec
import pytest

from pcb.errors import UserError
from pcb.pipeline.manifest import (
    Manifest,
    content_of_files,
    read_manifest,
    result_files,
    write_manifest,
)
from pcb.pipeline.provenance import provenance_now
from pcb.runtime.environment import code_version, package_versions
from pcb.runtime.hashing import FileRecord, record_file


def manifest(**changes: object) -> Manifest:
    files = {
        "labels.npy": FileRecord(bytes=1, sha256="aa"),
        "s002/0.npy": FileRecord(bytes=2, sha256="bb"),
        "s004/0.npy": FileRecord(bytes=3, sha256="cc"),
    }
    whole = Manifest(
        preset="mini",
        stage="tokens",
        variant="all",
        key="k",
        settings={"shard_images": 4},
        inputs=(),
        partitions={"s002": "k2", "s004": "k4"},
        files=files,
        content=content_of_files(files),
        results={"images": 4},
        provenance=provenance_now(1.5),
    )
    return msgspec.structs.replace(whole, **changes)


def test_manifest_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "all.json"
    write_manifest(path, manifest())
    assert read_manifest(path) == manifest(provenance=read_manifest(path).provenance)
    assert read_manifest(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "<<<<<<< HEAD\n{}", '{"key": 3}', "{"])
def test_damaged_manifest_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"all\.json: not a manifest .*git checkout"):
        read_manifest(path)


def test_content_depends_on_files_alone() -> None:
    first, second = manifest(), manifest(provenance=provenance_now(99.0), results={}, key="other")
    assert first.content == content_of_files(second.files)
    changed = {**first.files, "labels.npy": FileRecord(bytes=1, sha256="ab")}
    renamed = {**first.files, "names.npy": first.files["labels.npy"]}
    assert len({first.content, content_of_files(changed), content_of_files(renamed)}) == 3


def test_reader_of_a_part_sees_that_part_and_what_belongs_to_none() -> None:
    whole = manifest()
    assert set(whole.files_of(("s002",))) == {"labels.npy", "s002/0.npy"}
    assert whole.files_of(()) == whole.files
    other = {**whole.files, "s004/0.npy": FileRecord(bytes=3, sha256="dd")}
    changed = manifest(files=other)
    assert changed.content_of(("s002",)) == whole.content_of(("s002",))
    assert changed.content_of(("s004",)) != whole.content_of(("s004",))


def test_temporaries_are_no_result(tmp_path: Path) -> None:
    for name in ["a.npy", "s/b.npy", ".c.npy", "d.part", ".e/f.npy", "complete.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert result_files(tmp_path) == ["a.npy", "s/b.npy"]


def test_record_is_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert record_file(tmp_path / "a") == FileRecord(bytes=3, sha256=digest)


def test_provenance_names_code_packages_and_machine(tmp_path: Path) -> None:
    provenance = provenance_now(1.23456)
    assert provenance.seconds == 1.235
    assert provenance.finished.endswith("+00:00")
    assert {"platform", "cpu", "cores"} <= set(provenance.machine)
    assert {"pcb", "python", "numpy"} <= set(package_versions())
    assert code_version(tmp_path) == (None, None)
