"""Tiny models with random weights, for tests of whatever runs one."""

import torch

from pcb.config import Autoencoder, Model
from pcb.model.inputs import Inputs
from pcb.model.sequence import sequence_of
from pcb.model.transformer import Transformer
from pcb.order.schedule import schedule_from_blocks

TINY_AUTOENCODER = Autoencoder(
    channels=8,
    channel_multipliers=(1, 1, 1),
    residual_blocks=1,
    latent_channels=8,
    codebook_size=16,
    norm_groups=1,
)
"""Four pixels per token."""


def tiny_model(
    *, sizes=(1, 2, 4), classes=5, codes=32, seed=0, head=0.0, **settings
) -> Transformer:
    """A model of width 32; `head` is the deviation of the head's weights, which start at zero."""
    torch.manual_seed(seed)
    base = {"width": 32, "layers": 3, "heads": 4, "hidden": 48}
    codebook = torch.nn.functional.normalize(torch.randn(codes, 8), dim=-1)
    model = Transformer(Model(**{**base, **settings}), sizes, classes, codebook)
    if seed or head:
        torch.nn.init.normal_(model.head.weight, std=head or 0.3)
    return model


def random_inputs(model, *, batch, blocks=2):
    """Inputs of a whole sequence with random codes, and the sequence."""
    sequence = sequence_of(schedule_from_blocks(model.sizes, blocks))
    codes, code_dim = model.codebook_VC.shape
    inputs = Inputs(
        labels_B=torch.randint(model.num_classes + 1, (batch,)),
        conditioning_BTC=torch.randn(batch, model.tokens, code_dim),
        previous_BT=torch.randint(codes, (batch, model.tokens)),
        rows_T=sequence.rows_L[1:],
        previous_rows_T=sequence.previous_rows_L[1:],
        with_class=True,
    )
    return inputs, sequence
