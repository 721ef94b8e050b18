"""`python -m benchmarks.gpu`: does every path that only a GPU takes run, is it right, how fast?

Sections stand in the order of what one learns from them. Each runs in a process of its own with a
time limit; what has no time left after `--seconds`, less than nine minutes, is left out and can be
named alone. Neither snakemake nor dvc nor submitit is needed. Results are a table, and in a folder
`facts.json` and, for `python -m benchmarks --from`, `results.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from msgspec.structs import replace as with_settings
from torch.nn.utils import get_total_norm

from benchmarks.__main__ import chosen_parts
from benchmarks.machine import convolutions_in, seconds_of, synchronize
from benchmarks.measure import CPU, FAST, Case, Part, Precision, Results, measure
from benchmarks.pages import aligned, table_lines
from benchmarks.sampling import (
    GUIDANCE,
    Sampling,
    apart,
    codes_and_logits,
    observed,
    random_batch,
    random_model,
)
from benchmarks.stages import random_extractor, random_tokenizer
from benchmarks.systems import OwnSystem, System
from benchmarks.training import random_objective, results_of, step_part
from pcb.cli.main import Parser, run
from pcb.config import Compute
from pcb.config.loader import load_preset
from pcb.data.arrays import to_uint8
from pcb.errors import UserError
from pcb.published.systems import catalog
from pcb.runtime.atomic import write_atomic
from pcb.runtime.device import pick_device
from pcb.runtime.environment import package_versions
from pcb.runtime.rendezvous import variables_of_ranks
from pcb.sample.guidance import OFF
from pcb.sample.pyramid import ALL_ON, sampler_for

Number = float | str | bool
_NEEDED = ("msgspec", "yaml", "PIL", "torch_fidelity", "matplotlib", "scipy", "sklearn")
_WHOLE_SECONDS = 530.0
_LEAST_SECONDS = 8.0
"""Time left below which no section begins."""
_SMALL = {
    "width": 64,
    "hidden_width": 256,
    "heads": 4,
    "blocks": 2,
    "self_blocks": 1,
    "cross_blocks": 1,
    "codes": 64,
    "classes": 10,
    "grid": (6, 6),
    "scales": (1, 2, 3),
    "code_width": 32,
    "steps": 12,
    "channels": 32,
}
"""Of the other systems in a trial run, in place of their published sizes."""


@dataclass
class Sheet:
    """What a section has found out, on disk after every finding."""

    path: Path
    device: torch.device
    tiny: bool
    facts: list[tuple[str, dict[str, Number]]] = field(default_factory=list)
    results: Results | None = None

    @property
    def half(self) -> Precision:
        """Return bfloat16 on a GPU; a CPU may have to emulate it."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    def say(self, what: str, **numbers: Number) -> None:
        """Write down a finding, and print it."""
        self.facts.append((what, numbers))
        print(f"  {what}: {_listed(numbers)}", flush=True)
        self.keep()

    def time(self, parts: Sequence[Part]) -> None:
        """Time parts of the harness, the program as it is alone."""

        before = self.results

        def keep(results: Results) -> None:
            self.results = results if before is None else _joined(before, results)
            self.keep()

        alone = list(map(_alone, parts))
        results = measure(alone, self.device, budget=0, keep=keep)
        for line in table_lines(results):
            print(f"  {line}", flush=True)

    def keep(self) -> None:
        """Write everything to disk."""
        write_atomic(self.path, msgspec.json.encode({"facts": self.facts, "results": self.results}))


@dataclass(frozen=True)
class Section:
    """What is run in a process of its own, and the most seconds that it may take."""

    seconds: float
    run: Callable[[Sheet], None]


