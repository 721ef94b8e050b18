"""Sizes of weights, files and results, from settings alone. No torch."""

from pcb.config import Autoencoder, Model
from pcb.order.schedule import num_tokens
from pcb.preflight.flops import CODE_MLP


def num_parameters(model: Model, sizes: tuple[int, ...], classes: int, codes: Autoencoder) -> int:
    """Return the trainable parameters of a transformer (method section 4)."""
    width, tokens, code_dim = model.width, num_tokens(sizes), codes.code_dim
    modulated_norm = width + 2 * width * (width + 1)
    layer = 2 * modulated_norm + 4 * width * width + 3 * width * model.hidden
    mlp = CODE_MLP * (code_dim + 1 + CODE_MLP + 1 + width)
    total = (
        (classes + 1 + tokens + 2) * width  # embeddings, and the null position and null code
        + mlp
        + width
        + width * (width + 1)  # projection of the conditioning latents
        + width * (4 * width + 1)  # combination of the four inputs
        + (tokens + 2) * 2 * (width // model.heads)  # rotary phases
        + model.mixing_layers * model.heads
        + model.layers * layer
        + width
        + codes.codebook_size * (width + 1)
    )
    return total + (mlp if model.head_mlp else 0)
