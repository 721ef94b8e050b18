"""The plan of a preset: arithmetic and bytes of its tasks, and the sources of its hours."""

import json
import re

import pytest
from msgspec.structs import replace

from pcb.cli.main import main
from pcb.config.stages import STAGES
from pcb.errors import UserError
from pcb.pipeline.tasks import Pipeline
from pcb.preflight import flops
from pcb.preflight.cost import checkpoint_bytes, cost_of
from pcb.preflight.duration import shared_steps, time_of
from pcb.preflight.image_counts import train_images
from pcb.preflight.overhead import CAPTURE, HOST_STEP, START
from pcb.preflight.plan import Line, forecast, missing_files, shared
from pcb.preflight.rates import RATES, Device, Range, load_device
from tests.tasks import ROOT, make_all, pipeline_of

H100 = Device(name="H100", stored={}, utilization=0.5)
MEASURED = {
    "H200": {
        "training": {
            "16 bits": {
                "width 512": {"flops_per_second": 2e14, "measured": "S on an H200"},
                "width 1024": {"flops_per_second": 4e14, "measured": "L on an H200"},
            }
        }
    }
}


@pytest.fixture(scope="module")
def paper() -> Pipeline:
    return pipeline_of("paper")


def test_the_token_cache_is_as_large_as_the_method_says(paper):
    without = replace(paper.preset, likelihood=None)
    task = Pipeline("paper", without).task("tokens")
    assert cost_of(task, without).bytes == 2 * 1_281_167 * 8_500
    # One crop of every validation image, at the same 850 tokens.
    held_out = 2 * 50_000 * 850
    found = cost_of(paper.task("tokens"), paper.preset).bytes
    assert found == 2 * 1_281_167 * 8_500 + held_out


def test_a_likelihood_is_a_pass_over_every_held_out_image(paper):
    schedules = [
        task for task in paper if task.name in ("likelihood/s-2x/k4", "likelihood/s-2x/k1")
    ]
    assert len(schedules) == 2
    passes = flops.forward(
        paper.preset.models["s-2x"].model, paper.preset.tokenizer.autoencoder, (1, 2, 4, 8, 16)
    )
    for task in schedules:
        (work,) = cost_of(task, paper.preset).works
        assert (work.flops, work.precision, work.width) == (50_000 * passes, "float32", 512)


def test_training_is_epochs_times_images_times_a_step(paper):
    (work,) = cost_of(paper.task("train", "l-2x"), paper.preset).works
    run = paper.preset.models["l-2x"]
    step = flops.training_step(run.model, paper.preset.tokenizer.autoencoder, (1, 2, 4, 8, 16))
    assert work.flops == pytest.approx(205 * 1_281_167 * step, rel=1e-12)
    assert (work.precision, work.width) == ("16 bits", 1024)
    seconds, sources = time_of(paper.task("train", "l-2x"), paper.preset, H100)
    # Starting and compiling are not arithmetic.
    assert seconds.low == pytest.approx(work.flops / (0.5 * 989e12) + 19)
    assert sources == {"training in 16 bits, width 1024": "50 % of 989 TFLOP/s by the datasheet"}


def test_a_checkpoint_holds_the_largest_models_weights_four_times(paper):
    assert checkpoint_bytes(paper.preset) == 16 * 367_574_560
    assert checkpoint_bytes(pipeline_of("paper-pretrained").preset) == 0


def test_guidance_costs_what_its_steps_and_one_catching_up_take(paper):
    def sampled(setting: str) -> float:
        (work,) = cost_of(paper.task("sample", f"s-2x/{setting}"), paper.preset).works
        return work.flops

    plain, staged, constant = (
        sampled(f"t17{guided}") for guided in ("", "-cfg1.5-start5", "-cfg1.5-start0")
    )
    assert plain < staged
    # From the first step on there is nothing to catch up: all twice but what enters the layers.
    assert 1.95 * plain < constant < 2 * plain
    assert staged == pytest.approx(constant, rel=0.05)


def test_encoding_follows_the_setting_of_tf32(paper):
    task = paper.task("tokens")
    for tf32, precision in ((False, "float32"), (True, "tf32")):
        tokenizer = replace(paper.preset.tokenizer, tf32=tf32)
        (work,) = cost_of(task, replace(paper.preset, tokenizer=tokenizer)).works
        assert (work.kind, work.precision) == ("encoding", precision)


def test_decoding_in_16_bits_counts_as_such(paper):
    task = paper.task("metrics", "l-2x/k4-cfg1.4-start5")
    metrics = replace(paper.preset.metrics, decode_precision="float16")
    presets = paper.preset, replace(paper.preset, metrics=metrics)
    works = [cost_of(task, preset).works for preset in presets]
    precisions = [{work.kind: work.precision for work in of}["decoding"] for of in works]
    assert precisions == ["float32", "16 bits"]


