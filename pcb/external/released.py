"""The authors' released models: config.yaml, checkpoint-last.pth and autoenc/ (method section 9).

Tensor names are facts of that layout; the tables here take them to this package's names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from pcb.config import Model, Preset
from pcb.config.loader import convert
from pcb.errors import UserError
from pcb.external.autoencoder import (
    CODEBOOK,
    load_released_autoencoder,
    read_autoencoder_settings,
    read_checkpoint,
    read_config,
    tensors_in,
    value_at,
)
from pcb.external.tensor_names import rename
from pcb.model.transformer import Transformer
from pcb.runtime.torch_files import in_float32
from pcb.runtime.weights import check_state
from pcb.tokenizer.quantize import normalize
from pcb.tokenizer.vq import Tokenizer

AUTOENCODER_PREFIX = "autoenc."
CLASSES = "class_embeddings.weight"
HIDDEN_MULTIPLE = 256
"""The released code rounds the width of SwiGLU up to a multiple of this."""
NORM_EPSILON = 1e-6
CONFIG, CHECKPOINT = "config.yaml", "checkpoint-last.pth"
_LARGEST_IMAGE = 4096
"""Pixels per side beyond which a configuration is taken to be mistaken."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Released:
    """A model in the released layout, ready to run: weights on the CPU, float32, eval mode."""

    tokenizer: Tokenizer
    transformer: Transformer
    image_size: int


@dataclass(frozen=True, kw_only=True)
class ReleasedWeights:
    """The weights of a released model under this package's names, and what is said of them."""

    state: dict[str, Tensor]
    parameters: int
    epoch: int | None
    """Epochs that were trained, if the checkpoint says so."""


def load_released(folder: Path) -> Released:
    """Load a folder in the released layout, strictly.

    Raises UserError that names the file, and for weights that do not fit their tensors.
    """
    config = ReleasedConfig.read(folder / CONFIG)
    autoencoder = read_autoencoder_settings(config.autoencoder_config)
    tokenizer = load_released_autoencoder(config.autoencoder_checkpoint, autoencoder)
    checkpoint = folder / CHECKPOINT
    content = read_checkpoint(checkpoint)
    transformer = config.transformer(tokenizer, _classes_in(content, checkpoint))
    weights = _weights_in(content, transformer, tokenizer, checkpoint)
    transformer.load_state_dict(weights.state)
    return Released(
        tokenizer=tokenizer,
        transformer=transformer.eval().requires_grad_(False),
        image_size=config.image_size,
    )


def released_weights(
    transformer: Transformer, tokenizer: Tokenizer, checkpoint: Path
) -> ReleasedWeights:
    """Read a released model's weights, which must be exactly those that a transformer has.

    They are those of the key `model`: the paper trains without a moving average. Raises UserError
    naming the file and the tensors that do not fit.
    """
    return _weights_in(read_checkpoint(checkpoint), transformer, tokenizer, checkpoint)


def _weights_in(
    content: Mapping[str, Any], transformer: Transformer, tokenizer: Tokenizer, checkpoint: Path
) -> ReleasedWeights:
    """Do the same with a checkpoint that has been read."""
    tensors = tensors_in(content, "model", checkpoint, "a released model")
    state = transformer_tensors(tensors, tokenizer, checkpoint)
    check_state(transformer, state, str(checkpoint))
    epoch = content.get("epoch")
    return ReleasedWeights(
        state=state,
        parameters=transformer.num_parameters(),
        epoch=epoch if isinstance(epoch, int) else None,
    )


def _classes_in(content: Mapping[str, Any], checkpoint: Path) -> int:
    """Return how many classes a released model knows: one fewer than it has embeddings of."""
    tensors = tensors_in(content, "model", checkpoint, "a released model")
    if CLASSES not in tensors or tensors[CLASSES].dim() != 2:
        raise UserError(f"{checkpoint}: no {CLASSES} of two dimensions; is it a released model?")
    return len(tensors[CLASSES]) - 1


def transformer_tensors(
    tensors: Mapping[str, Tensor], tokenizer: Tokenizer, source: Path
) -> dict[str, Tensor]:
    """Rename a released model's tensors; its copy of the autoencoder must be the given one."""
    _check_codebook(tensors.get(AUTOENCODER_PREFIX + CODEBOOK), tokenizer, source)
    own = {k: x for k, x in tensors.items() if not k.startswith(AUTOENCODER_PREFIX)}
    renamed = {rename(name): x for name, x in in_float32(own, str(source)).items()}
    rows = renamed.get("rotary.phases")
    # Of another shape, it keeps that, for whoever refuses it.
    if rows is not None and rows.dim() == 2 and rows.shape[1] % 2 == 0:
        renamed["rotary.phases"] = rows.reshape(len(rows), -1, 2)
    return {"codebook_VC": tokenizer.codebook, **renamed}


def _check_codebook(codebook: Tensor | None, tokenizer: Tokenizer, source: Path) -> None:
    """Raise UserError unless a released model's codebook is the tokenizer's."""
    if codebook is None:
        raise UserError(
            f"{source}: no {AUTOENCODER_PREFIX}{CODEBOOK}, the codebook of its training"
        )
    same = codebook.shape == tokenizer.codebook.shape and torch.allclose(
        normalize(codebook.float(), dim=-1), tokenizer.codebook, atol=_tolerance(codebook.dtype)
    )
    if not same:
        raise UserError(f"{source}: trained with another codebook than the tokenizer's")


