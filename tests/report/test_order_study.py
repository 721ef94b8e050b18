"""Orders side by side: paired differences with two errors, what is named, and the report of it."""

import json
import math
import re
from contextlib import chdir

import numpy as np
import pytest

from pcb.config.seeds import seed_name
from pcb.order.schedule import schedule_from_blocks, serial_schedule
from pcb.pipeline.run import run_task
from pcb.report.build import write_report
from pcb.report.evidence import Evidence
from pcb.report.order_study import Measured, compare_orders, differences_of, orders_table, verdict
from pcb.runtime.atomic import atomic
from tests.report.results import ENTRIES
from tests.tasks import pipeline_of

SIZES = (1, 2, 4)
K1, K2, SERIAL = (
    schedule_from_blocks(SIZES, 1),
    schedule_from_blocks(SIZES, 2),
    serial_schedule(SIZES),
)


def made(order, seed, schedule, nll_N, family="a", ratio=2.0):
    return Measured(
        model=seed_name(order, seed),
        family=family,
        order=order,
        seed=seed,
        ratio=ratio,
        schedule=schedule,
        nll_N=np.asarray(nll_N, dtype=float),
    )


def test_differences_are_paired_by_image_and_seed():
    """Images differ by far more than orders, seeds too: pairs take both out."""
    images, seeds = np.array([100.0, 150, 300]), np.array([0.0, 40])
    measured = [made("checkerboard", s, K2, images + seeds[s]) for s in range(2)]
    added = {0: np.array([1.0, 2, 3]), 1: np.array([3.0, 4, 5])}
    measured += [made("raster", s, K2, images + seeds[s] + added[s]) for s in (1, 0)]
    (comparison,) = compare_orders(measured)
    (difference,) = comparison.differences
    assert (difference.order, difference.seeds, difference.mean) == ("raster", 2, 3.0)
    # Means over trainings are 2, 3, 4 and over images 2, 4.
    assert difference.over_images == pytest.approx(1 / math.sqrt(3))
    assert difference.over_trainings == pytest.approx(math.sqrt(2) / math.sqrt(2))
    assert comparison.nll["raster"].tolist() == pytest.approx([550 / 3 + 2, 550 / 3 + 44])


def test_a_seed_without_a_partner_is_left_out():
    measured = [made("checkerboard", 0, K2, [1, 2]), made("checkerboard", 1, K2, [5, 9])]
    measured += [made("halton", 1, K2, [6, 11]), made("halton", 2, K2, [70, 80])]
    (difference,) = compare_orders(measured)[0].differences
    assert (difference.seeds, difference.mean, difference.over_trainings) == (1, 1.5, None)
    assert not difference.stands_out


def test_the_errors_cover_the_truth_as_often_as_they_say():
    """Orders alike but for chance: of all differences about one in twenty is named.

    The checkerboard is one of the seven, so its own trainings move all six differences at once.
    """
    random, out, count = np.random.default_rng(0), 0, 2000
    orders = ("checkerboard", *map(str, range(6)))
    for _ in range(count):
        # Seven orders, two seeds, whose luck is partly the same for all, 20 images.
        trainings = random.normal(size=(7, 2, 1)) + random.normal(scale=3.0, size=(2, 1))
        nll = trainings + 0.1 * random.normal(size=(7, 2, 20))
        by_order = {order: dict(enumerate(nll[k])) for k, order in enumerate(orders)}
        out += sum(found.stands_out for found in differences_of(by_order))
    assert out / count / 6 == pytest.approx(0.05, abs=0.01)


def test_families_and_schedules_are_compared_apart():
    measured = [
        made(order, 0, schedule, [1, 2], family=family, ratio=ratio)
        for family, ratio, orders in (
            ("a", 2.0, ("raster", "checkerboard")),
            ("b", None, ("checkerboard", "halton")),
            ("alone", 3.0, ("checkerboard",)),
            ("without", 4.0, ("raster", "halton")),
        )
        for schedule in (SERIAL, K1)
        for order in orders
    ]
    found = compare_orders(measured)
    assert [(c.ratio, c.schedule.steps, c.control) for c in found] == [
        *((2.0, 3, True), (2.0, 21, False)),
        *((None, 3, True), (None, 21, False)),
    ]


def study(effect):
    """Three seeds of three orders; raster costs more: 9 in the control, `effect` with few steps."""
    random = np.random.default_rng(1)
    images = 100 + random.normal(scale=20, size=200)
    shifts = {("raster", K1): 9.0, ("raster", K2): effect}
    return compare_orders(
        made(
            order,
            seed,
            schedule,
            images + shifts.get((order, schedule), 0) + random.normal(size=200),
        )
        for order in ("checkerboard", "raster", "random")
        for seed in range(3)
        for schedule in (K1, K2, SERIAL)
    )


def test_the_verdict_names_only_what_exceeds_both_errors():
    said = verdict(study(8.0))
    assert re.search(r"ratio 2, raster worse than the checkerboard by (8\.\d|7\.9) ± 0\.\d", said)
    assert said.count("than the checkerboard") == 1
    # The control, where the order plays no part, is never named.
    assert f"at {K2.steps} steps" in said and f"at {K1.steps} steps" not in said
    assert verdict(study(0.0)).startswith("No order differs from the checkerboard by more than")
    assert verdict([]) == ""
    once = compare_orders([made("checkerboard", 0, K2, [1, 2]), made("raster", 0, K2, [9, 10])])
    assert "trained once" in verdict(once)


def test_the_table_shows_the_control_and_both_errors():
    table = orders_table(study(8.0))
    assert table.header == (
        "ratio",
        "blocks per scale",
        "steps",
        "checkerboard",
        "raster",
        "random",
    )
    assert [row[:3] for row in table.rows] == [
        ("ratio 2", "1 1 1 (control)", "3"),
        ("ratio 2", "1 2 2", "5"),
        ("ratio 2", "1 4 16", "21"),
    ]
    assert table.rows[1][4].endswith(" *") and table.rows[1][4].startswith("+")
    assert not table.rows[2][5].endswith("*")


def test_a_report_of_a_study_of_orders(tmp_path, monkeypatch):
    """Made-up likelihoods of the preset's every model: no images are sampled, none are missed."""
    monkeypatch.delenv("PCB_PRESET", raising=False)
    pipeline = pipeline_of("orders-smoke")

    def likelihood(job):
        config, model = job.task.sampling_config, job.task.model
        schedule = config.schedule(job.preset.sizes(model))
        costs = 5.0 if "raster" in model and schedule.steps == 13 else 0.0
        noise = np.random.default_rng(len(model) + schedule.steps).normal(size=(40, 4))
        with atomic(job.folder / "nll.npz") as temporary:
            np.savez(temporary, nll=25 + costs + 0.1 * noise, labels=np.arange(40) % 10)
        return {"images": 40}

    entries = {**ENTRIES, "likelihood": likelihood}
    with chdir(tmp_path):
        for task in pipeline:
            if not task.in_git:
                run_task(task, pipeline.preset, entries[task.stage])
        results = write_report(Evidence.of(pipeline), tmp_path / "report")
    assert "raster worse than the checkerboard by 20" in results["orders"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert results["orders"].split(":")[0] in page
    assert 'id="figure-orders"' in page and 'id="table-orders"' in page
    assert json.loads((tmp_path / "report" / "claims.json").read_text())
    assert (tmp_path / "report" / "figures" / "orders.png").stat().st_size > 10_000
    assert "1 1 1 1 (control)" in (tmp_path / "report" / "tables" / "orders.md").read_text()
