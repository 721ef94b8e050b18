"""The recorded training of the released code: models, batches and names (tests/reference)."""

import numpy as np
import torch

from pcb.external.released import ReleasedConfig, load_released
from pcb.external.tensor_names import rename
from pcb.model.sequence import sequence_of
from pcb.order.schedule import Schedule
from pcb.train.batches import Batch
from tests.recorded import REFERENCE

FOLDER = REFERENCE / "training"


def arrays_of(path: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / path, allow_pickle=False) as file:
        return dict(file)


def model_of(name: str):
    """The recorded model with its weights before any step, ready to train."""
    return load_released(FOLDER / name).transformer.requires_grad_(True).train()


def settings_of(name: str):
    return ReleasedConfig.read(FOLDER / name / "config.yaml").settings()


def batch_of(arrays: dict[str, np.ndarray], step: int | None = None) -> Batch:
    """A recorded batch; `step` picks one of those of several steps."""

    def at(name: str) -> np.ndarray:
        return arrays[name] if step is None else arrays[name][step]

    sizes = tuple(arrays["sizes"].tolist())
    codes = {size: torch.from_numpy(at(f"codes_{size}").astype(np.int64)) for size in sizes}
    replaced = codes
    if f"replaced_{sizes[0]}" in arrays:
        replaced = {
            size: torch.from_numpy(at(f"replaced_{size}").astype(np.int64)) for size in sizes
        }
    blocks = [
        cut(size * size, int(block), join=bool(at("join_remainder")))
        for size, block in zip(sizes, at("block_sizes"), strict=True)
    ]
    return Batch(
        labels_B=torch.from_numpy(at("labels").astype(np.int64)),
        codes=codes,
        replaced=replaced,
        sequences=(sequence_of(Schedule(sizes=sizes, blocks=tuple(blocks))),),
    )


def cut(tokens: int, block: int, *, join: bool) -> tuple[int, ...]:
    """Blocks of one size; a remainder joins the last one or is one more."""
    full, rest = divmod(tokens, block)
    if join and rest:
        return (*[block] * (full - 1), block + rest)
    return (*[block] * full, *([rest] if rest else []))


def named(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix under this package's names; phases as pairs."""
    found = {
        rename(name.removeprefix(prefix)): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    rows = found["rotary.phases"]
    return {**found, "rotary.phases": rows.view(len(rows), -1, 2)}
