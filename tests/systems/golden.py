"""The golden data of a system: a small model, and what its released code made with it."""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcb.errors import UserError
from tests.recorded import PEERS

TOLERANCE = 1e-4
"""Of logits in float32 on a CPU."""


class Golden:
    """A system's folder; arrays come as tensors, integers as int64."""

    def __init__(self, name: str) -> None:
        self.folder = PEERS / name

    @cached_property
    def config(self) -> dict:
        return json.loads((self.folder / "config.json").read_text())

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "expected.npz", allow_pickle=False) as file:
            return dict(file)

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    def full_size(self, file: str = "full_state_dict.json") -> dict[str, list]:
        """Return name -> [shape, dtype] of the released file's tensors."""
        return json.loads((self.folder / file).read_text())

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        tensor = torch.from_numpy(self.arrays[key])
        return tensor if tensor.is_floating_point() else tensor.long()

    def sizes(self, key: str) -> tuple[int, ...]:
        return tuple(self.arrays[key].tolist())


def close(value: Tensor, expected: Tensor, atol: float = TOLERANCE) -> None:
    torch.testing.assert_close(value, expected, atol=atol, rtol=0)


def tensors_of(model: torch.nn.Module) -> dict[str, list]:
    """Return name -> [shape, dtype] as `full_size` does."""
    return {
        name: [list(x.shape), str(x.dtype).removeprefix("torch.")]
        for name, x in model.state_dict().items()
    }


def check_refusals(load: Callable[[Path], object], weights: Path, folder: Path) -> None:
    """A file with a tensor too few, too many or of another shape is refused by its name."""
    good = load_file(weights)
    name = next(name for name, x in good.items() if x.ndim > 1)
    wrong = {
        "missing": {key: x for key, x in good.items() if key != name},
        "unknown": good | {"another.weight": torch.zeros(2)},
        "of another shape": good | {name: good[name][..., :-1].contiguous()},
    }
    for fault, state in wrong.items():
        path = folder / f"{fault.replace(' ', '-')}.safetensors"
        save_file(state, path)
        with pytest.raises(UserError) as caught:
            load(path)
        message = str(caught.value)
        named = "another.weight" if fault == "unknown" else name
        assert str(path) in message and f"1 {fault}: {named}" in message
    with pytest.raises(UserError, match="no such file"):
        load(folder / "absent.safetensors")


def check_pickle(
    load: Callable[[Path], torch.nn.Module], weights: Path, folder: Path, wrapper: str | None
) -> None:
    """A pickle gives the same model; one that holds more than data is not executed."""
    state = load_file(weights)
    path, evil = folder / "released.pth", folder / "evil.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    loaded = load(path).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], x) for name, x in state.items())
    torch.save({"model": state, "more": Runs()}, evil)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load(evil)


class Runs:
    """What runs code when a careless reader unpickles it."""

    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('a pickle ran code')",))


def check_batches(sample: Callable[[np.ndarray], Tensor], images: int = 18) -> None:
    """An image is the same to the bit in a batch of any size; images differ from each other."""
    indices = np.arange(images)
    whole = sample(indices)
    assert len(whole.flatten(1).unique(dim=0)) == images
    for part in (indices[:1], indices[5:6], indices[2:5], indices[1:17]):
        assert torch.equal(sample(part), whole[part]), f"in a batch of {len(part)}"
