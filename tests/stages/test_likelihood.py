"""The stage `likelihood`: which images, weights and schedules; shards; and what its keys say."""

import re
from functools import partial

import msgspec
import numpy as np
import pytest
import torch

import pcb.stages.likelihood as module
from pcb.config import Digits, ImageFolder, ImageNet, Photographs
from pcb.config.loader import load_params, load_preset, parse_preset
from pcb.config.paths import held_out_part
from pcb.data.arrays import save_array
from pcb.data.images import (
    REFERENCE_IMAGES,
    REFERENCE_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    ArrayImages,
    class_by_class,
)
from pcb.errors import UserError
from pcb.metrics.likelihood import negative_log_likelihood
from pcb.model.sequence import sequence_of
from pcb.model.weights import AVERAGE, WEIGHTS, build_model
from pcb.order.allocation import schedule_from_total
from pcb.pipeline.job import ALL_SHARDS, Job, ShardGroup
from pcb.pipeline.tasks import Pipeline
from pcb.runtime.progress import Progress
from pcb.runtime.weights import save_weights
from pcb.stages import tokens
from pcb.stages.data import run as prepare
from pcb.stages.likelihood import RESULT, run
from pcb.tokenizer.cache import TokenCache
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer
from pcb.train.tokenizer import initialize
from tests.imagenet import imagenet_preset
from tests.tasks import job_of

