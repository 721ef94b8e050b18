"""The real thing: every stage of `smoke` through Snakemake, once, and what follows from it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pcb.config.loader import load_preset
from pcb.config.stages import STAGES
from pcb.pipeline.manifest import COMPLETE, result_files
from pcb.runtime.device import DTYPES
from pcb.stages.metrics import decoded, finest
from pcb.tokenizer.load import load_tokenizer
from tests.clock import cpu_seconds
from tests.tasks import pipeline_of
from tests.workflow.snakemake import NOTHING, PROFILE, copy_project, failure, planned, snakemake

pytestmark = pytest.mark.workflow


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished project."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


@pytest.fixture
def clone(finished: Path, tmp_path: Path) -> Path:
    """Return what a git clone of the finished project is: no data, no books, arbitrary times."""
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns("artifacts", ".pcb", ".snakemake", "logs", "__pycache__")
    shutil.copytree(finished, clone, ignore=ignored)
    generator = random.Random(0)
    for path in [*clone.glob("results/**/*"), *clone.glob("reports/**/*")]:
        os.utime(path, (generator.randrange(2**31),) * 2)
    return clone


def contents(project: Path) -> dict[str, str]:
    """Return every task's content hash."""
    manifests = sorted((project / "results" / "manifests").rglob("*.json"))
    return {
        str(path.relative_to(project)): json.loads(path.read_text())["content"]
        for path in manifests
    }


def test_every_stage_leaves_a_manifest_a_log_and_its_progress(finished: Path) -> None:
    for task in pipeline_of():
        assert (finished / task.manifest).exists()
        assert (finished / task.artifact / COMPLETE).exists()
        log = finished / "logs" / "smoke" / task.stage / f"{task.variant}.log"
        assert f"{task.name}: making" in log.read_text()
    out = (finished / "output.txt").read_text()
    assert re.search(r"^train/ratio2: \d+ \w+ in \d+:\d\d  [\d.]+/s", out, flags=re.MULTILINE)
    for page in STAGES["report"].pages:
        assert (finished / "reports" / "smoke" / page).stat().st_size


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_decoding_in_16_bits_moves_pixels_by_less_than_a_gray_level(
    finished: Path, precision: str
) -> None:
    """On average, with the trained decoder, for codes that a trained model has sampled."""
    preset = load_preset("smoke")
    pipeline = pipeline_of()
    sample = finished / pipeline.task("sample", "ratio2/t17").artifact
    codes = finest(np.load(sample / "codes-00000.npy"), preset.grid)
    exact, rounded = (
        load_tokenizer(finished / pipeline.task("tokenizer").artifact, preset.tokenizer.autoencoder)
        for _ in range(2)
    )
    rounded.round_decoder_to(DTYPES[precision])
    with torch.inference_mode():
        (pixels,), (moved,) = (decoded(one, codes, len(codes)) for one in (exact, rounded))
    assert 0 < float((pixels.int() - moved.int()).abs().double().mean()) < 1


def test_nothing_temporary_is_left(finished: Path) -> None:
    for folder in ("results", "reports"):
        left = [p for p in (finished / folder).rglob("*") if p.name.startswith(".")]
        assert left == []


def test_second_run_has_nothing_to_do(project: Path) -> None:
    before = cpu_seconds()
    assert NOTHING in snakemake(project)
    assert cpu_seconds() - before < 15


def test_clone_has_nothing_to_do(clone: Path) -> None:
    assert NOTHING in snakemake(clone)


def test_learning_rate_in_a_clone_plans_that_model_and_the_report(clone: Path) -> None:
    params = clone / "params.yaml"
    old = "ratio4: {model: {scale_ratio: 4}}"
    new = "ratio4: {model: {scale_ratio: 4}, training: {learning_rate: 1.0e-3}}"
    params.write_text(params.read_text().replace(old, new))
    of_ratio4 = {task.name for task in pipeline_of() if task.variant.startswith("ratio4")}
    assert planned(clone) == {*of_ratio4, "report"}


def test_report_can_be_made_again(project: Path, finished: Path) -> None:
    (project / "reports" / "smoke" / "index.html").unlink()
    assert planned(project) == {"report"}
    snakemake(project)
    assert contents(project) == contents(finished)


def test_scheduler_sleeps_while_a_job_runs_and_another_waits(project: Path) -> None:
    tasks = [pipeline_of().task("likelihood", f"{model}/t17") for model in ("ratio2", "ratio4")]
    for task in tasks:
        (project / task.manifest).unlink()
        shutil.rmtree(project / task.artifact)
    targets = (str(task.manifest) for task in tasks)
    out = snakemake(project, "--cores", "1", "--verbose", *targets)
    # One pass for each job, where there would be one a second.
    assert out.count("Selected jobs: ") == len(tasks)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_killed_run_goes_on_with_the_same_command_and_ends_the_same(
    finished: Path, tmp_path: Path
) -> None:
    project = copy_project(tmp_path)
    target = str(pipeline_of().task("tokenizer").manifest)
    work = project / pipeline_of().task("tokenizer").artifact / ".work.json"
    command = [sys.executable, "-m", "snakemake", *PROFILE, target]
    environment = {**os.environ, "PCB_PRESET": "smoke"}
    head = subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(work.exists)
    assert f"process {head.pid} is running the workflow" in failure(project, target)
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    snakemake(project, target)
    for stage in ("data", "tokenizer"):
        folder = pipeline_of().task(stage).artifact
        names = result_files(finished / folder)
        assert names == result_files(project / folder)
        for name in names:
            assert (project / folder / name).read_bytes() == (finished / folder / name).read_bytes()
