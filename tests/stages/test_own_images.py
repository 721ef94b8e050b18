"""From a folder per class to trained model, samples and page, as docs/own-images.md says it."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from pcb.cli.main import main
from pcb.config.loader import load_params, load_preset
from pcb.data.class_names import read_class_names
from pcb.data.images import first_images, open_images
from pcb.pipeline.job import entry_of
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.report.evidence import Evidence
from pcb.report.pictures import decode_images
from pcb.tokenizer.load import load_tokenizer
from tests.tasks import ROOT

CLASSES = ("disc", "ring", "square")
PER_CLASS = 12
SIDE = 64
SIZES = ((120, 90), (64, 64), (40, 200), (97, 131))
DOCUMENT = (ROOT / "docs" / "own-images.md").read_text()
# Sizes of networks and numbers of images with which everything takes seconds.
QUICK: dict[str, Any] = {
    "data": {"held_out": 0.3},
    "tokenizer": {
        "autoencoder": {"channels": 8, "latent_channels": 8, "codebook_size": 32},
        "training": {"iterations": 6, "batch_size": 8},
    },
    "model": {"width": 32, "layers": 2, "heads": 2, "hidden": 64},
    "training": {"epochs": 2, "warmup_epochs": 0.2, "steps": None},
    "models": {"ratio3": None, "ratio4": None},
    "sampling": {"images": 8, "shard_images": 4},
    "sweep": [
        {"models": ["ratio2"], "total_steps": [9, 17]},
        {"models": ["ratio2"], "total_steps": [17], "cfg": [1.5]},
    ],
    "classifier": {"iterations": 4},
    "likelihood": {"images": 6},
    "metrics": {"splits": 2, "kid_subsets": 2, "kid_subset_size": 4, "bootstrap": 2},
    "compute": {"device": "cpu", "workers": 2},
}


def picture(name: str, seed: int) -> Image.Image:
    """Return a shape of random place and color; sizes and modes differ."""
    random = np.random.default_rng(seed)
    size = SIZES[seed % len(SIZES)]
    paper, pen = (tuple(int(x) for x in random.integers(0, 256, 3)) for _ in range(2))
    image = Image.new("RGB", size, paper)
    side = min(size) // 2
    left, top = (int(random.integers(0, whole - side)) for whole in size)
    box = (left, top, left + side, top + side)
    draw = ImageDraw.Draw(image)
    if name == "square":
        draw.rectangle(box, fill=pen)
    else:
        draw.ellipse(box, fill=pen if name == "disc" else None, outline=pen, width=4)
    return image.convert(("RGB", "L", "CMYK")[seed % 3])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three classes, all JPEG files but one."""
    folder = tmp_path_factory.mktemp("images") / "shapes"
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(PER_CLASS):
            picture(name, PER_CLASS * label + k).save(folder / name / f"{k}.jpg")
    picture("disc", 0).convert("RGBA").save(folder / "disc" / "transparent.PNG")
    return folder


def documented_preset() -> dict[str, Any]:
    """Return the preset that the document shows, by name."""
    text = re.search(r"```yaml\n(presets:\n.*?)```", DOCUMENT, re.DOTALL)
    assert text is not None
    presets: dict[str, Any] = yaml.safe_load(text[1])["presets"]
    return presets


def test_the_documented_preset_has_ten_lines_and_goes_with_params_yaml(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    (name, settings), *others = documented_preset().items()
    assert not others
    text = re.search(r"```yaml\npresets:\n(.*?)```", DOCUMENT, re.DOTALL)
    assert text is not None and len(text[1].splitlines()) <= 10
    params["presets"][name] = settings
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    preset = load_preset(name, tmp_path / "params.yaml")
    assert (preset.data.image_size, preset.grid) == (SIDE, 8)


@pytest.mark.usefixtures("svg_alone")
def test_from_a_folder_to_the_page(
    folder: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "shapes").symlink_to(shapes)
    ((_, settings),) = documented_preset().items()
    params = load_params(ROOT / "params.yaml")
    data = {**settings["data"], "folder": "images/shapes", "num_classes": len(CLASSES)}
    params["presets"]["documented"] = {**settings, "data": data}
    params["presets"]["shapes"] = {"extends": "documented", **QUICK}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    preset = load_preset("shapes", folder / "params.yaml")
    pipeline = Pipeline("shapes", preset)
    results = {task.name: run_task(task, preset, entry_of(task.stage)).results for task in pipeline}
    assert results["data"] == {
        "classes": 3,
        "train_images": 25,
        "validation_images": 12,
        "refused": 0,
        "ignored_files": 0,
    }
    assert results["tokens"]["crops"] == 10 and results["reference"]["reference_images"] == 12
    data_folder = pipeline.task("data").artifact
    assert read_class_names(data_folder) == CLASSES
    held_out = open_images(data_folder, preset, "held_out")
    assert first_images(held_out, 3).shape == (3, 3, SIDE, SIDE)
    assert held_out.labels.tolist() == 4 * [0, 1, 2]
    with (folder / "reports" / "shapes" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["steps"] for row in rows] == ["9", "17", "17"]
    assert all(float(row["fid"]) > 0 for row in rows)
    page = (folder / "reports" / "shapes" / "index.html").read_text()
    assert "0 disc, 1 ring, 2 square" in page and "samples images like those of a" in page
    assert str(shapes) not in page, "the page shows paths of this machine"
    check_generated(pipeline, page, capsys)


def check_generated(pipeline: Pipeline, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the page's command, and make one image of a class by its name."""
    made = next(re.finditer(r"<code>pcb (generate ratio2 .*?)</code>", page))[1]
    assert main(made.split()) == 0
    one = ["generate", "ratio2", "--classes", "square", "--count", "1", "--steps", "9"]
    assert main([*one, "--preset", "shapes", "--out", "one"]) == 0
    (picture,) = Path("one").rglob("*-square.png")
    # Image 2 of the sample set, to the bit.
    evidence = Evidence.of(pipeline)
    row = evidence.rows()[0]
    codes = evidence.codes(row, 3)
    assert codes is not None and row.steps == 9
    tokenizer = load_tokenizer(
        pipeline.task("tokenizer").artifact, pipeline.preset.tokenizer.autoencoder
    )
    (pixels,) = decode_images(tokenizer, codes[2:], row.schedule.sizes)
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), pixels.transpose(1, 2, 0))
    capsys.readouterr()
    assert main([*one[:3], "cirlce", "--preset", "shapes"]) != 0
    assert "no class 'cirlce'" in capsys.readouterr().err
