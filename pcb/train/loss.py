"""The loss of every token, without all logits in memory at once.

Letters: N tokens of all images, D width, V codebook size.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pcb.model.transformer import project_to_float32

PART_LOGITS = {"cpu": 2**24, "cuda": 2**27}
"""Most logits at a time by kind of device: 64 MiB in float32, on a GPU 512 MiB, and a few times
that while they become gradients. A GPU is through with a small part before Python calls the next.
"""

Losses = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def token_losses(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, codes_N: Tensor, part: Losses
) -> Tensor:
    """Return the cross-entropy of every token's code in nats, float32 (N,).

    Beyond PART_LOGITS logits the tokens go through in parts, by `part` (`cross_entropies`, or that
    compiled). A part keeps none of its logits; they are computed again for its gradients, which
    costs one more product with the head's weight.
    """
    most = max(1, PART_LOGITS[hidden_ND.device.type] // len(weight_VD))
    if len(codes_N) <= most:
        return part(hidden_ND, weight_VD, bias_V, codes_N)
    losses = [
        checkpoint(
            part, hidden, weight_VD, bias_V, codes, use_reentrant=False, preserve_rng_state=False
        )
        for hidden, codes in zip(hidden_ND.split(most), codes_N.split(most), strict=True)
    ]
    return torch.cat(losses)


def cross_entropies(
    hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, codes_N: Tensor
) -> Tensor:
    """Return the same of few tokens; the softmax is in float32 whatever the product's type."""
    logits_NV = project_to_float32(hidden_ND, weight_VD, bias_V)
    return F.cross_entropy(logits_NV.float(), codes_N, reduction="none")
