"""Several seeds of a model: one row of means, with the spread over trainings in its bars."""

from dataclasses import replace

import numpy as np
import pytest

from pcb.config import SamplingConfig
from pcb.config.seeds import seed_name
from pcb.order.schedule import schedule_from_blocks, serial_schedule
from pcb.report.likelihood import Nats
from pcb.report.likelihood_figures import plot_likelihood
from pcb.report.order_study import Measured
from pcb.report.rows import Row, make_row
from pcb.report.seeds import likelihood_seeds_table, over_seeds, seeds_table
from tests.report.results import mini_pipeline

FIDS = {"ratio2": (4.0, 5.0, 9.0), "ratio3": (7.0,)}


@pytest.fixture(scope="module")
def rows():
    preset = mini_pipeline({"models": {"ratio2": {"seeds": 3}}}).preset
    (point,) = (p for p in preset.sampling_configs("ratio2") if p.name == "t17")
    return [
        make_row(preset, seed_name(model, seed), point, {"fid": fid, "fid_std": 0.1, "is": 2 * fid})
        for model, fids in FIDS.items()
        for seed, fid in enumerate(fids)
    ]


def test_seeds_become_one_row_of_means(rows):
    two, three = over_seeds(rows)
    assert (two.model, two.variant) == ("ratio2", "ratio2/t17")
    assert two.scores["fid"] == pytest.approx(6) and two.scores["is"] == pytest.approx(12)
    assert two.scores["fid_std"] == pytest.approx(np.std([4, 5, 9], ddof=1))
    # One training says nothing of others: the bootstrap's deviation stays.
    assert three == rows[3]


def test_what_was_not_run_has_no_part_in_the_mean(rows):
    left = replace(rows[2], scores={})
    (two,) = over_seeds([*rows[:2], left])
    assert two.scores["fid"] == pytest.approx(4.5)
    (none,) = over_seeds([replace(row, scores={}) for row in rows[:3]])
    assert not none.was_run and none.model == "ratio2"
    (one,) = over_seeds([rows[0], replace(rows[1], scores={}), left])
    assert one.scores["fid"] == 4 and "fid_std" not in one.scores


def test_the_table_has_mean_and_deviation_of_models_with_several(rows):
    table = seeds_table(rows)
    assert table.rows == (
        ("ratio2", "t17", "17", "3", "6.0 ± 2.6", "12.0 ± 5.3", "–", "–", "–"),
    )  # fmt: skip


def test_prices_are_taken_training_by_training():
    """Trainings a hundred nats apart pay 2 and 3 nats for one block per scale."""
    one, serial = schedule_from_blocks((1, 2), 1), serial_schedule((1, 2))
    measured = [
        Measured(
            model=seed_name(model, seed),
            family=model,
            order="checkerboard",
            seed=seed,
            ratio=2.0,
            schedule=schedule,
            nll_N=np.array([0.0, 2.0]) + level,
        )
        for model, seed, schedule, level in (
            *(("a", 0, serial, 100), ("a", 0, one, 102), ("a", 1, serial, 200), ("a", 1, one, 203)),
            *(("b", 0, serial, 50), ("b", 0, one, 60)),
        )
    ]
    assert likelihood_seeds_table(measured).rows == (
        ("a", "1 1", "aligned", "2", "2", "154 ± 71", "2.50 ± 0.71", "0.00"),
        ("a", "1 4", "aligned", "5", "2", "151 ± 71", "–", "–"),
    )


def test_two_schedules_of_as_many_steps_stay_apart():
    coarse, fine = ((1, 2, 1), (1, 1, 2))
    serial = serial_schedule((1, 2, 4))
    levels = {schedule_from_blocks((1, 2, 4), coarse): 7, schedule_from_blocks((1, 2, 4), fine): 9}
    measured = [
        Measured(
            model=seed_name("a", seed),
            family="a",
            order="checkerboard",
            seed=seed,
            ratio=2.0,
            schedule=schedule,
            nll_N=np.full(2, level + seed),
        )
        for seed in (0, 1)
        for schedule, level in {**levels, serial: 5}.items()
    ]
    rows = likelihood_seeds_table(measured).rows
    assert [(row[1], row[3], row[6]) for row in rows] == [
        ("1 2 1", "4", "2.00 ± 0.00"),
        ("1 1 2", "4", "4.00 ± 0.00"),
        ("1 4 16", "21", "–"),
    ]


def test_a_line_of_prices_has_means_over_seeds_of_the_papers_order():
    """Bars are the seeds' deviation; of two schedules of one total the first stands there."""
    preset = mini_pipeline().preset
    sizes = preset.models["ratio2"].model.sizes(preset.grid)
    blocks = ([1, 1, 1, 1], [1, 2, 2, 4], [1, 4, 4, 8], [1, 4, 6, 6])
    serial = np.full((2, len(sizes)), 10.0)

    def schedules(model: str, level: float) -> list[Row]:
        found = []
        for number, own in enumerate(blocks):
            row = make_row(preset, "ratio2", SamplingConfig(blocks=tuple(own)))
            nats = serial + np.array([0, 0, 0, level + number])
            nats = Nats(nats_NS=nats, serial_NS=serial, sizes=tuple(sizes))
            found.append(replace(row, model=model, nats=nats))
        return found

    raster = [replace(row, order="raster") for row in schedules("raster", 100)]
    rows = [*raster, *schedules("ratio2", 0), *schedules(seed_name("ratio2", 1), 2)]
    plots = {plot.name: plot for plot in plot_likelihood(rows)}
    (container,) = plots["price"].figure.axes[0].containers
    line, _, (bars,) = container
    assert line.get_xydata().tolist() == [[4, 1], [9, 2], [17, 3]]
    spans = [float(high - low) for (_, low), (_, high) in bars.get_segments()]
    assert spans == pytest.approx(3 * [2 * 2**0.5])
    finest = plots["price-scales"].figure.axes[2].containers[0][0]
    assert finest.get_xydata().tolist() == [[1, 1], [4, 2], [8, 3]]
    assert "means over 2 trainings" in plots["price"].caption
