"""Claims by likelihood: paired errors, three outcomes, and what a guided row has instead."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from pcb.config import Claims, SamplingConfig
from pcb.config.seeds import seed_name
from pcb.pipeline.tasks import Pipeline
from pcb.report.claims import decide
from pcb.report.evidence import Evidence
from pcb.report.likelihood import Array, Nats, Places, standard_error
from pcb.report.likelihood_figures import plot_likelihood
from pcb.report.likelihood_tables import likelihood_table, price_table
from pcb.report.rows import Row, make_row, row_cells
from pcb.report.verdict import Reading

IMAGES = 100
PRICES = {3: 20.0, 4: 10.0, 9: 2.0, 13: 0.5, 17: 0.1, 37: 0.0}
"""Of 100 nats."""
NOISE = 1.0
"""Deviation of a price from image to image: its mean's error is a tenth of that."""


def standard(seed: int) -> Array:
    """Return a number for each image, of mean 0 and standard deviation 1 exactly."""
    drawn = np.random.default_rng(seed).standard_normal(IMAGES)
    return (drawn - drawn.mean()) / drawn.std(ddof=1)


def nats_of(row: Row, price: float, *, level: float = 100.0, images: int = 0) -> Row:
    """Return a row with this price on the finest scale, of images that differ by far more."""
    scales = len(row.schedule.sizes)
    serial = np.repeat(level / scales + 5 * standard(images)[:, None], scales, axis=1)
    own = serial.copy()
    own[:, -1] += price + NOISE * standard(row.steps + 1)
    return replace(row, nats=Nats(nats_NS=own, serial_NS=serial, sizes=row.schedule.sizes))


def make_rows(
    mini: Pipeline, changed: Mapping[tuple[str, int], float | None] | None = None
) -> list[Row]:
    """Return rows of three ratios that pay the same, but for the changed; None: not run."""
    rows = []
    for model, first in (("ratio2", 4), ("ratio3", 3), ("ratio4", 3)):
        for steps in (first, 9, 13, 17, 37):
            row = make_row(mini.preset, model, SamplingConfig(total_steps=steps))
            price = (changed or {}).get((model, steps), PRICES[steps])
            rows.append(row if price is None else nats_of(row, price))
    return rows


def readings(rows: list[Row]) -> dict[str, Reading]:
    claims = decide([], Claims(), schedules=rows)
    return {claim.name: claim.readings[0] for claim in claims[:4]}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, "holds holds holds"),
        # The limit is two percent; errors are a tenth of a nat.
        ({("ratio2", 4): 1.0}, "fails holds holds"),
        ({("ratio2", 4): 1.9}, "undecided holds holds"),
        ({("ratio2", 4): 2.5}, "holds holds holds"),
        # More steps gain two nats on 17; that they lose some is no gain.
        ({("ratio2", 37): -2.0}, "holds fails holds"),
        ({("ratio2", 37): 9.0}, "holds holds holds"),
        ({("ratio4", 13): 4.5}, "holds holds fails"),
        ({("ratio4", 13): -2.0}, "holds holds holds"),
        ({("ratio3", 17): None}, "holds undecided undecided"),
        ({("ratio3", 3): None, ("ratio2", 4): 0.0}, "fails holds holds"),
    ],
)
def test_outcomes(
    mini: Pipeline, changed: Mapping[tuple[str, int], float | None], found: str
) -> None:
    read = readings(make_rows(mini, changed))
    assert [read[name].verdict for name in ("C1a", "C1b", "C2")] == found.split()


def repeated(rows: list[Row], prices: Mapping[str, tuple[float, ...]]) -> list[Row]:
    """Return the rows of three trainings each, of which some pay so much more in all but serial."""
    return [
        replace(nats_of(row, PRICES[row.steps] + more), model=seed_name(row.model, seed))
        for row in rows
        for seed, more in enumerate(prices.get(row.model, (0.0, 0.0, 0.0)))
    ]


def test_means_over_trainings_decide_with_their_errors(mini: Pipeline) -> None:
    """Ratio 3 pays six nats more in each training, or that much on average by chance."""
    rows = make_rows(mini)
    always = readings(repeated(rows, {"ratio3": (6.0, 6.0, 6.0)}))["C2"]
    by_chance = readings(repeated(rows, {"ratio3": (0.0, 12.0, 6.0)}))["C2"]
    assert (always.verdict, by_chance.verdict) == ("fails", "undecided")
    for reading in (always, by_chance):
        assert reading.checks[0].value == pytest.approx(0.06)
    # Images are the same in all trainings: only these add to the error, 6 nats over root three.
    assert by_chance.checks[0].error == pytest.approx(0.06 / math.sqrt(3), rel=0.01)
    assert "mean of 3 trainings" in by_chance.checks[0].detail


def test_one_ratio_alone_says_nothing_of_ratios(mini: Pipeline) -> None:
    rows = [row for row in repeated(make_rows(mini), {}) if row.ratio == 2]
    reading = readings(rows)["C2"]
    assert reading.verdict == "undecided"
    assert reading.reason == "No models of ratios 2, 3, 4 that are alike in all else."


