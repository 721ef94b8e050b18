"""The tokenizer's networks: names and shapes of the release, and its numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config import Autoencoder
from pcb.errors import UserError
from pcb.external.autoencoder import from_released_state
from pcb.tokenizer.load import load_tokenizer, tokenizer_from_state
from pcb.tokenizer.pyramid import conditioning
from pcb.tokenizer.vq import Tokenizer
from tests.recorded import REFERENCE

TINY = Autoencoder(
    channels=32,
    channel_multipliers=(1, 1, 1),
    residual_blocks=1,
    latent_channels=32,
    codebook_size=64,
)


def released(name: str) -> Tokenizer:
    path = REFERENCE / name / "autoenc" / "checkpoint.pth"
    state = torch.load(path, weights_only=True)["state_dict"]
    return tokenizer_from_state(from_released_state(state), TINY, str(path))


def test_names_and_shapes_are_those_of_the_released_vq16():
    listed = json.loads((REFERENCE / "L2x_state_dict.json").read_text())
    prefix = "autoenc."
    state = {
        name.removeprefix(prefix): torch.empty(shape, device="meta")
        for name, (shape, _) in listed.items()
        if name.startswith(prefix)
    }
    with torch.device("meta"):
        ours = Tokenizer(Autoencoder())
    expected = {name: tuple(x.shape) for name, x in from_released_state(state).items()}
    assert {name: tuple(x.shape) for name, x in ours.state_dict().items()} == expected


def test_the_published_tokenizer_has_72_million_weights():
    with torch.device("meta"):
        tokenizer = Tokenizer(Autoencoder())
    count = sum(x.numel() for x in tokenizer.state_dict().values())
    assert round(count / 1e6, 2) == 71.79


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", ["tiny-2x", "tiny-3x"])
def test_released_weights_give_the_released_numbers(name: str):
    expected = np.load(REFERENCE / name / "expected.npz")
    images, sizes = torch.tensor(expected["image"]), expected["scale_sizes"].tolist()
    tokenizer = released(name)
    codes = tokenizer.codes(images, sizes)
    sources = conditioning(codes, tokenizer.codebook, sizes)
    for size in sizes:
        np.testing.assert_array_equal(codes[size].numpy(), expected[f"codes_{size}"])
        np.testing.assert_allclose(sources[size], expected[f"upscaled_{size}"], atol=1e-4)
    np.testing.assert_allclose(tokenizer.encode(images), expected["encoded"], atol=1e-4)
    decoded = tokenizer.decode(codes[sizes[-1]])
    np.testing.assert_allclose(decoded, expected["decoded"], atol=1e-4)


def test_decode_takes_codes_or_vectors_of_any_length():
    tokenizer = released("tiny-2x")
    codes = torch.randint(64, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    vectors = 3.0 * tokenizer.codebook[codes].permute(0, 3, 1, 2)
    torch.testing.assert_close(tokenizer.decode(codes), tokenizer.decode(vectors))


def test_stride_is_the_number_of_halvings():
    assert Autoencoder().stride == 16
    assert released("tiny-2x").encode(torch.zeros(1, 3, 12, 20)).shape == (1, 8, 3, 5)


def test_weights_that_do_not_fit_are_named():
    state = dict(released("tiny-2x").state_dict())
    state["stray"] = state.pop("quant_conv.bias")
    state["codebook"] = state["codebook"][:10]
    with pytest.raises(UserError) as error:
        tokenizer_from_state(state, TINY, "here.pth")
    for part in ("here.pth", "missing: quant_conv.bias", "unknown: stray", "codebook [10, 8]"):
        assert part in str(error.value)


def test_missing_and_damaged_files_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_tokenizer(tmp_path, TINY)
    (tmp_path / "tokenizer.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="unreadable"):
        load_tokenizer(tmp_path, TINY)


def test_norm_groups_must_divide_every_width():
    with pytest.raises(ValueError, match="norm_groups 32"):
        Autoencoder(channels=16)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.bfloat16, 3.0), (torch.float16, 0.4)])
def test_half_precision_decodes_to_nearly_the_same_pixels(dtype, levels):
    """Gray levels apart in the mean; the last layer is float32, and so are the pixels."""
    tokenizer, rounded = released("tiny-2x"), released("tiny-2x")
    rounded.round_decoder_to(dtype)
    codes = torch.tensor(np.load(REFERENCE / "tiny-2x" / "expected.npz")["codes_8"]).long()
    with torch.inference_mode():
        expected, images = tokenizer.decode(codes), rounded.decode(codes)
    assert images.dtype == torch.float32
    assert 0 < 127.5 * (images - expected).abs().mean() < levels
    with torch.inference_mode():
        assert torch.equal(rounded.codes(images, [2])[2], tokenizer.codes(images, [2])[2])
