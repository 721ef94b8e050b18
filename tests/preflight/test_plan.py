"""What a preset will take: arithmetic and bytes of its tasks, and where its hours come from."""

import json
import re

import pytest
from msgspec.structs import replace

from pcb.cli.main import main
from pcb.errors import UserError
from pcb.pipeline.tasks import Pipeline
from pcb.preflight import flops
from pcb.preflight.cost import checkpoint_bytes, cost_of, hours, train_images
from pcb.preflight.plan import forecast, missing_files
from pcb.preflight.rates import RATES, Device, load_device
from tests.units import ROOT, make_all, pipeline_of

H100 = Device(name="H100", utilisation=0.5)


@pytest.fixture(scope="module")
def paper() -> Pipeline:
    return pipeline_of("paper")


def test_the_token_cache_is_as_large_as_the_method_says(paper):
    assert cost_of(paper.task("tokens"), paper.preset).bytes == 2 * 1_281_167 * 8_500


def test_training_is_epochs_times_images_times_a_step(paper):
    (work,) = cost_of(paper.task("train", "l-2x"), paper.preset).works
    run = paper.preset.models["l-2x"]
    step = flops.training_step(run.model, paper.preset.tokenizer.autoencoder, (1, 2, 4, 8, 16))
    assert work.flops == pytest.approx(205 * 1_281_167 * step, rel=1e-12) and work.half
    seconds = work.flops / (0.5 * 989e12)
    assert hours([work], H100)[0] == pytest.approx(seconds / 3600)


def test_a_checkpoint_holds_the_largest_models_weights_four_times(paper):
    assert checkpoint_bytes(paper.preset) == 16 * 367_574_560
    assert checkpoint_bytes(pipeline_of("paper-pretrained").preset) == 0


def test_guidance_costs_what_its_steps_and_one_catching_up_take(paper):
    def drawn(setting: str) -> float:
        (work,) = cost_of(paper.task("sample", f"s-2x/{setting}"), paper.preset).works
        return work.flops

    plain, staged, constant = (
        drawn(f"t17{guided}") for guided in ("", "-cfg1.5-start5", "-cfg1.5-start0")
    )
    assert plain < staged
    # From the first step on there is nothing to catch up: all twice but what enters the layers.
    assert 1.95 * plain < constant < 2 * plain
    assert staged == pytest.approx(constant, rel=0.05)


def test_decoding_in_16_bits_counts_as_such(paper):
    task = paper.task("metrics", "l-2x/k4-cfg1.4-start5")
    metrics = replace(paper.preset.metrics, decode_precision="float16")
    presets = paper.preset, replace(paper.preset, metrics=metrics)
    works = [cost_of(task, preset).works for preset in presets]
    assert [{work.kind: work.half for work in of}["decoding"] for of in works] == [False, True]
    assert hours(works[1], H100)[0] < hours(works[0], H100)[0]


def test_only_what_is_left_to_make_takes_time(folder, smoke):
    before, _ = forecast(smoke, H100)
    assert sum(line.hours for line in before) > 0
    make_all(smoke)
    after, _ = forecast(smoke, H100)
    assert [line.left for line in after] == [0] * len(after)
    assert sum(line.hours for line in after) == 0
    assert [line.tasks for line in before] == [line.tasks for line in after]


def test_measured_rates_win_and_are_named(folder, smoke):
    RATES.parent.mkdir()
    rate = {"flops_per_second": 1e12, "measured": "training S, batch 8"}
    RATES.write_text(json.dumps({"H100": {"training": {"float32": rate}}}))
    measured = load_device("H100", 0.5)
    lines, sources = forecast(smoke, measured)
    assert sources["training"] == "training S, batch 8"
    assert measured.rate("training", half=True).source == "50 % of 989 TFLOP/s by the datasheet"
    assert sources["sampling"] == "50 % of 67 TFLOP/s by the datasheet"
    works = [w for u in smoke if u.stage == "train" for w in cost_of(u, smoke.preset).works]
    spent = next(line.hours for line in lines if line.stage == "train")
    assert spent == pytest.approx(sum(work.flops for work in works) / 1e12 / 3600)


def test_an_unknown_device_is_refused_with_those_that_are_known(folder, smoke):
    with pytest.raises(UserError, match=r"--gpu TPU: .* known are A100, H100"):
        forecast(smoke, Device(name="TPU", utilisation=0.3))


def test_what_is_missing_is_named_with_the_way_to_get_it(folder):
    missing = list(missing_files(pipeline_of("paper")))
    assert any("pcb fetch llamagen" in line for line in missing)
    assert any("files.imagenet" in line for line in missing)
    pretrained = list(missing_files(pipeline_of("paper-pretrained")))
    assert pretrained and not any("files.imagenet" in line for line in pretrained)
    assert not list(missing_files(pipeline_of("mini")))


def test_the_command_prints_every_stage(folder, capsys):
    params = ["--params", str(ROOT / "params.yaml")]
    assert main(["plan", "--preset", "paper", "--gpus", "8", *params]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^train +12 +12 +[0-9.]+ +[0-9.]+$", out, re.MULTILINE)
    assert "On 8 of them" in out
    assert main(["plan", "--gpus", "0", *params]) == 1


def test_digits_that_are_not_held_out_are_the_training_images(smoke):
    assert train_images(smoke.preset) == pytest.approx(1797 * 0.75, abs=5)
