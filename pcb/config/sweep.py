"""Settings of sampling images: a sweep and its sampling configs (method section 6)."""

from typing import Final, Literal

import msgspec

from pcb.config.base import Count, NonNegativeFloat, Positive, Settings
from pcb.order.allocation import schedule_from_total
from pcb.order.blocks_text import sizes_text
from pcb.order.schedule import Schedule, schedule_from_blocks, serial_schedule

GUIDANCE_START = 5
"""First guided step unless a config says otherwise (method section 6)."""
SERIAL: Final = "serial"
Blocks = Positive | tuple[Positive | tuple[Positive, ...], ...] | Literal["serial"]
"""K of the paper; for each scale the number of its blocks or their sizes; one token per block."""


class Sampling(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all configs of the sweep have in common."""

    images: Positive = 50_000
    seed: Count = 0
    temperature: NonNegativeFloat = 1.0
    """0 takes the likeliest code."""
    shard_images: Positive = 1000
    """Images per file: the least that an interrupted run keeps."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class SamplingConfig(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to sample images: blocks and guidance. Expanded from a `Sweep`."""

    blocks: Blocks | None = None
    total_steps: Positive | None = None
    """Exact number of steps, spread over the scales; instead of `blocks`."""
    cfg: NonNegativeFloat = 0.0
    """Guidance weight g of cond + g (cond - uncond); other papers print g + 1."""
    cfg_start_step: Count = GUIDANCE_START
    """Guidance is off before this step; step 0 is the first block of the coarsest scale."""

    def schedule(self, sizes: tuple[int, ...]) -> Schedule:
        """Return the schedule for a model with these scales, or raise ValueError."""
        if self.total_steps is not None:
            return schedule_from_total(sizes, self.total_steps)
        assert self.blocks is not None, "SamplingConfig has neither blocks nor total_steps"
        if isinstance(self.blocks, str):
            return serial_schedule(sizes)
        return schedule_from_blocks(sizes, self.blocks)

    @property
    def name(self) -> str:
        """Name of the config: `t17`, `k4`, `k1-4-4`, `serial`; guided: `t17-cfg1.5-start5`.

        Where the sizes of blocks are given, they are in it: `k1-4-4x3.2x2`.
        """
        if self.total_steps is not None:
            name = f"t{self.total_steps}"
        elif isinstance(self.blocks, tuple):
            cuts = (str(n) if isinstance(n, int) else sizes_text(n, ".") for n in self.blocks)
            name = "k" + "-".join(cuts)
        else:
            name = f"k{self.blocks}" if isinstance(self.blocks, int) else SERIAL
        return f"{name}-cfg{self.cfg:g}-start{self.cfg_start_step}" if self.cfg else name


class Sweep(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of models, choices of blocks and guidance weights."""

    models: tuple[str, ...]
    blocks: tuple[Blocks, ...] = ()
    total_steps: tuple[Positive, ...] = ()
    cfg: tuple[NonNegativeFloat, ...] = (0.0,)
    cfg_start_step: Count = GUIDANCE_START
    samples: bool = True
    """Whether images are sampled. Else the likelihood of held-out images alone is measured."""

    def __post_init__(self) -> None:
        if not (self.blocks or self.total_steps):
            raise ValueError("a sweep needs `blocks` or `total_steps`")
        if not self.samples and any(self.cfg):
            raise ValueError("guidance has no likelihood: `samples: false` goes without `cfg`")

    def configs(self) -> tuple[SamplingConfig, ...]:
        """Return the product of choices of blocks and guidance weights, in the order given."""
        cuts = [SamplingConfig(blocks=k) for k in self.blocks]
        cuts += [SamplingConfig(total_steps=t) for t in self.total_steps]
        return tuple(
            msgspec.structs.replace(cut, cfg=cfg, cfg_start_step=self.cfg_start_step)
            for cut in cuts
            for cfg in self.cfg
        )
