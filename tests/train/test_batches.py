"""Batches: functions of (seed, iteration), with the rates and the block sizes of the recipe."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pcb.config import Training
from pcb.order.schedule import training_block_sizes
from pcb.tokenizer.cache import TokenCache
from pcb.train.batches import IMAGES, Batches, model_inputs, random_schedule
from tests.train.tokens import CODES, SIZES, write_tokens

CLASSES = 10


@pytest.fixture
def cache(tmp_path):
    write_tokens(tmp_path, images=40, crops=3)
    return TokenCache.open(tmp_path, SIZES)


def batches(cache, own=slice(None), order="checkerboard", **settings):
    base = {"epochs": 2, "batch_size": 16, "schedules": 1, "precision": "float32"}
    training = Training(**{**base, **settings})
    return Batches(cache, training, num_classes=CLASSES, codebook_size=CODES, own=own, order=order)


def same(one, other):
    return (
        torch.equal(one.labels_B, other.labels_B)
        and one.sequence.schedule == other.sequence.schedule
        and all(torch.equal(one.codes[s], other.codes[s]) for s in SIZES)
        and all(torch.equal(one.replaced[s], other.replaced[s]) for s in SIZES)
    )


def test_an_iteration_is_the_same_whenever_it_is_asked_for(cache):
    run, again = batches(cache), batches(cache)
    assert run.per_epoch == 2
    assert run.iterations == 4
    late = again[3]
    assert same(run[0], again[0])
    assert same(run[3], late)
    assert not same(run[0], run[2])
    assert not same(run[0], batches(cache, seed=1)[0])


def test_orders_share_everything_random_and_lay_it_out_in_turn(cache):
    one, other = batches(cache)[3], batches(cache, order="raster")[3]
    assert same(one, other)
    assert torch.equal(other.sequence.rows_L[1:], torch.arange(sum(s * s for s in SIZES)))
    assert not torch.equal(one.sequence.rows_L, other.sequence.rows_L)


def test_ranks_take_parts_of_the_batch_that_one_would_draw(cache):
    whole = batches(cache)[3]
    for rank in range(2):
        own = slice(rank, None, 2)
        part = batches(cache, own=own)[3]
        codes = {size: grid[own] for size, grid in whole.codes.items()}
        replaced = {size: grid[own] for size, grid in whole.replaced.items()}
        labels_B = whole.labels_B[own]
        assert same(part, replace(whole, labels_B=labels_B, codes=codes, replaced=replaced))


def test_an_order_is_drawn_once_an_epoch(cache, monkeypatch):
    """A permutation of all of ImageNet for every batch would take longer than a step."""
    run = batches(cache)
    drawn = []
    random = run._random

    def counting(purpose, counter):
        if purpose == IMAGES:
            drawn.append(counter)
        return random(purpose, counter)

    monkeypatch.setattr(run, "_random", counting)
    for iteration in range(run.iterations):
        run[iteration]
    assert drawn == [0, 1]


def test_an_epoch_draws_every_image_once(cache):
    run = batches(cache, batch_size=20, label_dropout=0)
    codes = torch.cat([run[i].codes[4] for i in range(run.per_epoch)])
    # The fixture writes the image's number into its first cell.
    assert sorted(codes[:, 0, 0].tolist()) == list(range(40))


def test_all_crops_are_drawn(cache):
    run = batches(cache)
    crops = torch.cat([run[i].codes[4][:, 0, 1] for i in range(20)])
    assert set(crops.tolist()) == {0, 1, 2}


def test_labels_are_dropped_at_their_rate(cache):
    run = batches(cache, label_dropout=0.25)
    labels = torch.cat([run[i].labels_B for i in range(200)])
    assert (labels == CLASSES).double().mean().item() == pytest.approx(0.25, abs=0.03)


def test_codes_are_replaced_at_their_rate_in_the_source_alone(cache):
    run = batches(cache, random_replace=0.2)
    changed = torch.cat([(run[i].codes[4] != run[i].replaced[4]).flatten() for i in range(100)])
    rate = 0.2 * (1 - 1 / CODES)
    assert changed.double().mean().item() == pytest.approx(rate, abs=0.01)
    assert (
        batches(cache, random_replace=0)[0]
        .replaced[4]
        .equal(batches(cache, random_replace=0)[0].codes[4])
    )


def test_block_sizes_are_those_of_the_recipe():
    random = np.random.default_rng(0)
    sizes = (1, 3, 8)
    seen = {size: set() for size in sizes}
    joined = separate = 0
    for _ in range(2000):
        schedule = random_schedule(sizes, 0.5, random)
        for size, blocks in zip(sizes, schedule.blocks, strict=True):
            assert sum(blocks) == size * size
            seen[size].add(blocks[0] if len(blocks) > 1 else None)
            if len(set(blocks)) > 1:
                joined += blocks[-1] > blocks[0]
                separate += blocks[-1] < blocks[0]
    for size in sizes:
        possible = set(training_block_sizes(size))
        assert {block for block in seen[size] if block} <= possible
        assert {b for b in possible if b * 2 <= size * size} <= seen[size] | {None}
    assert joined / (joined + separate) == pytest.approx(0.5, abs=0.05)


def test_inputs_are_in_the_order_of_the_sequence(cache):
    run = batches(cache, random_replace=0)
    batch = run[0]
    codebook = torch.nn.functional.normalize(torch.randn(CODES, 8), dim=1)
    inputs, codes_BT = model_inputs(batch, codebook)
    sequence = batch.sequence
    flat = torch.cat([batch.codes[size].flatten(1) for size in SIZES], dim=1)
    assert torch.equal(codes_BT, flat[:, sequence.rows_L[1:]])
    assert not inputs.conditioning_BTC[:, 0].any(), "the first scale has no source"
    has = sequence.previous_L[1:] > 0
    before = codes_BT[:, sequence.previous_L[1:][has] - 1]
    torch.testing.assert_close(codebook[inputs.previous_BT[:, has]], codebook[before])


def test_a_data_set_smaller_than_a_batch_makes_one_iteration_an_epoch(cache):
    run = batches(cache, batch_size=64, epochs=3)
    assert (run.per_epoch, run.iterations, len(run[2].labels_B)) == (1, 3, 40)
