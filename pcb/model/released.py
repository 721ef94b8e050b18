"""The authors' released models: config.yaml, checkpoint-last.pth and autoenc/ (METHOD section 9).

Tensor names are facts of that layout; the tables here take them to this package's names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.model.transformer import Transformer
from pcb.params import convert
from pcb.settings import Model
from pcb.tokenizer.load import check_state
from pcb.tokenizer.released import (
    CODEBOOK,
    load_released_autoencoder,
    read_yaml,
    released_autoencoder_settings,
    tensors_of,
)
from pcb.tokenizer.vq import Tokenizer

# (pattern of a released name, name here). The autoencoder's own names are kept as they are.
TRANSFORMER_NAMES = (
    (r"empty_token_emb", "empty_code"),
    (r"empty_token_pos", "empty_position"),
    (r"class_embeddings\.weight", "class_embedding.weight"),
    (r"embed_positions\.weight", "position_embedding.weight"),
    (r"embed_codevecs_mlp\.net\.(\d+)\.(weight|bias)", r"code_mlp.\1.\2"),
    (r"src_latents_proj\.(weight|bias)", r"source_projection.\1"),
    (r"combine_inputs\.(weight|bias)", r"combine.\1"),
    (r"lm_head\.(weight|bias)", r"head.\1"),
    (r"head_mlp\.net\.(\d+)\.(weight|bias)", r"head_mlp.\1.\2"),
    (r"llama\.norm\.weight", "norm.weight"),
    (r"llama\.rotary_emb\.mixing_coeffs", "rotary.mixing"),
    (
        r"llama\.rotary_emb\.position_embeddings\.parametrizations\.weight\.original",
        "rotary.phases",
    ),
    (r"llama\.layers\.(\d+)\.attention\.wqkv\.weight", r"layers.\1.attention.qkv.weight"),
    (r"llama\.layers\.(\d+)\.attention\.wo\.weight", r"layers.\1.attention.out.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w1\.weight", r"layers.\1.mlp.gate.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w3\.weight", r"layers.\1.mlp.up.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w2\.weight", r"layers.\1.mlp.down.weight"),
    (r"llama\.layers\.(\d+)\.attention_norm\.weight", r"layers.\1.attention_norm.norm.weight"),
    (r"llama\.layers\.(\d+)\.ffn_norm\.weight", r"layers.\1.mlp_norm.norm.weight"),
    (
        r"llama\.layers\.(\d+)\.input_modulation\.adaLN_modulation\.1\.(weight|bias)",
        r"layers.\1.attention_norm.modulation.\2",
    ),
    (
        r"llama\.layers\.(\d+)\.post_attention_modulation\.adaLN_modulation\.1\.(weight|bias)",
        r"layers.\1.mlp_norm.modulation.\2",
    ),
)
AUTOENCODER_PREFIX = "autoenc."


@dataclass(frozen=True, kw_only=True)
class Released:
    """A model in the released layout, ready to run: weights on the CPU, float32, eval mode."""

    tokenizer: Tokenizer
    transformer: Transformer
    image_size: int


def load_released(folder: Path) -> Released:
    """Load a folder in the released layout, strictly.

    Raises UserError that names the file, and for weights that do not fit their tensors.
    """
    config = _Config.read(folder / "config.yaml")
    autoencoder = released_autoencoder_settings(config.autoencoder_yaml(folder))
    tokenizer = load_released_autoencoder(folder / config.autoencoder_checkpoint, autoencoder)
    settings = config.model_settings()
    sizes = settings.sizes(config.image_size // autoencoder.stride)
    source = folder / "checkpoint-last.pth"
    tensors = tensors_of(source, "model", "a released model")
    transformer = Transformer(settings, sizes, config.num_classes, tokenizer.codebook)
    state = transformer_tensors(tensors, tokenizer, source)
    check_state(transformer, state, str(source))
    transformer.load_state_dict(state)
    return Released(
        tokenizer=tokenizer,
        transformer=transformer.eval().requires_grad_(False),
        image_size=config.image_size,
    )


def transformer_tensors(
    tensors: Mapping[str, Tensor], tokenizer: Tokenizer, source: Path
) -> dict[str, Tensor]:
    """Rename a released model's tensors; its copy of the autoencoder must be the given one."""
    renamed = {"codebook_VC": tokenizer.codebook}
    for name, tensor in tensors.items():
        if name == AUTOENCODER_PREFIX + CODEBOOK:
            same = tensor.shape == tokenizer.codebook.shape and torch.allclose(
                torch.nn.functional.normalize(tensor, dim=-1), tokenizer.codebook, atol=1e-6
            )
            if not same:
                raise UserError(f"{source}: trained with another codebook than the folder's own")
        elif not name.startswith(AUTOENCODER_PREFIX):
            renamed[rename(name)] = tensor
    if "rotary.phases" in renamed:
        rows = renamed["rotary.phases"]
        renamed["rotary.phases"] = rows.view(len(rows), -1, 2)
    return renamed


def rename(released: str) -> str:
    """Return this package's name of a released tensor; an unknown name stays as it is."""
    for pattern, name in TRANSFORMER_NAMES:
        if re.fullmatch(pattern, released):
            return re.sub(pattern, name, released)
    return released


@dataclass(frozen=True)
class _Config:
    """A released config.yaml: its `model` section."""

    model: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "_Config":
        return cls(read_yaml(path)["model"])

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self.model["img_size"])

    @property
    def num_classes(self) -> int:
        """Classes, without "no class"; 0 for a model without conditions."""
        return int(self.model["num_classes"]) if self.model.get("class_cond", True) else 0

    @property
    def autoencoder_checkpoint(self) -> str:
        """Path of the autoencoder's weights, relative to the folder."""
        return str(self.model["autoenc"]["checkpoint_path"])

    def autoencoder_yaml(self, folder: Path) -> dict[str, Any]:
        """Return the autoencoder's own configuration."""
        return read_yaml(folder / str(self.model["autoenc"]["config_path"]))

    def model_settings(self) -> Model:
        """Return the transformer's architecture."""
        llama = self.model["llama_config"]
        single = self.model.get("single_scale", False)
        settings = {
            "scale_ratio": "single" if single else float(self.model.get("scale_ratio", 2)),
            "min_size": self.model.get("scale_min_size", 1),
            "width": llama["hidden_size"],
            "layers": llama["num_hidden_layers"],
            "heads": llama["num_attention_heads"],
            "hidden": llama["intermediate_size"],
            "mixing_layers": self.model.get("num_mixing_layers", 2),
            "head_mlp": self.model.get("use_head_mlp", False),
            "class_conditional": self.model.get("class_cond", True),
        }
        return convert(settings, Model, "released config")
