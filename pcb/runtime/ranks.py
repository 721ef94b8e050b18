"""Training in several processes, one per GPU: ranks, and the averaging of gradients.

Every rank draws the same batch and trains on its part of the images; gradients are averaged while
the rest of them is computed, so that the result does not depend on the number of ranks beyond float
rounding.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pcb.errors import UserError

RENDEZVOUS = timedelta(minutes=5)
"""How long ranks wait until all have started; one that is not there by then has failed."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A question to all ranks that is answered while they go on computing."""

    wishes: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    work: dist.Work | None = None

    def outcome(self) -> int:
        """Return the greatest wish of any rank, 0 before any vote. Waits for the last to vote."""
        if self.work is not None:
            self.work.wait()
        return int(self.wishes)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what all of them make."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """The images of a batch that this rank trains on: every `world`-th, from its own on."""
        return slice(self.rank, None, self.world)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over the ranks after a backward pass."""
        if self.world == 1:
            return module
        return DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def alone(self, parallel: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients add up on this rank; the next pass averages all."""
        return (
            parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()
        )

    def vote(self, wish: int) -> Vote:
        """Ask for the greatest wish of any rank. On the CPU: no GPU is waited for."""
        wishes = torch.tensor([wish])
        if self.world == 1:
            return Vote(wishes=wishes)
        work = dist.all_reduce(wishes, dist.ReduceOp.MAX, async_op=True)
        return Vote(wishes=wishes, work=work)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the ranks."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def of_first(self, answer: bool) -> bool:
        """Return the first rank's answer."""
        answers = torch.tensor([int(answer)])
        if self.world > 1:
            dist.broadcast(answers, 0)
        return bool(answers)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            # On the CPU: NCCL gives up sooner than a large checkpoint may take.
            dist.all_reduce(torch.zeros(1))


def join_ranks(device: torch.device, batch_size: int) -> Ranks:
    """Return this process's rank, after all ranks that the environment names have met.

    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are PyTorch's usual ones. Raises UserError if the
    batch cannot be dealt out evenly, DistStoreError if a rank does not come.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if batch_size % world:
        raise UserError(
            f"training.batch_size = {batch_size}: not a multiple of the {world} ranks; change it, "
            f"or the number of GPUs"
        )
    store, rank, world = next(dist.rendezvous("env://", timeout=RENDEZVOUS))
    # Gradients by NCCL, votes by Gloo.
    cuda = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=world,
        # NCCL then connects now, and says now if it cannot.
        device_id=device if cuda else None,
    )
    return Ranks(rank=rank, world=world)


def leave_ranks(ranks: Ranks) -> None:
    """Part from the other ranks."""
    if ranks.world > 1:
        dist.destroy_process_group()
