"""Structural similarity of images (Wang, Bovik, Sheikh, Simoncelli 2004, equation 13)."""

# Shape suffixes: B batch, H W pixels.

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
"""Side of the Gaussian window in pixels; smaller images have no structural similarity."""
_DEVIATION = 1.5
_K1, _K2 = 0.01, 0.03


def ssim(one_B3HW: Tensor, other_B3HW: Tensor) -> Tensor:
    """Return the structural similarity of pairs of images in [-1, 1]: (B,), 1 for equal images.

    Mean over the three colors and all places where the window fits in.

    Raises ValueError for images that are smaller than the window.
    """
    if min(one_B3HW.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW} pixels per side")
    # The comparison of means takes 0 for black; pixels span 1 then.
    x_B3HW, y_B3HW = (one_B3HW + 1) / 2, (other_B3HW + 1) / 2
    mean_x, mean_y = _weighted(x_B3HW), _weighted(y_B3HW)
    variance_x = _weighted(x_B3HW.square()) - mean_x.square()
    variance_y = _weighted(y_B3HW.square()) - mean_y.square()
    covariance = _weighted(x_B3HW * y_B3HW) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean((1, 2, 3))


def _weighted(images_B3HW: Tensor) -> Tensor:
    """Return the Gaussian mean around every place where the window fits in."""
    offsets = torch.arange(WINDOW, device=images_B3HW.device) - WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _DEVIATION**2)).to(images_B3HW)
    weights = weights / weights.sum()
    channels = images_B3HW.shape[1]
    column = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    row = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(images_B3HW, column, groups=channels), row, groups=channels)
