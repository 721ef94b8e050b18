"""LlamaGen, PAR, RandAR and NAR: recorded values, calls, and independence of the batch."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from pcb.published.guidance import OFF, Constant, Linear
from pcb.sample.decoder import forced_logits
from pcb.sample.filter import GREEDY, Filter
from pcb.sample.sampler import sample_with_logits
from pcb.systems.family import FAMILY, empty_model
from pcb.systems.parity.comparison import compare
from tests.recorded import PEERS
from tests.systems.family import FOLDERS, decoder_of, orders_of, tiny

SYSTEMS = tuple(FAMILY)
PARAMETERS = {
    "LlamaGen": 342_910_976,
    "PAR": 342_914_048,
    "RandAR": 342_912_000,
    "NAR": 372_536_320,
}


@functools.cache
def recorded(system):
    return {row.quantity: row for row in compare(PEERS / FOLDERS[system])}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_recorded_value_agrees(system):
    rows = recorded(system)
    out = {name: row.error for name, row in rows.items() if not row.passes}
    assert not out
    exact = {name for name, row in rows.items() if row.tolerance == 0}
    assert exact >= {
        "greedy_off_codes", "greedy_cfg_codes", "greedy_cfg_block_sizes", "mask_decode",
    }  # fmt: skip
    close = rows.keys() - exact
    assert close >= {
        "rope", "teacher_forced_logits", "teacher_forced_loss", "teacher_forced_block_2",
        "greedy_cfg_logits", "greedy_cfg_cond_logits", "greedy_cfg_uncond_logits",
        "greedy_cfg_scale_per_step",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("system", "quantities"),
    [
        ("LlamaGen", {"order", "filter_probs_t0.7_k20_p0.9", "resize_out", "resize_uint8"}),
        ("PAR", {"order", "mask_train"}),
        ("RandAR", {"position_instruction_tokens", "greedy_off_sequential_codes"}),
        (
            "NAR",
            {"order", "mask_train", "teacher_forced_right_logits", "teacher_forced_below_logits"},
        ),
    ],
)
def test_what_a_system_alone_has_is_among_them(system, quantities):
    assert recorded(system).keys() >= quantities


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_full_size_has_the_released_tensors(system):
    folder = PEERS / FOLDERS[system]
    published = json.loads((folder / "config.json").read_text())["published"]
    model = empty_model(system, published, "published")
    released = json.loads((folder / "full_state_dict.json").read_text())
    assert {name: list(x.shape) for name, x in model.state_dict().items()} == {
        name: shape for name, (shape, _) in released.items()
    }
    assert sum(x.numel() for x in model.parameters()) == PARAMETERS[system]
    assert PARAMETERS[system] == published["parameters"]


@pytest.mark.parametrize(
    ("system", "side", "sizes"),
    [
        ("LlamaGen", 24, [1] * 576),
        ("PAR", 24, [1] * 4 + [4] * 143),
        ("NAR", 16, [*range(1, 17), *range(15, 0, -1)]),
    ],
)
def test_published_grids_take_the_published_calls(system, side, sizes):
    assert calls(system, side, steps=None) == sizes


def test_randar_takes_88_calls_of_at_most_five_tokens():
    sizes = calls("RandAR", 16, steps=88)
    assert (len(sizes), sum(sizes), max(sizes), sizes[-1]) == (88, 256, 5, 4)
    assert sizes[:30] == [1] * 24 + [2] * 6
    assert calls("RandAR", 4, steps=None) == [1] * 16


def calls(system, side, steps):
    """The sizes of an image's blocks, after counting the calls of its first transformer block."""
    model, seen = tiny(system, side=side, width=8, blocks=1, codes=4), []
    model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    decoder = decoder_of(system, model, Constant(2.0), steps)
    uniforms = torch.rand(1, model.size.tokens)
    sample_with_logits(decoder, torch.tensor([1]), uniforms, orders_of(system, model, 1))
    assert len(seen) == decoder.steps == len(decoder.sizes)
    return list(decoder.sizes)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("guidance", [OFF, Linear(last=3.0, count="before block")])
def test_an_image_is_the_same_in_every_batch_to_the_bit(system, guidance):
    model, images = tiny(system, width=64), 20
    generator = torch.Generator().manual_seed(1)
    uniforms = torch.rand(images, model.size.tokens, generator=generator)
    labels, orders = torch.arange(images) % 5, orders_of(system, model, images)

    def sampled(decoder, start, stop):
        codes, logits = sample_with_logits(
            decoder,
            labels[start:stop],
            uniforms[start:stop],
            None if orders is None else orders[start:stop],
            Filter(temperature=0.9, top_k=20, top_p=0.95),
        )
        return codes, torch.cat(logits, dim=1)

    codes, logits = sampled(decoder_of(system, model, guidance), 0, images)
    assert len(codes.unique(dim=0)) == images
    used = decoder_of(system, model, guidance)
    for start, stop in ((3, 4), (2, 5), (5, 8), (0, 17), (19, 20)):
        # One decoder for batches of several sizes, after one another.
        part_codes, part_logits = sampled(used, start, stop)
        assert torch.equal(part_codes, codes[start:stop])
        assert torch.equal(part_logits, logits[start:stop])


