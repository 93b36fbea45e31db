"""Runs that the analysis has no word for: shown raw, noted, and never in the way of the others."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis import make_figures
from analysis.context import make_context
from analysis.data.published import ATARI
from analysis.data.runs import subset_suites
from analysis.items import ITEMS
from analysis.papers import ours
from analysis.studies import r09_cost, r10_curves, r11_noise, r12_effects
from pipeline import aggregate, collect, report
from tests.analysis.conftest import write_scores
from tests.analysis.run_folders import write_journal, write_weights
from tokenworlds.runs import identity
from tokenworlds.runs.columns import COMPANIONS

METHODS = ["delta_iris", "iris", "m3", "my_agent", "rem"]
ODD = {
    # a game outside the 26 beside one of them; equal scores
    **{("rem", "", "atari/Venture", seed): [10.0 * seed, 30.0] for seed in range(3)},
    **{("rem", "", "atari/Pong", seed): [-21.0, -21.0] for seed in range(3)},
    **{("rem", "no-pop", "atari/Venture", seed): [0.0, 0.0] for seed in range(3)},
    ("iris", "", "atari/Bowling", 0): [30.0],  # of its group the only one: one seed, one episode, no human score
    ("my_agent", "", "atari/Pong", 0): [21.0],  # a method that the papers do not have
    ("my_agent", "", "new_family/Task", 0): [-3.5],  # and tasks of which the analysis has never heard
    ("m3", "", "craftax/Symbolic", 0): [-0.9],  # negative where published scores are positive
    ("m3", "", "dmc/walker-run", 0): [0.0],
    ("delta_iris", "", "crafter/Reward", 0): [-0.9],
}


def write(results: Path) -> None:
    for (method, variant, task, seed), returns in ODD.items():
        more = {"achievements": {"eat_cow": 0.0}, "crafter_score": 0.0} if task.startswith("crafter") else {}
        old = write_scores(results / "made", task, seed, "smoke", returns, **more)
        record = json.loads(old.read_text())
        record["run"] |= {"method": method, "variant": variant or None}
        name = f"{method}{'+' if variant else ''}{variant}/{task}/{seed}"
        path, folder = results / "scores" / f"{name}.json", results / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        path.write_text(json.dumps(record))
        (folder / "scores.json").write_bytes(path.read_bytes())
        lines = [f"{epoch},{epoch * 50},{split},{record['score']},0.01" for epoch, split in ((1, "test"), (3, "final"))]
        (folder / "evaluations.csv").write_text("\n".join(["epoch,env_steps,split,return_mean,hours", *lines, ""]))
        write_journal(folder, [{"seconds/tokenizer": 2.0, "world_model/train/loss_observations": 1.0}])
        write_weights(folder, {"policy.actor.bias": [6]})


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``results`` folder with odd runs, collected."""
    results = tmp_path_factory.mktemp("odd")
    write(results)
    tasks = identity._tasks() | {"new_family": frozenset({"Task"})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "known_methods", lambda: METHODS)
        patch.setattr(identity, "_tasks", lambda: tasks)
        arguments = {"--scores": results / "scores", "--runs": results / "runs", "--out": results / "collected.csv"}
        assert collect.main([str(part) for pair in arguments.items() for part in pair]) == 0
        yield results