def _tolerance(kind: torch.dtype) -> float:
    """Return how far equal codes of length one may be apart once one was written in this type."""
    return max(1e-6, torch.finfo(kind).eps) if kind.is_floating_point else 0.0


@dataclass(frozen=True, kw_only=True)
class ReleasedConfig:
    """A released config.yaml: its `model` section. Every property raises UserError for its key."""

    path: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ReleasedConfig":
        """Read the file, or raise UserError."""
        return cls(path=path, config=read_config(path))

    @property
    def _model(self) -> Mapping[str, Any]:
        """The file's section `model`."""
        section: Mapping[str, Any] = self.config["model"]
        return section

    def _at(self, kind: type[T], *keys: str, default: T | None = None) -> T:
        """Return what stands under these keys of `model`."""
        return value_at(self.config, kind, self.path, "model", *keys, default=default)

    @property
    def image_size(self) -> int:
        """Pixels per side."""
        size = self._at(int, "img_size")
        if not 1 <= size <= _LARGEST_IMAGE:
            raise UserError(f"{self.path}: model.img_size = {size}: expected 1 to {_LARGEST_IMAGE}")
        return size

    @property
    def num_classes(self) -> int | None:
        """Classes, without the null class, if the file says so; the published ones do not."""
        if self._model.get("num_classes") is None:
            return None
        classes = self._at(int, "num_classes")
        if classes < 1:
            raise UserError(f"{self.path}: model.num_classes = {classes}: expected at least 1")
        return classes

    @property
    def autoencoder_checkpoint(self) -> Path:
        """Path of the autoencoder's weights."""
        return self._find(self._at(str, "autoenc", "checkpoint_path"))

    @property
    def autoencoder_config(self) -> Path:
        """Path of the autoencoder's own configuration."""
        return self._find(self._at(str, "autoenc", "config_path"))

    def _find(self, named: str) -> Path:
        """Return a file that the config names: inside its folder or, as in the release, beside."""
        folder = self.path.parent
        ends = (Path(named), Path(*Path(named).parts[-2:]))
        places = [base / end for end in ends for base in (folder, folder.parent)]
        return next((place for place in places if place.is_file()), places[0])

    def settings(self) -> Model:
        """Return the transformer's architecture; what the file leaves out is as in the release.

        Raises UserError for an architecture that is not built here.
        """
        single = self._at(bool, "single_scale", default=False)
        width = self._at(int, "llama_config", "hidden_size")
        layers = self._at(int, "llama_config", "num_hidden_layers")
        hidden = self._at(int, "llama_config", "intermediate_size")
        every = self._model.get("num_mixing_layers", 2) in (None, "all")
        settings = {
            "scale_ratio": "single" if single else self._at(float, "scale_ratio", default=2.0),
            "min_size": self._at(int, "scale_min_size", default=1),
            "width": width,
            "layers": layers,
            "heads": self._at(int, "llama_config", "num_attention_heads"),
            "hidden": -(-hidden // HIDDEN_MULTIPLE) * HIDDEN_MULTIPLE,
            "mixing_layers": layers if every else self._at(int, "num_mixing_layers", default=2),
            "head_mlp": self._at(bool, "use_head_mlp", default=True),
        }
        self._check_built()
        return convert(settings, Model, f"{self.path}: model")

    def _check_built(self) -> None:
        """Refuse what the released code has and this package has not."""
        if not self._at(bool, "class_cond", default=False):
            raise UserError(
                f"{self.path}: model.class_cond is not true: a model without class token and "
                f"adaptive norms is not built here; take one that is conditioned on classes"
            )
        epsilon = self._at(float, "llama_config", "rms_norm_eps", default=NORM_EPSILON)
        if epsilon != NORM_EPSILON:
            raise UserError(
                f"{self.path}: model.llama_config.rms_norm_eps = {epsilon:g}: it is fixed at "
                f"{NORM_EPSILON:g} here"
            )

    def transformer(self, tokenizer: Tokenizer, num_classes: int) -> Transformer:
        """Return a transformer of this architecture, with fresh weights.

        num_classes: those of the weights that it will take, where the file does not say.
        """
        settings = self.settings()
        if self.image_size % tokenizer.stride:
            raise UserError(
                f"{self.path}: model.img_size = {self.image_size}: expected a multiple of the "
                f"autoencoder's stride {tokenizer.stride}"
            )
        sizes = settings.sizes(self.image_size // tokenizer.stride)
        classes = num_classes if self.num_classes is None else self.num_classes
        return Transformer(settings, sizes, classes, tokenizer.codebook)

    def differences(self, preset: Preset, name: str) -> list[str]:
        """Say in what this is another model than a preset's: `width 64 for 1024`."""
        found, wanted = self.settings(), preset.models[name].model
        # How weights began says nothing of weights that were trained.
        names = [field for field in Model.__struct_fields__ if field != "init"]
        pairs: dict[str, tuple[Any, Any]] = {
            field: (getattr(found, field), getattr(wanted, field)) for field in names
        }
        pairs["image_size"] = (self.image_size, preset.data.image_size)
        if self.num_classes is not None:
            pairs["num_classes"] = (self.num_classes, preset.data.num_classes)
        return [f"{field} {a} for {b}" for field, (a, b) in pairs.items() if a != b]
