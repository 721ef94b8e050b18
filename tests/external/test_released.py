"""Released weights as a preset's model: the same numbers, and nothing that does not fit."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcb.config.loader import load_params, merge, parse_preset
from pcb.errors import UserError
from pcb.external.autoencoder import from_released_state, read_checkpoint
from pcb.external.released import CHECKPOINT, CONFIG, load_released, released_weights
from pcb.model.layers import AttentionContext
from pcb.model.transformer import Transformer
from pcb.model.weights import WEIGHTS, build_model, load_weights
from pcb.pipeline.job import Job, entry_of
from pcb.pipeline.manifest import Manifest
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.hashing import record_file
from pcb.tokenizer.load import tokenizer_from_state
from tests.models import random_inputs
from tests.recorded import REFERENCE
from tests.tasks import ROOT

RATIOS = {"tiny-2x": 2, "tiny-3x": 3}
TINY: dict[str, Any] = {
    "description": "The recorded folders of tests/reference",
    "data": {"kind": "imagenet", "image_size": 32, "num_classes": 10},
    "tokenizer": {
        "source": "released",
        "autoencoder": {
            "channels": 32,
            "channel_multipliers": [1, 1, 1],
            "residual_blocks": 1,
            "latent_channels": 32,
            "codebook_size": 64,
        },
    },
    "model": {"width": 64, "layers": 3, "heads": 4, "hidden": 256, "mixing_layers": 2},
    "sampling": {"images": 50000},
    "metrics": {"extractor": "inception"},
}


def tiny_pipeline(folder: Path, change: dict[str, Any] | None = None) -> Pipeline:
    """A preset whose one model `tiny` takes the weights of a folder in the released layout."""
    ratio = yaml.safe_load((folder / CONFIG).read_text())["model"]["scale_ratio"]
    params = load_params(ROOT / "params.yaml")
    models = {"tiny": {"released": "checkerboard-L-2x", "model": {"scale_ratio": ratio}}}
    sweep = [{"models": ["tiny"], "blocks": [1]}]
    params["presets"]["tiny"] = merge({**TINY, "models": models, "sweep": sweep}, change or {})
    params["files"] = {
        "own": {
            "autoenc": str(folder / "autoenc" / "checkpoint.pth"),
            "autoenc-config": str(folder / "autoenc" / "autoencoder_config.yaml"),
            "checkerboard-L-2x": str(folder / CHECKPOINT),
            "checkerboard-L-2x-config": str(folder / CONFIG),
        }
    }
    return Pipeline("tiny", parse_preset(params, "tiny"))


def make(pipeline: Pipeline) -> Manifest:
    """Make the tokenizer and the model."""
    run_task(pipeline.task("tokenizer"), pipeline.preset, entry_of("tokenizer"))
    return run_task(pipeline.task("train", "tiny"), pipeline.preset, entry_of("train"))


def model_of(pipeline: Pipeline) -> Transformer:
    """Load the finished model as sampling does."""
    model = build_model(pipeline.preset, "tiny", pipeline.task("tokenizer").artifact)
    load_weights(pipeline.task("train", "tiny").artifact, model)
    return model.eval()


@pytest.fixture
def copy(folder: Path) -> Path:
    """A copy of a reference folder that a test may spoil."""
    shutil.copytree(REFERENCE / "tiny-2x", "released")
    return folder / "released"


@pytest.mark.parametrize("name", ["tiny-2x", "tiny-3x"])
@torch.inference_mode()
def test_imported_model_gives_the_released_logits(folder: Path, name: str) -> None:
    pipeline = tiny_pipeline(REFERENCE / name)
    manifest = make(pipeline)
    model, released = model_of(pipeline), load_released(REFERENCE / name).transformer
    assert model.sizes == released.sizes
    assert all(torch.equal(a, released.state_dict()[k]) for k, a in model.state_dict().items())
    inputs, sequence = random_inputs(model, batch=2)
    context = AttentionContext(mask=sequence.mask_LL())
    logits, expected = (one.logits(one(inputs, context)) for one in (model, released))
    assert torch.equal(logits, expected)
    assert list(manifest.files) == [WEIGHTS]
    assert manifest.results == {
        "parameters": model.num_parameters(),
        "released": "checkerboard-L-2x",
        "sha256": record_file(REFERENCE / name / CHECKPOINT).sha256,
        "published": False,
        "epoch": manifest.results["epoch"],
    }


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG
    config = yaml.safe_load(path.read_text())
    config["model"].update(changes)
    path.write_text(yaml.safe_dump(config))


def edit_tensors(folder: Path, **changes: Any) -> None:
    """Change a checkpoint's tensors by name, dots written as `__`; None takes one away."""
    content = read_checkpoint(folder / CHECKPOINT)
    for name, edit in changes.items():
        name = name.replace("__", ".")
        tensor = content["model"].pop(name)
        if edit is not None:
            content["model"][name] = edit(tensor)
    torch.save(content, folder / CHECKPOINT)


