"""A folder with a system's recorded values: config.json, weights.safetensors, expected.npz.

config.json describes the model under `tiny`, whatever its size, names the system under `peer`, and
has the settings of recorded runs under `runs`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.runtime.npz import npz_errors_explained

CONFIG, WEIGHTS, EXPECTED = "config.json", "weights.safetensors", "expected.npz"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a folder holds, but for the weights."""

    folder: Path
    config: Mapping[str, Any]
    expected: Mapping[str, Tensor]

    @property
    def system(self) -> str:
        """The recorded system's name."""
        return str(self.part("peer"))

    def part(self, key: str) -> Any:
        """Return a part of config.json. Raises UserError that names it."""
        if key not in self.config:
            raise UserError(f"{self.folder / CONFIG}: no `{key}`")
        return self.config[key]

    def __getitem__(self, quantity: str) -> Tensor:
        """Return a recorded array. Raises UserError that names it."""
        if quantity not in self.expected:
            there = ", ".join(sorted(self.expected))
            raise UserError(f"{self.folder / EXPECTED}: no `{quantity}`; it holds {there}")
        return self.expected[quantity]

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """The settings of recorded runs by name. Raises UserError unless each is an object."""
        runs = self.part("runs")
        if not isinstance(runs, dict) or not all(isinstance(run, dict) for run in runs.values()):
            raise UserError(
                f"{self.folder / CONFIG}: runs: expected objects by name, found {runs!r}"
            )
        return runs

    def whole(self, quantity: str, *shape: int | None, below: int | None = None) -> Tensor:
        """Return a recorded input of whole numbers, 0 and more, that the model can take.

        shape: sides that it must have, None for any. Raises UserError that names it.
        """
        x = self.given(quantity, *shape)
        fits = not x.is_floating_point() and not x.is_complex()
        if fits and x.numel():
            fits = bool(x.min() >= 0) and (below is None or bool(x.max() < below))
        if not fits:
            limit = "" if below is None else f" below {below}"
            raise self._unfit(quantity, f"expected whole numbers from 0{limit}")
        return x.long()

    def given(self, quantity: str, *shape: int | None) -> Tensor:
        """Return a recorded input of this shape, None for any side. Raises UserError."""
        x = self[quantity]
        fits = len(x.shape) == len(shape) and all(
            wanted in (None, side) for wanted, side in zip(shape, x.shape, strict=True)
        )
        if not fits or not x.numel():
            sides = " x ".join("any" if side is None else str(side) for side in shape)
            raise self._unfit(quantity, f"it is {list(x.shape)} where {sides} is expected")
        return x

    def _unfit(self, quantity: str, why: str) -> UserError:
        place = f"{self.folder / EXPECTED}: `{quantity}`"
        return UserError(f"{place} does not fit the model of {CONFIG}: {why}")

    def __contains__(self, quantity: str) -> bool:
        return quantity in self.expected


def read_recording(folder: Path) -> Recording:
    """Read a folder; nothing is expected where there is no expected.npz.

    Raises UserError that names the file.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected an object, found {type(config).__name__}")
    return Recording(folder=folder, config=config, expected=_arrays(folder / EXPECTED))


def _arrays(path: Path) -> dict[str, Tensor]:
    """Return the recorded arrays; pickles among them are refused."""
    if not path.exists():
        return {}
    with npz_errors_explained(path), np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(np.asarray(array)) for name, array in file.items()}