HELD_OUT = 40


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Codes of random held-out images and random weights, as their stages leave them."""
    names = ("data", "tokenizer", "tokens", "train")
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    preset = load_preset("smoke")
    random = np.random.default_rng(0)
    for images, labels, shape in (
        (TRAIN_IMAGES, TRAIN_LABELS, (8, 2)),
        (REFERENCE_IMAGES, REFERENCE_LABELS, (60,)),
    ):
        pixels = random.integers(256, size=(*shape, 3, 32, 32)).astype(np.uint8)
        save_array(folders["data"] / images, pixels)
        save_array(folders["data"] / labels, np.sort(np.arange(shape[0]) % 10))
    torch.manual_seed(0)
    tokenizer = Tokenizer(preset.tokenizer.autoencoder)
    initialize(tokenizer)
    save_weights(folders["tokenizer"] / TOKENIZER_FILE, tokenizer.state_dict())
    tokens.run(job_of(preset, "tokens", folders["tokens"], **folders))
    for name in (WEIGHTS, AVERAGE):
        model = build_model(preset, "ratio2", folders["tokenizer"])
        torch.nn.init.normal_(model.head.weight, std=0.3)
        save_weights(folders["train"] / name, model.state_dict())
    return folders


def make(inputs, folder, config="t9", *, shards=ALL_SHARDS, **compute):
    preset, replace = load_preset("smoke"), msgspec.structs.replace
    preset = replace(preset, compute=replace(preset.compute, device="cpu", **compute))
    folder.mkdir(exist_ok=True)
    job = Job(
        task=Pipeline("smoke", preset).task("likelihood", f"ratio2/{config}"),
        preset=preset,
        folder=folder,
        inputs=inputs,
        progress=partial(Progress, "likelihood/test"),
        shards=shards,
    )
    return run(job)


def test_it_measures_the_weights_that_sample_on_the_held_out_codes(tmp_path, inputs):
    results = make(inputs, tmp_path / "a")
    with np.load(tmp_path / "a" / RESULT) as found:
        nll, labels, sizes = found["nll"], found["labels"], found["sizes"]
    preset = load_preset("smoke")
    assert nll.shape == (HELD_OUT, 4) and sizes.tolist() == [1, 2, 4, 8]
    assert np.bincount(labels).tolist() == [HELD_OUT // 10] * 10
    model = build_model(preset, "ratio2", inputs["tokenizer"])
    from safetensors.torch import load_file

    model.load_state_dict(load_file(inputs["train"] / AVERAGE))
    cache = TokenCache.open(inputs["tokens"], (1, 2, 4, 8), "held_out")
    chosen = np.arange(HELD_OUT)
    grids = {s: torch.from_numpy(g) for s, g in cache.codes(chosen, 0 * chosen).items()}
    (config,) = (p for p in preset.sampling_configs("ratio2") if p.name == "t9")
    sequence = sequence_of(config.schedule((1, 2, 4, 8)))
    expected = negative_log_likelihood(model, sequence, torch.from_numpy(labels), grids)
    np.testing.assert_allclose(nll, expected.numpy(), rtol=1e-12)
    assert results["images"] == HELD_OUT and results["steps"] == 9
    assert results["nats_per_image"] == pytest.approx(nll.sum(1).mean())
    assert results["bits_per_token"] == pytest.approx(nll.sum() / HELD_OUT / 85 / np.log(2))
    assert results["nats_per_scale"] == pytest.approx(nll.mean(0).tolist())


@pytest.mark.parametrize("compute", [{"sampling_batch": 7}, {"sampling_batch": 1}])
def test_neither_batches_nor_interruptions_nor_processes_change_it(
    tmp_path, inputs, monkeypatch, compute
):
    whole = make(inputs, tmp_path / "a")
    monkeypatch.setattr(module, "SHARD_IMAGES", 15)
    for first in range(2):
        assert make(inputs, tmp_path / "b", shards=ShardGroup(first, 2), **compute) == {}
    parts = sorted((tmp_path / "b").glob(".nll-*.npy"))
    assert len(parts) == 3 and not (tmp_path / "b" / RESULT).exists()
    parts[1].unlink()
    kept = parts[0].stat().st_ino
    assert make(inputs, tmp_path / "b") == whole
    assert parts[0].stat().st_ino == kept
    a, b = ((tmp_path / name / RESULT).read_bytes() for name in "ab")
    assert a == b


def test_few_images_have_all_classes_in_any_order():
    by_class = np.repeat(np.arange(4), 10)
    in_turn = np.arange(40) % 4
    assert class_by_class(by_class, 8).tolist() == [0, 1, 10, 11, 20, 21, 30, 31]
    assert class_by_class(in_turn, 8).tolist() == list(range(8))
    assert class_by_class(np.array([0, 0, 0, 1]), 3).tolist() == [0, 1, 3]
    assert class_by_class(by_class, 40).tolist() == list(range(40))


def configs(preset, model="ratio2"):
    return [point.name for point in preset.likelihood_configs(model)]


def changed(**changes):
    params = load_params()
    params["presets"]["smoke"] |= changes
    return parse_preset(params, "smoke")


def test_each_schedule_is_measured_once_and_guided_ones_not_at_all():
    sweep = [
        {"models": ["ratio2"], "blocks": [1], "total_steps": [4, 9], "cfg": [0, 1.5]},
        {"models": ["ratio4"], "total_steps": [9], "cfg": [1.5]},
    ]
    preset = changed(sweep=sweep)
    # One block per scale takes four steps.
    assert configs(preset) == ["serial", "k1", "t9"]
    assert configs(preset, "ratio4") == []
    assert [point.name for point in preset.sampling_configs("ratio4")] == ["t9-cfg1.5-start5"]
    serial = preset.likelihood_configs("ratio2")[0].schedule((1, 2, 4, 8))
    assert serial.blocks == ((1,), (1,) * 4, (1,) * 16, (1,) * 64)


def test_the_name_of_a_config_does_not_enter_the_key():
    def key(**entry):
        pipeline = Pipeline("smoke", changed(sweep=[{"models": ["ratio2"], **entry}]))
        return [task.key for task in pipeline if task.stage == "likelihood"]

    assert key(blocks=[1]) == key(total_steps=[4])
    assert key(blocks=[1]) != key(total_steps=[5])


def test_a_sweep_may_measure_likelihood_alone():
    entry = {"models": ["ratio2"], "total_steps": [9], "samples": False}
    alone = Pipeline("smoke", changed(sweep=[entry]))
    stages = {task.stage for task in alone}
    assert stages == {"data", "tokenizer", "tokens", "train", "likelihood", "report"}
    entry["blocks"] = [1]
    both = Pipeline("smoke", changed(sweep=[entry, {"models": ["ratio4"], "total_steps": [9]}]))
    assert both.variants("sample") == both.variants("metrics") == ["ratio4/t9"]
    assert both.variants("likelihood") == [
        *("ratio2/serial", "ratio2/k1", "ratio2/t9"),
        *("ratio4/serial", "ratio4/t9"),
    ]


def test_likelihood_leaves_all_else_as_it_was():
    with_it = Pipeline("smoke", load_preset("smoke"))
    without = Pipeline("smoke", changed(likelihood=None))
    assert {task.name for task in with_it} - {task.name for task in without} == {
        task.name for task in with_it if task.stage == "likelihood"
    }
    for task in without:
        same = with_it.task(task.stage, task.variant)
        # Held-out codes are partitions of their own, which no training reads.
        assert (same.key == task.key) == (task.stage not in ("tokens", "report"))
        assert set(task.partitions) <= set(same.partitions)


def test_more_held_out_images_make_no_other_codes_again():
    more = Pipeline("smoke", changed(likelihood={"images": 41}))
    before = dict(Pipeline("smoke", load_preset("smoke")).task("tokens").partitions)
    after = dict(more.task("tokens").partitions)
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {held_out_part(size) for size in (1, 2, 4, 8)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"likelihood": {"images": 0}}, r"likelihood\.images"),
        (
            {"likelihood": {"images": 201}},
            r"presets\.smoke\.likelihood\.images = 201: there are 200 held-out images",
        ),
        (
            {"sweep": [{"models": ["ratio2"], "blocks": [1], "cfg": [1], "samples": False}]},
            "guidance has no likelihood",
        ),
        (
            {
                "likelihood": None,
                "sweep": [{"models": ["ratio2"], "blocks": [1], "samples": False}],
            },
            r"sweep\[0\]\.samples = false: nothing would be measured; set .*smoke\.likelihood",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(changes, message):
    with pytest.raises(UserError, match=message) as raised:
        changed(**changes)
    assert "\n" not in str(raised.value)


def test_imagenet_without_validation_images_is_refused_before_anything_is_read(tmp_path):
    settings = {"likelihood": {}}
    preset = imagenet_preset(tmp_path / "nowhere", settings=settings)
    with pytest.raises(UserError, match=r"likelihood: there are no held-out images; let files\."):
        prepare(job_of(preset, "data", tmp_path / "data"))
    (tmp_path / "data" / "validation.csv").write_text(
        "path,label,offset,bytes,crc32,width,height\n"
    )
    with pytest.raises(UserError, match="0 held-out images, and likelihood.images = null"):
        tokens.held_out_images(tmp_path / "data", preset)


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (ImageNet(), "let files.imagenet_validation name the validation images and make the stage"),
        (
            ImageFolder(folder="cats", num_classes=2),
            "raise data.held_out, or add images to cats/val",
        ),
        (Digits(), "raise data.reference_images"),
        (Photographs(), "raise data.reference_images"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_too_few_held_out_images_name_the_setting_of_their_kind(
    data, way_out, tmp_path, monkeypatch
):
    preset = msgspec.structs.replace(load_preset("smoke"), data=data)
    few = ArrayImages(np.zeros((39, 1, 3, 8, 8), np.uint8), np.zeros(39, np.int64))
    monkeypatch.setattr(tokens, "open_images", lambda *_: few)
    said = "39 held-out images, and likelihood.images = 40 asks for 40; " + way_out
    with pytest.raises(UserError, match=re.escape(said)):
        tokens.held_out_images(tmp_path, preset)


def test_a_models_own_order_is_what_is_measured(inputs):
    preset, chosen = load_preset("smoke"), np.arange(16)
    model = build_model(preset, "ratio2", inputs["tokenizer"])
    torch.nn.init.normal_(model.head.weight, std=0.3)
    cache = TokenCache.open(inputs["tokens"], model.sizes, "held_out")
    schedule = schedule_from_total(model.sizes, 9)
    grids = {s: torch.from_numpy(g) for s, g in cache.codes(chosen, 0 * chosen).items()}
    labels = torch.from_numpy(cache.labels[chosen])
    found = []
    for order in ("checkerboard", "raster"):
        model.settings = msgspec.structs.replace(model.settings, order=order)
        found.append(module.measure_shard(model, schedule, cache, chosen, batch=16))
        sequence = sequence_of(schedule, order)
        expected = negative_log_likelihood(model, sequence, labels, grids)
        np.testing.assert_allclose(found[-1], expected.numpy(), rtol=1e-9)
    assert abs(found[0] - found[1]).max() > 0.01
