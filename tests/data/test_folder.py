"""Folders of one's own images: classes, the held-out ones, and files that are none."""

import os
from pathlib import Path

import pytest

from pcb.config import ImageFolder, Preset
from pcb.config.loader import load_params, parse_preset
from pcb.data.class_names import CLASSES, read_class_names
from pcb.data.folder import find_images
from pcb.data.images import open_images
from pcb.errors import UserError
from pcb.pipeline.tasks import Pipeline
from pcb.preflight.cost import cost_of, train_images
from pcb.preflight.doctor import file_findings
from pcb.stages.data import run
from tests.imagenet import BROKEN, READABLE, odd_file
from tests.tasks import ROOT, job_of


def settings(folder: Path, **own: object) -> ImageFolder:
    return ImageFolder(**{"folder": str(folder), "num_classes": 2, **own})  # type: ignore[arg-type]


def mini_with(**data: object) -> Preset:
    """Return the miniature with these settings of its images."""
    params = load_params(ROOT / "params.yaml")
    own = {"extends": "mini", "data": data, "likelihood": {"images": None}}
    return parse_preset({"presets": {**params["presets"], "own": own}}, "own")


def preset_of(folder: Path, **data: object) -> Preset:
    """Return the miniature with a folder's images."""
    return mini_with(kind="folder", folder=str(folder), **{"num_classes": 2, **data})


