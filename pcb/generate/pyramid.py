"""A transformer of the paper with its tokenizer, as what `pcb.load` returns."""

import numpy as np
import torch
from numpy.typing import NDArray

from pcb.generate.model import ImageModel
from pcb.generate.options import Options
from pcb.model.transformer import Transformer
from pcb.order.allocation import untrained_warning
from pcb.order.schedule import Schedule
from pcb.report.pictures import decode_images, sampling_frames
from pcb.runtime.device import DTYPES
from pcb.sample.filter import Filter
from pcb.sample.guidance import Guidance
from pcb.sample.pyramid import sampler_for
from pcb.sample.sampler import Sampler
from pcb.tokenizer.vq import Tokenizer


class PyramidModel(ImageModel):
    """Samples scale by scale, block by block."""

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: Tokenizer,
        *,
        name: str,
        class_names: tuple[str, ...] | None,
        device: torch.device,
        precision: str,
        batch: int,
    ) -> None:
        """Take over both models, which move to the device; `precision` is the transformer's."""
        self.name, self.class_names, self.device, self.batch = name, class_names, device, batch
        self.transformer = transformer.to(device).eval().requires_grad_(False)
        self.transformer.round_to(DTYPES[precision])
        self.tokenizer = tokenizer.to(device)
        self.num_classes, self.sizes = transformer.num_classes, transformer.sizes
        self.image_size = self.sizes[-1] * tokenizer.stride

    def schedule(self, options: Options) -> Schedule:
        """Return scales, blocks and steps. Raises UserError as `Options.schedule`."""
        return options.schedule(self.sizes)

    def steps(self, options: Options) -> int:
        """Return the steps of the schedule."""
        return self.schedule(options).steps

    def warning(self, options: Options) -> str | None:
        """Return one line about blocks of sizes that training never draws."""
        return untrained_warning(self.schedule(options))

    def _new_sampler(self, options: Options) -> Sampler:
        return sampler_for(
            self.transformer,
            self.schedule(options),
            guidance=Guidance(weight=options.guidance or 0.0, start_step=options.guidance_start),
            filter=Filter(temperature=options.temperature),
        )

    def _decode(self, codes_BT: NDArray[np.int64]) -> NDArray[np.uint8]:
        return decode_images(self.tokenizer, codes_BT, self.sizes).transpose(0, 2, 3, 1)

    def _frames(
        self, codes_BT: NDArray[np.int64], images_B: NDArray[np.int64], options: Options
    ) -> NDArray[np.uint8]:
        # torch refuses to normalize a single image of one cell in groups of one channel.
        two_BT = np.repeat(codes_BT, 2, axis=0) if len(codes_BT) == 1 else codes_BT
        order = self.transformer.settings.order
        frames = np.stack(sampling_frames(self.tokenizer, two_BT, self.schedule(options), order))
        return frames[:, : len(codes_BT)].transpose(0, 1, 3, 4, 2)
