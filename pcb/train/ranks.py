"""Training in several processes, one a GPU: who is who, and gradients that agree.

Every rank draws the same batch and takes its share of the images; gradients are averaged, so that
the result does not depend on the number of ranks beyond float rounding.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.train.batches import Batch


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what all of them make."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """Return every `world`-th image of a batch, from this rank's on."""
        if self.world == 1:
            return batch
        own = slice(self.rank, None, self.world)
        return replace(
            batch,
            labels_B=batch.labels_B[own],
            codes={size: grid[own] for size, grid in batch.codes.items()},
            replaced={size: grid[own] for size, grid in batch.replaced.items()},
        )

    def average_gradients(self, parameters: Iterable[nn.Parameter], *, stop: bool) -> bool:
        """Average gradients over the ranks; return whether any rank wants to `stop`.

        The wish travels with the gradients, so that all ranks see it after the same iteration.
        """
        if self.world == 1:
            return stop
        gradients = [p.grad for p in parameters if p.grad is not None]
        wish = gradients[0].new_tensor([float(stop)])
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), wish])
        dist.all_reduce(flat)
        stopping = bool(flat[-1] > 0)
        flat /= self.world
        parts = flat[:-1].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return stopping

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the ranks."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier()


def join_ranks(device: torch.device, batch_size: int) -> Ranks:
    """Return this process's rank, after all ranks that the environment names have met.

    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are PyTorch's usual ones. Raises UserError if the
    batch cannot be dealt out evenly.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if batch_size % world:
        raise UserError(
            f"training.batch_size = {batch_size}: not a multiple of the {world} ranks; change it, "
            f"or the number of GPUs"
        )
    rank = int(os.environ["RANK"])
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=world
    )
    return Ranks(rank=rank, world=world)


def leave_ranks(ranks: Ranks) -> None:
    """Part from the other ranks."""
    if ranks.world > 1:
        dist.destroy_process_group()