def fill(folder: Path, *names: str) -> Path:
    """Write empty files: nothing opens them here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def many(folder: Path, count: int = 20, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    return fill(folder, *(f"{name}/{k}.jpg" for name in classes for k in range(count)))


def test_classes_are_sub_folders_and_images_may_lie_deeper(tmp_path: Path) -> None:
    fill(tmp_path, "b/1.JPG", "b/x/y/2.png", "b/3.webp", "b/.4.jpg", "b/.hidden/5.jpg", "6.jpg")
    fill(tmp_path, "Z/1.gif", "Z/2.bmp", "Z/3.jpeg", ".cache/1.jpg")
    found = find_images(settings(tmp_path))
    assert found.classes == ("Z", "b")
    assert {(file.path, file.label) for file in (*found.train, *found.held_out)} == {
        ("Z/1.gif", 0),
        ("Z/2.bmp", 0),
        ("Z/3.jpeg", 0),
        ("b/1.JPG", 1),
        ("b/x/y/2.png", 1),
    }
    assert found.ignored == 1
    assert [file.label for file in found.train] == [0, 0, 1]


def test_a_fraction_of_each_class_is_held_out_whatever_the_disk_says(tmp_path: Path) -> None:
    first = find_images(settings(many(tmp_path / "a"), held_out=0.25))
    assert [file.label for file in first.held_out] == 5 * [0, 1]
    assert len(first.train) == 30
    assert not {file.path for file in first.train} & {file.path for file in first.held_out}
    other = many(tmp_path / "b", classes=("dog", "cat"))
    assert find_images(settings(other, held_out=0.25)) == first
    # Spread over the paths, and not the first of them.
    cats = [file.path for file in first.held_out[::2]]
    assert cats != sorted(f"cat/{k}.jpg" for k in range(20))[:5]
    fill(tmp_path / "a", "cat/new.jpg")
    again = find_images(settings(tmp_path / "a", held_out=0.25))
    moved = {file.path for file in first.held_out} ^ {file.path for file in again.held_out}
    assert len(moved) <= 2


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_one_image_of_a_small_class_is_held_out_and_one_stays(
    tmp_path: Path, fraction: float
) -> None:
    found = find_images(settings(many(tmp_path, 2), held_out=fraction))
    assert (len(found.train), len(found.held_out)) == (2, 2)


@pytest.mark.parametrize("train", ["train/", ""])
def test_a_folder_val_is_held_out_instead(tmp_path: Path, train: str) -> None:
    fill(tmp_path, f"{train}cat/1.jpg", f"{train}dog/1.jpg", "val/cat/1.jpg", "val/dog/2.jpg")
    found = find_images(settings(tmp_path))
    assert [file.path for file in found.train] == [f"{train}cat/1.jpg", f"{train}dog/1.jpg"]
    assert [file.path for file in found.held_out] == ["val/cat/1.jpg", "val/dog/2.jpg"]


def test_train_and_val_may_be_classes(tmp_path: Path) -> None:
    found = find_images(settings(many(tmp_path, 3, ("plane", "train", "val")), num_classes=3))
    assert found.classes == ("plane", "train", "val")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/1.jpg"], r"pets: 1 sub-folders \(cat\) where data.num_classes = 2"),
        (["1.jpg"], r"pets: no sub-folders where data.num_classes = 2"),
        (["cat/1.jpg", "dog/a.webp"], r"pets/dog: no images \(\.bmp, .*\) in it"),
        (["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"], r"pets/dog: one image cannot be both"),
        (
            ["cat/1.jpg", "dog/1.jpg", "val/cow/1.jpg"],
            r"val/cow: no class 'cow' to train on",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    fill(tmp_path / "pets", *names)
    with pytest.raises(UserError, match=message):
        find_images(settings(tmp_path / "pets"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: no such folder; data.folder names it"):
        find_images(settings(tmp_path / "gone"))


def test_a_link_into_a_circle_is_not_followed(tmp_path: Path) -> None:
    many(tmp_path)
    os.symlink(tmp_path, tmp_path / "cat" / "loop")
    assert len(find_images(settings(tmp_path)).train) == 36


def write_odd(folder: Path, kinds: tuple[str, ...]) -> Path:
    """Write odd files, of two classes in turn."""
    for k, kind in enumerate(kinds):
        place = folder / ("cat", "dog")[k % 2] / f"{k}-{kind}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(odd_file(kind, seed=k))
    return folder


def test_odd_files_are_read_and_broken_ones_listed(tmp_path: Path) -> None:
    images = write_odd(tmp_path / "images", (*READABLE, *READABLE, *BROKEN))
    preset = preset_of(images, refused_fraction=0.5, image_size=32, mirrored=False)
    found = dict(run(job_of(preset, "data", tmp_path / "data")))
    assert (found["refused"], found["classes"]) == (len(BROKEN), 2)
    assert found["train_images"] + found["validation_images"] == 2 * len(READABLE)
    train = open_images(tmp_path / "data", preset, "train")
    assert next(train.all_crops(range(1))).shape == (5, 3, 32, 32)
    held_out = open_images(tmp_path / "data", preset, "held_out")
    assert next(held_out.all_crops(range(1))).shape == (1, 3, 32, 32)
    assert read_class_names(tmp_path / "data") == ("cat", "dog")
    with pytest.raises(UserError, match=r"3 of 13 images cannot be read, more than data.refused"):
        run(job_of(preset_of(images, refused_fraction=0.1), "data", tmp_path / "few"))


def test_what_was_decoded_is_kept(tmp_path: Path) -> None:
    images = write_odd(tmp_path / "images", 4 * ("gray",))
    preset = preset_of(images, image_size=32)
    run(job_of(preset, "data", tmp_path / "data"))
    train = open_images(tmp_path / "data", preset, "train")
    first = [crops.tolist() for crops in train.all_crops(range(2))]
    for path in images.rglob("*.jpg"):
        path.unlink()
    assert [crops.tolist() for crops in train.all_crops(range(2))] == first


def test_names_that_are_damaged_are_one_line(tmp_path: Path) -> None:
    assert read_class_names(tmp_path) is None
    (tmp_path / CLASSES).write_text("label,title\n0,cat\n")
    with pytest.raises(UserError, match=r"classes.csv: damaged .*; make the stage `data` again"):
        read_class_names(tmp_path)


def test_doctor_and_plan_count_what_is_there(tmp_path: Path) -> None:
    preset = preset_of(many(tmp_path / "images"))
    pipeline = Pipeline("own", preset)
    (finding,) = file_findings(pipeline)
    assert finding.found.endswith("2 classes, 36 images to train on, 4 held out")
    assert train_images(preset) == 36
    assert preset.likelihood_sizes == preset.all_sizes
    tokens = sum(size * size for size in preset.all_sizes)
    assert cost_of(pipeline.task("tokens"), preset).bytes == 2 * (36 * 10 + 4) * tokens
    (finding,) = file_findings(Pipeline("own", preset_of(tmp_path / "gone")))
    assert "no such folder" in (finding.problem or "")


def test_another_kind_of_data_replaces_the_inherited_one(tmp_path: Path) -> None:
    assert preset_of(tmp_path).data == settings(tmp_path)
    assert mini_with(hues=5).data == mini_with(kind="digits", hues=5).data
    assert mini_with(hues=5).data.image_size == 32
