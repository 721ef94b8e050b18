"""Requantization step by step against the released code's recorded codebooks."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pcb.config import Requantization
from pcb.tokenizer.quantize import normalize, rows_of
from pcb.train.requantize import CodebookObjective, gaussian_codes
from tests.recorded import REFERENCE

RECORDED = REFERENCE / "training" / "requantize.npz"
COMMITMENT = 1.001
"""The recorded loss holds a thousandth of itself that has no gradient."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return dict(file)


@dataclass
class Recorded:
    """The recorded latents, one batch after the other."""

    arrays: dict[str, np.ndarray]
    drawn: int = 0

    def draw(self, random: np.random.Generator, size: int, count: int) -> torch.Tensor:
        self.drawn += 1
        return torch.from_numpy(self.arrays[f"latents_{self.drawn - 1}"])


def objective(recorded: dict[str, np.ndarray]) -> CodebookObjective:
    """A training that has the recorded codebook before its first step."""
    training = CodebookObjective(
        latents=Recorded(recorded),
        settings=Requantization(
            mode="as_published",
            iterations=11,
            batch_size=8,
            learning_rate=float(recorded["learning_rate"]),
            betas=tuple(recorded["betas"].tolist()),
            scales=(1, 2, 4, 8),
        ),
        shape=recorded["initial_codebook"].shape,
        device=torch.device("cpu"),
    )
    training.weight_VC.data.copy_(torch.from_numpy(recorded["initial_codebook"]))
    return training


@pytest.mark.usefixtures("exact")
def test_codebooks_and_losses_are_those_of_the_released_code(recorded):
    training = objective(recorded)
    moved = 0.0
    start = training.codes_VC().detach().clone()
    for step, expected in enumerate(recorded["codebooks"]):
        loss = COMMITMENT * float(training.step(step, training.batch(step)))
        codes = training.codes_VC().detach()
        torch.testing.assert_close(codes, torch.from_numpy(expected), atol=3e-7, rtol=0)
        assert loss == pytest.approx(float(recorded["losses"][step]), rel=3e-5)
        moved = float((codes - start).abs().max())
    assert moved > 100 * 3e-7


def test_first_codes_follow_the_recorded_statistics(recorded):
    """The statistics of the first batch, as `gaussian_codes` takes them."""

    class Fixed:
        """Stands for a generator, and draws what a test says."""

        def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
            return np.vstack([np.zeros((1, shape[1])), np.ones((1, shape[1]))])

    rows = rows_of(torch.from_numpy(recorded["first_batch_latents"]))
    found = gaussian_codes([rows], 2, Fixed())
    mean, deviation = (torch.from_numpy(recorded[f"first_batch_{k}"]) for k in ("mean", "std"))
    expected = normalize(torch.stack([mean, mean + deviation]), dim=1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
