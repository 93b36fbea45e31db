"""Printed numbers against ours: the rule of the verdict at its borders, and what is known to agree and to differ."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.data.published import atari_suite
from analysis.data.scores import DATA, References
from analysis.papers.printed import ROUNDED, Number, read_printed
from analysis.stats import metrics
from analysis.studies import r13_agreement
from analysis.studies.r13_agreement import AGREES, DIFFERS, KNOWN_REASON, NO_SCORES, WITHIN, Compared, compare, verdict
from tokenworlds.errors import UserError

REPETITIONS = 2_000  # Monte Carlo errors five times those of the papers' 50,000: with 60 they would hide anything
# The rows of the specification's table that say "yes"; STORM and DreamerV3 of the DIAMOND paper are the known "no".
AGREEING = {
    "IRIS": {"SimPLe", "CURL", "DrQ(eps)", "SPR", "MuZero", "EfficientZero", "IRIS"},
    "REM": {"REM"},
    "DIAMOND": {"DIAMOND"},
}


@pytest.fixture(scope="module")
def context() -> Context:
    return make_context(repetitions=REPETITIONS)


@pytest.fixture(scope="module")
def compared(context: Context) -> list[Compared]:
    return compare(context)


def aggregates_of(compared: list[Compared], paper: str, method: str, suite: str = "atari100k") -> dict[str, Compared]:
    return {
        entry.number.quantity: entry
        for entry in compared
        if (entry.number.paper, entry.number.method, entry.number.suite) == (paper, method, suite)
        and not entry.number.of
    }


@pytest.mark.parametrize(
    ("printed", "ours", "expected"),
    [
        ("0.501", 0.5005, AGREES),  # the border belongs to both neighbours
        ("0.500", 0.5005, AGREES),
        ("0.501", 0.50049, DIFFERS),
        ("0.500", 0.50051, DIFFERS),
        ("15.4", 309 / 20, AGREES),  # 15.45, printed as 15.4
        ("10", 9.0, DIFFERS),
        ("10", 10.0, AGREES),
        ("9234", 9233.6, AGREES),
        ("93433.20", 93433.194, DIFFERS),
        ("-20.7", -20.74, AGREES),
        ("N/A", None, AGREES),
        ("N/A", 0.3, DIFFERS),
        ("0.3", None, DIFFERS),
    ],
)
def test_a_number_agrees_within_half_a_unit_of_its_last_digit(printed: str, ours: float | None, expected: str) -> None:
    half_unit = Number("", "", "", "", "", printed, None, "read", "", "").half_unit
    assert verdict(printed, half_unit, ours) == expected


def test_bounds_need_only_lie_within_their_monte_carlo_error() -> None:
    assert verdict("0.4423", 5e-5, 0.4400, tolerance=0.0028) == WITHIN
    assert verdict("0.4423", 5e-5, 0.4390, tolerance=0.0028) == DIFFERS


def test_every_number_has_a_source_and_is_found(compared: list[Compared]) -> None:
    assert len(compared) > 600
    for entry in compared:
        number = entry.number
        assert number.source and number.paper in r13_agreement.PAPERS
        missing = entry.ours is None
        assert missing == (number.printed == "N/A" or entry.verdict == NO_SCORES), number


def test_the_numbers_that_the_specification_says_agree_do(compared: list[Compared]) -> None:
    assert [entry.number for entry in compared if entry.kind == DIFFERS] == []  # none without a known reason
    for paper, methods in AGREEING.items():
        for method in methods:
            entries = aggregates_of(compared, paper, method)
            assert len(entries) >= 3 and {entry.verdict for entry in entries.values()} == {AGREES}, (paper, method)


def test_the_two_known_disagreements_differ_for_their_reason(compared: list[Compared]) -> None:
    storm = aggregates_of(compared, "DIAMOND", "STORM")
    assert {entry.kind for entry in storm.values()} == {KNOWN_REASON}
    assert all("demonstrations" in entry.verdict for entry in storm.values())  # from defects.csv
    dreamer = aggregates_of(compared, "DIAMOND", "DreamerV3")
    assert dreamer["superhuman"].verdict == AGREES  # "only the count"
    assert dreamer["mean"].kind == dreamer["iqm"].kind == KNOWN_REASON
    assert "7567.1" in dreamer["mean"].verdict and dreamer["mean"].difference == pytest.approx(
        1.12448 - 1.097, abs=1e-5
    )
    printed_freeway = aggregates_of(compared, "DIAMOND", "STORM", "storm_with_printed_freeway")
    assert {entry.verdict for entry in printed_freeway.values()} == {AGREES}


def test_single_games_that_differ_are_the_four_known_ones(compared: list[Compared]) -> None:
    differing = {
        (entry.number.method, entry.number.of)
        for entry in compared
        if entry.number.quantity == "task_mean" and entry.number.known == "read" and entry.kind != AGREES
    }
    assert differing == {
        ("STORM", "Freeway"), ("DreamerV3", "ChopperCommand"), ("DreamerV3", "UpNDown"), ("Simulus-A", "Breakout"),
    }  # fmt: skip


def test_what_another_program_computed_agrees_or_differs_where_it_takes_ties_for_wins(
    compared: list[Compared], references: References
) -> None:
    computed = [entry for entry in compared if entry.number.known == "computed"]
    excused = [entry for entry in computed if entry.number.reason]
    assert {(entry.number.method, entry.number.of) for entry in excused} == {("IRIS", "SPR"), ("IRIS", "CURL")}
    assert {entry.kind for entry in excused} == {KNOWN_REASON} and len(excused) == 6
    others = [entry for entry in computed if not entry.number.reason]
    for end in ("_low", "_high"):
        bounds = [entry for entry in others if entry.number.quantity.endswith(end)]
        assert len(bounds) == 96 and {entry.verdict for entry in bounds} == {WITHIN}
    assert {entry.verdict for entry in others if entry.number.tolerance is None} == {AGREES}
    stored = atari_suite(dataclasses.replace(references, as_stored=True)).scores
    for number in (entry.number for entry in excused if entry.number.tolerance is None):  # and here is nothing else
        again = metrics.probability_of_improvement(stored[number.method], stored[number.of])
        assert verdict(number.printed, number.half_unit, again) == AGREES


def with_scores(context: Context, suite: str, method: str, change: float) -> Context:
    """The context with other scores of a method."""
    old = context.suites[suite]
    worse = dataclasses.replace(old, scores={**old.scores, method: old.scores[method] + change})
    return dataclasses.replace(context, suites={**context.suites, suite: worse})


@pytest.mark.parametrize(
    ("suite", "method", "known"),
    [
        ("atari100k", "REM", "recalled"),
        # Of each of these something is wrong in the published file, which is not what would be wrong here.
        ("atari100k", "STORM", "computed"),
        ("atari100k", "Delta-IRIS", "computed"),
        ("rem_ablations_8_games", "no-action-input", "computed"),
        ("rem_ablations_8_games", "no-latent-actor-critic", "computed"),
    ],
)
def test_a_score_that_changed_shows(suite: str, method: str, known: str, context: Context) -> None:
    changed = with_scores(context, suite, method, -0.01)
    (mean,) = (
        number
        for number in read_printed()
        if (number.suite, number.method, number.known, number.quantity) == (suite, method, known, "mean")
    )
    assert r13_agreement.compare_number(mean, context).kind == AGREES
    assert r13_agreement.compare_number(mean, changed).kind == DIFFERS


def test_only_a_number_with_a_reason_beside_it_differs_for_a_known_reason(compared: list[Compared]) -> None:
    known = [entry for entry in compared if entry.kind == KNOWN_REASON]
    assert all(entry.number.reason for entry in known)
    assert {entry.number.reason for entry in known if entry.number.known == "computed"} == {ROUNDED}
    assert {entry.number.method for entry in known} == {"STORM", "DreamerV3", "Simulus-A", "Delta-IRIS", "IRIS"}


def test_means_per_task_are_those_of_the_file_of_printed_means() -> None:
    means = pd.read_csv(DATA / "printed_means.csv", dtype=str)
    expected = {(row.method, row.task, row.source): float(row.mean) for row in means.itertuples()}
    found = {
        (number.method, number.of, number.source): number.value
        for number in read_printed()
        if number.quantity == "task_mean" and number.known == "read"
    }
    assert found == expected


def test_the_table_hides_nothing(context: Context, compared: list[Compared]) -> None:
    table = r13_agreement.agreement_table(context)
    assert len(table.numbers) == len(compared)
    lines = table.markdown.splitlines()
    known = sum(entry.kind == KNOWN_REASON for entry in compared)
    assert sum("| differs† |" in line for line in lines) == known > 8
    assert "| DIAMOND, Table 1 | STORM | IQM | read | 0.636 | 0.5611 | -0.0749 | differs† |" in lines
    assert "| IRIS, abstract and Table 1 | SPR | median | recalled | 0.396 | 0.3956 | -0.0004 | agrees |" in lines
    assert any("Other programs" in line and "bounds of 95 % intervals: 192" in line for line in lines)


def test_the_summary_adds_up_and_keeps_recomputed_numbers_apart(context: Context, compared: list[Compared]) -> None:
    numbers = r13_agreement.summary_table(context).numbers
    kinds = [AGREES, WITHIN, KNOWN_REASON, DIFFERS, NO_SCORES]
    assert (numbers[kinds].sum(axis=1) == numbers.numbers).all() and (numbers[DIFFERS] == 0).all()
    # The counts that docs/analysis.md gives.
    counts = numbers.set_index(["origin", "known"])[["numbers", *kinds]]
    assert counts.loc[("All printed", "")].tolist() == [320, 248, 0, 33, 0, 39]
    assert counts.loc[("The four papers", "")].tolist() == [152, 88, 0, 25, 0, 39]
    assert counts.loc[("DIAMOND, Table 1", "read")].tolist() == [168, 160, 0, 8, 0, 0]
    assert counts.loc[("Other programs, same scores", "computed")].tolist() == [327, 129, 192, 6, 0, 0]
    assert ("IRIS, abstract and Table 1", "recalled") in counts.index
    assert len(compared) == 320 + 327


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("IRIS,atari100k,IRIS,iqm,,0.5,,guessed,somewhere,", "unknown kind 'guessed'"),
        ("IRIS,atari100k,IRIS,iqm,,0.5,,read,,", "no source"),
        ("rliable,atari100k,STORM,iqm,,0.5,,computed,rliable,Freeway.", "line 2: .* nothing explains a difference"),
    ],
)
def test_a_number_of_unknown_origin_is_refused(row: str, message: str, tmp_path: Path) -> None:
    header = "paper,suite,method,quantity,of,printed,tolerance,known,source,reason"
    (tmp_path / "printed.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(UserError, match=message):
        read_printed(tmp_path)
