"""The intended requantization: codes allotted to scales, rare ones redrawn."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pcb.config import Requantization
from pcb.tokenizer.quantize import normalize
from pcb.train.requantize import CodebookObjective, codes_by_scale

CODES = 64
WAYS = normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=1)
SCALES = (1, 2, 4)


@dataclass
class OneWayAScale:
    """Latents near one direction, another for each scale; a few directions for the finest."""

    spread: float = 0.02

    def draw(self, random: np.random.Generator, size: int, count: int) -> torch.Tensor:
        noise = torch.from_numpy(random.standard_normal((count, size, size, 8))).float()
        near = WAYS[SCALES.index(size)] + self.spread * noise
        return normalize(near.permute(0, 3, 1, 2), dim=1)


def started(**changes: object) -> CodebookObjective:
    base = {
        "mode": "as_intended",
        "iterations": 100,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "scales": SCALES,
        "start_batches": 60,
        "redraw_every": 10,
    }
    training = CodebookObjective(
        latents=OneWayAScale(),
        settings=Requantization(**{**base, **changes}),
        shape=(CODES, 8),
        device=torch.device("cpu"),
    )
    training.start()
    return training


def near(codes_VC: torch.Tensor) -> list[int]:
    """How many codes lie nearest to each scale's direction."""
    return torch.bincount((codes_VC @ WAYS.T).argmax(1), minlength=3).tolist()


def test_codes_are_allotted_to_scales_in_proportion_to_their_latents():
    batches = [(4, WAYS[2].expand(60, 8)), (1, WAYS[:1]), (2, WAYS[1].expand(20, 8))]
    batches += [(1, WAYS[:1]), (4, WAYS[2].expand(18, 8))]
    codes = codes_by_scale(batches, 50, np.random.default_rng(0))
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(50))
    # 2, 20 and 78 of 100 latents; coarse scales first.
    assert near(codes) == [1, 10, 39]
    torch.testing.assert_close(codes[:1], WAYS[:1])
    assert near(codes_by_scale(batches, 4, np.random.default_rng(0))) == [1, 1, 2]
    assert near(codes_by_scale(batches, 2, np.random.default_rng(0))) == [1, 1, 0]


def test_a_scales_codes_have_its_mean_and_deviation():
    generator = torch.Generator().manual_seed(0)
    wide = WAYS[1] + torch.linspace(0, 0.1, 8) * torch.randn(4000, 8, generator=generator)
    batches = [(1, WAYS[:1].expand(4000, 8)), *((2, part) for part in wide.split(500))]
    codes = codes_by_scale(batches, 1000, np.random.default_rng(0))
    torch.testing.assert_close(codes[:500], WAYS[:1].expand(500, 8))
    whole = normalize(wide, 1)
    torch.testing.assert_close(codes[500:].mean(0), whole.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(codes[500:].std(0), whole.std(0), atol=0.02, rtol=0)


def test_first_codes_lie_at_every_scale():
    training = started()
    counts = {1: 0, 2: 0, 4: 0}
    for iteration in range(60):
        grid = training.batch(iteration)
        counts[grid.shape[-1]] += 8 * grid.shape[-1] ** 2
    frequencies = np.array(list(counts.values())) / sum(counts.values())
    found = np.array(near(training.codes_VC().detach()))
    assert found.min() >= 1
    np.testing.assert_allclose(found / CODES, frequencies, atol=2 / CODES)


def test_rare_codes_are_redrawn_around_the_others_now_and_then():
    """At iterations 20, 30, ...: not at 10, as the released code waits for twice as long."""
    training = started(redraw_every=10)
    # Codes that no latent chooses: opposite to all.
    lost = torch.arange(5)
    training.weight_VC.data[lost] = normalize(-WAYS.mean(0, keepdim=True), 1).expand(5, 8)
    for iteration in range(1, 31):
        if iteration == 30:
            training.weight_VC.data[lost] = normalize(-WAYS.mean(0, keepdim=True), 1).expand(5, 8)
        before = training.weight_VC.detach().clone()
        training.step(iteration - 1, training.batch(iteration - 1))
        moved = (training.weight_VC.detach() - before).norm(dim=1) > 0.1
        assert bool(moved[lost].any()) == (iteration in (20, 30)), iteration
        if iteration == 20:
            assert moved[lost].all()
            state = training.optimizer.state[training.weight_VC]
            assert not state["exp_avg"][moved].any() and not state["exp_avg_sq"][moved].any()
            assert state["exp_avg"][~moved].any()
            # Those that latents chose stay; the redrawn ones lie around them.
            usage = training._usage_V
            assert torch.equal(moved, usage <= 1e-4 * usage.mean())
            others = before[~moved]
            spread = float((others - others.mean(0)).norm(dim=1).max())
            drawn = training.codes_VC().detach()[moved]
            assert float((drawn @ normalize(others.mean(0), 0)).mean()) > 0.5, spread


def test_frequencies_move_by_a_hundredth():
    training = started()
    expected = torch.zeros(CODES)
    for iteration in range(3):
        grid = training.batch(iteration)
        rows = grid.permute(0, 2, 3, 1).reshape(-1, 8)
        chosen = (rows @ training.codes_VC().detach().T).argmax(1)
        frequencies = torch.bincount(chosen, minlength=CODES) / len(chosen)
        expected = 0.99 * expected + 0.01 * frequencies
        training.step(iteration, grid)
    torch.testing.assert_close(training._usage_V, expected)


@pytest.mark.parametrize(("mode", "batches"), [("as_published", 1), ("relocate", 1000),
                                               ("as_intended", 1000)])  # fmt: skip
def test_the_start_reads_as_many_batches_as_the_mode_says(monkeypatch, mode, batches):
    read = []
    batch = CodebookObjective.batch

    def counted(training: CodebookObjective, iteration: int) -> torch.Tensor:
        read.append(iteration)
        return batch(training, iteration)

    monkeypatch.setattr(CodebookObjective, "batch", counted)
    default = Requantization().start_batches
    started(mode=mode, start_batches=default)
    assert read == list(range(batches))