def test_every_item_and_the_report_are_made(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMPANIONS:
        (odd / "collected").mkdir(exist_ok=True)
        (odd / "collected" / name).write_bytes((odd / name).read_bytes())
    scores = odd / "collected" / "scores.csv"
    scores.write_bytes((odd / "collected.csv").read_bytes())
    runs, few = ["--runs", str(scores)], ["--repetitions", "30"]
    assert aggregate.main([*runs, *few, "--out", str(odd / "aggregated")]) == 0
    assert "no human-normalised aggregate: Bowling, Venture" in capsys.readouterr().out
    of_ours = [item.id for item in ITEMS if item.id.startswith(("OURS", "R9-", "R10-", "R11-", "R12-"))]
    of_ours += ["IRIS-T-cost", "DIRIS-F-crafter", "DIRIS-T-success", "M3-F-craftax", "M3-T-craftax", "M3-T-dmc",
                "M3-F-dmc", "M3-F-abl", "M3-T-cost", "REM-F-wmloss", "IRIS-T1", "R1-T-atari"]  # fmt: skip
    chosen = [item.id for item in ITEMS if item.id in of_ours]
    for kind in ("table", "figure"):
        names = [item.id for item in ITEMS if item.id in chosen and item.kind == kind]
        out = ["--out", str(odd / f"{kind}s"), "--format", "svg"]
        assert make_figures.main([*runs, *few, "--only", *names, *out]) == 0
    assert report.main(["--results", str(odd), "--out", str(odd / "report")]) == 0
    text = (odd / "report" / "index.html").read_text()
    assert "Without a human score, so in no human-normalised number: Bowling, Venture." in text
    assert "new_family/Task" in text and "my_agent" in text


def test_games_without_a_human_score_are_shown_raw_and_noted(odd: Path) -> None:
    context = make_context(odd / "collected.csv", repetitions=30)
    table = ours.runs_table(context).numbers.set_index(["run", "task"])
    venture = table.loc["REM (ours, smoke)", "atari/Venture"]
    assert venture.score == pytest.approx(20.0) and math.isnan(venture.human_normalised) and math.isnan(venture.human)
    tasks = ours.tasks_figure(context).numbers
    assert {"atari/Venture", "atari/Bowling", "new_family/Task"} < set(tasks.task)
    assert set(ours.games_figure(context).numbers.task) == {"Pong"}
    drawing = ours.aggregates_figure(context)
    assert {*drawing.numbers.games} == {"Pong"}
    assert {suite.tasks for suite in subset_suites(context.suites)} == {("Pong",)}
    assert any("runs of Venture, without a human score" in str(note) for note in drawing.defects)
    assert not any("Bowling" in name or "Venture" in name for name in context.suites)
    assert context.suites[ATARI].tasks == context.references.tasks


def test_numbers_over_games_leave_them_out_and_say_so(odd: Path) -> None:
    context = make_context(odd / "collected.csv", repetitions=30)
    curve = r10_curves.evaluations(context)
    raw = curve[curve.task == "atari/Venture"]
    assert raw.value.equals(raw.return_mean.rename("value")) and not raw.is_normalised.any()
    metric = {board.tasks: r09_cost.metric_of(board.family) for board in r09_cost.boards(context)}
    assert metric[("atari/Venture",)] == "mean" and metric[("atari/Pong",)] == "iqm"
    for make in (
        r09_cost.cost_figure,
        r09_cost.cost_table,
        r10_curves.curves_figure,
        r10_curves.curves_table,
        r11_noise.noise_table,
    ):
        assert "raw and in no number over games: Bowling and Venture." in make(context).caption
    effect = r12_effects.effects_table(context).numbers
    assert set(effect.task) == {"atari/Venture"} and (effect.change == -20.0).all()


def test_a_complete_group_with_a_game_more_still_stands_beside_the_published(
    paper_runs: Path, write_runs: Callable[..., Path]
) -> None:
    frame = pd.read_csv(paper_runs)
    extra = frame.iloc[[0]].assign(task="atari/Venture")
    pd.concat([frame, extra]).to_csv(paper_runs, index=False)
    context = make_context(paper_runs, repetitions=30)
    label = "IRIS (ours, paper, 26 games x 5 seeds)"
    assert label in context.suites[ATARI].scores
    assert any("runs of Venture" in str(note) for note in context.defects_of([label], context.references.tasks))


def test_collected_rows_keep_the_raw_score(odd: Path) -> None:
    with (odd / "collected.csv").open(newline="") as file:
        scores = {(row["method"], row["task"]): float(row["score"]) for row in csv.DictReader(file)}
    assert scores["iris", "atari/Bowling"] == 30.0 and scores["my_agent", "new_family/Task"] == -3.5
