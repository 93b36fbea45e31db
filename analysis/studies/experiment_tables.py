"""Tables of a family of experiments: its variants, and the answers to its questions."""

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data.families import SCORE, Family
from analysis.draw.artefacts import Table
from analysis.draw.tables import NO_RUN, Columns, Form, records_table, render
from analysis.studies import records
from analysis.studies.experiments import (
    CLAIM_RUNS,
    MEASURES,
    Board,
    Estimate,
    Finding,
    boards,
    estimate,
    findings,
    improvement,
    telling,
    uneven,
)
from analysis.studies.r14_world_model import with_interval

ALWAYS = ("parameters", "trainable_parameters", "peak_memory_bytes", "hours")  # measures in every table
BETTER = "better"  # key of the probability of improvement
CHANCE = (
    "On a single task chance alone answers one question in five with yes or no where three runs of equal agents meet "
    "three, and one in ten where five meet five; nothing is corrected for the number of questions."
)


def variants_table(family: Family, context: Context) -> Table:
    """A row per variant, scale and kind of tasks; what is no result of 100k steps comes last and is compared with
    nothing."""
    measures = [name for name in dict.fromkeys((*family.measures, *family.columns, *ALWAYS)) if name != SCORE]
    columns: Columns = {
        "variant": ("Variant", ""),
        "on": ("On", ""),
        "what": ("What is different", ""),
        "origin": ("From", ""),
        "runs": ("Runs", _runs),
        SCORE: _column(SCORE),
        BETTER: ("P(better)", partial(with_interval, name=BETTER, form="{:.2f}")),
        **{name: _column(name) for name in measures},
    }
    shown = boards(family, context)
    found = [list(_lines(board, measures, context)) for board in shown]
    starts = np.cumsum([len(lines) for lines in found])[:-1]
    lines = [line for block in found for line in block]
    caption = (
        f"{family.question} Control: {family.control} Score: on Atari the interquartile mean of human-normalised "
        "scores of whole games, elsewhere the mean return; other numbers are means over tasks and runs; in brackets "
        "95 % stratified bootstrap intervals over runs. P(better): probability of improvement of the score over the "
        f"method as published, in the first line, on the tasks that both have.{uneven(shown)} Runs: the fewest of a "
        f"task; with fewer than {CLAIM_RUNS} a line is a screening, and a single run has no interval. {NO_RUN}: not "
        "measured, or no comparison."
        f"{records.notes([str(task) for board in shown for task in board.runs.task], context)}"
    )
    return records_table(lines, columns, caption, text_columns=4, rules=[int(start) for start in starts])


def _column(measure: str) -> tuple[str, Form]:
    """Header and format of a measure, with its interval where the line has one."""
    shown = MEASURES[measure]
    return shown.title, partial(with_interval, name=measure, form=shown.form)


def _runs(line: Mapping[str, Any]) -> str:
    return f"{line['runs']}" + (" (screening)" if line["runs"] < CLAIM_RUNS else "")


def _lines(board: Board, measures: Sequence[str], context: Context) -> Iterator[dict[str, Any]]:
    variants = [board.family.variant(name) for name in board.present]
    for variant in sorted(variants, key=lambda each: bool(each.beyond)):  # stable: the others keep their order
        name = variant.name
        better = improvement(board, name, "", SCORE, context) if name and not variant.beyond else Estimate()
        score = estimate(board, name, SCORE, context)
        yield {
            "variant": f"{variant.id} {board.family.shown(name)}",
            "on": board.title,
            "what": f"{variant.what}. No result of 100k steps: {variant.beyond}" if variant.beyond else variant.what,
            "origin": variant.origin + (", control" if variant.is_control else ""),
            "runs": score.runs,
            **numbers(SCORE, score),
            **numbers(BETTER, better),
            **_measured(board, name, measures, context),
        }


def _measured(board: Board, name: str, measures: Sequence[str], context: Context) -> dict[str, float]:
    """Numbers of a variant; those that answer the family's questions with their intervals."""
    found = {measure: estimate(board, name, measure, context) for measure in measures}
    asked = [numbers(measure, found[measure]) for measure in measures if measure in board.family.measures]
    return {measure: each.point for measure, each in found.items()} | dict(ChainMap(*asked))


def numbers(name: str, found: Estimate) -> dict[str, float]:
    """An estimate as columns of a CSV."""
    return {name: found.point, f"{name}_low": found.low, f"{name}_high": found.high}


def answers_table(family: Family, context: Context) -> Table:
    """A row per question, measure, scale and kind of tasks."""
    found = [finding for board in telling(family, context) for finding in findings(board, context)]
    lines = [
        [
            "; ".join(" > ".join(family.variant(name).id for name in pair) for pair in finding.claim.pairs),
            finding.claim.question,
            finding.answer,
            MEASURES[finding.measure].title,
            finding.board.title,
            "; ".join(_compared(finding, number, context) for number in range(len(finding.comparisons))),
        ]
        for finding in found
    ]
    caption = (
        "Answers computed from the runs. P: probability that a run of the first is better than one of the second, with "
        "its 95 % stratified bootstrap interval. Yes, where the intervals of all of a question's comparisons lie above "
        f"one half; no, where they lie below; of comparisons that differ what each says. With fewer than {CLAIM_RUNS} "
        f"runs a side this is a screening. {CHANCE} Losses of tokens are compared only where both models predict them "
        "alike, in episodes of the random policy, which are the same for all variants of a seed; where tokenizers "
        "differ they say nothing. Numbers and P are over the tasks that both have."
    )
    headers = ["Yes if", "Question", "Answer", "Measure", "On", "Compared"]
    return render(headers, lines, pd.DataFrame(_rows(found)), caption, text_columns=len(headers))


def _compared(finding: Finding, number: int, context: Context) -> str:
    """``gpt2 4.01, gpt2-scratch 4.12: P = 0.62 [0.31, 0.88]``."""
    board, measure = finding.board, MEASURES[finding.measure]
    pair, better = finding.claim.pairs[number], finding.comparisons[number]
    points = [estimate(board, name, finding.measure, context, beside=pair).point for name in pair]
    texts = [
        f"{board.family.shown(name)} {NO_RUN if np.isnan(point) else measure.form.format(point)}"
        for name, point in zip(pair, points)
    ]
    return f"{', '.join(texts)}: P = {with_interval(numbers(BETTER, better), BETTER, '{:.2f}')}"


def _rows(found: list[Finding]) -> Iterator[dict[str, Any]]:
    for finding in found:
        for (first, second), better in zip(finding.claim.pairs, finding.comparisons):
            yield {
                "question": finding.claim.question,
                "on": finding.board.title,
                "measure": finding.measure,
                "first": finding.board.family.shown(first),
                "second": finding.board.family.shown(second),
                **numbers(BETTER, better),
                "runs": better.runs,
                "answer": finding.answer,
            }
