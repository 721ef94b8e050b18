"""Table 1's systems among the benchmarks: what is measured where, and what is stored."""

import json

import torch
from msgspec.structs import replace

from benchmarks.__main__ import chosen_parts
from benchmarks.measure import FAST, Measured
from benchmarks.systems import System, SystemStep, store_systems
from pcb.published.systems import catalog
from pcb.report.times import read_times
from tests.benchmarks.test_harness import of_h100, slept  # noqa: F401

SMALL = {
    "width": 16, "hidden_width": 32, "heads": 2, "blocks": 1, "self_blocks": 1, "cross_blocks": 1,
    "codes": 64, "code_width": 32, "classes": 10, "grid": (4, 4), "scales": (1, 2), "steps": 5,
    "channels": 32,
}  # fmt: skip


def part(name, milliseconds, items=1, **facts):
    seconds = {FAST: (milliseconds / 1000,)}
    return Measured(
        name=name, item="images", precision="bfloat16", items=items, seconds=seconds, facts=facts
    )


def test_all_eight_are_measured_on_a_gpu_and_a_step_of_each_on_a_cpu():
    full = {p.name for p in chosen_parts(["systems"], torch.device("cuda"))}
    eight = {*catalog(), "Checkerboard-L-2x"}
    for name in eight:
        assert {f"systems/{name}/b{n}{d}" for n in (1, 64) for d in ("", "-decoded")} <= full
    short = [p.name for p in chosen_parts(["systems"])]
    assert short == [f"systems/{name}/b1/step" for name in catalog()]


def test_a_step_stands_beside_one_of_the_papers_own_model():
    for name, system in catalog().items():
        case = SystemStep(name, run="mini", small=SMALL).make(torch.device("cpu"))
        first, other = case.variants.items()
        assert (first[0], other[0]) == (FAST, "mini")
        first[1]()
        other[1]()
        steps = System(name, 1, False, "float32", SMALL).ready(torch.device("cpu"))[0].decoder.steps
        assert case.facts == {"step": steps // 2, "of": steps} and steps <= system.steps


def test_times_are_stored_by_machine_and_kept(slept, tmp_path):  # noqa: F811
    path = tmp_path / "systems.json"
    own, later = part("systems/Checkerboard-L-2x/b1", 40, **{"model calls": 17}), []
    later += [part("systems/VAR-d16/b64", 160, 64), part("systems/VAR-d16/b1/step", 3)]
    later += [replace(own, name="systems/NAR-L/b1", failure="OutOfMemoryError: none")]
    store_systems(replace(slept, parts=(own,)), path)
    assert not path.exists()  # A CPU's are ratios alone.
    for parts in ((own,), tuple(later)):
        store_systems(replace(of_h100(slept), parts=parts), path)
    ((machine, found),) = json.loads(path.read_text()).items()
    assert "H100" in machine and set(found) == {"Checkerboard-L-2x", "VAR-d16"}
    assert found["Checkerboard-L-2x"]["b1"]["model calls"] == 17
    times = read_times(path)
    assert times.milliseconds("Checkerboard-L-2x") == 40
    assert times.milliseconds("VAR-d16") is None and times.per_second("VAR-d16") == 400
