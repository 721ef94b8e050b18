"""`pcb export`: the images that were scored, in order, resumable, measured alike."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pcb
import pcb.generate.export as export
from pcb.cli.main import main
from pcb.pipeline.manifest import COMPLETE
from pcb.pipeline.tasks import Pipeline
from tests.generate.models import CONFIG, codes_of

IMAGES = 64


def exported(form: str, path: Path) -> int:
    return main(["export", CONFIG, f"--{form}", str(path)])


def test_numpy_alone_opens_the_images_in_order(
    project: Path, inside: Pipeline, tmp_path: Path
) -> None:
    path = tmp_path / "samples.npz"
    assert exported("npz", path) == 0
    with np.load(path) as file:
        assert file.files == ["arr_0"]
        images = file["arr_0"]
    assert (images.shape, images.dtype) == ((IMAGES, 32, 32, 3), np.uint8)
    assert images.flags.c_contiguous
    model = pcb.load(project, preset="smoke")
    # Convolutions of another batch round otherwise, and a pixel may fall to the next gray level.
    difference = np.abs(images.astype(int) - model.decode(codes_of(inside)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]
    assert exported("png", tmp_path / "png") == 0
    names = sorted(path.name for path in (tmp_path / "png").glob("*.png"))
    assert names == [f"{i:06d}.png" for i in range(IMAGES)]
    for name, image in zip(names, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "png" / name)), image)


@pytest.mark.parametrize("form", ["npz", "png"])
def test_an_export_has_the_numbers_of_the_manifest_to_the_last_digit(
    inside: Pipeline, tmp_path: Path, form: str
) -> None:
    path = tmp_path / ("samples.npz" if form == "npz" else "samples")
    assert exported(form, path) == 0
    command = ["evaluate", "--images", str(path), "--preset", "smoke"]
    assert main([*command, "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    manifest = json.loads(inside.task("metrics", CONFIG).manifest.read_text())["results"]
    # Only whoever knows the classes that were asked for can say how often they were met.
    del manifest["agreement"]
    assert {"fid", "is", "precision", "recall", "kid"} < set(manifest)
    assert {name: scores[name] for name in manifest} == manifest


@pytest.mark.parametrize("form", ["npz", "png"])
def test_an_interrupted_export_resumes_and_ends_the_same(
    inside: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    suffix = ".npz" if form == "npz" else ""
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    assert exported(form, whole) == 0
    shards = export.SampleSet.batches
    seen = []

    def stopping(self, part):
        seen.append(part)
        if len(seen) == 2:
            raise KeyboardInterrupt
        yield from shards(self, part)

    monkeypatch.setattr(export.SampleSet, "batches", stopping)
    assert exported(form, path) == 130
    if form == "npz":
        assert not path.exists()
    assert exported(form, path) == 0
    # One of two shards was there.
    assert len(seen) == 3
    files = [path] if form == "npz" else sorted(path.iterdir())
    others = [whole] if form == "npz" else sorted(whole.iterdir())
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in others]
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
    assert exported(form, path) == 0
    assert len(seen) == 3


def test_memory_holds_a_chunk_of_the_file_at_a_time(
    inside: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = zipfile._ZipWriteFile.write
    monkeypatch.setattr(export, "_CHUNK", 4 * 32 * 32 * 3)
    monkeypatch.setattr(
        zipfile._ZipWriteFile,
        "write",
        lambda self, data: written.append(len(data)) or write(self, data),
    )
    assert exported("npz", tmp_path / "samples.npz") == 0
    assert max(written) == 4 * 32 * 32 * 3
    with zipfile.ZipFile(tmp_path / "samples.npz") as archive:
        assert archive.testzip() is None


def one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["export", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_cannot_be_exported_is_one_line(
    inside: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, folder = tmp_path / "taken.npz", tmp_path / "taken"
    taken.write_text("mine")
    folder.mkdir()
    (folder / "mine.png").write_text("mine")
    assert "holds something else" in one_line(capsys, CONFIG, "--npz", str(taken))
    assert "holds something else" in one_line(capsys, CONFIG, "--png", str(folder))
    assert "is no folder" in one_line(capsys, CONFIG, "--png", str(taken))
    assert taken.read_text() == (folder / "mine.png").read_text() == "mine"
    line = one_line(capsys, "ratio4/t17", "--png", str(tmp_path / "new"))
    assert "`pcb sample ratio4/t17 --preset smoke` makes it" in line
    assert "there are: ratio2/k1" in one_line(capsys, "ratio2/t18", "--png", str(tmp_path / "new"))


def test_damaged_samples_are_not_exported(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("PCB_PRESET", "smoke")
    codes = next((copy / "results/artifacts/smoke/sample" / CONFIG).glob("codes-*.npy"))
    codes.write_bytes(codes.read_bytes()[:-2])
    assert "bytes where" in one_line(capsys, CONFIG, "--npz", "x.npz")
    (copy / "results/artifacts/smoke/tokenizer/all" / COMPLETE).unlink()
    codes.unlink()
    assert "is missing" in one_line(capsys, CONFIG, "--npz", "x.npz")


def test_another_number_of_images_is_not_scored_as_the_presets(
    inside: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "few.npz", np.zeros((8, 32, 32, 3), np.uint8))
    np.savez(tmp_path / "large.npz", np.zeros((IMAGES, 64, 64, 3), np.uint8))
    for name, message in (("few", "holds 8 images where"), ("large", "64x64 pixels where")):
        command = ["evaluate", "--images", str(tmp_path / f"{name}.npz"), "--preset", "smoke"]
        assert main(command) == 1
        assert message in capsys.readouterr().err
    assert main([*command, "--torch-fidelity"]) == 1
    assert "--preset says what --torch-fidelity says" in capsys.readouterr().err
