"""The list of a report's figures, with their captions."""

import math
from collections.abc import Iterator, Sequence

from pcb.config.seeds import model_and_seed
from pcb.order.names import CHECKERBOARD
from pcb.report.charts import FEW, fid_map, guidance_figure, guided_lines, usage_figure
from pcb.report.curves import (
    chosen_codes_figure,
    scale_loss_figure,
    score_figure,
    time_figure,
    tokenizer_figure,
    training_figure,
)
from pcb.report.evidence import Evidence
from pcb.report.likelihood import worth_of
from pcb.report.order_curves import orders_figure
from pcb.report.order_figures import order_figure, steps_figure
from pcb.report.order_study import Comparison
from pcb.report.plot import Plot
from pcb.report.published import published_points
from pcb.report.rows import Row
from pcb.report.system_figures import systems_figure, timed_points
from pcb.report.times import NONE, Times

ORDER_SIZES, ORDER_BLOCKS = (8, 16), (4, 8)
"""Grids whose order is shown, and the K of their blocks: the paper's at ratios 2 and 4."""
BARS = (
    " Bars are one standard error, from a bootstrap over the generated images; what another seed "
    "of training would give is not in them."
)

_SPLITS = " Bars are standard deviations over the splits of IS and the subsets of KID."


def plot_figures(evidence: Evidence, rows: Sequence[Row], times: Times = NONE) -> Iterator[Plot]:
    """Yield every figure for which there are results; `times` are those of whole systems."""
    yield from _scores(evidence, rows)
    yield from _systems(evidence, rows, times)
    yield from _ablations(evidence, rows)
    yield from _order(evidence, rows)
    yield from _tokenizer(evidence)
    yield from _training(evidence)
    yield from _codes(evidence, rows)


def _scores(evidence: Evidence, rows: Sequence[Row]) -> Iterator[Plot]:
    steps = evidence.preset.claims.compare_steps
    if not any(row.was_run for row in rows):
        return
    published = published_points() if evidence.comparable else []
    crosses = " Crosses are the paper's own rows, which are guided." if published else ""
    seeds = max(model_and_seed(model)[1] for model in evidence.preset.models) + 1
    bars = BARS if any("fid_std" in r.scores for r in rows) else ""
    if seeds > 1:
        bars = f" Points are means over up to {seeds} seeds of training, bars their deviations."
    yield Plot(
        name="fid",
        section="overview",
        title="FID against total steps",
        caption="A line per ratio, without guidance; hollow markers are guided rows. The dotted "
        f"line marks {steps} steps, where claims compare.{crosses}{bars}",
        figure=score_figure(rows, ["fid"], steps, published),
    )
    yield Plot(
        name="scores",
        section="steps",
        title="The other scores against total steps",
        caption="Lines and markers as above: color, marker and dashes belong to a ratio."
        + (bars if seeds > 1 else _SPLITS),
        figure=score_figure(rows, ["is", "kid", "precision", "recall"], steps, published),
    )
    if any(row.was_run and row.seconds_per_image is not None for row in rows):
        yield Plot(
            name="time",
            section="steps",
            title="FID against sampling time",
            caption="Time as measured while the images were sampled, decoding not included; "
            "guided rows evaluate the model twice per step.",
            figure=time_figure(rows),
        )


def _systems(evidence: Evidence, rows: Sequence[Row], times: Times) -> Iterator[Plot]:
    """FID of Table 1's systems against measured time, where the preset is of the paper's data."""
    points = timed_points(rows, evidence.system_rows(), times) if evidence.comparable else []
    if points:
        yield Plot(
            name="systems",
            section="published",
            title="FID against the time of one image",
            caption=f"Times measured on {times.machine} at full size with random weights, one "
            "image alone, decoding not included. Crosses are published FIDs, which were not "
            "measured here; dots are measured ones.",
            figure=systems_figure(points),
        )


def _ablations(evidence: Evidence, rows: Sequence[Row]) -> Iterator[Plot]:
    steps = evidence.preset.claims.compare_steps
    if any(row.was_run and not row.guided for row in rows):
        yield Plot(
            name="map",
            section="ablations",
            title="FID over ratio and total steps",
            caption="Without guidance; light is good. What was not run is blank.",
            figure=fid_map(rows),
            wide=len({row.steps for row in rows}) > FEW,
        )
    if guided_lines(rows, steps):
        yield Plot(
            name="guidance",
            section="ablations",
            title="FID and IS against guidance",
            caption=f"At {steps} steps; g = 0 is without guidance.",
            figure=guidance_figure(rows, steps),
        )


