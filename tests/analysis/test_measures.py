"""One table of all numbers of our runs."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.data import measures
from tokenworlds.runs.columns import MEASURES, WORLD_MODEL, names

WHO = {"method": "iris", "variant": "", "task": "atari/Pong", "seed": 0, "scale": "smoke"}
OLD = WHO | {"seed": 1}


def context(folder: Path, world_model: list[Any] | None = None, numbers: list[Any] | None = None) -> Context:
    scores = [{**who, "score": score, "episode_limit": 400.0} for who, score in ((WHO, 1.5), (OLD, 2.5))]
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    for name, columns, rows in (("world_model", WORLD_MODEL, world_model), ("measures", MEASURES, numbers)):
        if rows is not None:
            found = pd.DataFrame([[*WHO.values(), *row] for row in rows], columns=list(names(columns)))
            found.to_csv(folder / f"{name}.csv", index=False)
    return make_context(folder / "scores.csv", repetitions=9)


PREDICTED: list[Any] = [
    [episode, *row, 8]
    for episode in range(2)
    for row in (
        ["teacher-forced", "", "", "accuracy", 0.2 + 0.2 * episode],
        ["teacher-forced", "", "3", "loss_at_context", 1.0 + episode],
        ["open loop", 5, "", "accuracy", 0.1],
        ["open loop", 5, "image", "mse", 0.005 + 0.01 * episode],
        ["still", 5, "image", "mse", 0.5],
        ["open loop", "", "0.1", "end_predicted", 0.3],
    )
]
NUMBERS = [
    ["tokenizer", "l1", "image", 0.1, 9],
    ["tokenizer", "l1", "depth", 0.3, 9],
    ["cost", "parameters", "", 7, ""],
    ["cost", "parameters", "tokenizer", 3, ""],
]


def test_scores_means_over_episodes_and_numbers_of_whole_runs_stand_side_by_side(tmp_path: Path) -> None:
    frame = context(tmp_path, PREDICTED, NUMBERS).numbers
    assert list(frame.columns) == measures.COLUMNS
    found = {
        (row.seed, row.group, row.measure, row.part, row.horizon): row.value for row in frame.itertuples(index=False)
    }
    assert found == pytest.approx({
        ("0", "control", "return_mean", "", 0): 1.5,
        ("1", "control", "return_mean", "", 0): 2.5,
        ("0", "world model", "accuracy", "", 0): 0.3,
        ("0", "world model", "loss_at_context", "3", 0): 1.5,
        ("0", "open loop", "accuracy", "", 5): 0.1,
        ("0", "open loop", "psnr", "image", 5): 20.0,  # of the mean squared error
        ("0", "tokenizer", "l1", "image", 0): 0.1,
        ("0", "tokenizer", "l1", "depth", 0): 0.3,
        ("0", "cost", "parameters", "", 0): 7.0,
        ("0", "cost", "parameters", "tokenizer", 0): 3.0,
    })  # fmt: skip
    assert set(frame.label) == {"IRIS (ours, smoke)"} and {*frame.measure} <= {*measures.CATALOGUE}


def test_a_measure_is_looked_up_by_run_and_its_modalities_are_averaged(tmp_path: Path) -> None:
    frame = context(tmp_path, PREDICTED, NUMBERS).numbers
    key = tuple(str(value) for value in WHO.values())
    for given, expected in ((("l1",), 0.2), (("l1", "depth"), 0.3), (("parameters",), 7), (("psnr", "", 5), 20)):
        assert measures.value(frame, *given).to_dict() == pytest.approx({key: expected})
    assert len(measures.value(frame, "return_mean")) == 2
    assert measures.value(frame, "l1", "sound").empty and measures.value(frame, "energy_joules").empty


def test_runs_of_older_versions_have_their_scores(tmp_path: Path) -> None:
    frame = context(tmp_path).numbers
    assert list(frame.measure) == ["return_mean"] * 2 and list(frame.columns) == measures.COLUMNS


def test_without_runs_the_table_is_empty() -> None:
    empty = pd.DataFrame(columns=list(names(MEASURES)))
    assert list(measures.of_runs([], empty, empty).columns) == measures.COLUMNS
