"""The tokenizer: encoder, decoder and one codebook of unit vectors for all scales."""

# Shape suffixes: B batch, C code dim, V codebook size, h w token grid, H W pixels.

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcb.config import Autoencoder
from pcb.tokenizer.autoencoder import Decoder, Encoder
from pcb.tokenizer.pyramid import image_pyramid
from pcb.tokenizer.quantize import lookup, nearest_codes, normalize


class Tokenizer(nn.Module):
    """Images in [-1, 1] to codes and back (method section 3)."""

    codebook: Tensor
    """(V, C) unit vectors; a buffer, since no gradient reaches it."""

    def __init__(self, settings: Autoencoder) -> None:
        super().__init__()
        self.stride = settings.stride
        self.encoder = Encoder(settings)
        self.decoder = Decoder(settings)
        self.quant_conv = nn.Conv2d(settings.latent_channels, settings.code_dim, 1)
        self.post_quant_conv = nn.Conv2d(settings.code_dim, settings.latent_channels, 1)
        codebook_VC = torch.empty(settings.codebook_size, settings.code_dim)
        # On the meta device there is nothing to draw, and trying loads torch.compile: seconds.
        if not codebook_VC.is_meta:
            codebook_VC = normalize(torch.randn_like(codebook_VC), dim=1)
        self.register_buffer("codebook", codebook_VC)

    def encode(self, images_B3HW: Tensor) -> Tensor:
        """Return the (B, C, h, w) unit vectors of images, before quantization."""
        return normalize(self.quant_conv(self.encoder(images_B3HW)), dim=1)

    def codes(self, images_B3HW: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
        """Return the codes of images at each size: size -> int64 (B, size, size)."""
        pyramid = image_pyramid(images_B3HW, sizes, self.stride)
        return {
            size: nearest_codes(self.encode(images), self.codebook)
            for size, images in pyramid.items()
        }

    def decode(self, codes: Tensor) -> Tensor:
        """Return (B, 3, H, W) images of int64 (B, h, w) codes or (B, C, h, w) vectors, not clamped.

        Vectors are normalized first, as code vectors are already.
        """
        vectors_BChw = codes if codes.is_floating_point() else lookup(codes, self.codebook)
        vectors_BChw = normalize(vectors_BChw, dim=1).to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(vectors_BChw))

    def round_decoder_to(self, dtype: torch.dtype) -> None:
        """Let decoding compute in a type of 16 bits, channels last, as tensor cores want it.

        The last convolution, which makes pixels, stays float32: it is a hundredth of the work, and
        bfloat16 would round bright pixels to every other gray level.
        """
        self.post_quant_conv.to(dtype)
        # torch's overloads know no call with both.
        self.decoder.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder.conv_out.float()
