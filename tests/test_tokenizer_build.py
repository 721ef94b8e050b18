"""The stage `tokenizer` for each source but the miniature's own training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcb.errors import UserError
from pcb.params import load_params, merge, parse_preset
from pcb.pipeline import Pipeline
from pcb.stage import run_unit
from pcb.tokenizer.build import build
from pcb.tokenizer.load import TOKENIZER_FILE, load_tokenizer
from tests.units import ROOT

RELEASED = ROOT / "tests" / "reference" / "tiny-2x"
TINY = {
    "channels": 32,
    "channel_multipliers": [1, 1, 1],
    "residual_blocks": 1,
    "latent_channels": 32,
    "codebook_size": 64,
    "norm_groups": 32,
}


@pytest.fixture(autouse=True)
def inexact():
    yield
    torch.use_deterministic_algorithms(False)


def pipeline(tokenizer: dict, own: dict[str, Path]) -> Pipeline:
    """The units of the smoke preset with another tokenizer and files of one's own."""
    params = load_params(ROOT / "params.yaml")
    params["files"] = {"own": {name: str(path) for name, path in own.items()}}
    base = params["presets"]["mini"]
    params["presets"]["mini"] = merge(base, {"tokenizer": {"training": None, **tokenizer}})
    return Pipeline("mini", parse_preset(params, "mini"))


def release(**autoencoder: object) -> Pipeline:
    own = {
        "autoenc": RELEASED / "autoenc" / "checkpoint.pth",
        "autoenc-config": RELEASED / "autoenc" / "autoencoder_config.yaml",
    }
    return pipeline({"source": "released", "autoencoder": {**TINY, **autoencoder}}, own)


def test_the_released_tokenizer_is_taken_as_it_is(folder: Path):
    units = release()
    unit = units.unit("tokenizer")
    assert unit.inputs == ()
    manifest = run_unit(unit, units.preset, build)
    assert list(manifest.files) == [TOKENIZER_FILE]
    assert manifest.facts["codes"] == 64
    assert len(manifest.facts["sha256"]) == 64
    tokenizer = load_tokenizer(unit.artifact, units.preset.tokenizer.autoencoder)
    expected = np.load(RELEASED / "expected.npz")
    codes = tokenizer.codes(torch.tensor(expected["image"]), [8])
    np.testing.assert_array_equal(codes[8], expected["codes_8"])


def test_settings_must_be_those_of_the_released_file(folder: Path):
    units = release(codebook_size=128)
    with pytest.raises(UserError, match=r"codebook_size is 64, but tokenizer\.autoencoder\.code"):
        run_unit(units.unit("tokenizer"), units.preset, build)
    assert not list(units.unit("tokenizer").artifact.glob("*.safetensors"))


def test_weights_of_the_released_form_are_not_lost(folder: Path):
    units = release()
    run_unit(units.unit("tokenizer"), units.preset, build)
    written = load_file(units.unit("tokenizer").artifact / TOKENIZER_FILE)
    source = torch.load(RELEASED / "autoenc" / "checkpoint.pth", weights_only=True)["state_dict"]
    for name in ("encoder.conv_in.weight", "post_quant_conv.bias"):
        assert torch.equal(written[name], source[name])
