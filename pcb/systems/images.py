"""From tokenizer output to the scored image, as LlamaGen and its successors do it."""

import torch.nn.functional as F
from torch import Tensor


def resized(image_B3HW: Tensor, side: int) -> Tensor:
    """Return images of another side: bicubic on floats, without antialiasing or clamping."""
    if image_B3HW.shape[-2:] == (side, side):
        return image_B3HW
    return F.interpolate(image_B3HW, size=(side, side), mode="bicubic")


def to_bytes(image_B3HW: Tensor) -> Tensor:
    """Return uint8 (B, H, W, 3) of images of about -1 to 1: 127.5 x + 128, clamped, cut down."""
    return (127.5 * image_B3HW + 128).clamp(0, 255).byte().permute(0, 2, 3, 1)
