"""Block-causal attention mask for FlexAttention, and attention by it or by a dense mask.

The dense form of the same mask is `Sequence.mask_LL` (method section 4).

Letters: B batch, N heads, L M positions, H head dim; R C tiles of rows and of columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

TILE = 128
"""Rows and columns of a tile: FlexAttention's default."""


def attend(
    q_BNLH: Tensor, k_BNMH: Tensor, v_BNMH: Tensor, mask: Tensor | BlockMask | None
) -> Tensor:
    """Return softmax(q k / sqrt(H)) v over what a mask lets through, (B, N, L, H)."""
    if isinstance(mask, BlockMask):
        out = flex_attention(q_BNLH, k_BNMH, v_BNMH, block_mask=mask)
        assert isinstance(out, Tensor)
        return out
    return F.scaled_dot_product_attention(q_BNLH, k_BNMH, v_BNMH, attn_mask=mask)


def tiled_mask(blocks_L: Tensor) -> BlockMask:
    """Return the block-causal mask of ascending block numbers: a row sees its own and earlier ones.

    Since numbers ascend, a tile of rows sees a prefix of the columns' tiles, and a shorter prefix
    of them whole: a few comparisons of tiles' ends say all, without an L x L tensor. Shapes depend
    on L alone, so that compiled attention serves every iteration.
    """
    length, device = len(blocks_L), blocks_L.device
    starts = torch.arange(0, length, TILE, device=device)
    lowest = blocks_L[starts]
    highest = blocks_L[(starts + TILE - 1).clamp(max=length - 1)]
    whole_RC = lowest[:, None] >= highest
    if length % TILE:
        # A tile that sticks out is cut to the sequence by the mask.
        whole_RC[-1].fill_(False)
        whole_RC[:, -1].fill_(False)
    seen_R = (highest[:, None] >= lowest).sum(1, dtype=torch.int32)
    whole_R = whole_RC.sum(1, dtype=torch.int32)
    columns = torch.arange(len(starts), device=device, dtype=torch.int32)
    # Tiles that are listed first count: those seen in part follow those seen whole.
    partly_RC = (whole_R[:, None] + columns) % len(starts)

    def sees(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return blocks_L[row] >= blocks_L[column]

    return BlockMask.from_kv_blocks(
        (seen_R - whole_R)[None, None],
        partly_RC[None, None],
        whole_R[None, None],
        columns.expand_as(partly_RC)[None, None].contiguous(),
        BLOCK_SIZE=TILE,
        mask_mod=sees,
        seq_lengths=(length, length),
    )
