"""Claims: every verdict can be reached, and what was not run leaves a claim open."""

import math
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from pcb.config import Claims, SamplingConfig
from pcb.config.seeds import seed_name
from pcb.pipeline.tasks import Pipeline
from pcb.report.claims import decide
from pcb.report.headline import beats_peers
from pcb.report.rows import Row, make_row
from pcb.report.times import NONE, Times
from pcb.report.verdict import Claim, Span, claims_json

CURVE = {3: 1359.0, 4: 754.0, 9: 600.0, 13: 560.0, 17: 500.0, 29: 480.0}
LIMITS = Claims(equal_steps=(13, 17))


def make_rows(pipeline: Pipeline, changed: Mapping[tuple[str, int], float | None]) -> list[Row]:
    """Return rows of three ratios on one curve, but for the changed (model, steps); None: not run.

    The first is sampled with one block per scale.
    """
    rows = []
    for model, first in (("ratio2", 4), ("ratio3", 3), ("ratio4", 3)):
        for steps in (first, 9, 13, 17, 29):
            fid = changed.get((model, steps), CURVE[steps])
            point = SamplingConfig(total_steps=steps)
            scores = None if fid is None else {"fid": fid, "fid_std": fid / 50}
            rows.append(make_row(pipeline.preset, model, point, scores, None))
    return rows


def verdicts(rows: list[Row], limits: Claims = LIMITS) -> dict[str, Claim]:
    return {claim.name: claim for claim in decide(rows, limits)}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, "holds holds holds"),
        ({("ratio4", 3): 530.0}, "fails holds holds"),
        ({("ratio4", 3): 600.0}, "undecided holds holds"),
        ({("ratio2", 29): 300.0}, "holds fails holds"),
        ({("ratio2", 29): 700.0}, "holds fails holds"),
        ({("ratio3", 13): 700.0}, "holds holds undecided"),
        ({("ratio3", 13): 800.0}, "holds holds fails"),
        ({("ratio3", 3): None}, "undecided holds holds"),
        ({("ratio3", 13): None}, "holds holds undecided"),
        ({("ratio3", 17): None}, "undecided undecided undecided"),
        ({("ratio3", 3): None, ("ratio4", 3): 500.0}, "fails holds holds"),
        ({("ratio3", 13): None, ("ratio4", 17): 700.0}, "holds fails fails"),
    ],
)
def test_verdicts(mini: Pipeline, changed: dict[tuple[str, int], float | None], found: str) -> None:
    claims = verdicts(make_rows(mini, changed))
    assert [claims[name].verdict for name in ("C1a", "C1b", "C2")] == found.split()
    assert claims["C3"].verdict == "undecided"


def test_reasons_name_what_failed_and_what_is_missing(mini: Pipeline) -> None:
    failed = verdicts(make_rows(mini, {("ratio4", 3): 530.0}))["C1a"]
    assert "1 of 3 checks made fails: ratio4" in failed.reason
    missing = verdicts(make_rows(mini, {("ratio3", 13): None}))["C2"]
    assert "ratio3/t13" in missing.reason
    assert "No pair" in verdicts(make_rows(mini, {}))["C3"].reason


def test_a_missing_ratio_leaves_c2_open(mini: Pipeline) -> None:
    rows = [row for row in make_rows(mini, {}) if row.model != "ratio3"]
    assert verdicts(rows)["C2"].verdict == "undecided"
    assert verdicts(rows, Claims(ratios=(2.0, 4.0)))["C2"].verdict == "holds"


def test_other_architectures_are_not_compared(mini: Pipeline) -> None:
    rows = [
        replace(row, architecture="wider") if row.model == "ratio3" else row
        for row in make_rows(mini, {})
    ]
    assert verdicts(rows)["C2"].verdict == "undecided"


def seeded(rows: list[Row], fids: Mapping[str, tuple[float, ...]]) -> list[Row]:
    """Return the rows with every model trained as often as there are factors of its FIDs."""
    return [
        replace(
            row,
            model=seed_name(row.model, seed),
            scores={"fid": factor * row.scores["fid"], "fid_std": row.scores["fid_std"]},
        )
        for row in rows
        for seed, factor in enumerate(fids.get(row.model, (1.0, 1.0, 1.0)))
    ]


