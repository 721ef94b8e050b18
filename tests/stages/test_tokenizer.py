"""The stage `tokenizer` for LlamaGen's file and for the released one."""

from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcb.config import Autoencoder, Preset
from pcb.config.loader import convert, load_params, merge, parse_preset, plain
from pcb.data import images
from pcb.errors import UserError
from pcb.metrics.features import Extractor, Layers
from pcb.pipeline.job import entry_of
from pcb.pipeline.manifest import Manifest
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.report.build import write_report
from pcb.report.evidence import Evidence
from pcb.report.tables import scales_table
from pcb.stages import tokenizer as stage
from pcb.stages.tokenizer import run
from pcb.tokenizer.load import TOKENIZER_FILE, load_tokenizer
from pcb.train import latents
from pcb.train.loop import Loop
from tests.llamagen import write_llamagen
from tests.models import TINY_AUTOENCODER
from tests.recorded import REFERENCE
from tests.tasks import ROOT

RELEASED = REFERENCE / "tiny-2x"
SMALL = {**plain(TINY_AUTOENCODER), "codebook_size": 64}
TINY = {
    "channels": 32,
    "channel_multipliers": [1, 1, 1],
    "residual_blocks": 1,
    "latent_channels": 32,
    "codebook_size": 64,
    "norm_groups": 32,
}


def pipeline(tokenizer: dict, own: dict[str, Path]) -> Pipeline:
    """The tasks of the smoke preset with another tokenizer and files of one's own."""
    params = load_params(ROOT / "params.yaml")
    params["files"] = {"own": {name: str(path) for name, path in own.items()}}
    change = {
        "data": {"renderings": 1, "reference_images": 40},
        "likelihood": {"images": 40},
        "tokenizer": {"training": None, **tokenizer},
        "metrics": {"kid_subset_size": 20},
    }
    params["presets"]["mini"] = merge(params["presets"]["mini"], change)
    return Pipeline("mini", parse_preset(params, "mini"))


def release(**autoencoder: object) -> Pipeline:
    own = {
        "autoenc": RELEASED / "autoenc" / "checkpoint.pth",
        "autoenc-config": RELEASED / "autoenc" / "autoencoder_config.yaml",
    }
    return pipeline({"source": "released", "autoencoder": {**TINY, **autoencoder}}, own)


def test_the_released_tokenizer_is_taken_as_it_is(folder: Path):
    tasks = release()
    task = tasks.task("tokenizer")
    assert task.inputs == ()
    manifest = run_task(task, tasks.preset, run)
    assert list(manifest.files) == [TOKENIZER_FILE]
    assert manifest.results["codes"] == 64
    assert len(manifest.results["sha256"]) == 64
    tokenizer = load_tokenizer(task.artifact, tasks.preset.tokenizer.autoencoder)
    expected = np.load(RELEASED / "expected.npz")
    codes = tokenizer.codes(torch.tensor(expected["image"]), [8])
    np.testing.assert_array_equal(codes[8], expected["codes_8"])


def test_settings_must_be_those_of_the_released_file(folder: Path):
    tasks = release(codebook_size=128)
    with pytest.raises(UserError, match=r"codebook_size is 64, but tokenizer\.autoencoder\.code"):
        run_task(tasks.task("tokenizer"), tasks.preset, run)
    assert not list(tasks.task("tokenizer").artifact.glob("*.safetensors"))


def test_weights_of_the_released_form_are_not_lost(folder: Path):
    tasks = release()
    run_task(tasks.task("tokenizer"), tasks.preset, run)
    written = load_file(tasks.task("tokenizer").artifact / TOKENIZER_FILE)
    source = torch.load(RELEASED / "autoenc" / "checkpoint.pth", weights_only=True)["state_dict"]
    for name in ("encoder.conv_in.weight", "post_quant_conv.bias"):
        assert torch.equal(written[name], source[name])


@pytest.fixture(scope="module")
def vq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of LlamaGen's form, of a small architecture."""
    settings = convert(SMALL, Autoencoder, "autoencoder")
    return write_llamagen(tmp_path_factory.mktemp("llamagen") / "vq.pt", settings)


def requantize(
    vq: Path, own: Mapping[str, Path] = MappingProxyType({}), **settings: object
) -> Pipeline:
    base = {
        "iterations": 50,
        "batch_size": 8,
        "learning_rate": 0.01,
        "scales": [1, 2, 4],
        "start_batches": 5,
        "revive_after": 10,
        "measured_images": 30,
    }
    tokenizer = {
        "source": "requantize",
        "autoencoder": SMALL,
        "requantization": {**base, **settings},
    }
    return pipeline(tokenizer, {"llamagen": vq, **own})


def make(tasks: Pipeline) -> Manifest:
    for name in ("data", "tokenizer"):
        manifest = run_task(tasks.task(name), tasks.preset, entry_of(name))
    return manifest


