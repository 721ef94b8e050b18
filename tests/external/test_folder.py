"""`pcb import`: folders in the released layout as results of a preset."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcb.cli.main import main
from pcb.config.loader import load_preset
from pcb.external.released import CHECKPOINT, load_released, read_checkpoint
from pcb.model.weights import build_model, load_weights
from pcb.pipeline.manifest import read_manifest
from pcb.pipeline.tasks import Pipeline
from tests.external.test_released import TINY
from tests.recorded import REFERENCE


@pytest.fixture
def project(folder: Path) -> Path:
    """A project whose one preset has released models of ratios 2 and 3; and a folder of each."""
    released = {"released": "checkerboard-L-2x"}
    models = {
        "two": {**released, "model": {"scale_ratio": 2}},
        "three": {**released, "model": {"scale_ratio": 3}},
    }
    write_params(folder, {**TINY, "models": models, "sweep": []})
    for name in ("tiny-2x", "tiny-3x"):
        shutil.copytree(REFERENCE / name, folder / name)
    return folder


def write_params(folder: Path, preset: dict[str, Any]) -> None:
    text = yaml.safe_dump({"preset": "tiny", "presets": {"tiny": preset}})
    (folder / "params.yaml").write_text(text)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Import what cannot be imported; return the one line that says why."""
    capsys.readouterr()
    assert main(["import", *arguments]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_folder_becomes_the_model_that_it_describes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "tiny-3x"]) == 0
    pipeline = Pipeline("tiny", load_preset("tiny"))
    model = build_model(pipeline.preset, "three", pipeline.task("tokenizer").artifact)
    load_weights(pipeline.task("train", "three").artifact, model)
    for name, tensor in load_released(Path("tiny-3x")).transformer.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert not pipeline.task("train", "two").artifact.exists()
    capsys.readouterr()
    assert main(["import", "tiny-3x"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"tokenizer: already complete.*\n.*train/three: already complete", out)
    assert main(["train", "three"]) == 0


def test_autoencoder_may_stand_beside_the_folder(project: Path) -> None:
    shutil.move("tiny-2x/autoenc", "autoenc")
    config = Path("tiny-2x/config.yaml")
    config.write_text(config.read_text().replace(" autoenc/", " pretrained_models/autoenc/"))
    assert main(["import", "tiny-2x"]) == 0


def test_another_checkpoint_takes_the_place_of_the_first(project: Path) -> None:
    main(["import", "tiny-2x"])
    manifest = Pipeline("tiny", load_preset("tiny")).task("train", "two").manifest
    before = read_manifest(manifest)
    content = read_checkpoint(Path("tiny-2x") / CHECKPOINT)
    content["model"]["lm_head.bias"] += 1
    torch.save(content, Path("tiny-2x") / CHECKPOINT)
    assert main(["import", "tiny-2x"]) == 0
    after = read_manifest(manifest)
    assert before is not None and after is not None
    assert before.content != after.content
    assert before.results["sha256"] != after.results["sha256"]


def test_folder_that_is_no_model_of_the_preset_says_in_what(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path("tiny-2x/config.yaml")
    config.write_text(config.read_text().replace("scale_ratio: 2", "scale_ratio: 4"))
    line = error_of(capsys, "tiny-2x")
    assert "tiny-2x/config.yaml: no released model of preset tiny is this one: " in line
    assert "three has scale_ratio 4.0 for 3.0; two has scale_ratio 4.0 for 2.0" in line
    assert "another model than presets.tiny.models.two" in error_of(
        capsys, "tiny-2x", "--model", "two"
    )


def test_two_models_that_fit_want_a_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"released": "checkerboard-L-2x", "model": {"scale_ratio": 2}}
    write_params(project, {**TINY, "models": {"a": entry, "b": entry}, "sweep": []})
    assert "fits a and b of preset tiny; name one with --model" in error_of(capsys, "tiny-2x")
    assert main(["import", "tiny-2x", "--model", "b"]) == 0


def test_model_that_is_trained_or_unknown_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["presets"]["tiny"]
    params["models"]["own"] = {"training": {"epochs": 1}}
    write_params(project, params)
    assert "models.own is trained" in error_of(capsys, "tiny-2x", "--model", "own")
    assert "no train 'four'" in error_of(capsys, "tiny-2x", "--model", "four")


def test_folder_that_holds_nothing_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere/config.yaml: no such file" in error_of(capsys, "nowhere")
    (Path("tiny-2x") / CHECKPOINT).unlink()
    assert f"tiny-2x/{CHECKPOINT}: no such file" in error_of(capsys, "tiny-2x")
