"""LPD: its order, schedule, masks and decoding against the golden data."""

import random

import numpy as np
import pytest
import torch

from pcb.errors import UserError
from pcb.order.locality import GROUP_SIZES, group_sizes, image_order, locality_order
from pcb.published.guidance import OFF, Linear
from pcb.sample.decoder import forced_logits
from pcb.sample.sampler import sample_with_logits
from pcb.systems.lpd import LINEAR, LPD, LPDConfig, LPDDecoder, load_lpd
from pcb.systems.parity.comparison import compare
from pcb.systems.weights import read_config
from tests.systems.golden import (
    Golden,
    check_batches,
    check_pickle,
    check_refusals,
    close,
    tensors_of,
)

GOLDEN = Golden("lpd")
SIZES = GOLDEN.sizes("group_sizes")
CONFIG = read_config(GOLDEN.config["tiny"], LPDConfig, "config.json")


@pytest.fixture(scope="module")
def model():
    return load_lpd(GOLDEN.weights, CONFIG)


def test_every_recorded_value_agrees():
    rows = compare(GOLDEN.folder)
    assert not [row for row in rows if not row.passes]
    exact = {row.quantity for row in rows if row.tolerance == 0}
    assert exact >= {
        "training_mask",
        *(f"gen_{run}_codes" for run in ("off", "linear4.8", "constant3")),
        *(f"order16_steps20_repulsion2_seed{seed}" for seed in range(4)),
        *(f"order8_repulsion2_seed{seed}" for seed in range(3)),
        "order16_steps32_repulsion2_seed0",
        "order16_steps20_repulsion3_seed0",
    }
    assert {row.quantity for row in rows} - exact >= {
        "teacher_logits", "teacher_loss", "teacher_hidden_block0_sample0",
        "teacher_hidden_block2_sample0", "gen_linear4.8_step1_logits_guided",
        "gen_linear4.8_step0_logits_uncond", "gen_off_step1_logits_cond",
    }  # fmt: skip


def test_a_call_has_the_tokens_before_and_the_queries(model):
    decoder, seen = LPDDecoder(model, Linear(last=4.8, count=LINEAR), SIZES), []
    hook = model.register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape[:2]))
    )
    uniforms = torch.zeros(8, 256)
    labels, orders = torch.zeros(8, dtype=torch.int64), GOLDEN["orders"][:1].expand(8, -1)
    sample_with_logits(decoder, labels, uniforms, orders)
    hook.remove()
    assert len(seen) == decoder.steps == 20
    assert seen == [(16, n) for n in map(sum, zip((1, *SIZES), SIZES, strict=False))]


@pytest.mark.parametrize(("tokens", "steps"), [(1, 1), (4, 3), (16, 5), (64, 64), (256, 12)])
def test_other_group_sizes_fill_the_grid(tokens, steps):
    sizes = group_sizes(tokens, steps)
    assert (len(sizes), sum(sizes), sizes[0], min(sizes)) == (steps, tokens, 1, 1)
    assert list(sizes[:-1]) == sorted(sizes[:-1])


@pytest.mark.parametrize(("tokens", "steps"), [(4, 5), (4, 1), (4, 0)])
def test_group_sizes_that_cannot_be_are_refused(tokens, steps):
    with pytest.raises(ValueError, match="cannot be sampled"):
        group_sizes(tokens, steps)


def test_group_sizes_are_the_published_ones():
    assert SIZES == GROUP_SIZES[256, 20] == tuple(GOLDEN.config["published"]["group_sizes"])
    assert [len(sizes) for sizes in GROUP_SIZES.values()] == [20, 32]
    assert all(sum(sizes) == 256 for sizes in GROUP_SIZES.values())


def test_an_image_has_its_own_order():
    orders = [image_order(5, image, SIZES, 16) for image in (0, 1, 0)]
    assert np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], image_order(6, 0, SIZES, 16))
    assert all(np.array_equal(np.sort(order), np.arange(256)) for order in orders)


@pytest.mark.parametrize("sizes", [(2, 2), (1, 2), (1, 0, 3)])
def test_blocks_that_do_not_fit_the_grid_are_refused(sizes):
    with pytest.raises(ValueError, match="fill 2x2"):
        locality_order(sizes, 2, random.Random(0), repulsion=1.0)


def test_decoding_equals_teacher_forcing(model):
    codes, labels, orders = GOLDEN["teacher_codes"], GOLDEN["labels"], GOLDEN["orders"]
    stepwise = forced_logits(LPDDecoder(model, OFF, SIZES), labels, codes, orders)
    close(stepwise, model.teacher_forced(labels, codes, orders, SIZES), atol=2e-5)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("guidance", [OFF, Linear(last=4.8, count=LINEAR)])
def test_an_image_is_the_same_in_any_batch(model, guidance):
    def sample(indices):
        decoder = LPDDecoder(model, guidance, SIZES)
        orders = np.stack([image_order(1, int(i), SIZES, 16) for i in indices])
        uniforms = np.stack([np.random.default_rng(i).random(256, np.float32) for i in indices])
        labels = torch.from_numpy(indices % CONFIG.classes)
        _, logits = sample_with_logits(
            decoder, labels, torch.from_numpy(uniforms), torch.from_numpy(orders)
        )
        return torch.cat(logits, dim=1)

    check_batches(sample)


def test_full_size_has_the_tensors_of_the_released_file():
    with torch.device("meta"):
        model = LPD(LPDConfig())
    assert tensors_of(model) == GOLDEN.full_size()
    assert read_config(GOLDEN.config["published"], LPDConfig, "config.json") == LPDConfig()
    parameters = sum(x.numel() for x in model.parameters())
    assert parameters == GOLDEN.config["published"]["parameters"]


def test_files(tmp_path):
    def load(path):
        return load_lpd(path, CONFIG)

    check_refusals(load, GOLDEN.weights, tmp_path)
    check_pickle(load, GOLDEN.weights, tmp_path, "model")


def test_a_description_that_lacks_its_type_is_refused():
    with pytest.raises(UserError, match=r"config.json: .*\$.width"):
        read_config({"width": "wide"}, LPDConfig, "config.json")