def refusal(folder: Path, change: dict[str, Any] | None = None) -> str:
    """Import a folder that does not fit; return the one line that says why."""
    pipeline = tiny_pipeline(folder, change)
    with pytest.raises(UserError) as caught:
        make(pipeline)
    assert not pipeline.task("train", "tiny").manifest.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_setting_that_differs_is_named(copy: Path) -> None:
    model = {"layers": 4, "heads": 2, "mixing_layers": 0, "head_mlp": True, "init": "narrow"}
    change = {"model": model, "data": {"num_classes": 12}}
    line = refusal(copy, change)
    assert f"{copy / CONFIG}: another model than presets.tiny.models.tiny: " in line
    assert (
        "layers 3 for 4, heads 4 for 2, mixing_layers 2 for 0, head_mlp False for True, "
        "num_classes 10 for 12;"
    ) in line


def test_weights_of_another_ratio_are_refused_by_name(copy: Path) -> None:
    edit_config(copy, scale_ratio=4)
    line = refusal(copy)
    assert f"{copy / CHECKPOINT}: tensors do not fit" in line
    assert "position_embedding.weight [85, 64] for [69, 64]" in line


CODEBOOK = "autoenc__quantize__embedding__parametrizations__weight__original"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lm_head__bias": None}, "1 missing: head.bias"),
        ({"lm_head__bias": lambda x: x[:3]}, "head.bias [3] for [64]"),
        ({CODEBOOK: torch.neg}, "trained with another codebook than the tokenizer's"),
        ({CODEBOOK: None}, "no autoenc.quantize.embedding"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    edit_tensors(copy, **changes)
    assert message in refusal(copy)


class Payload:
    """What a hostile pickle would hold: anything outside the allow-list."""


@pytest.mark.parametrize("content", [b"", b"not a pickle", Payload(), {"model": Payload()}])
def test_damaged_and_hostile_pickles_are_refused(copy: Path, content: object) -> None:
    path = copy / CHECKPOINT
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert f"{path}: not a readable checkpoint" in refusal(copy)


def test_truncated_checkpoint_is_refused(copy: Path) -> None:
    path = copy / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-5000])
    assert f"{path}: not a readable checkpoint" in refusal(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "not YAML"),
        ("model: 1", "expected a mapping with `model`"),
        ("model: {img_size: 32}", "no model.llama_config.hidden_size"),
    ],
)
def test_damaged_config_is_refused(copy: Path, text: str, message: str) -> None:
    pipeline = tiny_pipeline(copy)
    (copy / CONFIG).write_text(text)
    with pytest.raises(UserError, match=message):
        make(pipeline)


def test_every_tensor_of_the_released_large_model_is_taken(tmp_path: Path) -> None:
    """A checkpoint of the released names, shapes and types; a tensor's entries are all one."""
    listed = json.loads((REFERENCE / "L2x_state_dict.json").read_text())
    tensors = {
        name: torch.ones((), dtype=getattr(torch, dtype)).expand(shape)
        for name, (shape, dtype) in listed.items()
    }
    prefix = "autoenc."
    autoencoder = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
    preset = parse_preset(load_params(ROOT / "params.yaml"), "paper-pretrained")
    tokenizer = tokenizer_from_state(
        from_released_state(autoencoder), preset.tokenizer.autoencoder, "ones"
    )
    content = {"model": tensors, "epoch": 204, "args": argparse.Namespace(lr=1e-4)}
    torch.save(content, tmp_path / CHECKPOINT)
    name = "checkerboard-l-2x"
    with torch.device("meta"):
        model = Transformer(preset.models[name].model, preset.sizes(name), 1000, tokenizer.codebook)
    weights = released_weights(model, tokenizer, tmp_path / CHECKPOINT)
    assert weights.state.keys() == model.state_dict().keys()
    own = (tensor for name, tensor in tensors.items() if not name.startswith(prefix))
    assert weights.parameters == sum(tensor.numel() for tensor in own)
    assert weights.epoch == 204
    wrong = "checkerboard-l-4x"
    with torch.device("meta"):
        model = Transformer(
            preset.models[wrong].model, preset.sizes(wrong), 1000, tokenizer.codebook
        )
    with pytest.raises(UserError, match=r"position_embedding\.weight \[341, 1024\] for \[273"):
        released_weights(model, tokenizer, tmp_path / CHECKPOINT)


def test_another_rank_leaves_the_work_to_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline(REFERENCE / "tiny-2x")
    task = pipeline.task("train", "tiny")
    job = Job(task=task, preset=pipeline.preset, folder=folder, inputs={}, progress=None)
    monkeypatch.setenv("RANK", "1")
    assert entry_of("train")(job) == {}
    assert not list(folder.iterdir())
