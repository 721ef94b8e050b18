"""The stage `reference` from ADM's file, and samples that are scored against it."""

import hashlib
from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pcb.metrics.parts as parts
import pcb.stages.reference as stage
from pcb.config import Files, Metrics
from pcb.config.loader import load_preset
from pcb.errors import UserError
from pcb.metrics.extractor import INCEPTION_WEIGHTS, load_extractor
from pcb.metrics.target import load_target
from pcb.pipeline.job import Job
from pcb.pipeline.manifest import result_files
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.stages.metrics import decoded, finest, run
from pcb.stages.reference import run as build
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer
from tests.inception import LOGITS, POOL, SPATIAL, random_images, write_adm_reference
from tests.tasks import ROOT

CPU = torch.device("cpu")
COUNT = 4
METRICS = Metrics(
    extractor="inception",
    reference_images=COUNT,
    splits=2,
    kid_subsets=2,
    kid_subset_size=COUNT,
    bootstrap=2,
)


@pytest.fixture(scope="module")
def own(inception, tmp_path_factory):
    """Files of one's own in place of those that `pcb fetch` gets."""
    path = tmp_path_factory.mktemp("own") / "reference.npz"
    write_adm_reference(path, random_images(COUNT, size=32))
    return {"inception": str(inception), "adm-reference": str(path)}


def make_job(own, stage, folder, inputs, **changes):
    preset, replace = load_preset("smoke", ROOT / "params.yaml"), msgspec.structs.replace
    preset = replace(
        preset,
        classifier=None,
        metrics=replace(METRICS, **changes),
        sampling=replace(preset.sampling, images=COUNT),
        compute=replace(preset.compute, device="cpu", feature_batch=3),
        files=Files(own=own),
    )
    variant = "all" if stage == "reference" else "ratio2/t17"
    folder.mkdir(exist_ok=True)
    return Job(
        task=Pipeline("smoke", preset).task(stage, variant),
        preset=preset,
        folder=folder,
        inputs=inputs,
        progress=partial(Progress, stage),
    )


@pytest.fixture(scope="module")
def built(own, tmp_path_factory):
    folder, monkeypatch = tmp_path_factory.mktemp("reference"), pytest.MonkeyPatch()
    monkeypatch.chdir(tmp_path_factory.mktemp("memory"))
    facts = build(make_job(own, "reference", folder, {}))
    monkeypatch.undo()
    return folder, facts


def test_it_keeps_stored_statistics_features_and_weights(own, built):
    folder, facts = built
    target = load_target(folder)
    with np.load(own["adm-reference"]) as file:
        np.testing.assert_array_equal(target.pool.mean, file["mu"])
        np.testing.assert_array_equal(target.pool.covariance, file["sigma"])
        np.testing.assert_array_equal(target.spatial.covariance, file["sigma_s"])
        pixels = torch.from_numpy(file["arr_0"].transpose(0, 3, 1, 2).copy())
    assert (len(target.pool.mean), len(target.spatial.mean)) == (POOL, SPATIAL)
    extractor = load_extractor("inception", folder, CPU)
    torch.testing.assert_close(target.features, extractor(pixels).pool)
    assert facts["reference_images"] == COUNT
    for name in ("inception", "adm-reference"):
        with open(own[name], "rb") as file:
            expected = hashlib.file_digest(file, "sha256").hexdigest()
        assert facts[f"{name.replace('-', '_')}_sha256"] == expected


def test_another_number_of_images_is_refused(own, folder):
    with pytest.raises(UserError, match="holds 4 images where metrics.reference_images = 5"):
        build(make_job(own, "reference", folder / "reference", {}, reference_images=5))


def test_an_interrupted_one_goes_on(own, built, folder, monkeypatch):
    """One batch a part; the second one is interrupted."""
    monkeypatch.setattr(parts, "PART_IMAGES", 1)
    job, seen = make_job(own, "reference", folder / "reference", {}), []

    def load(*arguments):
        extractor = load_extractor(*arguments)

        def extract(pixels):
            if seen == [3]:
                seen.append(None)
                raise KeyboardInterrupt
            seen.append(len(pixels))
            return extractor(pixels)

        return extract

    monkeypatch.setattr(stage, "load_extractor", load)
    with pytest.raises(KeyboardInterrupt):
        build(job)
    assert result_files(job.folder) == [INCEPTION_WEIGHTS]
    assert build(job) == built[1]
    assert seen == [3, None, 1]
    assert result_files(job.folder) == result_files(built[0])
    for name in result_files(job.folder):
        assert (job.folder / name).read_bytes() == (built[0] / name).read_bytes(), name


@pytest.mark.parametrize(
    ("drop", "message"),
    [("mu", "but not mu and sigma"), ("mu_s", "its statistics have .* is it ADM's")],
)
def test_a_file_without_statistics_is_refused(own, folder, drop, message):
    with np.load(own["adm-reference"]) as file:
        arrays = {name: file[name] for name in file.files if name != drop}
    np.savez(folder / "other.npz", **arrays)
    changed = {**own, "adm-reference": str(folder / "other.npz")}
    with pytest.raises(UserError, match=message):
        build(make_job(changed, "reference", folder / "reference", {}))


def test_samples_are_scored_against_it(own, built, folder):
    settings = load_preset("smoke", ROOT / "params.yaml").tokenizer.autoencoder
    torch.manual_seed(0)
    tokenizer = Tokenizer(settings).eval().requires_grad_(False)
    inputs = {name: folder / name for name in ("tokenizer", "sample")} | {"reference": built[0]}
    for name in ("tokenizer", "sample"):
        inputs[name].mkdir()
    save_file(tokenizer.state_dict(), inputs["tokenizer"] / TOKENIZER_FILE)
    codes = np.random.default_rng(0).integers(0, settings.codebook_size, (COUNT, 85))
    for shard, part in enumerate(np.split(codes.astype(np.uint16), 2)):
        np.save(inputs["sample"] / f"codes-{shard:05d}.npy", part)
    found = run(make_job(own, "metrics", folder / "metrics", inputs))
    assert found["images"] == COUNT
    assert {"fid", "fid_std", "sfid", "is", "precision", "recall", "kid"} < set(found)
    assert "agreement" not in found, "Inception's classes are not the model's"
    # sFID once more, from all images in one batch.
    (pixels,) = decoded(tokenizer, finest(codes, 8), COUNT)
    layers, target = load_extractor("inception", built[0], CPU)(pixels), load_target(built[0])
    assert layers.logits.shape == (COUNT, LOGITS)
    x = (layers.spatial - layers.spatial.mean(0)).double().numpy() / np.sqrt(COUNT - 1)
    shift = layers.spatial.double().numpy().mean(0) - target.spatial.mean
    # Of rank 3: the overlap's eigenvalues are those of x B x^T.
    overlap = np.sqrt(np.linalg.eigvalsh(x @ target.spatial.covariance @ x.T).clip(min=0)).sum()
    expected = shift @ shift + (x**2).sum() + np.trace(target.spatial.covariance) - 2 * overlap
    assert found["sfid"] == pytest.approx(expected, rel=1e-4)
