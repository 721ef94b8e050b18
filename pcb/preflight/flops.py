"""Floating-point operations of the heavy parts, from settings alone.

A multiplication with its addition counts as two; normalizations, activations and softmax, which are
bound by memory, are left out, as PyTorch's own counter does. No torch.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pcb.config import Autoencoder, Model
from pcb.order.schedule import Schedule, num_tokens

CODE_MLP = 64
"""Width of the two hidden layers through which a code vector enters the transformer."""
INCEPTION = 11_426_464_960
"""One image through torch-fidelity's Inception at 299 x 299."""
_IMAGE_CHANNELS = 3


def tokens_forward(
    model: Model, codes: Autoencoder, tokens: int, attended: int, *, classes: int = 1
) -> int:
    """Return the operations of `tokens` tokens that each attend to `attended` positions.

    With two `classes`, an image's own and the null class, what enters the layers need be made only
    once, and counts so. The head is in it; AdaLN, which every image takes once per call, is
    `modulation`.
    """
    width = model.width
    code_mlp = CODE_MLP * (codes.code_dim + CODE_MLP + width)
    inputs = 2 * code_mlp + width * width + 4 * width * width
    layer = 4 * width * width + 3 * width * model.hidden + 2 * attended * width
    each = model.layers * layer + width * codes.codebook_size
    return 2 * tokens * (inputs + classes * each)


def modulation(model: Model) -> int:
    """Return the operations by which one image's class becomes scales and shifts."""
    return 2 * model.layers * 2 * model.width * 2 * model.width


def forward(model: Model, codes: Autoencoder, sizes: tuple[int, ...]) -> int:
    """Return the operations of one image's whole sequence, with dense attention."""
    tokens = num_tokens(sizes)
    class_token = model.layers * (
        8 * model.width**2 + 6 * model.width * model.hidden + 4 * (tokens + 1) * model.width
    )
    return tokens_forward(model, codes, tokens, tokens + 1) + class_token + modulation(model)


def training_step(model: Model, codes: Autoencoder, sizes: tuple[int, ...]) -> int:
    """Return the operations of one image in a training step: backward takes twice the forward."""
    return 3 * forward(model, codes, sizes)


class Call(NamedTuple):
    """One call of the model while an image is sampled: its tokens, and what each attends to."""

    tokens: int
    attended: int
    classes: int = 1


def sampling_calls(schedule: Schedule, guided_from: int | None = None) -> Iterator[Call]:
    """Yield a call for each block, and before the first guided one a pass over what came before.

    `guided_from` is the first guided step, None without guidance; from there on a call is for an
    image's own class and the null class.
    """
    sampled, step = 1, 0
    for blocks in schedule.blocks:
        for size in blocks:
            guided = guided_from is not None and step >= guided_from
            if step == guided_from:
                yield Call(sampled, sampled)
            yield Call(size, sampled + size, classes=2 if guided else 1)
            sampled, step = sampled + size, step + 1


def call_forward(model: Model, codes: Autoencoder, call: Call) -> int:
    """Return one image's operations in a call, without modulation."""
    return tokens_forward(model, codes, call.tokens, call.attended, classes=call.classes)


def sampling(
    model: Model, codes: Autoencoder, schedule: Schedule, guided_from: int | None = None
) -> int:
    """Return the operations of sampling one image, without decoding it."""
    calls = list(sampling_calls(schedule, guided_from))
    classes = max(call.classes for call in calls)
    total = sum(call_forward(model, codes, call) for call in calls)
    return total + classes * modulation(model)


def encode(settings: Autoencoder, size: int) -> int:
    """Return the operations of encoding one image to a grid of `size` x `size` vectors."""
    return 2 * sum(layer.multiplications for layer in _encoder(settings, size))


def decode(settings: Autoencoder, size: int) -> int:
    """Return the operations of decoding one grid of `size` x `size` codes."""
    return 2 * sum(layer.multiplications for layer in _decoder(settings, size))


def autoencoder_weights(settings: Autoencoder) -> int:
    """Return the weights of all convolutions, without norms and biases, a thousandth of them."""
    return sum(layer.weights for half in (_encoder, _decoder) for layer in half(settings, 1))


class _Layer(NamedTuple):
    weights: int
    multiplications: int


def _encoder(settings: Autoencoder, size: int) -> Iterator[_Layer]:
    """Yield the encoder's layers, and the 1x1 convolution behind it."""
    widths = [settings.channels * m for m in settings.channel_multipliers]
    side = size * settings.stride
    yield _conv(_IMAGE_CHANNELS, settings.channels, side)
    for level, (before, width) in enumerate(pairwise([settings.channels, *widths])):
        lowest = level == len(widths) - 1
        yield from _level(before, width, settings.residual_blocks, side, attend=lowest)
        if not lowest:
            side //= 2
            yield _conv(width, width, side)
    yield from _ends(settings, widths[-1], size)


def _decoder(settings: Autoencoder, size: int) -> Iterator[_Layer]:
    """Yield the decoder's layers, and the 1x1 convolution before it."""
    widths = [settings.channels * m for m in reversed(settings.channel_multipliers)]
    side = size
    yield from _ends(settings, widths[0], size)
    for level, (before, width) in enumerate(pairwise([widths[0], *widths])):
        yield from _level(before, width, settings.residual_blocks + 1, side, attend=level == 0)
        if level != len(widths) - 1:
            side *= 2
            yield _conv(width, width, side)
    yield _conv(widths[-1], _IMAGE_CHANNELS, side)


def _ends(settings: Autoencoder, width: int, side: int) -> Iterator[_Layer]:
    """Yield the middle and both convolutions between it and the code vectors."""
    yield from _residual(width, width, side)
    yield from _attention(width, side)
    yield from _residual(width, width, side)
    yield _conv(width, settings.latent_channels, side)
    yield _conv(settings.latent_channels, settings.code_dim, side, kernel=1)


def _level(before: int, width: int, blocks: int, side: int, *, attend: bool) -> Iterator[_Layer]:
    for channels_in, channels_out in pairwise([before] + [width] * blocks):
        yield from _residual(channels_in, channels_out, side)
        if attend:
            yield from _attention(channels_out, side)


def _residual(channels_in: int, channels_out: int, side: int) -> Iterator[_Layer]:
    yield _conv(channels_in, channels_out, side)
    yield _conv(channels_out, channels_out, side)
    if channels_in != channels_out:
        yield _conv(channels_in, channels_out, side, kernel=1)


def _attention(channels: int, side: int) -> Iterator[_Layer]:
    yield from 4 * [_conv(channels, channels, side, kernel=1)]
    yield _Layer(weights=0, multiplications=2 * side**4 * channels)


def _conv(channels_in: int, channels_out: int, side: int, kernel: int = 3) -> _Layer:
    weights = channels_in * channels_out * kernel * kernel
    return _Layer(weights=weights, multiplications=weights * side * side)
