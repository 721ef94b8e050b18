"""Inputs of a call of the transformer, and those of a teacher-forced pass over given codes.

Letters: B batch, T tokens of a call or of the sequence, R rows of a call, C code dim, V codebook
size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pcb.model.sequence import Sequence
from pcb.tokenizer.pyramid import conditioning


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """T consecutive tokens of the sequence.

    labels_B: classes; `num_classes` is the null class.
    conditioning_BTC: conditioning latents, the code vectors of the previous scale at these cells;
    zeros in the first scale.
    previous_BT: codes of the previous-block tokens (`pcb.model.sequence`); any code where there is
    none, it is ignored.
    rows_T, previous_rows_T: rows of the position tables of these tokens, and of the previous-block
    ones.
    with_class: the class token precedes these tokens, at position 0 of the sequence.
    """

    labels_B: Tensor
    conditioning_BTC: Tensor
    previous_BT: Tensor
    rows_T: Tensor
    previous_rows_T: Tensor
    with_class: bool

    def of(self, images: slice) -> "Inputs":
        """Return the inputs of some of the images."""
        return replace(
            self,
            labels_B=self.labels_B[images],
            conditioning_BTC=self.conditioning_BTC[images],
            previous_BT=self.previous_BT[images],
        )


def inputs_of(
    sequence: Sequence,
    labels_R: Tensor,
    conditioning_BTC: Tensor,
    codes_BT: Tensor,
    *,
    tokens: slice,
    images: Tensor | slice = slice(None),
) -> Inputs:
    """Return the inputs of some tokens of the sequence, of the images (R, 1) or of all.

    conditioning_BTC, codes_BT: conditioning latents and codes as far as they are known, row-major,
    scale by scale.
    """
    positions = slice(tokens.start + 1, tokens.stop + 1)
    rows_T = sequence.rows_L[positions]
    return Inputs(
        labels_B=labels_R,
        conditioning_BTC=conditioning_BTC[images, rows_T],
        previous_BT=codes_BT[images, sequence.previous_cells_T[tokens]],
        rows_T=rows_T,
        previous_rows_T=sequence.previous_rows_L[positions],
        with_class=tokens.start == 0,
    )


def teacher_forced(
    sequence: Sequence,
    labels_B: Tensor,
    codes: Mapping[int, Tensor],
    codebook_VC: Tensor,
    *,
    replaced: Mapping[int, Tensor] | None = None,
) -> tuple[Inputs, Tensor]:
    """Return the inputs of all tokens where these codes were sampled, and the codes, (B, T).

    Both are in the order of the sequence. `codes` maps each size to int64 (B, size, size); a scale
    is conditioned on `replaced` in their place, if given. All tensors are on one device.
    """
    sizes = sequence.schedule.sizes
    latents = conditioning(codes if replaced is None else replaced, codebook_VC, sizes)
    conditioning_BTC = torch.cat([latents[size].flatten(2) for size in sizes], 2).transpose(1, 2)
    codes_BT = torch.cat([codes[size].flatten(1) for size in sizes], dim=1)
    everything = slice(0, sequence.schedule.tokens)
    inputs = inputs_of(sequence, labels_B, conditioning_BTC, codes_BT, tokens=everything)
    return inputs, codes_BT[:, inputs.rows_T]