def test_only_what_is_left_to_make_takes_time(folder, smoke):
    before, _ = forecast(smoke, H100)
    assert sum(line.seconds.low for line in before) > 0
    make_all(smoke)
    after, _ = forecast(smoke, H100)
    assert [line.left for line in after] == [0] * len(after)
    assert sum(line.seconds.high for line in after) == 0
    assert [line.tasks for line in before] == [line.tasks for line in after]


def test_measured_rates_win_and_are_named(folder, smoke):
    RATES.parent.mkdir()
    rate = {"flops_per_second": 1e12, "measured": "training S, batch 8"}
    RATES.write_text(json.dumps({"H100": {"training": {"float32": {"any": rate}}}}))
    device = load_device("H100", 0.5)
    lines, sources = forecast(smoke, device)
    assert sources["training in float32"] == "training S, batch 8"
    assert device.rate("training", "16 bits").source == "50 % of 989 TFLOP/s by the datasheet"
    (sampling,) = {source for what, source in sources.items() if what.startswith("sampling")}
    assert sampling == "50 % of 67 TFLOP/s by the datasheet"
    tasks = [task for task in smoke if task.stage == "train"]
    works = [work for task in tasks for work in cost_of(task, smoke.preset).works]
    work = sum(work.flops for work in works) / 1e12
    spent = next(line.seconds for line in lines if line.stage == "train")
    assert spent.low - 19 * len(tasks) == pytest.approx(work)
    assert spent.high - 46 * len(tasks) == pytest.approx(work)


def test_a_rate_of_another_width_or_device_becomes_a_range():
    h200, h100 = (Device(name=name, stored=MEASURED) for name in ("H200", "H100"))
    exact = h200.rate("training", "16 bits", 1024)
    assert (exact.least, exact.most, exact.source) == (4e14, 4e14, "L on an H200")
    other = h200.rate("training", "16 bits", 768)
    assert (other.least, other.most) == (2e14, 4e14)
    # The same arithmetic, but 3.35 instead of 4.8 TB/s.
    scaled = h100.rate("training", "16 bits", 1024)
    assert scaled.least == pytest.approx(4e14 * 3.35 / 4.8) and scaled.most == 4e14
    assert scaled.source.startswith("L on an H200, times 0.7 to 1 ")
    unknown = h100.rate("decoding", "tf32")
    assert (unknown.least, unknown.most) == pytest.approx((49.4e12, 197.6e12))


def test_sampling_takes_the_capture_of_every_step_too(paper):
    task = paper.task("sample", "s-2x/t17-cfg1.5-start5")
    (work,) = cost_of(task, paper.preset).works
    seconds, _ = time_of(task, paper.preset, H100)
    arithmetic = work.flops / (0.5 * 989e12)
    expected = Range(low=arithmetic, high=arithmetic) + START + CAPTURE * 18
    assert (seconds.low, seconds.high) == pytest.approx((expected.low, expected.high))


def test_many_devices_wait_for_python_where_their_batches_are_small(paper):
    costs = [cost_of(paper.task("train", name), paper.preset) for name in ("s-2x", "s-4x")]
    one, few, many = (shared_steps(costs, H100, devices) for devices in (1, 4, 1024))
    assert one.low == pytest.approx(one.high) and one.low > 0
    assert few.low == pytest.approx(one.low / 4)
    steps = 110 * 1_281_167 / 1024
    assert many.low == pytest.approx(steps * HOST_STEP.low)
    assert many.high == pytest.approx(2 * steps * HOST_STEP.high)


def test_what_is_not_training_is_dealt_out_evenly(paper):
    line = Line(stage="tokens", tasks=1, left=1, seconds=Range(low=80, high=160), bytes=0)
    alone, shared_out = (shared(paper, [line], H100, gpus) for gpus in (1, 8))
    assert (alone.low, alone.high) == (80, 160)
    costs = [cost_of(task, paper.preset) for task in paper if task.stage == "train"]
    training = shared_steps(costs, H100, 8)
    assert shared_out.low == pytest.approx(10 + training.low)


def test_an_unknown_device_is_refused_with_those_that_are_known(folder, smoke):
    with pytest.raises(UserError, match=r"--gpu TPU: .* known are A100, H100"):
        forecast(smoke, Device(name="TPU", stored={}))


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
    assert re.search(r"^train +18 +18 +[0-9,.]+ to [0-9,.]+ +[0-9.]+$", out, re.MULTILINE)
    assert "On 8 of them" in out
    assert main(["plan", "--gpus", "0", *params]) == 1


@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_columns_of_the_table_stand_apart(folder, capsys, preset):
    assert main(["plan", "--preset", preset, "--params", str(ROOT / "params.yaml")]) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["stage", *STAGES, "total"]
    # A range has single spaces inside.
    assert {len(re.split(" {2,}", line)) for line in lines} == {5}


def test_digits_that_are_not_held_out_are_the_training_images(smoke):
    assert train_images(smoke.preset) == pytest.approx(1797 * 0.75, abs=5)