def _order(evidence: Evidence, rows: Sequence[Row]) -> Iterator[Plot]:
    blocks = " and ".join(
        f"K = {k} at {n}×{n}" for n, k in zip(ORDER_SIZES, ORDER_BLOCKS, strict=True)
    )
    yield Plot(
        name="order",
        section="order",
        title="Ranks and blocks",
        caption=f"Above, the rank of every cell. Below, which block samples it, for {blocks}.",
        figure=order_figure(ORDER_SIZES, ORDER_BLOCKS),
    )
    for row in compared(rows, evidence.preset.claims.compare_steps):
        yield Plot(
            name=f"steps-{row.model}",
            section="order",
            title=f"{row.model}: its {row.steps} steps",
            caption="A panel per step, from the coarsest scale to the finest: dark cells are "
            "sampled in this step, pale ones in earlier steps of the same scale.",
            figure=steps_figure(row.schedule, row.order),
            wide=True,
        )


def plot_order_study(comparisons: Sequence[Comparison]) -> Iterator[Plot]:
    """Yield the figure of a comparison of orders, if there is one."""
    if comparisons:
        serial = [c for c in comparisons if c.schedule.steps == c.schedule.tokens]
        nats = [(c.schedule.tokens, float(c.nll[CHECKERBOARD].mean())) for c in serial]
        yield Plot(
            name="orders",
            section="order",
            title="Orders beside the checkerboard",
            caption="NLL of held-out images, lower is better. Above, the mean over trainings, with "
            "bars from the best to the worst. Below, differences to the checkerboard, paired by "
            "image and seed; bars are one standard error, of images and trainings together. With "
            "the fewest steps, one block per scale, the order plays no part: a control. "
            f"{worth_of(nats)}".rstrip(),
            figure=orders_figure(comparisons),
            wide=True,
        )


def _tokenizer(evidence: Evidence) -> Iterator[Plot]:
    for log in evidence.tables("tokenizer", "log.csv").values():
        error = (
            "Reconstruction error" if "reconstruction" in log else "Squared distance to the code"
        )
        yield Plot(
            name="tokenizer",
            section="tokenizer",
            title="Training of the tokenizer",
            caption=f"{error} and perplexity of the chosen codes, a batch of one scale at a time.",
            figure=tokenizer_figure(log),
        )
    results = evidence.results("tokenizer") or {}
    if "codebook_usage" in results and "perplexity" in results:
        yield Plot(
            name="usage",
            section="tokenizer",
            title="Use of the codebook, scale by scale",
            caption=f"On {results.get('measured_on', 'held-out images')}.",
            figure=usage_figure(results["codebook_usage"], results["perplexity"]),
        )


def _training(evidence: Evidence) -> Iterator[Plot]:
    logs = evidence.tables("train", "log.csv")
    if not logs:
        return
    preset = evidence.preset
    first = {model: log for model, log in logs.items() if not model_and_seed(model)[1]}
    seeds = " Of a model's seeds the first is shown." if len(first) < len(logs) else ""
    scale_ratios = {model: preset.models[model].model.scale_ratio for model in first}
    ratios = {m: None if r == "single" else float(r) for m, r in scale_ratios.items()}
    sizes = {model: preset.sizes(model) for model in first}
    codes = evidence.preset.tokenizer.autoencoder.codebook_size
    yield Plot(
        name="training",
        section="training",
        title="Training loss of every model",
        caption="Mean over all tokens of all scales. The dotted line is a uniform guess, "
        f"ln {codes} = {math.log(codes):.4f}. Models of other scales have other tokens to "
        f"predict, so levels compare only within a ratio.{seeds}",
        figure=training_figure(first, ratios, math.log(codes)),
    )
    yield Plot(
        name="training-scales",
        section="training",
        title="Training loss of every scale",
        caption="The same, scale by scale.",
        figure=scale_loss_figure(first, sizes),
    )


def _codes(evidence: Evidence, rows: Sequence[Row]) -> Iterator[Plot]:
    stats = evidence.tables("sample", "stats.csv")
    shown = [r for r in compared(rows, evidence.preset.claims.compare_steps) if r.variant in stats]
    if shown:
        yield Plot(
            name="codes",
            section="codes",
            title="How sure the models are",
            caption=f"At {shown[0].steps} steps without guidance, means over images and tokens of "
            "a step. A large marker begins a scale.",
            figure=chosen_codes_figure(shown, stats),
        )


def compared(rows: Sequence[Row], steps: int) -> list[Row]:
    """Return each model's first unguided row with this number of steps."""
    found = {row.model: row for row in reversed(rows) if row.steps == steps and not row.guided}
    return [found[model] for model in dict.fromkeys(row.model for row in rows) if model in found]
