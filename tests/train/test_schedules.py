"""The schedules of a batch: as many as the settings say, for any number of ranks the same."""

import pytest
import torch
import torch.nn.functional as F

from pcb.config import Compute, Training
from pcb.model.layers import AttentionContext
from pcb.tokenizer.cache import TokenCache
from pcb.train.batches import Batch, Batches, model_inputs
from pcb.train.transformer import TransformerObjective
from tests.models import tiny_model
from tests.train.tokens import CODES, SIZES, write_tokens

BATCH = 24


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, images=48, crops=2)
    return TokenCache.open(folder, SIZES)


def settings(**changes):
    base = {"epochs": 8, "batch_size": BATCH, "learning_rate": 1e-3, "precision": "float32"}
    return Training(**{**base, **changes})


def batches(cache, own=slice(None), **changes):
    return Batches(cache, settings(**changes), num_classes=10, codebook_size=CODES, own=own)


def schedule_of_each_image(batch):
    """(schedule, label, codes) of every image, in the batch's own order."""
    found = []
    for image in range(len(batch.labels_B)):
        sequence = batch.sequences[image % len(batch.sequences)]
        grids = {size: grid[image].tolist() for size, grid in batch.codes.items()}
        found.append((sequence.schedule, int(batch.labels_B[image]), str(grids)))
    return found


def test_the_released_number_of_processes_is_assumed_by_default():
    assert Training(epochs=1).schedules == 8


@pytest.mark.parametrize("schedules", [1, 3, 8, 100])
def test_images_share_out_the_schedules_evenly(cache, schedules):
    counts = {}
    parts = list(batches(cache, schedules=schedules)[2].by_schedule())
    assert len(parts) == min(schedules, BATCH)
    for part in parts:
        images = len(part.labels_B)
        assert all(len(grid) == images for grid in (*part.codes.values(), *part.replaced.values()))
        counts[images] = counts.get(images, 0) + 1
    assert sum(images * count for images, count in counts.items()) == BATCH
    assert max(counts) - min(counts) <= (1 if BATCH % schedules else 0)


def test_schedules_of_a_batch_differ(cache):
    run = batches(cache, schedules=8)
    distinct = [len({s.schedule for s in run[i].sequences}) for i in range(8)]
    # Of 7 x 3 x 1 draws of block sizes, a few coincide.
    assert min(distinct) > 2
    assert sum(distinct) > 8 * 5


@pytest.mark.parametrize("schedules", [1, 3, 8, 100])
@pytest.mark.parametrize("world", [2, 3, 4, 6, 8, 24])
def test_an_image_goes_by_the_same_schedule_whatever_the_number_of_ranks(cache, schedules, world):
    whole = schedule_of_each_image(batches(cache, schedules=schedules)[3])
    for rank in range(world):
        own = slice(rank, None, world)
        part = batches(cache, own, schedules=schedules)[3]
        assert schedule_of_each_image(part) == whole[own]


def test_eight_ranks_have_one_schedule_each(cache):
    for rank in range(8):
        part = batches(cache, slice(rank, None, 8), schedules=8)[0]
        assert len(part.sequences) == 1
        assert part.sequence is part.sequences[0]


@pytest.mark.parametrize("micro_batch", [None, 2, 5])
@pytest.mark.parametrize("schedules", [1, 3, 8])
def test_gradients_are_the_mean_over_all_images(cache, schedules, micro_batch):
    """Against one image after the other, each with the schedule that it goes by."""
    run = batches(cache, schedules=schedules)
    model = tiny_model(codes=CODES, classes=10, layers=2, head=0.3)
    training = TransformerObjective(
        model=model,
        batches=run,
        settings=run.settings,
        compute=Compute(micro_batch=micro_batch),
    )
    batch = run[1]
    mean_T = 0
    for image in range(BATCH):
        some = slice(image, image + 1)
        one = Batch(
            labels_B=batch.labels_B[some],
            codes={size: grid[some] for size, grid in batch.codes.items()},
            replaced={size: grid[some] for size, grid in batch.replaced.items()},
            sequences=(batch.sequences[image % len(batch.sequences)],),
        )
        inputs, codes_BT = model_inputs(one, model.codebook_VC)
        logits = model.logits(model(inputs, AttentionContext(mask=one.sequence.mask_LL())))
        mean_T += F.cross_entropy(logits[0], codes_BT[0], reduction="none") / BATCH
    names, parameters = zip(*model.named_parameters(), strict=True)
    expected = torch.autograd.grad(mean_T.mean(), parameters)
    torch.testing.assert_close(training.backward(batch), mean_T.detach())
    for name, parameter, gradient in zip(names, parameters, expected, strict=True):
        torch.testing.assert_close(
            parameter.grad, gradient, atol=1e-6, rtol=1e-4, msg=lambda text, name=name: name + text
        )
