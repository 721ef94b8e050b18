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
