"""Counts of arithmetic against PyTorch's own counter, on tensors without memory."""

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from pcb.config import Autoencoder, Model, Speed
from pcb.model.inputs import Inputs
from pcb.model.layers import AttentionContext
from pcb.model.sequence import sequence_of
from pcb.model.transformer import Transformer
from pcb.order.schedule import Schedule, schedule_from_blocks
from pcb.preflight import flops
from pcb.preflight.size import num_parameters
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.tokenizer.autoencoder import Decoder, Encoder
from pcb.tokenizer.vq import Tokenizer
from tests.models import tiny_model

CODES = Autoencoder()
SMALL = Autoencoder(
    channels=8, channel_multipliers=(1, 2, 2), latent_channels=16, codebook_size=32, norm_groups=4
)


def counted(run) -> int:
    """Return what PyTorch counts while `run` is called."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def meta_inputs(model: Transformer, schedule: Schedule, batch: int) -> Inputs:
    sequence = sequence_of(schedule)
    return Inputs(
        labels_B=torch.zeros(batch, dtype=torch.int64),
        conditioning_BTC=torch.empty(batch, model.tokens, 8),
        previous_BT=torch.zeros(batch, model.tokens, dtype=torch.int64),
        rows_T=sequence.rows_L[1:].to("meta"),
        previous_rows_T=sequence.previous_rows_L[1:].to("meta"),
        with_class=True,
    )


@pytest.mark.parametrize(
    "settings", [Model(), Model(width=1024, layers=20, hidden=3072, scale_ratio=4)]
)
def test_forward_is_what_pytorch_counts(settings):
    sizes = settings.sizes(16)
    with torch.device("meta"):
        model = Transformer(settings, sizes, 1000, torch.empty(CODES.codebook_size, CODES.code_dim))
        inputs = meta_inputs(model, schedule_from_blocks(sizes, 4), 2)
        mask = torch.ones(model.tokens + 1, model.tokens + 1, dtype=torch.bool)
        found = counted(lambda: model.logits(model(inputs, AttentionContext(mask=mask))))
    assert 2 * flops.forward(settings, CODES, sizes) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("settings", [CODES, SMALL])
@pytest.mark.parametrize("size", [1, 4])
def test_autoencoder_is_what_pytorch_counts(settings, size):
    side = size * settings.stride
    with torch.device("meta"):
        encoder, decoder = Encoder(settings), Decoder(settings)
        images = torch.empty(1, 3, side, side)
        latents = torch.empty(1, settings.latent_channels, size, size)
        between = 2 * settings.latent_channels * settings.code_dim * size * size
        found = counted(lambda: encoder(images)), counted(lambda: decoder(latents))
    assert flops.encode(settings, size) == found[0] + between
    assert flops.decode(settings, size) == found[1] + between


class WithoutWeights(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception as it is made, before weights are read into it."""

    def load_state_dict(self, *_, **__):
        pass


def test_inception_is_what_pytorch_counts(tmp_path):
    torch.save({}, tmp_path / "none.pth")
    layers = ["2048", "logits_unbiased"]
    extractor = WithoutWeights(
        "inception-v3-compat", layers, feature_extractor_weights_path=str(tmp_path / "none.pth")
    )
    with torch.inference_mode():
        image = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
        assert counted(lambda: extractor(image)) == flops.INCEPTION


@pytest.mark.parametrize("guided_from", [None, 0, 3])
def test_sampling_counts_every_step_once(guided_from):
    model = tiny_model(sizes=(1, 2, 4), codes=SMALL.codebook_size, seed=1)
    schedule = schedule_from_blocks((1, 2, 4), 3)
    guidance = Guidance(weight=0.0 if guided_from is None else 1.0, start_step=guided_from or 0)
    # Every product is made: tables would save those of the inputs, much of a model this narrow.
    sampler = sampler_for(model, schedule, guidance=guidance, speed=Speed(tables=False))
    batch = 16
    found = counted(
        lambda: sampler.sample(
            torch.zeros(batch, dtype=torch.int64), torch.rand(batch, model.tokens)
        )
    )
    expected = batch * flops.sampling(model.settings, SMALL, schedule, guided_from)
    if guided_from is not None:
        # What enters the layers could be shared by both classes, but is made for each.
        sizes = [size for blocks in schedule.blocks for size in blocks]
        tokens = partial(flops.tokens_forward, model.settings, SMALL, sum(sizes[guided_from:]), 0)
        expected += batch * (2 * tokens(classes=1) - tokens(classes=2))
    assert expected == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize(
    "settings",
    [Model(), Model(width=1024, layers=20, hidden=3072), Model(head_mlp=True, mixing_layers=12)],
)
def test_number_of_parameters_is_the_models_own(settings):
    sizes = settings.sizes(16)
    with torch.device("meta"):
        model = Transformer(settings, sizes, 1000, torch.empty(CODES.codebook_size, CODES.code_dim))
    assert num_parameters(settings, sizes, 1000, CODES) == model.num_parameters()


@pytest.mark.parametrize("settings", [CODES, SMALL])
def test_weights_of_the_autoencoder_are_its_convolutions(settings):
    with torch.device("meta"):
        tokenizer = Tokenizer(settings)
    found = sum(tensor.numel() for tensor in tokenizer.parameters() if tensor.ndim == 4)
    assert flops.autoencoder_weights(settings) == found
