"""`pcb generate`: files, grid, animation, and the one line for what is wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pcb
from pcb.cli.main import main
from pcb.generate.grid import Row, gif, grid
from pcb.pipeline.tasks import Pipeline
from tests.generate.models import codes_of
from tests.recorded import REFERENCE
from tests.tasks import ROOT


def line_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails, and return the one line that it prints."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_images_are_numbered_as_in_the_sample_set(
    project: Path, inside: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["ratio2", "--classes", "three", "7", "--count", "2", "--out", str(out)]
    assert main(["generate", *arguments]) == 0
    images = sorted(path.name for path in (out / "17-steps").iterdir())
    assert images == [
        "000003-three.png",
        "000007-seven.png",
        "000013-three.png",
        "000017-seven.png",
    ]
    expected = pcb.load(project, preset="smoke").decode(codes_of(inside)[[13]])[0]
    assert np.array_equal(pixels_of(out / "17-steps" / "000013-three.png"), expected)
    printed = capsys.readouterr().out
    assert "generate: ratio2, 4 images at 17 steps" in printed
    assert printed.endswith(f"{out / 'grid.png'}\n")


def test_without_arguments_all_classes_of_the_first_model_are_made(
    inside: Pipeline, tmp_path: Path
) -> None:
    assert main(["generate", "--out", str(tmp_path)]) == 0
    assert len(list((tmp_path / "17-steps").iterdir())) == 40


def test_step_counts_are_rows_and_each_has_an_animation(inside: Pipeline, tmp_path: Path) -> None:
    command = ["generate", "--classes", "3", "--count", "2", "--steps", "4", "9", "--cfg", "1.5"]
    assert main([*command, "--animate", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "4-steps-cfg-1.5",
        "9-steps-cfg-1.5",
        "4-steps-cfg-1.5.gif",
        "9-steps-cfg-1.5.gif",
        "grid.png",
    }
    with Image.open(tmp_path / "9-steps-cfg-1.5.gif") as animated:
        assert animated.n_frames == 9
        assert animated.info["loop"] == 0
    assert main([*command, "--out", str(tmp_path / "again")]) == 0
    for path in (tmp_path / "again").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "again")).read_bytes()


def test_a_folder_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = REFERENCE / "tiny-2x"
    assert main(["generate", str(folder), "--classes", "1", "--count", "1", "--blocks", "2"]) == 0
    assert (tmp_path / "generated" / "tiny-2x" / "grid.png").exists()
    assert (tmp_path / "generated" / "tiny-2x" / "7-steps" / "000001-class-1.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "thre"], "no class 'thre'; nearest: three (3)"),
        (["--classes", "11"], "class 11: expected a number from 0 to 9"),
        (["--steps", "9", "99"], "no schedule of 99 steps for scales 1 2 4 8; the nearest has 85"),
        (["--seed", "-3"], "seed -3: expected a number from 0"),
        (["--count", "0"], "count 0: expected at least 1 image of each class"),
        (["ratio4"], "model ratio4 of preset smoke is not finished here; `make smoke` makes it"),
        (["ratio5"], "preset smoke has no model 'ratio5'; did you mean ratio"),
        (["LlamaGen-L"], "external/llamagen/c2i_L_384.pt: no such file"),
        (["PAR-L-4x"], "PAR-L-4x: has no file of weights: no weights of this size"),
        (["--out", "params.yaml"], "params.yaml: "),
        (["--out", "params.yaml/inside"], "params.yaml"),
    ],
)
def test_what_is_wrong_is_one_line(
    inside: Pipeline,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert message in line_of(capsys, "generate", *arguments)
    assert not Path("generated").exists()


def test_a_fresh_clone_is_told_what_makes_a_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    line = line_of(capsys, "generate")
    assert line == "pcb: no model of preset mini is finished here; `make reproduce` makes one\n"


def test_a_grid_shows_each_image_at_its_place() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 96, 96, 3), dtype=np.uint8)
    rows = [Row(label="first", images=images), Row(label="second", images=images[::-1])]
    picture = np.asarray(grid(rows, [f"class {i}" for i in range(12)], "a title"))
    found = [_place_of(picture, image) for image in images]
    # Ten in a band: of the first row, the eleventh stands at the left again, below both rows.
    first, eleventh = min(found[0]), max(found[10])
    assert eleventh[1] == first[1]
    assert eleventh[0] > first[0] + 2 * 96


def test_an_animation_stays_at_its_last_frame() -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 120, 255)]
    with Image.open(io.BytesIO(gif(frames))) as animated:
        animated.seek(2)
        assert animated.info["duration"] > 1000


def _place_of(picture: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """Where an image stands in a picture, as (y, x) of its corner."""
    height, width = image.shape[:2]
    corners = np.argwhere((picture == image[0, 0]).all(-1))
    return [
        (int(y), int(x))
        for y, x in corners
        if np.array_equal(picture[y : y + height, x : x + width], image)
    ]