@pytest.mark.parametrize(
    ("level", "images", "verdict"),
    [
        (100.0, 0, "holds"),
        (98.0, 0, "holds"),
        (104.5, 0, "fails"),
        # What mixing gains then differs from image to image by as much as images do.
        (104.5, 1, "undecided"),
        (None, 0, "undecided"),
    ],
)
def test_mixing_is_read_off_the_likelihood_itself(
    mini: Pipeline, level: float | None, images: int, verdict: str
) -> None:
    rows = make_rows(mini)
    mixed = next(row for row in rows if row.variant == "ratio2/t17")
    plain = replace(mixed, model="ratio2-unmixed", mixing_layers=0, nats=None)
    rows.append(plain if level is None else nats_of(plain, PRICES[17], level=level, images=images))
    assert readings(rows)["C3"].verdict == verdict


def test_readings_that_differ_leave_a_claim_open(mini: Pipeline) -> None:
    schedules = make_rows(mini)
    rows = [replace(row, scores={"fid": 1.0, "fid_std": 0.01}, nats=None) for row in schedules]
    first = decide(rows, Claims(), schedules=schedules)[0]
    assert [reading.verdict for reading in first.readings] == ["holds", "fails"]
    assert first.verdict == "undecided" and first.reason.startswith("The readings differ.")
    alone = decide([], Claims(), schedules=schedules)[0]
    assert alone.verdict == "holds"


def test_errors_are_of_paired_images(mini: Pipeline) -> None:
    nats = nats_of(make_row(mini.preset, "ratio2", SamplingConfig(total_steps=17)), 0.1).nats
    assert nats is not None
    assert nats.price == pytest.approx(0.1) and nats.price_se == pytest.approx(NOISE / 10)
    assert nats.nll_se > 10 * nats.price_se
    assert nats.scale_prices == pytest.approx((0.0, 0.0, 0.0, 0.1))
    assert nats.bits_per_token == pytest.approx(100.1 / 85 / np.log(2))
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)


def test_images_of_one_place_count_together() -> None:
    """Two classes far apart, whose places differ and whose images of a place are nearly alike."""
    random, errors, means = np.random.default_rng(0), [], []
    classes, places = np.repeat([0, 1], 60), np.tile(np.repeat(np.arange(6), 10), 2)
    given = Places(classes_N=classes, places_N=places)
    for _ in range(500):
        of_places = random.normal(size=(2, 6))
        values = 50 * classes + of_places[classes, places] + 0.1 * random.normal(size=120)
        means.append(values.mean())
        errors.append(standard_error(values, given))
    # Twelve places of deviation 1.
    assert np.std(means) == pytest.approx(1 / math.sqrt(12), rel=0.1)
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.1)
    alone = Places(classes_N=np.zeros(4, np.int64), places_N=np.arange(4))
    values = np.array([1.0, 2.0, 5.0, 8.0])
    assert standard_error(values, alone) == pytest.approx(standard_error(values))


def test_a_cell_says_why_it_is_empty(here: object, mini: Pipeline) -> None:
    rows = Evidence.of(mini).rows()
    guided = next(row for row in rows if row.guided)
    assert row_cells(guided)["nll"] == row_cells(guided)["price_se"] == "guided"
    plain = next(row for row in rows if not row.guided)
    assert plain.nats is not None
    cells = row_cells(plain)
    assert float(cells["nll"]) == plain.nats.nll and float(cells["price"]) == plain.nats.price
    assert sum(map(float, cells["price_per_scale"].split())) == pytest.approx(plain.nats.price)
    absent = make_row(mini.preset, "ratio2", SamplingConfig(total_steps=17))
    assert row_cells(absent)["nll"] == ""
    assert row_cells(replace(absent, has_likelihood=True))["nll"] == "not run"


def test_every_schedule_has_a_line_and_one_token_per_block_no_price(
    here: object, mini: Pipeline
) -> None:
    schedules = Evidence.of(mini).schedules()
    table = likelihood_table(schedules)
    assert len(table.rows) == 3 * 7 + 2
    assert [row[1] for row in table.rows].count("serial") == 4
    assert all((row[9] == "\N{EN DASH}") == (row[1] == "serial") for row in table.rows)
    prices = price_table(schedules)
    assert prices.header == ("steps", "ratio2", "ratio3", "ratio4", "ratio2-unmixed")
    assert [row[0] for row in prices.rows] == ["3", "4", "9", "13", "17", "21", "37"]
    plots = {plot.name: plot for plot in plot_likelihood(schedules)}
    assert set(plots) == {"price", "price-scales"}
    legend = plots["price"].figure.axes[0].get_legend()
    assert legend is not None
    lines = [text.get_text() for text in legend.get_texts()]
    assert lines == ["ratio 2", "ratio 3", "ratio 4"]
    assert "bits per token" in plots["price"].caption


def test_models_of_other_orders_decide_none_of_the_papers_claims(mini: Pipeline) -> None:
    """One that would fail C1a and C1b, beside the paper's own that hold it."""
    rows = make_rows(mini)
    failing = make_rows(mini, {("ratio2", 4): 1.0, ("ratio2", 37): -2.0, ("ratio4", 13): 4.5})
    rasters = [
        replace(row, order="raster", model=f"{row.model}-raster", architecture="raster")
        for row in failing
    ]
    assert readings([*rasters, *rows]) == readings(rows)
    named = [replace(row, order="checkerboard") for row in rasters]
    assert readings([*named, *rows]) != readings(rows)
