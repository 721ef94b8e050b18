"""A new codebook for a frozen autoencoder: what the modes do, and resuming."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config import Autoencoder, Requantization
from pcb.data.images import ArrayImages
from pcb.runtime import interrupt
from pcb.runtime.progress import Progress
from pcb.tokenizer.quantize import nearest_codes, normalize, rows_of
from pcb.tokenizer.vq import Tokenizer
from pcb.train.image_batches import random_of
from pcb.train.latents import PART, CachedLatents, EncodedLatents, fill_cache
from pcb.train.loop import Loop
from pcb.train.requantize import CodebookObjective, gaussian_codes

CODES = 32
TINY = Autoencoder(
    channels=8,
    channel_multipliers=(1, 1, 1),
    residual_blocks=1,
    latent_channels=8,
    codebook_size=CODES,
    norm_groups=1,
)
FOREVER = 1e9
CLUSTERS = normalize(torch.randn(CODES, 8, generator=torch.Generator().manual_seed(5)), dim=1)


pytestmark = pytest.mark.usefixtures("exact")


@dataclass
class Clustered:
    """Latents in narrow clusters, as many as there are codes."""

    clusters: torch.Tensor = CLUSTERS

    def draw(self, random: np.random.Generator, size: int, count: int) -> torch.Tensor:
        chosen = random.integers(len(self.clusters), size=(count, size, size))
        noise = torch.from_numpy(random.standard_normal((count, size, size, 8))).float()
        near = self.clusters[torch.from_numpy(chosen)] + 0.03 * noise
        return normalize(near.permute(0, 3, 1, 2), dim=1)


def settings(**changes: object) -> Requantization:
    base = {
        "mode": "relocate",
        "iterations": 60,
        "batch_size": 8,
        "learning_rate": 0.01,
        "scales": (1, 2, 4),
        "start_batches": 20,
        "revive_after": 15,
        "redraw_every": 10,
    }
    return Requantization(**{**base, **changes})


def objective(latents=None, **changes: object) -> CodebookObjective:
    return CodebookObjective(
        latents=latents or Clustered(),
        settings=settings(**changes),
        shape=(CODES, 8),
        device=torch.device("cpu"),
    )


def requantizer(folder: Path, latents=None, *, seconds: float = FOREVER, **changes: object) -> Loop:
    folder.mkdir(exist_ok=True)
    loop = Loop(objective=objective(latents, **changes), folder=folder, checkpoint_seconds=seconds)
    loop.resume()
    return loop


def started(latents=None, **changes: object) -> CodebookObjective:
    training = objective(latents, **changes)
    training.start()
    return training


def run(training: Loop) -> Loop:
    training.run(Progress("tokenizer", "iterations", training.objective.iterations))
    return training


def digits(count: int = 20) -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 3, 16, 16), dtype=np.uint8)
    return ArrayImages(pixels, np.zeros(count, dtype=np.int64))


@pytest.fixture(scope="module")
def frozen() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY).eval().requires_grad_(False)


def test_codes_move_to_the_latents_and_come_into_use(tmp_path: Path):
    training = run(requantizer(tmp_path, iterations=400, revive_after=25))
    first, last = training.log[0], training.log[-1]
    assert [row["iteration"] for row in training.log] == list(range(20, 401, 20))
    assert last["loss"] < 0.1 * first["loss"]
    assert first["usage"] < 0.85 and last["usage"] > 0.95
    assert last["perplexity"] > 1.3 * first["perplexity"]
    codes = training.objective.codes_VC().detach()
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(CODES))
    # Nearly every cluster has got its code.
    assert int(((CLUSTERS @ codes.T).max(1).values > 0.95).sum()) >= CODES - 3


def test_as_published_leaves_unused_codes_where_they_are():
    """Codes that no latent chose are not moved: no gradient, no revival."""
    latents = Clustered(CLUSTERS[:3])
    training = started(latents, mode="as_published")
    before = training.codes_VC().detach().clone()
    chosen = torch.zeros(CODES, dtype=torch.bool)
    for iteration in range(30):
        batch = training.batch(iteration)
        chosen[nearest_codes(batch, training.codes_VC().detach()).flatten()] = True
        training.step(iteration, batch)
    assert 3 <= int(chosen.sum()) < CODES - 5
    after = training.codes_VC().detach()
    torch.testing.assert_close(after[~chosen], before[~chosen])
    assert not torch.allclose(after[chosen], before[chosen], atol=0.01)


def test_relocating_moves_unused_codes_to_badly_served_latents(tmp_path: Path):
    runs = {
        mode: run(requantizer(tmp_path / mode, iterations=200, learning_rate=1e-4, mode=mode))
        for mode in ("as_published", "relocate")
    }
    usage = {mode: training.log[-1]["usage"] for mode, training in runs.items()}
    loss = {mode: training.log[-1]["loss"] for mode, training in runs.items()}
    assert usage["relocate"] > usage["as_published"] + 0.1
    assert loss["relocate"] < 0.5 * loss["as_published"]


def test_a_moved_code_begins_without_momentum():
    training = started(Clustered(CLUSTERS[:3]), revive_after=1)
    for iteration in range(2):
        training.step(iteration, training.batch(iteration))
    idle = training._idle_V > 1
    assert idle.any()
    before = training.codes_VC().detach().clone()
    training.step(2, training.batch(2))
    state = training.optimizer.state[training.weight_VC]
    moved = ((training.codes_VC() - before).norm(dim=1) > 0.1).nonzero().flatten()
    assert 0 < len(moved) <= CODES // 8
    assert not state["exp_avg"][moved].any() and not state["exp_avg_sq"][moved].any()
    assert state["exp_avg"].any()


def test_first_codes_have_the_statistics_of_the_first_batch_or_of_many():
    def expected(batches: int) -> torch.Tensor:
        latents = [rows_of(training.batch(i)) for i in range(batches)]
        return gaussian_codes(latents, CODES, random_of(0, 1, 0))

    training = started(mode="as_published")
    assert torch.equal(training.codes_VC(), normalize(expected(1), 1))
    training = started(mode="relocate")
    assert torch.equal(training.codes_VC(), normalize(expected(20), 1))
    assert not torch.allclose(expected(1), expected(20), atol=1e-3)


def test_gaussian_codes_lie_where_latents_do():
    spread = torch.tensor([0.2, 0.0, 0.05])
    generator = torch.Generator().manual_seed(0)
    latents = torch.tensor([1.0, 0.5, 0.0]) + spread * torch.randn(4000, 3, generator=generator)
    codes = gaussian_codes(latents.split(900), 500, np.random.default_rng(0))
    whole = normalize(latents, 1)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(500))
    torch.testing.assert_close(codes.mean(0), whole.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(codes.std(0), whole.std(0), atol=0.02, rtol=0)


@pytest.mark.parametrize("mode", ["as_published", "as_intended", "relocate"])
@pytest.mark.parametrize("stop", [3, 20, 47])
def test_an_interrupted_run_ends_like_an_unbroken_one(tmp_path: Path, mode: str, stop: int):
    unbroken = run(requantizer(tmp_path / "unbroken", mode=mode))
    first = requantizer(tmp_path / "broken", mode=mode, seconds=0)
    step = first.step

    def killed_in_time(batch: torch.Tensor) -> None:
        if first.iteration == stop:
            raise KeyboardInterrupt
        step(batch)

    first.step = killed_in_time
    with pytest.raises(KeyboardInterrupt):
        run(first)
    second = requantizer(tmp_path / "broken", mode=mode)
    assert second.iteration == stop
    run(second)
    assert torch.equal(second.objective.weight_VC, unbroken.objective.weight_VC)
    assert second.log == unbroken.log


def test_a_warning_that_time_is_up_is_taken_after_a_checkpoint(tmp_path: Path, monkeypatch):
    training = requantizer(tmp_path)
    monkeypatch.setattr(interrupt, "due", lambda: training.iteration == 7)

    def leave() -> None:
        raise SystemExit

    monkeypatch.setattr(interrupt, "hand_over", leave)
    with pytest.raises(SystemExit):
        run(training)
    assert requantizer(tmp_path).iteration == 7


def test_encoded_latents_are_those_of_the_drawn_images(frozen: Tokenizer):
    images = digits()
    found = EncodedLatents(frozen, images).draw(random_of(0, 0, 3), 2, 4)
    random = random_of(0, 0, 3)
    chosen, crops = random.integers(20, size=4), random.integers(3, size=4)
    pixels = torch.from_numpy(images.read(chosen, crops)).float() / 127.5 - 1
    scaled = torch.nn.functional.interpolate(pixels, size=(8, 8), mode="bilinear")
    torch.testing.assert_close(found, frozen.encode(scaled))
    assert not found.requires_grad and not found.is_inference()


def fill(folder: Path, tokenizer: Tokenizer, count: int, images: ArrayImages | None = None) -> None:
    fill_cache(
        folder,
        tokenizer,
        images or digits(),
        (1, 2, 4),
        seed=0,
        stream=2,
        batch=100,
        progress=Progress("tokenizer", "crops", count),
    )


def test_cached_latents_are_the_encoded_ones(frozen: Tokenizer, tmp_path: Path):
    fill(tmp_path, frozen, PART + 10)
    cached = CachedLatents.open(tmp_path, (1, 2, 4), torch.device("cpu"))
    one_part = EncodedLatents(frozen, digits())
    for size in (1, 2, 4):
        assert cached.draw(random_of(0, 0, 0), size, 5).shape == (5, 8, size, size)
        # The second file holds the crops that its own generator draws.
        expected = one_part.draw(random_of(0, 2, 1), size, 10)
        drawn = [cached.draw(random_of(0, 0, k), size, 64) for k in range(20)]
        pool = torch.cat(drawn).flatten(1)
        for grid in expected.flatten(1):
            assert float((pool - grid).abs().amax(1).min()) < 1e-5


def test_a_cache_goes_on_with_the_files_that_are_there(frozen: Tokenizer, tmp_path: Path):
    fill(tmp_path, frozen, PART + 10)
    first, second = sorted((tmp_path / ".latents").glob("*.npy"))
    kept, lost = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    fill(tmp_path, frozen, PART + 10)
    assert (first.stat().st_mtime_ns, second.read_bytes()) == (kept, lost)


def test_a_cache_does_without_a_file_that_was_cut_off(frozen: Tokenizer, tmp_path: Path):
    fill(tmp_path, frozen, 40)
    whole = CachedLatents.open(tmp_path, (1, 2, 4), torch.device("cpu")).draw(
        random_of(0, 0, 0), 4, 9
    )
    (tmp_path / ".latents" / ".123.00001.npy").write_bytes(b"\x93NUMPY")
    again = CachedLatents.open(tmp_path, (1, 2, 4), torch.device("cpu")).draw(
        random_of(0, 0, 0), 4, 9
    )
    assert torch.equal(whole, again)


def test_it_trains_on_cached_latents(frozen: Tokenizer, tmp_path: Path):
    fill(tmp_path, frozen, 40)
    cached = CachedLatents.open(tmp_path, (1, 2, 4), torch.device("cpu"))
    training = run(requantizer(tmp_path / "run", cached))
    assert training.log[-1]["loss"] < 0.7 * training.log[0]["loss"]
