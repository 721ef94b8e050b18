"""The stage `data` for ImageNet: the index says what is there, and an interruption loses little."""

import csv
import io
import os
import shutil
import zlib
from pathlib import Path

import pytest
from PIL import Image

from pcb.data import survey as module
from pcb.data.survey import check_image
from pcb.data.tree import read_file
from pcb.errors import UserError
from pcb.pipeline.manifest import result_files
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.stages.data import run as prepare
from tests.imagenet import (
    READABLE,
    imagenet_preset,
    jpeg,
    natural_image,
    odd_file,
    wnid,
    write_tree,
    write_validation,
)
from tests.tasks import job_of


def survey(folder: Path, preset) -> dict:
    return dict(prepare(job_of(preset, "data", folder)))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    write_tree(root / "train")
    write_tree(root / "tars", layout="tars")
    write_validation(root / "val", layout="kaggle")
    return root


@pytest.mark.parametrize("layout", ["train", "tars"])
def test_the_index_describes_every_readable_file(trees, tmp_path, layout):
    tree = write_tree(tmp_path / "again")
    facts = survey(tmp_path / "data", imagenet_preset(trees / layout, trees / "val"))
    assert facts == {"classes": 3, "train_images": 17, "validation_images": 6, "refused": 3}
    index = rows(tmp_path / "data" / "train.csv")
    assert tuple(row["path"].replace(".tar/", "/") for row in index) == tree.images
    assert tuple(int(row["label"]) for row in index) == tree.labels
    for row, name in zip(index, tree.images, strict=True):
        data = (tmp_path / "again" / name).read_bytes()
        assert (int(row["bytes"]), int(row["crc32"])) == (len(data), zlib.crc32(data))
        assert (int(row["width"]), int(row["height"])) == Image.open(io.BytesIO(data)).size
    refused = rows(tmp_path / "data" / "refused.csv")
    assert tuple(row["path"].replace(".tar/", "/") for row in refused) == tree.refused
    assert "truncated" in refused[1]["reason"]
    assert len(rows(tmp_path / "data" / "validation.csv")) == 6


def test_the_same_tree_elsewhere_has_the_same_content(folder, trees):
    def content(root: Path) -> str:
        preset = imagenet_preset(root / "train", root / "val")
        task = Pipeline("tests", preset).task("data")
        manifest = run_task(task, preset, prepare, force=True)
        assert set(manifest.files) == {"train.csv", "validation.csv", "refused.csv"}
        return f"{manifest.key} {manifest.content}"

    before = content(trees)
    shutil.copytree(trees, folder / "elsewhere")
    assert content(folder / "elsewhere") == before
    (folder / "elsewhere" / "train" / wnid(0) / "new.JPEG").write_bytes(odd_file("gray"))
    assert content(folder / "elsewhere") != before


def test_only_files_that_look_odd_are_decoded(monkeypatch):
    decoded = []
    monkeypatch.setattr(module, "decode_rgb", decoded.append)
    plain = [jpeg(natural_image(0, (60, 50))), odd_file("gray"), odd_file("exif")]
    for data in plain:
        check_image(data)
    assert decoded == []
    odd = [odd_file(kind) for kind in ("cmyk", "padded", "png", "truncated")]
    for data in odd:
        check_image(data)
    assert decoded == odd


@pytest.mark.parametrize("kind", READABLE)
def test_odd_files_are_accepted(kind):
    assert check_image(odd_file(kind)) == (500, 375)


def test_too_many_refused_files_stop_the_stage_and_are_read_again(trees, tmp_path):
    shutil.copytree(trees / "train", tmp_path / "train")
    preset = imagenet_preset(tmp_path / "train", refused_fraction=0.1)
    with pytest.raises(UserError) as caught:
        survey(tmp_path / "data", preset)
    text = str(caught.value)
    assert text.startswith("data: 3 of 20 images cannot be read, more than data.refused_fraction")
    assert f"{wnid(0)}_text.JPEG (none of JPEG, PNG, GIF, BMP)" in text
    assert "\n" not in text
    assert len(rows(tmp_path / "data" / "refused.csv")) == 3
    for row in rows(tmp_path / "data" / "refused.csv"):
        (tmp_path / "train" / row["path"]).write_bytes(odd_file("gray"))
    assert survey(tmp_path / "data", preset)["refused"] == 0
    assert rows(tmp_path / "data" / "refused.csv") == []


