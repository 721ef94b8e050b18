"""Preset `table1-smoke`: all seven systems beside the paper's own model, every stage in one go."""

import csv
import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch

import pcb
from pcb.config.loader import load_params, parse_preset
from pcb.generate.options import Options
from pcb.pipeline.job import ShardGroup, entry_of
from pcb.pipeline.manifest import COMPLETE
from pcb.pipeline.run import run_shards, run_task
from pcb.pipeline.tasks import Pipeline
from pcb.report import build
from pcb.systems.running import classes_of, images_of
from tests.tasks import ROOT

SYSTEMS = ("llamagen-l", "par-l-4x", "randar-l", "nar-l", "arpg-l", "lpd-l", "var-d16")
STEPS = (144, 39, 12, 15, 12, 12, 4)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline("table1-smoke", parse_preset(load_params(ROOT / "params.yaml"), "table1-smoke"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline) -> Path:
    """Return a folder where everything of the preset was made."""
    folder = tmp_path_factory.mktemp("table1")
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "KINDS", ("svg",))
        for task in pipeline:
            run_task(task, pipeline.preset, entry_of(task.stage))
    return folder


def codes(folder: Path, pipeline: Pipeline, model: str) -> np.ndarray:
    sample = folder / pipeline.task("sample", f"{model}/toy").artifact
    return np.concatenate([np.load(path) for path in sorted(sample.glob("codes-*.npy"))])


def test_every_stage_to_the_report(made: Path, pipeline: Pipeline) -> None:
    assert all((made / task.artifact / COMPLETE).exists() for task in pipeline)
    for model, steps in zip(SYSTEMS, STEPS, strict=True):
        task = pipeline.task("sample", f"{model}/toy")
        facts = json.loads((made / task.manifest).read_text())["results"]
        assert (facts["images"], facts["steps"]) == (40, steps)
        with (made / task.artifact / "stats.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = codes(made, pipeline, model)
        assert len(rows) == steps and sum(int(row["tokens"]) for row in rows) == found.shape[1]
        sides = pipeline.preset.systems[model].described.sides
        assert found.shape == (40, sum(n * n for n in sides))
        scores = json.loads((made / pipeline.task("metrics", task.variant).manifest).read_text())[
            "results"
        ]
        assert np.isfinite(scores["fid"])
    table = (made / "reports/table1-smoke/tables/table1.md").read_text()
    lines = [line for line in table.splitlines() if "random weights, not comparable" in line]
    assert len(lines) == 7


@pytest.mark.parametrize("model", ["llamagen-l", "randar-l", "lpd-l", "var-d16"])
def test_an_image_is_the_same_in_other_batches_and_processes(
    made: Path, pipeline: Pipeline, model: str
) -> None:
    """Lost shards are sampled again by two processes' shares, in batches of another size."""
    task, before = pipeline.task("sample", f"{model}/toy"), codes(made, pipeline, model)
    params = load_params(ROOT / "params.yaml")
    params["presets"]["table1-smoke"]["compute"] = {"sampling_batch": 7}
    preset = parse_preset(params, "table1-smoke")
    with chdir(made):
        (task.artifact / COMPLETE).unlink()
        for path in task.artifact.glob("*.npy"):
            path.unlink()
        for k in range(2):
            run_shards(task, preset, entry_of("sample"), ShardGroup(k, 2))
        run_task(task, preset, entry_of("sample"))
    np.testing.assert_array_equal(codes(made, pipeline, model), before)


def test_a_systems_images_are_decoded_its_own_way(made: Path, pipeline: Pipeline) -> None:
    for model in SYSTEMS:
        run, folder = pipeline.preset.systems[model], made / pipeline.task("train", model).artifact
        found = {}
        for rounding in ("cut", "nearest", "published"):
            ways = type(run.ways)(rounding=rounding)
            decode = images_of(
                type(run)(**{**{f: getattr(run, f) for f in run.__struct_fields__}, "ways": ways}),
                folder,
                side=32,
                device=torch.device("cpu"),
                precision=torch.float32,
            )
            (pixels,) = decode(codes(made, pipeline, model)[:3], 8)
            found[rounding] = pixels.int()
        assert found["cut"].shape == (3, 3, 32, 32)
        published = run.published.ways.rounding
        assert published == ("nearest" if model == "lpd-l" else "cut")
        assert torch.equal(found["published"], found[published])
        # Two ways to write nearly the same: they differ at ties alone.
        apart = (found["cut"] - found["nearest"]).abs()
        assert apart.max() <= 1 and apart.double().mean() < 0.01


def test_classes_that_are_drawn_belong_to_the_image() -> None:
    images = np.arange(5000)
    drawn = classes_of("drawn", 10, 3)
    found = drawn(images)
    np.testing.assert_array_equal(drawn(images[70:90]), found[70:90])
    counts = np.bincount(found, minlength=10)
    assert len(counts) == 10 and 400 < counts.min() < counts.max() < 600
    assert (classes_of("drawn", 10, 4)(images) != found).mean() > 0.8
    np.testing.assert_array_equal(classes_of("balanced", 10, 3)(images), images % 10)


@pytest.mark.parametrize("model", ["llamagen-l", "randar-l", "lpd-l", "var-d16"])
def test_the_library_makes_the_images_of_the_sample_set(
    made: Path, pipeline: Pipeline, model: str
) -> None:
    """Codes to the bit, with the published guidance, from the folder and from the project."""
    expected = codes(made, pipeline, model)[[3, 13]]
    folder = made / pipeline.task("train", model).artifact
    system = pcb.load(folder, device="cpu")
    steps = None if model in ("llamagen-l", "var-d16") else 12
    found = system.codes([3, 3], Options(steps=steps))
    assert np.array_equal(found, expected)
    assert system.decode(found).shape[-1] == 3
