"""Tables of the likelihood of held-out images: every schedule, and the price by steps."""

from collections.abc import Sequence

from pcb.order.allocation import allocation_of
from pcb.report.likelihood import Nats, worth
from pcb.report.rows import NOT_RUN, Row
from pcb.report.tables import NOTHING, Table, anchor


def likelihood_table(rows: Sequence[Row]) -> Table:
    """Return a line for every model and schedule: nats, bits, and what parallel sampling costs.

    `rows` are those of `Evidence.schedules`.
    """
    return Table(
        name="likelihood",
        caption="Negative log-likelihood (NLL) of held-out images under every schedule without "
        "guidance, which has none. The price is what it is above that at one token per block, of "
        "paired images. Allocation says what the model knows of the blocks: aligned with the "
        "order, of sizes that training draws, or untrained.",
        header=(
            "model",
            "setting",
            "scales",
            "blocks per scale",
            "allocation",
            "steps",
            "images",
            "NLL (nats per image)",
            "bits per token",
            "price (nats per image)",
            "price (%)",
            "price by scale (nats)",
        ),
        rows=tuple(_line(row) for row in rows),
        text_columns=5,
        links=tuple(f"task-likelihood-{anchor(row.variant)}" for row in rows),
    )


def price_table(rows: Sequence[Row]) -> Table:
    """Return the price of parallel sampling, a line for each step count, a column per model.

    Of several schedules with as many steps the first stands there, as in the figure.
    """
    models = tuple(dict.fromkeys(row.model for row in rows))
    cells: dict[tuple[int, str], str] = {}
    links: dict[tuple[str, str], str] = {}
    for row in rows:
        if not _is_serial(row):
            cells.setdefault((row.steps, row.model), _price(row))
            link = f"task-likelihood-{anchor(row.variant)}"
            links.setdefault((str(row.steps), row.model), link)
    return Table(
        name="price_by_steps",
        caption="Price of parallel sampling, nats per image, by total steps: how much higher the "
        "NLL of held-out images is than at one token per block; ± one standard error over images. "
        f"{worth([row.nats for row in rows if row.nats])}",
        header=("steps", *models),
        rows=tuple(
            (str(n), *(cells.get((n, m), NOTHING) for m in models))
            for n in sorted({steps for steps, _ in cells})
        ),
        text_columns=0,
        cell_links=links,
    )


def _line(row: Row) -> tuple[str, ...]:
    fixed = (
        row.model,
        row.setting,
        " ".join(map(str, row.schedule.sizes)),
        " ".join(map(str, row.schedule.blocks_per_scale)),
        allocation_of(row.schedule),
        str(row.steps),
    )
    nats = row.nats
    if nats is None:
        return (*fixed, *[NOT_RUN] * 6)
    measured = (str(nats.images), _with_error(nats.nll, nats.nll_se), f"{nats.bits_per_token:.3f}")
    if _is_serial(row):
        return (*fixed, *measured, *[NOTHING] * 3)
    return (
        *fixed,
        *measured,
        _price(row),
        _percent(nats),
        " ".join(map(_short, nats.scale_prices)),
    )


def _price(row: Row) -> str:
    return NOT_RUN if row.nats is None else _with_error(row.nats.price, row.nats.price_se)


def _percent(nats: Nats) -> str:
    return f"{100 * nats.price / nats.serial:.1f}"


def _with_error(value: float, error: float) -> str:
    return f"{_short(value)} ± {error:.2f}"


def _short(value: float) -> str:
    """Return a number with two decimals; what rounds to nothing has no sign."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def _is_serial(row: Row) -> bool:
    """Say whether every block is one token: what the others are compared with."""
    return row.steps == row.schedule.tokens