@pytest.fixture(scope="module")
def requantized(vq: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A folder in which the tokenizer was requantized on digits, and the tokenizer's manifest."""
    here = tmp_path_factory.mktemp("requantized")
    with chdir(here):
        manifest = make(requantize(vq))
    return here, manifest


def test_only_the_codebook_is_new(requantized: tuple[Path, Manifest], vq: Path):
    here, _ = requantized
    tasks = requantize(vq)
    written = load_file(here / tasks.task("tokenizer").artifact / TOKENIZER_FILE)
    source = torch.load(vq, weights_only=True)["model"]
    assert written["codebook"].shape == (64, 8)
    torch.testing.assert_close(written.pop("codebook").norm(dim=1), torch.ones(64))
    for name, tensor in written.items():
        assert torch.equal(tensor, source[name]), name
    load_tokenizer(here / tasks.task("tokenizer").artifact, tasks.preset.tokenizer.autoencoder)


def test_both_codebooks_are_measured_scale_by_scale(requantized: tuple[Path, Manifest]):
    _, manifest = requantized
    facts = manifest.results
    assert (facts["measured_on"], facts["measured_images"]) == ("held-out images", 30)
    sizes = {"1", "2", "3", "4", "8"}
    for name in ("psnr", "codebook_usage", "perplexity"):
        assert facts[name].keys() == facts[f"{name}_before"].keys() == sizes
    # Images of 4 and 8 pixels are smaller than the window.
    assert facts["ssim"].keys() == facts["ssim_before"].keys() == {"3", "4", "8"}
    assert max(facts["codebook_usage_before"].values()) <= 30 * 64 / 16384
    assert facts["perplexity"]["8"] <= 64
    table = scales_table(facts)
    assert table.header[:3] == ("scale", "psnr before", "psnr after")
    assert len(table.rows) == 5 and table.caption.startswith("The tokenizer on held-out images")


@pytest.mark.usefixtures("svg_alone")
def test_the_report_shows_both_codebooks(
    requantized: tuple[Path, Manifest], vq: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    here, _ = requantized
    monkeypatch.chdir(here)
    write_report(Evidence.of(requantize(vq)), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "new codes" in page and "codebook usage before" in page
    assert "Squared distance to the code and perplexity" in page


@pytest.mark.parametrize("cached", [None, 300])
def test_killed_in_the_middle_it_ends_with_the_same_files(
    requantized: tuple[Path, Manifest], vq: Path, folder: Path, monkeypatch, cached: int | None
):
    tasks = requantize(vq, cached_images=cached)
    unbroken = requantized[1]
    if cached:
        (folder / "unbroken").mkdir()
        with chdir(folder / "unbroken"):
            unbroken = make(tasks)
            assert not list(tasks.task("tokenizer").artifact.glob(".latents"))
    step, save = Loop.step, latents.save_array

    def kill_step(loop: Loop, batch: torch.Tensor) -> None:
        if loop.iteration == 30:
            raise KeyboardInterrupt
        step(loop, batch)
        loop.save()

    def kill_save(path: Path, array: np.ndarray) -> None:
        if path.name == "00001.npy":
            raise KeyboardInterrupt
        save(path, array)

    kills = [(Loop, "step", kill_step)]
    if cached:
        kills.insert(0, (latents, "save_array", kill_save))
    for place, name, kill in kills:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(place, name, kill)
            make(tasks)
    assert make(tasks).content == unbroken.content


def test_without_held_out_images_training_images_are_measured(
    vq: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    tasks = requantize(vq, iterations=1, start_batches=1, measured_images=5)
    opened = images.open_images

    def open_images(path: Path, preset: Preset, split: images.Split) -> images.Images:
        found = opened(path, preset, split)
        if split == "held_out":
            found = images.ArrayImages(found.pixels[:0], found.labels[:0])
        return found

    monkeypatch.setattr(stage, "open_images", open_images)
    facts = make(tasks).results
    assert (facts["measured_on"], facts["measured_images"]) == ("training images", 5)


def test_rfid_needs_inceptions_weights_before_anything_is_trained(vq: Path, folder: Path):
    tasks = requantize(vq, rfid=True)
    with pytest.raises(UserError, match="pcb fetch inception"):
        make(tasks)
    assert not list(tasks.task("tokenizer").artifact.glob(".checkpoint*"))


def test_rfid_is_measured_of_both_codebooks(
    vq: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def load_inception(path: Path, device: torch.device) -> Extractor:
        return lambda pixels: Layers(pixels.float().mean((2, 3)), pixels.float())

    (folder / "weights.pth").touch()
    monkeypatch.setattr(stage, "load_inception", load_inception)
    tasks = requantize(vq, {"inception": folder / "weights.pth"}, iterations=1, rfid=True)
    facts = make(tasks).results
    assert facts["rfid"].keys() == facts["rfid_before"].keys() == {"1", "2", "3", "4", "8"}
    assert "rfid after" in scales_table(facts).header


def test_the_file_must_be_there(folder: Path, vq: Path):
    tasks = requantize(folder / "gone.pt")
    with pytest.raises(UserError, match=r"files\.own\.llamagen = .*gone\.pt: no such file"):
        make(tasks)
