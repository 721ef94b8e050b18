"""Reading a released system's weights, safely and strictly."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pcb.errors import UserError
from pcb.runtime.file_kind import standin
from pcb.runtime.torch_files import in_float32, read_torch, tensors_of
from pcb.runtime.weights import check_tensors

Model = TypeVar("Model", bound=nn.Module)


def read_tensors(path: Path, wrappers: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a pickle that may hold nothing but data.

    wrappers: keys under which a pickle may have its tensors; the first that it has counts. Without
    one the pickle itself must be the mapping. Raises UserError that names the file.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except (SafetensorError, OSError) as error:
            reason = standin(path) or error
            raise UserError(f"{path}: not readable as safetensors ({reason})") from None
    content = read_torch(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in wrappers if key in content), content)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping of tensors, found {type(content).__name__}")
    return tensors_of(content, str(path))


def with_weights(
    model: Model, tensors: Mapping[str, Tensor], source: Path, *, masks: Collection[str] = ()
) -> Model:
    """Fill a model of the meta device: float32 on the CPU, evaluation mode, without gradients.

    `masks` names tensors that may be infinite; whoever names one checks it.
    Raises UserError naming the file and tensors that are missing, unknown or of another shape.
    """
    check_tensors(model.state_dict(), tensors, str(source), masks=masks)
    model.load_state_dict(in_float32(tensors, str(source)), strict=True, assign=True)
    return model.eval().requires_grad_(False)


Config = TypeVar("Config", bound=msgspec.Struct)


def read_config(description: Any, kind: type[Config], source: str) -> Config:
    """Return the settings that a mapping describes; what they do not know is passed over.

    Raises UserError that names the source, the place and what was expected.
    """
    try:
        return msgspec.convert(description, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {error}") from None