def test_an_interrupted_stage_goes_on_and_ends_the_same(trees, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)
    preset = imagenet_preset(trees / "train", trees / "val")
    survey(tmp_path / "whole", preset)
    read, most = [], 10

    def watched(root, file):
        if len(read) == most:
            raise KeyboardInterrupt
        read.append(file.path)
        return read_file(root, file)

    monkeypatch.setattr(module, "read_file", watched)
    monkeypatch.setattr(module, "_AHEAD", 0)
    with pytest.raises(KeyboardInterrupt):
        survey(tmp_path / "cut", preset)
    assert result_files(tmp_path / "cut") == []
    first = set(read[:8])
    read.clear()
    most = 100
    survey(tmp_path / "cut", preset)
    assert len(read) == 26 - 8
    assert first.isdisjoint(read)
    for name in ("train.csv", "validation.csv", "refused.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_tree_does_not_continue_the_index_of_the_first(trees, tmp_path):
    shutil.copytree(trees / "train", tmp_path / "train")
    survey(tmp_path / "data", imagenet_preset(trees / "train"))
    name = rows(tmp_path / "data" / "train.csv")[0]["path"]
    (tmp_path / "train" / name).write_bytes(odd_file("png"))
    survey(tmp_path / "data", imagenet_preset(tmp_path / "train"))
    assert rows(tmp_path / "data" / "train.csv")[0]["bytes"] == str(len(odd_file("png")))


def test_labels_of_an_interrupted_index_follow_the_classes_that_there_are(tmp_path, monkeypatch):
    write_tree(tmp_path / "train", per_class=2, oddities=False)
    monkeypatch.setattr(module, "CHUNK", 2)
    survey(tmp_path / "data", imagenet_preset(tmp_path / "train"))
    shutil.copytree(tmp_path / "train" / wnid(0), tmp_path / "train" / "a")
    survey(tmp_path / "data", imagenet_preset(tmp_path / "train", num_classes=4))
    labels = [row["label"] for row in rows(tmp_path / "data" / "train.csv")]
    assert labels == ["0", "0", "1", "1", "2", "2", "3", "3"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 4}, r"train: 3 classes .* where data.num_classes = 4; files.imagenet"),
        ({"train_images": 21}, r"train: 20 images where data.train_images = 21"),
        ({"validation_images": 5}, r"val: 6 images where data.validation_images = 5"),
    ],
)
def test_counts_that_differ_are_refused_before_any_file_is_read(
    trees, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr(module, "examine", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=message):
        survey(tmp_path, imagenet_preset(trees / "train", trees / "val", **settings))


def test_a_file_that_may_not_be_read_stops_the_stage(trees, tmp_path):
    shutil.copytree(trees / "train", tmp_path / "train")
    place = tmp_path / "train" / wnid(1) / "loop.JPEG"
    os.symlink(place, place)
    with pytest.raises(UserError, match="loop.JPEG: cannot be read .Too many levels"):
        survey(tmp_path / "data", imagenet_preset(tmp_path / "train"))


def test_odd_metadata_is_no_noise(tmp_path, recwarn):
    """EXIF that ends too early: Pillow would warn, without the file's name."""
    tree = write_tree(tmp_path / "train", oddities=False)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0"
    for name in tree.images:
        image = Image.open(tmp_path / "train" / name)
        image.load()
        image.save(tmp_path / "train" / name, format="JPEG", exif=exif)
    facts = survey(tmp_path / "data", imagenet_preset(tmp_path / "train", None))
    assert facts["refused"] == 0
    assert [str(warning.message) for warning in recwarn] == []
