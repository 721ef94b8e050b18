"""Training batches as a function of (seed, iteration) alone (method section 5).

Everything random of an iteration - images, crops, dropped labels, replaced codes, block sizes - is
drawn for the whole batch from a counter-based generator. Some schedules share out the images of a
batch, evenly and whatever the number of ranks. A resumed run therefore repeats what an
unbroken one would have done, ranks that split a batch agree on it, and it matters neither when nor
in which thread a batch is made.

Letters: B images, T tokens in the order of the sequence.
"""

import math
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcb.config import Training
from pcb.model.inputs import Inputs, teacher_forced
from pcb.model.sequence import Sequence, sequence_of
from pcb.order.names import CHECKERBOARD
from pcb.order.schedule import Schedule, training_block_sizes
from pcb.runtime.device import send
from pcb.tokenizer.cache import Codes

# What a stream of random numbers is for: part of its key, so that streams never meet.
IMAGES, CROPS, LABELS, CODES, BLOCKS = range(5)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images of one iteration. codes, replaced: size -> int64 (B, size, size); labels_B int64.

    sequences: those of the schedules that the images go by, in turn: image k by number k modulo
    how many there are.
    """

    labels_B: Tensor
    codes: dict[int, Tensor]
    replaced: dict[int, Tensor]
    """The codes with some replaced at random: what the next scale is conditioned on."""
    sequences: tuple[Sequence, ...]

    @property
    def sequence(self) -> Sequence:
        """The sequence of a batch that has one, as those of `by_schedule` have."""
        (sequence,) = self.sequences
        return sequence

    def by_schedule(self) -> Iterator["Batch"]:
        """Yield for each sequence the batch of the images that go by it."""
        for k, sequence in enumerate(self.sequences):
            some = slice(k, None, len(self.sequences))
            yield Batch(
                labels_B=self.labels_B[some],
                codes={size: grid[some] for size, grid in self.codes.items()},
                replaced={size: grid[some] for size, grid in self.replaced.items()},
                sequences=(sequence,),
            )

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch with its tensors on a device; nobody waits for them to arrive."""
        return Batch(
            labels_B=send(self.labels_B, device),
            codes={size: send(grid, device) for size, grid in self.codes.items()},
            replaced={size: send(grid, device) for size, grid in self.replaced.items()},
            sequences=tuple(sequence.to(device) for sequence in self.sequences),
        )


class Batches:
    """The batches of a training run, by iteration number from 0 on."""

    def __init__(
        self,
        cache: Codes,
        settings: Training,
        *,
        num_classes: int,
        codebook_size: int,
        order: str = CHECKERBOARD,
        own: slice = slice(None),
    ) -> None:
        """`own` picks the images of every batch that this process trains on.

        `order` is the model's; nothing random depends on it, so that models of two orders and one
        seed see the same images, labels, replaced codes and blocks.
        """
        self.cache = cache
        self.settings = settings
        self.num_classes = num_classes
        self.codebook_size = codebook_size
        self.order = order
        self.own = own
        # Two: batches that are made side by side may lie in two epochs.
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)
        images = len(cache.labels)
        self.batch_size = min(settings.batch_size, images)
        self.per_epoch = images // self.batch_size
        """Iterations per epoch; the images left over differ from epoch to epoch."""
        self._numbers = self._schedule_numbers()

    @property
    def iterations(self) -> int:
        """Iterations of the whole run, at least one."""
        return max(1, round(self.settings.epochs * self.per_epoch))

    def __getitem__(self, iteration: int) -> Batch:
        """Return this process's part of the batch of an iteration."""
        epoch, place = divmod(iteration, self.per_epoch)
        batch = self._shuffled(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        indices = np.sort(batch)[self.own]
        crops = self._random(CROPS, iteration).integers(self.cache.crops, size=self.batch_size)
        codes = self.cache.codes(indices, crops[self.own])
        return Batch(
            labels_B=torch.from_numpy(self._drop_labels(self.cache.labels[indices], iteration)),
            codes={size: torch.from_numpy(grid) for size, grid in codes.items()},
            replaced=self._replace(codes, iteration),
            sequences=self._sequences(iteration),
        )

    def _shuffle(self, epoch: int) -> NDArray[np.int64]:
        return self._random(IMAGES, epoch).permutation(len(self.cache.labels))

    def _drop_labels(self, labels: NDArray[np.int64], iteration: int) -> NDArray[np.int64]:
        drop = self._random(LABELS, iteration).random(self.batch_size) < self.settings.label_dropout
        return np.where(drop[self.own], self.num_classes, labels)

    def _replace(self, codes: dict[int, NDArray[np.int64]], iteration: int) -> dict[int, Tensor]:
        """Replace each code with probability `random_replace` by one drawn uniformly."""
        random = self._random(CODES, iteration)
        replaced = {}
        for size, grid in codes.items():
            shape = (self.batch_size, size, size)
            chosen = random.random(shape) < self.settings.random_replace
            others = random.integers(self.codebook_size, size=shape)
            replaced[size] = torch.from_numpy(np.where(chosen[self.own], others[self.own], grid))
        return replaced

    def _schedule_numbers(self) -> tuple[int, ...]:
        """Return the numbers of the schedules that this process's images go by, in turn.

        Image j of the whole batch goes by schedule j modulo the number of schedules; the same
        numbers come again after as many of this process's images as share no factor with it.
        """
        images = range(self.batch_size)[self.own]
        schedules = self.settings.schedules
        turn = schedules // math.gcd(schedules, images.step)
        return tuple(image % schedules for image in images[:turn])

    def _sequences(self, iteration: int) -> tuple[Sequence, ...]:
        """Draw the schedules of the whole batch, and lay out those of this process's images."""
        random, join = self._random(BLOCKS, iteration), self.settings.join_remainder
        count = min(self.settings.schedules, self.batch_size)
        drawn = [random_schedule(self.cache.sizes, join, random) for _ in range(count)]
        return tuple(sequence_of(drawn[number], self.order) for number in self._numbers)

    def _random(self, purpose: int, counter: int) -> np.random.Generator:
        """Generator of one purpose at one iteration (or epoch)."""
        key = np.array([self.settings.seed, purpose], dtype=np.uint64)
        start = np.array([0, counter, 0, 0], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=start))


def random_schedule(
    sizes: Items[int], join_remainder: float, random: np.random.Generator
) -> Schedule:
    """Draw a block size for every scale, so that one model serves every step count.

    A remainder joins the block before it with probability `join_remainder`.
    """
    blocks = []
    for size in sizes:
        block = int(random.choice(training_block_sizes(size)))
        full, rest = divmod(size * size, block)
        cut = [block] * full
        join = random.random() < join_remainder
        if rest and join:
            cut[-1] += rest
        elif rest:
            cut.append(rest)
        blocks.append(tuple(cut))
    return Schedule(sizes=tuple(sizes), blocks=tuple(blocks))


def model_inputs(batch: Batch, codebook_VC: Tensor) -> tuple[Inputs, Tensor]:
    """Return a batch of one schedule as a transformer reads it, and its target codes (B, T).

    Batch and codebook are on one device.
    """
    return teacher_forced(
        batch.sequence, batch.labels_B, batch.codes, codebook_VC, replaced=batch.replaced
    )