def test_means_over_seeds_decide_with_their_errors(mini: Pipeline) -> None:
    """Ratio 3 is half as good again in each training, or in one of three by chance."""
    rows = make_rows(mini, {})
    always = verdicts(seeded(rows, {"ratio3": (1.5, 1.5, 1.5)}))["C2"]
    by_chance = verdicts(seeded(rows, {"ratio3": (1.0, 1.9, 1.6)}))["C2"]
    assert (always.verdict, by_chance.verdict) == ("fails", "undecided")
    check = by_chance.readings[1].checks[0]
    assert check.value == pytest.approx(0.5)
    deviation = np.std([1.0, 1.9, 1.6], ddof=1)
    of_ratio3 = math.hypot(0.02 / math.sqrt(3), deviation / math.sqrt(3) / 1.5)
    assert check.error == pytest.approx(1.5 * math.hypot(of_ratio3, 0.02 / math.sqrt(3)), rel=0.01)


def test_what_another_training_would_change_is_part_of_the_error(mini: Pipeline) -> None:
    """Between two models that were trained once; within one it is not known, nor added."""
    rows = make_rows(mini, {("ratio3", 13): 800.0})
    known = replace_limits(fid_training_spread=0.10)
    assert verdicts(rows)["C2"].verdict == "fails"
    assert verdicts(rows, known)["C2"].verdict == "undecided"
    assert verdicts(rows, known)["C1a"] == verdicts(rows)["C1a"]
    several = seeded(rows, {})
    assert verdicts(several, known)["C2"] == verdicts(several)["C2"]


def replace_limits(**changed: float) -> Claims:
    return msgspec.structs.replace(LIMITS, **changed)


def test_a_check_whose_error_is_beyond_its_limit_says_so(mini: Pipeline) -> None:
    rows = make_rows(mini, {})
    mixed = next(row for row in rows if row.variant == "ratio2/t17")
    rows.append(replace(mixed, model="ratio2-unmixed", mixing_layers=0))
    found = verdicts(rows)["C3"]
    assert found.verdict == "undecided"
    assert "1 cannot hold at this size: twice the error exceeds the limit" in found.reason


@pytest.mark.parametrize(
    ("fid", "verdict"), [(510.0, "holds"), (560.0, "fails"), (None, "undecided")]
)
def test_mixing_compares_equal_models(mini: Pipeline, fid: float | None, verdict: str) -> None:
    rows = make_rows(mini, {})
    mixed = next(row for row in rows if row.variant == "ratio2/t17")
    scores = {} if fid is None else {"fid": fid}
    rows.append(replace(mixed, model="ratio2-unmixed", mixing_layers=0, scores=scores))
    assert verdicts(rows)["C3"].verdict == verdict


def test_guided_rows_decide_nothing(mini: Pipeline) -> None:
    rows = make_rows(mini, {})
    point = SamplingConfig(total_steps=17, cfg=1.5)
    guided = make_row(mini.preset, "ratio2", point, {"fid": 1.0}, None)
    assert claims_json(decide([guided, *rows], LIMITS)) == claims_json(decide(rows, LIMITS))


def test_a_number_near_its_limit_is_called_close(mini: Pipeline) -> None:
    for fid in (598.0, 602.0):
        claim = verdicts(make_rows(mini, {("ratio3", 17): fid}))["C2"]
        assert claim.verdict == "undecided"
        (reading,) = (reading for reading in claim.readings if reading.name == "FID")
        assert [check.close for check in reading.checks] == [False, True]
        assert "within two standard errors" in claim.reason


def test_json_holds_thresholds_and_numbers(mini: Pipeline) -> None:
    first = claims_json(decide(make_rows(mini, {}), LIMITS))[0]
    by_fid = next(reading for reading in first["readings"] if reading["by"] == "FID")
    assert first["verdict"] == by_fid["verdict"] == "holds"
    assert "25\N{NO-BREAK SPACE}%" in by_fid["test"]
    claims = verdicts(make_rows(mini, {}))
    spans = [span for name in ("C1a", "C1b") for span in claims[name].readings[1].spans]
    assert [round(span.low, 3) for span in spans] == [0.508, 0.04]
    assert [round(span.high, 3) for span in spans] == [1.718, 0.04]
    # Each FID has an error of two percent, a quotient of 2.7 one of 2.7 times 2.8 percent.
    assert [round(span.error or 0, 3) for span in spans] == [0.077, 0.027]
    check = by_fid["checks"][0]
    assert check["limit"] == 0.25 and check["must_be"] == "at least"
    assert check["outcome"] == "holds"
    assert check["value"] == pytest.approx(754 / 500 - 1)


LARGE = {"width": 1024, "layers": 20}
"""What makes a model the paper's size L."""


