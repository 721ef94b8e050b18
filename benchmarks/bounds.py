"""The least work of a part: operations from settings, and memory that no program could spare."""

from collections.abc import Sequence

from benchmarks.case import Phase, Precision
from pcb.config import Autoencoder, Model
from pcb.order.schedule import Schedule
from pcb.preflight import flops
from pcb.preflight.size import num_parameters

_ADAMW_BYTES = 7 * 4


def sampling_phases(
    model: Model,
    codes: Autoencoder,
    schedule: Schedule,
    guided_from: int | None,
    *,
    batch: int,
    value_bytes: int,
) -> list[Phase]:
    """Return a phase for every step of drawing a batch, and one that catches up with guidance.

    A step reads the layers and the head, the keys and values of what was drawn, and writes its own
    and the logits, `value_bytes` each. `guided_from` is as in `pcb.preflight.flops.sampling`.
    """
    phases, drawn, step = [], 1, 0
    for blocks in schedule.blocks:
        for size in blocks:
            classes = 2 if guided_from is not None and step >= guided_from else 1
            if step == guided_from:
                phases.append(_pass(model, codes, batch, drawn, drawn, value_bytes))
            phases.append(_pass(model, codes, batch, size, drawn + size, value_bytes, classes))
            drawn, step = drawn + size, step + 1
    return phases


def training_phases(
    model: Model, codes: Autoencoder, sizes: tuple[int, ...], classes: int, *, batch: int
) -> list[Phase]:
    """Return the phases of a training step: products forwards and backwards, then the optimiser.

    Attention counts as dense. AdamW reads weights, gradients and both moments, and writes all but
    the gradients, in float32.
    """
    parameters = num_parameters(model, sizes, classes, codes)
    return [
        Phase(flops=batch * flops.training_step(model, codes, sizes), bytes=0),
        Phase(flops=0, bytes=_ADAMW_BYTES * parameters),
    ]


def _pass(
    model: Model,
    codes: Autoencoder,
    batch: int,
    tokens: int,
    seen: int,
    value_bytes: int,
    classes: int = 1,
) -> Phase:
    """Return the phase of one call of the transformer; `classes` as in `flops.tokens_forward`."""
    width, logits = model.width, codes.codebook_size
    weights = model.layers * (4 * width * width + 3 * width * model.hidden) + width * logits
    values = 2 * model.layers * width * seen + tokens * logits
    return Phase(
        flops=batch * flops.tokens_forward(model, codes, tokens, seen, classes=classes),
        bytes=value_bytes * (weights + classes * batch * values),
    )


def network_phase(
    operations: int, *, weights: int, values: int, value_bytes: int, batch: int
) -> list[Phase]:
    """Return the phase of a network that reads its weights, and its inputs and outputs, once.

    `operations` and `values`, of inputs and outputs together, are those of one item of the batch.
    What passes between its layers is not counted: a bound that no program reaches.
    """
    moved = value_bytes * (weights + batch * values)
    return [Phase(flops=batch * operations, bytes=moved)]


def encoding_phases(settings: Autoencoder, sizes: Sequence[int], batch: int) -> list[Phase]:
    """Return a phase for every scale of encoding a batch, in float32."""
    return [
        phase
        for size in sizes
        for phase in network_phase(
            flops.encode(settings, size),
            weights=flops.autoencoder_weights(settings) // 2,
            values=_image_values(settings, size),
            value_bytes=4,
            batch=batch,
        )
    ]


def decoding_phases(
    settings: Autoencoder, size: int, precision: Precision, batch: int
) -> list[Phase]:
    """Return the phase of decoding a batch of `size` x `size` codes."""
    return network_phase(
        flops.decode(settings, size),
        weights=flops.autoencoder_weights(settings) // 2,
        values=_image_values(settings, size),
        value_bytes=4 if precision == "float32" else 2,
        batch=batch,
    )


def _image_values(settings: Autoencoder, size: int) -> int:
    """Numbers of an image, and of the code vectors it has."""
    return 3 * (size * settings.stride) ** 2 + size * size * settings.code_dim
