"""Tiny models of LlamaGen's family with random weights; folders of recorded ones."""

import torch

from pcb.systems.family import FAMILY
from pcb.systems.weights import read_config

FOLDERS = {"LlamaGen": "llamagen", "PAR": "par", "RandAR": "randar", "NAR": "nar"}


def tiny(system, *, side=4, width=32, blocks=2, codes=24, seed=0):
    """A model whose logits differ enough for the draws to differ."""
    torch.manual_seed(seed)
    member = FAMILY[system]
    description = {
        "width": width,
        "hidden_width": 2 * width,
        "heads": 2,
        "blocks": blocks,
        "codes": codes,
        "classes": 5,
        "grid": [side, side],
        "parallel_tokens": 4,
    }
    model = member.model(read_config(description, member.size, "test"))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


def decoder_of(system, model, guidance, steps=6):
    return FAMILY[system].decoder(model, guidance, steps)


def orders_of(system, model, batch, seed=0):
    """Orders of a batch where they are random, else None."""
    if system != "RandAR":
        return None
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(model.size.tokens, generator=generator) for _ in range(batch)]
    return torch.stack(orders)