def headline_rows(mini: Pipeline, fids: Mapping[tuple[float, float], float]) -> list[Row]:
    """Return rows as ImageNet's headline settings would give them; (ratio, cfg) -> FID."""
    rows = []
    for (ratio, cfg), fid in fids.items():
        point = SamplingConfig(total_steps=17, cfg=cfg)
        scores = {"fid": fid, "is": {1.4: 302.0, 1.5: 318.0, 1.7: 311.0}[cfg]}
        timed = {"seconds_per_image": 0.1, "images": 50000}
        row = make_row(mini.preset, f"ratio{ratio:g}", point, scores, timed)
        rows.append(replace(row, **LARGE))
    return rows


HEADLINE = {(2.0, 1.4): 2.72, (2.0, 1.5): 2.85, (4.0, 1.7): 2.79}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [({}, "holds"), ({(4.0, 1.7): 3.3}, "fails"), (None, "undecided")],
)
def test_headline_rows_are_held_against_the_published_ones(
    mini: Pipeline, changed: dict[tuple[float, float], float] | None, verdict: str
) -> None:
    fids = {(2.0, 1.4): 2.72} if changed is None else {**HEADLINE, **changed}
    claims = decide(headline_rows(mini, fids), LIMITS, comparable=True)
    found = {claim.name: claim for claim in claims}
    assert found["C4"].verdict == verdict


def test_a_miniature_leaves_published_claims_open(mini: Pipeline) -> None:
    found = {c.name: c for c in decide(headline_rows(mini, HEADLINE), LIMITS)}
    assert found["C4"].verdict == "undecided"
    assert "ImageNet" in found["C4"].reason


def timed(**milliseconds: float) -> Times:
    """Return times of one image alone; `_` stands for `-`."""
    parts = {
        name.replace("_", "-"): {"b1": {"ms": ms, "images": 1}} for name, ms in milliseconds.items()
    }
    return Times(machine="a GPU", systems=parts)


ALL_TIMED = {
    "Checkerboard_L_2x": 40.0,
    "Checkerboard_L_4x": 50.0,
    "LlamaGen_L": 900.0,
    "PAR_L_4x": 300.0,
    "RandAR_L": 200.0,
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"RandAR_L": 45.0}, "fails"),
        ({"PAR_L_4x": None}, "undecided"),
        ({"Checkerboard_L_4x": None}, "undecided"),
    ],
)
def test_times_of_one_machine_decide_c5(changed: dict[str, float | None], verdict: str) -> None:
    times = {name: ms for name, ms in (ALL_TIMED | changed).items() if ms is not None}
    claim = beats_peers(LIMITS, timed(**times))
    assert claim.verdict == verdict
    assert "measured on a GPU" in claim.readings[0].test and "mix set-ups" in claim.readings[0].test
    assert "LlamaGen-L 12.58" in claim.readings[0].test
    missing = [name.replace("_", "-") for name, ms in changed.items() if ms is None]
    if missing:
        assert claim.reason == f"{', '.join(missing)}: time saved (not measured)."
    saved = {
        check.subject: check.value for check in claim.readings[0].checks if "time" in check.quantity
    }
    if "LlamaGen_L" in times and not missing:
        found = saved["Checkerboard-L-2x against LlamaGen-L: time saved"]
        assert found == pytest.approx(1 - 40 / 900)


def test_without_times_c5_is_open_and_says_what_was_not_measured() -> None:
    claim = beats_peers(LIMITS, NONE)
    assert claim.verdict == "undecided"
    named = [f"Checkerboard-L-{ratio}" for ratio in ("2x", "4x")] + sorted(LIMITS.peers)
    assert claim.reason == f"{', '.join(named)}: time saved (not measured)."
    assert all(
        check.outcome == "holds"
        for check in claim.readings[0].checks
        if check.quantity == "steps saved"
    )


def test_more_steps_than_a_peer_refute_c5() -> None:
    claim = beats_peers(Claims(peers=("VAR-d16",)), NONE)
    assert claim.verdict == "fails"
    assert "steps saved" in claim.reason


def test_ends_that_are_printed_alike_are_printed_once() -> None:
    def span(low: float, high: float) -> str:
        spans = Span(quantity="gained", low=low, high=high, limit=0.1, at_least=False, error=None)
        return spans.range.replace("\N{NO-BREAK SPACE}", " ")

    assert span(0.0511, 0.0513) == "5.1 %"
    assert span(-0.0004, 0.0) == "0 %"
    assert span(0.0511, 0.0611) == "5.1 % to 6.1 %"