@pytest.mark.parametrize("system", SYSTEMS)
def test_steps_give_what_one_pass_over_all_tokens_gives(system):
    model = tiny(system, side=6)
    labels, orders = torch.tensor([0, 4]), orders_of(system, model, 2)
    codes = torch.randint(model.size.codes, (2, model.size.tokens))
    decoder = decoder_of(system, model, OFF, steps=None)
    logits = forced_logits(decoder, labels, codes, orders)
    expected, targets = FAMILY[system].teacher_forced(model, labels, codes, orders)
    if system == "NAR":  # Its sequence is in raster order.
        cells = torch.cat([decoder.cells(step) for step in range(decoder.steps)])
        expected, targets = expected[:, cells], targets[:, cells]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    sampled = [decoder.cells(step).expand(2, -1) for step in range(decoder.steps)]
    assert torch.equal(targets, codes.gather(1, torch.cat(sampled, dim=1)))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_taken_twice_gives_the_same(system):
    model = tiny(system)
    labels, orders = torch.tensor([0, 4]), orders_of(system, model, 2)
    decoder = decoder_of(system, model, Constant(1.5))
    decoder.begin(labels, orders)
    for step in range(decoder.steps):
        first = decoder.logits(step).clone()
        assert torch.equal(decoder.logits(step), first)
        for _ in range(2):
            decoder.accept(step, first.argmax(-1))
    again, _ = sample_with_logits(
        decoder_of(system, model, Constant(1.5)),
        labels,
        torch.zeros(2, model.size.tokens),
        orders,
        GREEDY,
    )
    assert torch.equal(decoder.logits(decoder.steps - 1), first)
    assert torch.equal(again.gather(1, decoder.cells(step).expand(2, -1)), first.argmax(-1))


@pytest.mark.parametrize("system", SYSTEMS)
def test_guidance_at_a_scale_of_two_doubles_the_difference(system):
    model = tiny(system)
    labels, orders = torch.tensor([0, 4]), orders_of(system, model, 2)
    codes = torch.randint(model.size.codes, (2, model.size.tokens))

    def at(scale):
        decoder = decoder_of(system, model, Constant(scale))
        return forced_logits(decoder, labels, codes, orders)

    conditional, unconditional = at(1.0), at(0.0)
    assert (conditional - unconditional).abs().max() > 0.1
    expected = 2 * conditional - unconditional
    torch.testing.assert_close(at(2.0), expected, atol=1e-4, rtol=0)
    null = forced_logits(decoder_of(system, model, OFF), torch.tensor([5, 5]), codes, orders)
    torch.testing.assert_close(unconditional, null, atol=1e-5, rtol=0)


def test_randar_blocks_see_earlier_instructions_of_their_block_and_no_code_of_it():
    model = tiny("RandAR", side=5)
    labels, orders = torch.tensor([2, 3]), orders_of("RandAR", model, 2)
    codes = torch.randint(model.size.codes, (2, 25))
    decoder = decoder_of("RandAR", model, OFF, steps=7)
    logits = forced_logits(decoder, labels, codes, orders)
    assert max(decoder.sizes) > 2
    for span in decoder.spans:
        # Without a cache: pairs of all that is sampled, then the block's instructions alone.
        expected = dense_block(model, labels, codes.gather(1, orders), orders, span)
        torch.testing.assert_close(logits[:, span.first : span.last], expected, atol=1e-4, rtol=0)


def dense_block(model, labels, sampled, orders, span):
    from pcb.systems.backbone import Call, causal, rotary_table

    phases = rotary_table(model.size)[orders + 1][:, :, None]
    instructions = model.instructions(phases)
    tokens, turns = [model.cls_embedding(labels)], [torch.zeros_like(phases[:, 0])]
    for rank in range(span.last):
        tokens.append(instructions[:, rank])
        turns.append(phases[:, rank])
        if rank < span.first:
            tokens.append(model.tok_embeddings(sampled[:, rank]))
            turns.append(phases[:, rank])
    call = Call(phases=torch.stack(turns, dim=1), mask=causal(len(tokens)))
    hidden = model.run(torch.stack(tokens, dim=1), call)
    return model.head(hidden[:, -len(span) :].contiguous())


@pytest.mark.parametrize("system", SYSTEMS)
def test_bfloat16_keeps_logits_and_phases_in_float32(system):
    model = tiny(system).bfloat16()
    orders = orders_of(system, model, 1)
    decoder = decoder_of(system, model, Constant(2.0))
    codes = torch.zeros(1, model.size.tokens, dtype=torch.int64)
    logits = forced_logits(decoder, torch.tensor([1]), codes, orders)
    assert logits.dtype == decoder.phases.dtype == torch.float32
    exact = forced_logits(
        decoder_of(system, model.float(), Constant(2.0)), torch.tensor([1]), codes, orders
    )
    assert 0 < (logits - exact).abs().max() < 0.1 * exact.abs().max()


def test_recorded_weights_have_no_tensor_that_is_not_used():
    for system, folder in FOLDERS.items():
        tensors = load_file(PEERS / folder / "weights.safetensors")
        config = json.loads((PEERS / folder / "config.json").read_text())["tiny"]
        assert tensors.keys() == empty_model(system, config, "tiny").state_dict().keys()