def environment(sheet: Sheet) -> None:
    """Versions, switches, and what is missing."""
    versions = package_versions()
    sheet.say("versions", **versions, cuda=str(torch.version.cuda))
    sheet.say("missing packages", names=", ".join(n for n in _NEEDED if not find_spec(n)) or "none")
    if sheet.device.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        memory = torch.cuda.get_device_properties(sheet.device).total_memory / 2**30
        name = torch.cuda.get_device_name()
        sheet.say("gpu", name=name, capability=f"{major}.{minor}", GiB=memory)
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
        sheet.say("libraries", cudnn=torch.backends.cudnn.version(), nccl=nccl)
    sheet.say(
        "switches",
        tf32_convolutions=torch.backends.cudnn.allow_tf32,
        tf32_products=torch.backends.cuda.matmul.allow_tf32,
        flash_attention=torch.backends.cuda.flash_sdp_enabled(),
        cudnn_attention=torch.backends.cuda.cudnn_sdp_enabled(),
    )


def graphs(sheet: Sheet) -> None:
    """CUDA graphs against single calls and the CPU, for batches that shrink and grow.

    All but `grown` in 16 bits and `cpu` must be 0: the same kernels run on the same rows.
    """
    runs: list[tuple[str, Precision]] = [("S-2x", "float32"), ("S-2x", "bfloat16")]
    runs += [("L-2x", "bfloat16"), ("L-4x", "bfloat16")]
    for name, precision in [("mini", "float32")] if sheet.tiny else runs:
        preset, model, schedule = random_model(name, sheet.device, precision)
        classes_B, uniforms_BT = random_batch(model, 8)
        for guidance in (OFF, GUIDANCE):
            make = partial(
                sampler_for, schedule=schedule, guidance=guidance, measure=codes_and_logits
            )
            sampler, started = make(model), time.perf_counter()
            first = observed(sampler, classes_B, uniforms_BT)
            synchronize(sheet.device)
            captured = time.perf_counter() - started
            again = observed(sampler, classes_B, uniforms_BT)
            alone = make(model, speed=with_settings(ALL_ON, graphs=False))
            single = observed(alone, classes_B, uniforms_BT)
            few = observed(sampler, classes_B[:3], uniforms_BT[:3])
            grown = observed(sampler, classes_B.repeat(2), uniforms_BT.repeat(2, 1))
            compared = {
                "replayed": (first, again),
                "single calls": (first, single),
                "fewer": ((first[0][:3], first[1][:3]), few),
                "grown": (first, (grown[0][:8], grown[1][:8])),
            }
            if precision == "float32" and sheet.device.type == "cuda":
                _, exact, _ = random_model(name, CPU, precision)
                seen = observed(make(exact), classes_B.cpu(), uniforms_BT.cpu())
                compared["cpu"] = seen, (first[0].cpu(), first[1].cpu())
            what = f"{name} {precision}{' guided' if guidance.weight else ''}"
            sheet.say(what, steps=schedule.steps, first_batch_s=captured)
            for against, pair in compared.items():
                sheet.say(f"{what}, {against}", **apart(*pair))


