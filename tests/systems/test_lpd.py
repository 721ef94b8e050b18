"""LPD: its order, schedule, masks and decoding against the golden data."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pcb.errors import UserError
from pcb.orders.locality import GROUP_SIZES, image_order, locality_order
from pcb.systems.base import decode, forced_logits
from pcb.systems.filter import GREEDY
from pcb.systems.guidance import OFF, Constant, Linear
from pcb.systems.lpd import LINEAR, LPD, LPDConfig, LPDDecoder, load_lpd, training_mask
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
RUNS = {
    "off": OFF,
    "linear4.8": Linear(last=4.8, count=LINEAR),
    "constant3": Constant(3.0),
}


@pytest.fixture(scope="module")
def model():
    return load_lpd(GOLDEN.weights, CONFIG)


def order_cases():
    for name in GOLDEN.arrays:
        if "repulsion" in name:
            repulsion, seed = name.split("repulsion")[1].split("_seed")
            if name.startswith("order8"):
                yield name, 8, GOLDEN.sizes("order8_sizes"), float(repulsion), int(seed)
            else:
                steps = int(name.split("_")[1].removeprefix("steps"))
                yield name, 16, GROUP_SIZES[256, steps], float(repulsion), int(seed)


@pytest.mark.parametrize(("name", "grid", "sizes", "repulsion", "seed"), list(order_cases()))
def test_orders_are_the_published_ones(name, grid, sizes, repulsion, seed):
    order = locality_order(sizes, grid, random.Random(seed), repulsion=repulsion)
    assert np.array_equal(order, GOLDEN.arrays[name])


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


def test_training_mask():
    assert torch.equal(training_mask(GOLDEN.sizes("mask_sizes")), GOLDEN["training_mask"].bool())


def test_teacher_forcing(model):
    hidden = {}
    hooks = [
        model.blocks[i].register_forward_hook(lambda *args, i=i: hidden.update({i: args[2][0]}))
        for i in (0, 2)
    ]
    codes = GOLDEN["teacher_codes"]
    logits = model.teacher_forced(GOLDEN["labels"], codes, GOLDEN["orders"], SIZES)
    for hook in hooks:
        hook.remove()
    close(logits, GOLDEN["teacher_logits"])
    loss = F.cross_entropy(logits.flatten(0, 1), codes.gather(1, GOLDEN["orders"]).flatten())
    close(loss, GOLDEN["teacher_loss"])
    for i, x_LC in hidden.items():
        close(x_LC, GOLDEN[f"teacher_hidden_block{i}_sample0"])
    assert len(hidden) == 2


@pytest.mark.parametrize("run", RUNS)
def test_greedy_codes_and_logits(model, run):
    decoder = LPDDecoder(model, RUNS[run], SIZES)
    calls = []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    blocks = []
    codes = decode(
        decoder,
        GOLDEN["labels"],
        torch.zeros(2, 256),
        GOLDEN["orders"],
        GREEDY,
        lambda block: blocks.append((block.step, block.logits_BnV.clone())),
    )
    hook.remove()
    assert torch.equal(codes, GOLDEN[f"gen_{run}_codes"])
    assert len(calls) == decoder.steps == 20
    recorded = [step for step, _ in blocks if f"gen_{run}_step{step}_logits_guided" in GOLDEN]
    assert recorded
    for step in recorded:
        close(blocks[step][1], GOLDEN[f"gen_{run}_step{step}_logits_guided"])


def test_the_label_after_the_last_class_is_the_null_class(model):
    decoder = LPDDecoder(model, OFF, SIZES)
    null = torch.full((2,), CONFIG.classes)
    for name in ("cond", "uncond"):
        labels = GOLDEN["labels"] if name == "cond" else null
        codes = GOLDEN["gen_linear4.8_codes"]
        logits = forced_logits(decoder, labels, codes, GOLDEN["orders"])
        starts = np.cumsum((0, *SIZES))
        for step, (start, size) in enumerate(zip(starts, SIZES, strict=False)):
            key = f"gen_linear4.8_step{step}_logits_{name}"
            if key in GOLDEN:
                close(logits[:, start : start + size], GOLDEN[key])


def test_decoding_equals_teacher_forcing(model):
    codes, labels, orders = GOLDEN["teacher_codes"], GOLDEN["labels"], GOLDEN["orders"]
    stepwise = forced_logits(LPDDecoder(model, OFF, SIZES), labels, codes, orders)
    close(stepwise, model.teacher_forced(labels, codes, orders, SIZES), atol=2e-5)


@pytest.mark.parametrize("guidance", [OFF, Linear(last=4.8, count=LINEAR)])
def test_an_image_is_the_same_in_any_batch(model, guidance):
    def draw(indices):
        decoder = LPDDecoder(model, guidance, SIZES)
        orders = np.stack([image_order(1, int(i), SIZES, 16) for i in indices])
        uniforms = np.stack([np.random.default_rng(i).random(256, np.float32) for i in indices])
        labels = torch.from_numpy(indices % CONFIG.classes)
        logits = []
        decode(
            decoder,
            labels,
            torch.from_numpy(uniforms),
            torch.from_numpy(orders),
            observe=lambda block: logits.append(block.logits_BnV.clone()),
        )
        return torch.cat(logits, dim=1)

    check_batches(draw)


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
