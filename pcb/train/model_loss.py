"""A transformer and the loss of every token, by the fastest way that a device offers.

Whichever way it is computed - mask as tiles or dense, compiled or not, layers kept or computed
again - the result is the same up to float rounding.

Letters: B images, T tokens in the order of the sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from pcb.config import Compute
from pcb.errors import UserError
from pcb.model.inputs import Inputs
from pcb.model.layers import AttentionContext
from pcb.model.mask import tiled_mask
from pcb.model.sequence import Sequence
from pcb.model.transformer import Transformer
from pcb.runtime.device import can_compile
from pcb.train.loss import cross_entropies, token_losses

RECOMPILE_LIMIT = 64
"""Most graphs of one function in a process; training takes a few."""


class ModelLoss(nn.Module):
    """A transformer and its loss, as one module that ranks can share (`Ranks.parallel`)."""

    def __init__(
        self, model: Transformer, compute: Compute, *, head_mlp_decay: float = 0.0
    ) -> None:
        """Set a model up for training on the device where it is.

        head_mlp_decay: `Training.head_mlp_decay`.
        Raises UserError if the settings ask for what the device cannot do.
        """
        super().__init__()
        self.model = model
        self.head_mlp_decay = head_mlp_decay
        model.recompute = compute.recompute
        self._losses = cross_entropies
        able = can_compile(model.codebook_VC.device)
        if compute.compile is True and not able:
            raise UserError(
                "compute.compile = true: needs a GPU that triton knows; set it to auto or false"
            )
        compiled = able and compute.compile is not False
        if compute.attention == "flex" and not compiled:
            raise UserError(
                "compute.attention = 'flex': only compiled attention skips tiles, and this is not "
                "compiled (compute.compile, or no GPU that triton knows); set it to auto or dense"
            )
        self.tiled = compiled and compute.attention != "dense"
        if compiled:
            self.compile_parts()

    def forward(self, inputs: Inputs, codes_BT: Tensor, mask: Tensor | BlockMask) -> Tensor:
        """Return the cross-entropy of every token, mean over the images, in nats: (T,).

        The gradient of its mean holds that of the head MLP's L2 term, which the values leave out.
        """
        hidden_BTD = self.model(inputs, AttentionContext(mask=mask))
        added_VD = self.model.head_mlp_weight()
        losses_N = token_losses(
            hidden_BTD.flatten(0, 1),
            self.model.head_weight(added_VD),
            self.model.head.bias,
            codes_BT.flatten(),
            self._losses,
        )
        losses_T = losses_N.view(codes_BT.shape).mean(0)
        if added_VD is None or not self.head_mlp_decay:
            return losses_T
        decay = self.head_mlp_decay / 2 * added_VD.float().square().sum()
        return losses_T + (decay - decay.detach())

    def mask(self, sequence: Sequence) -> Tensor | BlockMask:
        """Return the block-causal mask in the form that is fastest here."""
        return tiled_mask(sequence.blocks_L) if self.tiled else sequence.mask_LL()

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile each layer, and the loss of some tokens.

        Layer by layer, since all share one graph, and so that each hands its gradients to the
        other ranks while those of the layers before it are computed.
        """
        # All layers of a process share what is compiled of their code: several models, sizes and
        # precisions fit. Beyond the limit torch would compute uncompiled without a word.
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        # It would cut a layer's graph where a bucket of gradients ends, and refuses FlexAttention.
        torch._dynamo.config.optimize_ddp = False
        for layer in self.model.layers:
            layer.compile(dynamic=False, backend=backend)
        self._losses = torch.compile(cross_entropies, dynamic=False, backend=backend)
