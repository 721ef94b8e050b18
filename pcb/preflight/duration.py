"""How long a preset will take: its arithmetic at a device's rates, and all that is not arithmetic.

Starting, compiling, capturing steps, scores that one CPU thread computes, steps that Python bounds.
Ranges stand for what is not known better; each says where it is from. No torch.
"""

from pcb.config import Preset, SamplingConfig
from pcb.pipeline.tasks import Task
from pcb.preflight.cost import cost_of, train_images, training_work
from pcb.preflight.rates import Device, Range

START = Range(low=4, high=20)
"""Seconds from a command to its first batch: 4 were measured with an H200 and a local disk; twenty
are a guess for a disk that a cluster shares."""
COMPILE = Range(low=15, high=26)
"""Seconds of compiling the layers and the loss, without a cache: S and L, bfloat16, H200."""
CAPTURE = Range(low=0.017, high=0.035)
"""Seconds of capturing a step: those of S, of 17 and of 139 steps, and of L, H200."""
PRECISION_RECALL = Range(low=0.6, high=3.0)
FRECHET = Range(low=0.06, high=2.9)
KID_SUBSET = Range(low=0.005, high=0.46)
"""Seconds of precision and recall, of a Frechet distance and of a subset of KID, 2,048 features:
eigenvalues and products on an H200, and all on one thread of a CPU."""
HOST_STEP = Range(low=0.047, high=0.08)
"""Seconds that Python takes for a training step however few images a GPU has: 0.0475 were measured
for 8 images of S beside an H200; the most is that times L's layers over S's."""


def time_of(task: Task, preset: Preset, device: Device) -> tuple[Range, dict[str, str]]:
    """Return the seconds of a task on one device, and where its rates come from."""
    works, sources = cost_of(task, preset).works, {}
    seconds = _overhead(task, preset) if works else Range()
    for work in works:
        rate = device.rate(work.kind, work.precision, work.width)
        what = f"{work.kind} in {work.precision}"
        sources[what if work.width is None else f"{what}, width {work.width}"] = rate.source
        seconds += rate.seconds(work.flops)
    return seconds, sources


def _overhead(task: Task, preset: Preset) -> Range:
    """Return the seconds of a task that are not arithmetic of a device."""
    if task.stage == "train":
        return START + COMPILE
    if task.stage == "sample":
        assert task.model is not None
        if task.model in preset.systems:
            return START + CAPTURE * preset.systems[task.model].described.steps
        assert isinstance(task.sampling_config, SamplingConfig)
        steps = task.sampling_config.schedule(preset.sizes(task.model)).steps
        # Where guidance starts, one call more catches up with what was sampled.
        return START + CAPTURE * (steps + bool(task.sampling_config.cfg))
    if task.stage == "metrics" and preset.metrics.extractor == "inception":
        # FID, sFID, and the FID of resampled images.
        distances = FRECHET * (2 + preset.metrics.bootstrap)
        return START + PRECISION_RECALL + distances + KID_SUBSET * preset.metrics.kid_subsets
    return START


def shared_training(preset: Preset, models: list[str], device: Device, devices: int) -> Range:
    """Return the seconds of training some models on several devices.

    At least: models side by side, all devices busy all the time; but none trains on more than there
    are images in a batch. At most: one after the other on all devices. No step is shorter than
    `HOST_STEP`.
    """
    longest = everything = one_by_one = 0.0
    for model in models:
        training, seconds = preset.models[model].training, Range()
        for work in training_work(preset, model):
            seconds += device.rate(work.kind, work.precision, work.width).seconds(work.flops)
        if training is None:
            continue
        steps = training.epochs * train_images(preset) / training.batch_size
        most = min(devices, training.batch_size)
        longest = max(longest, seconds.low / most, steps * HOST_STEP.low)
        everything += seconds.low / devices
        one_by_one += max(seconds.high / most, steps * HOST_STEP.high)
    return Range(low=max(longest, everything), high=one_by_one)
