"""Reconstruction scores: several codebooks at once, and rFID by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from pcb.data.arrays import to_uint8
from pcb.metrics.features import Layers
from pcb.metrics.reconstruction import measure, on_device, reconstructions
from pcb.tokenizer.pyramid import resize_bilinear
from pcb.tokenizer.quantize import normalize
from pcb.tokenizer.vq import Tokenizer
from tests.models import TINY_AUTOENCODER

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY_AUTOENCODER).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def other_codes() -> torch.Tensor:
    return normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), dim=1)


def batches() -> list[np.ndarray]:
    return [IMAGES[:5], IMAGES[5:10], IMAGES[10:]]


def test_codebooks_are_measured_as_if_each_were_alone(tokenizer, other_codes):
    codebooks = {"_before": tokenizer.codebook, "": other_codes}
    both = measure(tokenizer, batches(), [1, 3, 4], codebooks=codebooks, similarity=True)
    before = measure(tokenizer, batches(), [1, 3, 4], similarity=True)
    assert {n: v for n, v in both.items() if n.endswith("_before")} == {
        f"{name}_before": value for name, value in before.items()
    }
    assert both.keys() == {*before, *(f"{name}_before" for name in before)}
    assert both["psnr"] != before["psnr"]
    assert both["codebook_usage"]["4"] in {k / 5 for k in range(6)}
    # At 4 pixels per token, a scale below 3 is smaller than SSIM's window.
    assert both["ssim"].keys() == before["ssim"].keys() == {"3", "4"}


def test_rfid_compares_a_scale_with_what_is_left_of_it(tokenizer, other_codes):
    def extract(pixels: torch.Tensor) -> Layers:
        assert pixels.dtype == torch.uint8
        features = pixels.float().mean((2, 3)) / 10
        return Layers(features, features)

    codebooks = {"_before": tokenizer.codebook, "": other_codes}
    found = measure(tokenizer, batches(), [2, 4], codebooks=codebooks, extractor=extract)
    for size in (2, 4):
        target = resize_bilinear(on_device(tokenizer, IMAGES), 4 * size)
        for suffix, codebook in codebooks.items():
            tokenizer_with = Tokenizer(TINY_AUTOENCODER)
            tokenizer_with.load_state_dict(
                tokenizer.state_dict() | {"codebook": tokenizer.codebook}
            )
            tokenizer_with.codebook = codebook
            decoded = tokenizer_with.decode(tokenizer_with.codes(target, [size])[size])
            x, y = (extract(to_uint8(i.detach())).pool.double().numpy() for i in (target, decoded))
            root = sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
            spread = np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root
            expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(spread)
            assert found[f"rfid{suffix}"][str(size)] == pytest.approx(expected, rel=1e-3)


def test_without_an_extractor_there_is_no_rfid(tokenizer):
    assert "rfid" not in measure(tokenizer, batches(), [4])


def test_reconstructions_stand_below_the_images(tokenizer, other_codes):
    pictures = reconstructions(tokenizer, IMAGES[:3], [tokenizer.codebook, other_codes])
    assert (pictures.shape, pictures.dtype) == ((3, 3, 3, 16, 16), np.uint8)
    np.testing.assert_array_equal(pictures[:2], reconstructions(tokenizer, IMAGES[:3]))
    assert not np.array_equal(pictures[1], pictures[2])
