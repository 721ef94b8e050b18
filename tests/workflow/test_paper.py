"""Every stage of the paper's presets on a handful of images: real files, random weights."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pcb.config import Autoencoder
from pcb.config.loader import load_params
from tests.external.test_released import TINY
from tests.imagenet import odd_file, write_tree, write_validation
from tests.inception import random_images, write_adm_reference, write_inception
from tests.llamagen import write_llamagen
from tests.recorded import REFERENCE
from tests.tasks import ROOT
from tests.workflow.snakemake import NOTHING, copy_project, snakemake

pytestmark = pytest.mark.workflow

IMAGES = 8
PRETRAINED: dict[str, Any] = {
    "extends": "paper-pretrained",
    **{key: TINY[key] for key in ("data", "tokenizer", "model")},
    "models": {"checkerboard-l-4x": None},
    "sampling": {"images": IMAGES, "shard_images": 4, "precision": "float32"},
    "sweep": [{"models": ["checkerboard-l-2x"], "blocks": [4], "cfg": [1.5]}],
    "metrics": {
        "splits": 2,
        "reference_images": IMAGES,
        "kid_subsets": 2,
        "kid_subset_size": 4,
        "bootstrap": 2,
    },
}
"""The preset `paper-pretrained` with the small weights of tests/reference."""


SLIM = {"channels": 32, "latent_channels": 64}
"""LlamaGen's architecture at a quarter of its width: one of full width decodes for minutes."""


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return files for ADM's protocol, of the outside ones' form."""
    folder = tmp_path_factory.mktemp("outside")
    return {
        "inception": str(write_inception(folder / "inception.pth")),
        "adm-reference": str(write_adm_reference(folder / "adm.npz", random_images(IMAGES, 64))),
    }


def project_with(folder: Path, files: dict[str, Any]) -> Path:
    """Copy the project, with these facts of the machine."""
    project = copy_project(folder / "project")
    (project / "params.local.yaml").write_text(yaml.safe_dump({"files": files}))
    return project


def facts_of(project: Path, preset: str, task: str) -> dict[str, Any]:
    manifest = project / "results" / "manifests" / preset / f"{task}.json"
    facts: dict[str, Any] = json.loads(manifest.read_text())["results"]
    return facts


def test_everything_from_images_to_the_report(tmp_path: Path, measuring: dict[str, str]) -> None:
    """The paper's width and image size, LlamaGen's architecture but for its width, all stages."""
    # Few images: each is ten crops at five scales. What is odd about files has tests of its own.
    tree = write_tree(tmp_path / "train", per_class=1, oddities=False)
    broken = Path(tree.images[-1]).with_name("broken.JPEG")
    (tmp_path / "train" / broken).write_bytes(odd_file("truncated"))
    write_validation(tmp_path / "validation", per_class=1, layout="devkit")
    files = {
        "imagenet": str(tmp_path / "train"),
        "imagenet_validation": str(tmp_path / "validation"),
        "own": {
            **measuring,
            "llamagen": str(write_llamagen(tmp_path / "vq.pt", Autoencoder(**SLIM))),
        },
    }
    project = project_with(tmp_path, files)
    params = load_params(ROOT / "params.yaml")
    params["presets"]["paper-smoke"]["tokenizer"]["autoencoder"] = SLIM
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    snakemake(project, preset="paper-smoke")
    data = facts_of(project, "paper-smoke", "data/all")
    assert (data["train_images"], data["refused"]) == (len(tree.images), 1)
    assert facts_of(project, "paper-smoke", "tokens/all")["sizes"] == [1, 2, 4, 8, 16]
    rows = pd.read_csv(project / "reports" / "paper-smoke" / "metrics.csv")
    assert list(rows["steps"]) == [17, 17, 17] and (rows["images"] == 4).all()
    assert rows[["fid", "sfid", "is", "precision", "recall", "kid"]].notna().all(axis=None)
    page = (project / "reports" / "paper-smoke" / "index.html").read_text()
    assert "no number of it can be compared with a published one" in page
    assert str(tmp_path) not in page, "the page shows paths of this machine"
    assert NOTHING in snakemake(project, preset="paper-smoke")


def test_a_headline_row_with_released_weights(tmp_path: Path, measuring: dict[str, str]) -> None:
    released = REFERENCE / "tiny-2x"
    own = {
        "checkerboard-L-2x": str(released / "checkpoint-last.pth"),
        "checkerboard-L-2x-config": str(released / "config.yaml"),
        "autoenc": str(released / "autoenc" / "checkpoint.pth"),
        "autoenc-config": str(released / "autoenc" / "autoencoder_config.yaml"),
    }
    project = project_with(tmp_path, {"own": {**measuring, **own}})
    params = load_params(ROOT / "params.yaml")
    params["presets"]["pretrained-tiny"] = PRETRAINED
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    snakemake(project, preset="pretrained-tiny")
    rows = pd.read_csv(project / "reports" / "pretrained-tiny" / "metrics.csv")
    assert list(rows["cfg"]) == [1.5] and rows["fid"].notna().all()
    made = {path.name for path in (project / "results" / "manifests" / "pretrained-tiny").iterdir()}
    assert not made & {"data", "tokens"}
    assert NOTHING in snakemake(project, preset="pretrained-tiny")
