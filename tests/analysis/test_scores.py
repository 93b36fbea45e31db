"""Scores that make no matrix are refused in one sentence that names method, task and remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.data.runs import read_runs
from analysis.data.scores import References
from analysis.options import Options, read_options
from tokenworlds.errors import UserError

Write = Callable[..., Path]


def refused(path: Path, references: References) -> str:
    with pytest.raises(UserError) as error:
        read_runs(path, references)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_ragged_runs_are_padded_below_and_counted_in_the_label(write_runs: Write, references: References) -> None:
    path = write_runs([("atari/Pong", 0, 1.0), ("atari/Pong", 1, 2.0), ("atari/Breakout", 0, 3.0)], scale="small")
    (group,) = read_runs(path, references)
    np.testing.assert_array_equal(group.raw, [[3.0, 1.0], [np.nan, 2.0]])
    assert group.label == "IRIS (ours, small, 2 games x 1 to 2 seeds)"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        *(
            ([("atari/Pong", 0, 1.0), ("atari/Pong", 1, value)], "IRIS (ours, smoke): the score of atari/Pong, seed 1")
            for value in ("", "nan", "inf")
        ),
        ([("atari/Pong", 0, 1.0), ("atari/Pong", 1, "good")], "line 3: score must be a number, found 'good'"),
        ([("atari/Pong", 0, 1.0), ("atari/Pong", 0, 2.0)], "atari/Pong, seed 0 appears more than once"),
        ([("atari/Pong", 0, 1.0), ("atari/Pong", "0.0", 2.0)], "atari/Pong, seed 0 appears more than once"),
        ([("dmc/walker-walk", 0, 1001.0)], "is 1001 in runs.csv line 2, but returns of dmc are from 0 to 1000"),
        ([("craftax/Symbolic", 0, 226.5)], "but returns of craftax are of at most 226; correct or remove"),
        ([("crafter/Reward", 0, 22.5)], "but returns of crafter are of at most 22; correct or remove that row."),
        *(
            ([(task, 0, 1.0)], "line 2 holds the unknown task 'atari/Pnog': did you mean Pong")
            for task in ("atari/Pnog", "Pnog")
        ),
    ],
)
def test_scores_that_make_no_matrix_name_the_run(
    rows: list[tuple[str, int, object]], message: str, write_runs: Write, references: References
) -> None:
    assert message in refused(write_runs(rows), references)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a readable CSV"),
        ('method,task,seed,score\n"iris,atari/Pong,0,1\n', "(the row of line 2: unexpected end of data)"),
        ("a,b\n1,2,3\n1,2,3,4\n", "is not a readable CSV"),
        ("a,b\n\n1,2\n1,2,3\n", "(line 4 has 3 fields, the header 2; quote text with commas)"),
        ("a,b\n1,2,\n1,2,3\n", "(line 3 has 3 fields, the header 2; quote text with commas)"),
        ("method,task,score\niris,atari/Pong,1\n", "lacks the column(s) seed"),
        ("method,task,seed,score,score\niris,atari/Pong,0,1,2\n", "has the column 'score' more than once; remove or"),
        ("seed ,method,task,seed,score\n1,iris,atari/Pong,0,1\n", "has the column 'seed' more than once; remove or"),
        (None, "no such file"),
    ],
)
def test_files_that_are_no_table_of_scores_are_refused(
    content: str | None, message: str, tmp_path: Path, references: References
) -> None:
    path = tmp_path / "runs.csv"
    if content is not None:
        path.write_text(content)
    assert message in refused(path, references)


def test_groups_never_mix_scales_or_variants(write_runs: Write, references: References) -> None:
    rows = [("atari/Pong", 0, 1.0), ("atari/Pong", 1, 2.0), ("Pong", 2, 3.0)]
    groups = read_runs(write_runs(rows, scale=["small", "paper", "paper"], variant=["", "", "retnet"]), references)
    assert [group.label for group in groups] == [
        "IRIS (ours, paper, 1 game x 1 seed)",
        "IRIS (ours, small, 1 game x 1 seed)",
        "IRIS+retnet (ours, paper, 1 game x 1 seed)",
    ]


def test_names_of_variants_with_commas_and_underscores_pass(write_runs: Write, references: References) -> None:
    (group,) = read_runs(write_runs([("atari/Pong", 0, 1.0)], variant="my_change, v2"), references)
    assert group.short_label == "IRIS+my_change, v2 (ours, smoke)"


@pytest.mark.parametrize(
    ("row", "method", "found"),
    [
        (("atari/Pong", 0, 1.0), "irsi", "the unknown method 'irsi': did you mean iris?"),
        (("atari/Pong", "x", 1.0), "iris", "the seed 'x' where a whole number from 0 on is expected"),
        (("atari/Pong", -1, 1.0), "iris", "the seed '-1' where a whole number from 0 on is expected"),
        (
            ("attari/Pong", 0, 1.0),
            "iris",
            "the unknown task 'attari/Pong', expected BENCHMARK/NAME with a benchmark of: atari",
        ),
        (("minigrid/Emptyy-5x5", 0, 1.0), "iris", "the unknown task 'minigrid/Emptyy-5x5': did you mean Empty-5x5"),
        (("zzz" * 99, 0, 1.0), "iris", "the unknown task"),
        (("atari/Pong", 0, 1.0), "zzz" * 99, "the unknown method"),
    ],
)
def test_methods_tasks_and_seeds_that_cannot_be_are_refused(
    row: tuple[str, int, object], method: str, found: str, write_runs: Write, references: References
) -> None:
    message = refused(write_runs([row], method=method), references)
    assert f"runs.csv line 2 holds {found}" in message and len(message) <= 300


def test_an_unknown_task_below_blank_lines_is_found_in_its_line(tmp_path: Path, references: References) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("method,task,seed,score\n\niris,atari/Pong,0,1\n\niris,atari/Pnog,1,1\n")
    assert "runs.csv line 5 holds the unknown task 'atari/Pnog'" in refused(path, references)


def test_two_configurations_under_one_name_are_refused_wherever_a_table_is_read(
    write_runs: Write, references: References
) -> None:
    rows = [("atari/Pong", 0, 1.0), ("atari/Pong", 1, 2.0)]
    settings = {"settings_hash": ["a" * 12, "b" * 12], "overrides": ["{}", '{"model.backbone": "retnet"}']}
    message = refused(write_runs(rows, **settings), references)
    assert "mixes settings under iris on atari" in message and "model.backbone=retnet (such as atari/Pong/1)" in message
    (group,) = read_runs(write_runs(rows[1:], **{name: values[1:] for name, values in settings.items()}), references)
    assert group.short_label == "IRIS+model.backbone=retnet (ours, smoke)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeed: 3", "did you mean seed"),
        ("seed: x", "found 'x'"),
        ("repetitions_profiles: 0", "positive"),
        ("mixed: both", "expected one of refuse, label"),
    ],
)
def test_options_reject_typos(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"# comment\n{text}\n")
    with pytest.raises(UserError, match=message):
        read_options(path)


def test_the_committed_options_are_the_papers() -> None:
    assert read_options() == Options(50_000, 2_000, 1_000, 0)
    assert Options().capped(1500) == Options(1500, 1500, 1000, 0)
    with pytest.raises(UserError, match="at least 1"):
        Options().capped(0)