def training(run: str, batch: int, sheet: Sheet) -> None:
    """Compiled and tiled against eager and dense; waits, recompilations; time of steps."""
    run, batch = ("mini", 4) if sheet.tiny else (run, batch)
    _same_gradients(sheet, run, sheet.half, batch)
    if not run.startswith("L"):
        _same_gradients(sheet, run, "float32", 2)
    objective = random_objective(run, batch, sheet.device, sheet.half)
    batches = [objective.batch(k) for k in range(6)]
    for k in range(3):
        objective.step(k, batches[k])
    if sheet.device.type == "cuda":
        with _no_waits(), torch._dynamo.config.patch(error_on_recompile=True):
            for k in range(3, 6):
                objective.step(k, batches[k])
        sheet.say(f"{run} steps", waits="none", recompilations="none")
    del objective
    sheet.time([step_part(run, batch, sheet.half, kind="training")])
    if not run.startswith("L"):
        # As few images as one of many GPUs gets: what Python needs for a step.
        few = random_objective(run, max(1, batch // 16), sheet.device, sheet.half)
        ready = [few.batch(k) for k in range(8)]

        def steps() -> None:
            for k, some in enumerate(ready):
                few.step(k, some)

        host, whole = _host_and_whole(steps, sheet.device)
        what = f"{run} b{few.batches.batch_size}, a step"
        sheet.say(what, host_ms=1e3 * host / len(ready), whole_ms=1e3 * whole / len(ready))


def _same_gradients(sheet: Sheet, run: str, precision: Precision, batch: int) -> None:
    """Say how far losses and gradients are from eager ones, and in float32 from the CPU's."""
    torch._dynamo.reset()
    objective = random_objective(run, batch, sheet.device, precision)
    some, started = objective.batch(0).to(sheet.device), time.perf_counter()
    losses_T, gradients = results_of(objective, Compute(), some)
    synchronize(sheet.device)
    sheet.say(f"{run} {precision}", first_step_s=time.perf_counter() - started)
    eager = Compute(compile=False)
    others = {"eager": results_of(objective, eager, some)}
    if precision == "float32" and sheet.device.type == "cuda":
        exact = random_objective(run, batch, CPU, precision)
        others["cpu"] = results_of(exact, eager, exact.batch(0))
    for name, (other_T, other) in others.items():
        differences = [a.cpu() - b.cpu() for a, b in zip(gradients, other, strict=True)]
        sheet.say(
            f"{run} {precision}, {name}",
            loss=float((losses_T.cpu() - other_T.cpu()).abs().max()),
            gradient=float(get_total_norm(differences) / get_total_norm(other).cpu()),
        )


@contextmanager
def _no_waits() -> Iterator[None]:
    """Raise where this process waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _host_and_whole(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the seconds until a call returns, and until its work is done; the second call's."""
    seconds_of(run, device)
    started = time.perf_counter()
    run()
    host = time.perf_counter() - started
    synchronize(device)
    return host, time.perf_counter() - started


def sampling(sheet: Sheet) -> None:
    """Sampling: one image with its pixels, and batches."""
    one, many = (1, 2) if sheet.tiny else (1, 64)
    run: str = "mini" if sheet.tiny else "L-2x"
    wanted = [(run, one, True), (run, many, True), (run, many, False), (run, one, False)]
    if not sheet.tiny:
        wanted += [(run, 256, False), (run, 256, True), ("S-2x", 256, False)]
    parts = [Sampling(name, n, GUIDANCE, sheet.half, decoded=d).part() for name, n, d in wanted]
    sheet.time(parts)
    preset, model, schedule = random_model(run, sheet.device, sheet.half)
    sampler, batch = sampler_for(model, schedule, guidance=GUIDANCE), random_batch(model, one)
    host, whole = _host_and_whole(lambda: sampler.sample(*batch), sheet.device)
    sheet.say(f"{run} b{one}-guided", host_ms=1e3 * host, whole_ms=1e3 * whole)


def tokenizer(sheet: Sheet) -> None:
    """Encoding and decoding: how much TF32 and 16 bits change, and how fast they are."""
    preset = load_preset("mini" if sheet.tiny else "paper")
    settings, sizes = preset.tokenizer.autoencoder, preset.all_sizes
    images, side = 2 if sheet.tiny else 16, sizes[-1] * settings.stride
    torch.manual_seed(1)
    coarse = torch.rand(images, 3, side // 8, side // 8, device=sheet.device)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1) * 2 - 1
    chosen = torch.randint(settings.codebook_size, (images, sizes[-1], sizes[-1]))
    codes, shown = {}, {}
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    for precision in precisions:
        made = random_tokenizer(settings, sheet.device, precision)
        with torch.inference_mode(), convolutions_in(precision):
            codes[precision] = made.codes(smooth, sizes)
            shown[precision] = to_uint8(made.decode(chosen.to(sheet.device))).int()
    for precision in precisions[1:]:
        levels = (shown[precision] - shown["float32"]).abs().double()
        mean, most = float(levels.mean()), float(levels.max())
        sheet.say(f"decoding in {precision}", gray_levels=mean, at_most=most)
    moved = [(codes["tf32"][s] != codes["float32"][s]).double().mean() for s in sizes]
    sheet.say("encoding in tf32", codes_moved=float(max(moved)))
    del made, codes, shown
    if sheet.tiny:
        sheet.time(chosen_parts(["tokenizer/decode/mini"]))
    else:
        names = [f"tokenizer/{what}/paper/b64" for what in ("encode", "decode")]
        sheet.time(chosen_parts(names, sheet.device))


def metrics(sheet: Sheet) -> None:
    """Features against the CPU's, and the time of the scores."""
    from pcb.metrics.frechet import frechet_distance
    from pcb.metrics.kid import kernel_distance
    from pcb.metrics.precision_recall import precision_recall
    from pcb.metrics.statistics import statistics_of

    preset = load_preset("mini" if sheet.tiny else "paper")
    if sheet.tiny or find_spec("torch_fidelity"):
        side = preset.grid * preset.tokenizer.autoencoder.stride
        pixels = torch.randint(256, (4, 3, side, side), dtype=torch.uint8)
        with torch.inference_mode():
            here = random_extractor(preset, sheet.device)(pixels.to(sheet.device)).pool.cpu()
            there = random_extractor(preset, CPU)(pixels).pool
        apart, size = float((here - there).abs().max()), float(there.abs().max())
        sheet.say("features, cpu", apart=apart, size=size)
    if not sheet.tiny and find_spec("torch_fidelity"):
        sheet.time(chosen_parts(["features/inception/b64"], sheet.device))
    generated, reference, width = (300, 200, 64) if sheet.tiny else (50_000, 10_000, 2048)
    one, two = (torch.rand(n, width, device=sheet.device) for n in (generated, reference))
    target = statistics_of(two)
    assert np.isfinite(target.root).all()  # Computed once for all that is compared.
    kid = one.cpu(), two.cpu(), 10, min(1000, reference), sheet.device
    scores: Mapping[str, Callable[[], object]] = {
        "Frechet distance": lambda: frechet_distance(statistics_of(one), target, sheet.device),
        "precision and recall": lambda: precision_recall(one, two, 3),
        "10 subsets of KID": lambda: kernel_distance(*kid),
    }
    for name, score in scores.items():
        sheet.say(name, first_s=seconds_of(score, sheet.device), s=seconds_of(score, sheet.device))


def systems(sheet: Sheet) -> None:
    """All systems of the table: one image, decoded or not, and a batch."""
    by_steps = sorted(catalog().values(), key=lambda system: system.steps)
    batches = ((2, True),) if sheet.tiny else ((1, False), (1, True), (64, False))
    own = [OwnSystem("L-2x", n, GUIDANCE, sheet.half, decoded=decoded) for n, decoded in batches]
    sheet.time(
        [one.part() for one in own if not sheet.tiny]
        + [
            System(system.name, batch, decoded, sheet.half, _SMALL if sheet.tiny else {}).part()
            for system in by_steps
            for batch, decoded in batches
        ]
    )


def ranks(sheet: Sheet) -> None:
    """NCCL and Gloo in one group, gradients averaged around compiled layers; one rank."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    os.environ.update(variables_of_ranks(2)[0], WORLD_SIZE="1")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if sheet.device.type == "cuda" else "gloo", rank=0, world_size=1
    )
    run, batch = ("mini", 4) if sheet.tiny else ("S-2x", 16)
    objective = random_objective(run, batch, sheet.device, sheet.half)
    objective.parallel = DistributedDataParallel(
        objective.loss, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    objective.compute = with_settings(objective.compute, micro_batch=batch // 2)
    objective.model.recompute = True
    for k in range(3):
        losses_T = objective.step(k, objective.batch(k))
        vote = torch.tensor([k])
        dist.all_reduce(vote, dist.ReduceOp.MAX, async_op=True).wait()
    mean = losses_T.double()
    dist.all_reduce(mean)
    sheet.say("two micro-batches, recomputed", loss=float(mean.mean()), vote=int(vote))
    objective.release()
    dist.destroy_process_group()


SECTIONS = {
    "environment": Section(25, environment),
    "graphs": Section(70, graphs),
    "train-s": Section(120, partial(training, "S-2x", 128)),
    "sampling": Section(95, sampling),
    "tokenizer": Section(40, tokenizer),
    "metrics": Section(35, metrics),
    "train-l": Section(110, partial(training, "L-2x", 64)),
    "ranks": Section(70, ranks),
    # LlamaGen's 576 steps, last, take most of it.
    "systems": Section(420, systems),
}


def _alone(part: Part) -> Part:
    """Return a part without its other variants and what they are compared by."""

    def make(device: torch.device) -> Case:
        case = part.make(device)
        return replace(case, variants={FAST: case.variants[FAST]}, compare=None)

    return replace(part, make=make)


def _listed(numbers: Mapping[str, Number]) -> str:
    texts = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in numbers.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = Parser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.set_defaults(run=_main)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="DIR")
    parser.add_argument(
        "--seconds", type=float, default=_WHOLE_SECONDS, help="of all sections, default %(default)g"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="toy sizes, on a CPU where there is no GPU"
    )
    parser.add_argument("--inside", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    return parser


def _main(arguments: argparse.Namespace) -> int:
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        raise UserError(f"{min(unknown)}: no such section; there are {', '.join(SECTIONS)}")
    if arguments.inside is not None:
        device = pick_device(Compute(device="auto" if arguments.tiny else "cuda"))
        sheet = Sheet(path=arguments.inside, device=device, tiny=arguments.tiny)
        SECTIONS[arguments.sections[0]].run(sheet)
        return int(sheet.results is not None and any(p.failure for p in sheet.results.parts))
    return _run_all(arguments.sections or list(SECTIONS), arguments)


def _run_all(names: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run sections one after the other, put together what they found; return 1 if one failed."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    end, states = time.monotonic() + arguments.seconds, {}
    for name in names:
        left = min(SECTIONS[name].seconds, end - time.monotonic())
        started = time.monotonic()
        if left < _LEAST_SECONDS:
            states[name] = "not run: no time left"
            continue
        print(f"== {name}", flush=True)
        file = str(_file(arguments.out, name))
        command = [sys.executable, "-m", "benchmarks.gpu", name, "--inside", file]
        try:
            done = subprocess.run(command + ["--tiny"] * arguments.tiny, timeout=left)
            states[name] = "done" if done.returncode == 0 else f"failed ({done.returncode})"
        except subprocess.TimeoutExpired:
            states[name] = f"stopped after {left:.0f} s"
        states[name] += f", {time.monotonic() - started:.0f} s"
    _put_together(arguments.out, states)
    return int(any(not state.startswith("done") for state in states.values()))


def _file(folder: Path, section: str) -> Path:
    return folder / f"section-{section}.json"


def _put_together(folder: Path, states: Mapping[str, str]) -> None:
    """Print the table of all sections; write `facts.json` and `results.json`."""
    rows: list[tuple[str, str, str]] = []
    whole: dict[str, object] = {}
    results: Results | None = None
    for name, state in states.items():
        path = _file(folder, name)
        found = json.loads(path.read_text()) if path.exists() else {"facts": [], "results": None}
        whole[name] = {"state": state, "facts": found["facts"]}
        rows.append((name, "state", state))
        rows += [(name, what, _listed(numbers)) for what, numbers in found["facts"]]
        if found["results"] is not None:
            own = msgspec.convert(found["results"], type=Results)
            results = own if results is None else _joined(results, own)
    print("\n".join(["", *aligned([("section", "what", "found"), *rows])]))
    write_atomic(folder / "facts.json", json.dumps(whole, indent=2) + "\n")
    if results is not None:
        print("\n".join(["", *table_lines(results)]))
        write_atomic(folder / "results.json", msgspec.json.encode(results))


def _joined(one: Results, other: Results) -> Results:
    """Return the parts of both; rates are the best of those precisions that both have."""
    machine = one.machine.best(other.machine)
    return Results(machine=machine, parts=(*one.parts, *other.parts))


if __name__ == "__main__":
    sys.exit(run(build_parser()))
