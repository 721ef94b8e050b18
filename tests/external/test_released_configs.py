"""Released configurations: what they leave out, spell otherwise, or ask for that is not built."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcb.config import Compute
from pcb.errors import UserError
from pcb.external.autoencoder import read_checkpoint
from pcb.external.parity import compare
from pcb.external.released import CHECKPOINT, CONFIG, ReleasedConfig, load_released
from pcb.train.batches import model_inputs
from pcb.train.model_loss import ModelLoss
from tests.recorded import REFERENCE
from tests.train.recorded import FOLDER, arrays_of, batch_of


def copied(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a recorded folder with other keys in its config's `model`; ... takes one away."""
    shutil.copytree(source, target / "model")
    path = target / "model" / CONFIG
    config = yaml.safe_load(path.read_text())
    model = config["model"]
    for key in ("checkpoint_path", "config_path"):
        model["autoenc"][key] = str((source / model["autoenc"][key]).resolve())
    for key, value in changes.items():
        place = model["llama_config"] if key in model["llama_config"] else model
        if value is ...:
            del place[key]
        else:
            place[key] = value
    path.write_text(yaml.safe_dump(config))
    return target / "model"


@pytest.mark.parametrize("source", ["class-row-2x", "tiny-3x"])
@pytest.mark.parametrize(
    "changes",
    [
        # As in the published files.
        {"num_classes": ..., "scale_min_size": ..., "single_scale": ...},
        # The first is two; the second is rounded up to 256.
        {"num_mixing_layers": ..., "intermediate_size": 129},
    ],
)
def test_equal_configurations_have_the_recorded_values(tmp_path, source, changes):
    folder = copied(REFERENCE / source, tmp_path, **changes)
    rows = compare(folder)
    assert len(rows) >= 20
    assert [row.quantity for row in rows if not row.passes] == []


@pytest.mark.parametrize("changes", [{"use_head_mlp": ...}, {"num_mixing_layers": "all"},
                                     {"num_mixing_layers": None}])  # fmt: skip
def test_a_head_mlp_and_mixing_in_every_layer_are_read_as_released(tmp_path, changes):
    """The recorded model has both; the loss shows that they are used."""
    source, name = FOLDER / "train-tiny-head-mlp", "step-replaced"
    folder = copied(source, tmp_path, **changes)
    model = load_released(folder).transformer
    assert model.head_mlp is not None
    assert model.settings.mixing_layers == len(model.layers) == 2
    arrays = arrays_of(f"train-tiny-head-mlp/{name}.npz")
    batch = batch_of(arrays)
    loss = ModelLoss(model, Compute())
    inputs, codes_BT = model_inputs(batch, model.codebook_VC)
    losses_T = loss(inputs, codes_BT, loss.mask(batch.sequence))
    assert float(losses_T.mean()) == pytest.approx(float(arrays["loss"]), abs=1e-6)


@pytest.mark.parametrize(("given", "layers"), [(None, 3), ("all", 3), (0, 0), (1, 1)])
def test_mixing_layers_of_a_config(tmp_path, given, layers):
    folder = copied(REFERENCE / "tiny-2x", tmp_path, num_mixing_layers=given)
    assert ReleasedConfig.read(folder / CONFIG).settings().mixing_layers == layers


@pytest.mark.parametrize(("given", "hidden"), [(1, 256), (256, 256), (257, 512), (3072, 3072)])
def test_the_hidden_width_is_rounded_up(tmp_path, given, hidden):
    folder = copied(REFERENCE / "tiny-2x", tmp_path, intermediate_size=given)
    assert ReleasedConfig.read(folder / CONFIG).settings().hidden == hidden


@pytest.mark.parametrize("changes", [{"class_cond": False}, {"class_cond": ...}])
def test_models_without_classes_are_refused_by_a_line(tmp_path, changes):
    folder = copied(REFERENCE / "tiny-2x", tmp_path, **changes)
    with pytest.raises(UserError, match=r"config\.yaml: model\.class_cond is not true") as caught:
        load_released(folder)
    assert "\n" not in str(caught.value)


def test_another_epsilon_of_the_norms_is_refused_by_a_line(tmp_path):
    folder = copied(REFERENCE / "tiny-2x", tmp_path)
    path = folder / CONFIG
    config = yaml.safe_load(path.read_text())
    config["model"]["llama_config"]["rms_norm_eps"] = 1e-5
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"rms_norm_eps = 1e-05: it is fixed at 1e-06"):
        load_released(folder)


def test_classes_that_neither_config_nor_weights_tell_are_refused(tmp_path):
    folder = copied(REFERENCE / "tiny-2x", tmp_path, num_classes=...)
    content = read_checkpoint(folder / CHECKPOINT)
    del content["model"]["class_embeddings.weight"]
    torch.save(content, folder / CHECKPOINT)
    with pytest.raises(UserError, match=r"checkpoint-last\.pth: no class_embeddings\.weight"):
        load_released(folder)
