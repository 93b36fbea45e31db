"""M3's items: the published comparison on Atari, the project page, ablations and costs of our runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.comparisons import M3
from analysis.context import Context, make_context
from analysis.data import naming
from analysis.data.scores import Suite
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import interval_figure
from analysis.draw.tables import per_game_table
from analysis.errors import NoData
from analysis.make_figures import main
from analysis.papers import m3
from analysis.papers.m3 import ITEMS
from tests.analysis.test_tables import cells
from tokenworlds.runs.columns import COSTS, names

Write = Callable[..., Path]
METHODS = ["SimPLe", "TWM", "DreamerV3", "IRIS", "REM", "M3"]
NO_CURIOSITY = "no-curiosity"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Published data and a run of another method."""
    path = tmp_path_factory.mktemp("runs") / "scores.csv"
    path.write_text("method,task,seed,score,scale\niris,atari/Pong,0,1.0,smoke\n")
    return make_context(path, repetitions=60)


@pytest.fixture
def ablations(write_runs: Write) -> Callable[[list[tuple[str, str, str, int, float]]], Context]:
    """A context with runs of M3: variant, scale, task, seed and score of each."""

    def build(runs: list[tuple[str, str, str, int, float]]) -> Context:
        path = write_runs([(task, seed, score) for _, _, task, seed, score in runs], method="m3")
        frame = pd.read_csv(path).assign(variant=[run[0] for run in runs], scale=[run[1] for run in runs])
        frame.to_csv(path, index=False)
        return make_context(path, repetitions=50)

    return build


def test_every_item_of_the_paper_is_in_the_inventory_and_made_or_missing_for_a_reason(context: Context) -> None:
    ids = {item.id for item in ITEMS}
    assert ids == {
        "M3-T-atari", "M3-F-agg", "M3-F-pp", "M3-F-poi", "M3-T-dmc", "M3-F-dmc", "M3-F-craftax", "M3-T-craftax",
        "M3-F-abl", "M3-T-cost", "M3-T-hp", "SIM-T-page",
    }  # fmt: skip
    reasons = {item.id: item.missing(context) for item in ITEMS}
    for name in ("M3-F-abl", "M3-T-cost"):
        assert "make suite" in str(reasons.pop(name)), name
    assert set(reasons.values()) == {None}


def test_the_table_on_atari_has_the_papers_columns_and_aggregates(context: Context, golden: dict[str, Any]) -> None:
    table = per_game_table(M3, context)
    assert list(table.numbers.columns) == ["Game", "Random", "Human", "EfficientZero", *map(naming.shown, METHODS)]
    assert cells(table, "#Superhuman (↑)")[-1] == "**13**"
    assert cells(table, "IQM (↑)")[2] == "N/A" and cells(table, "IQM (↑)")[-1] == "<u>**0.990**</u>"
    rows = table.numbers.set_index("Game")
    expected = golden["atari100k"]["M3"]["point"]
    for title, metric in (("Mean (↑)", "mean"), ("Median (↑)", "median"), ("Optimality gap (↓)", "optimality_gap")):
        assert rows.M3[title] == pytest.approx(expected[metric], abs=1e-9)


def test_figures_on_atari_hold_the_methods_with_runs_and_equal_golden(context: Context, golden: dict[str, Any]) -> None:
    numbers = interval_figure(M3, ("iqm",), context).numbers.set_index("method")
    assert list(numbers.index) == METHODS
    assert numbers.point["M3"] == pytest.approx(golden["atari100k"]["M3"]["point"]["iqm"], abs=1e-9)
    pairs = improvement_figure(M3, context).numbers
    assert set(pairs.x) == {"M3"} and set(pairs.y) == set(METHODS) - {"M3"}
    known = {pair["y"]: pair["point"] for pair in golden["probability_of_improvement"] if pair["x"] == "M3"}
    shared = pairs[pairs.y.isin(known)].set_index("y").point
    assert len(shared) >= 4 and shared.to_dict() == pytest.approx(
        {name: known[name] for name in shared.index}, abs=1e-9
    )


def test_the_page_agrees_with_the_raw_scores_but_for_one_number(
    context: Context, golden: dict[str, Any], suites: dict[str, Suite]
) -> None:
    numbers = m3.page_table(context).numbers
    assert numbers.groupby("benchmark").size().to_dict() == {"atari100k": 27, "dmc-proprio-500k": 18, "craftax-1m": 1}
    (other,) = numbers[~numbers.agrees].to_dict("records")
    expected = golden["printed_per_task_means_vs_raw"]["Simulus-A | leor-c/Simulus@c1e75e9:README.md"]["mismatch"]
    assert (other["method"], other["task"]) == ("Simulus-A", "Breakout")
    assert [float(other["printed"]), other["raw"]] == pytest.approx(expected["Breakout"], abs=1e-9)
    assert other["difference"] == pytest.approx(12.457694)
    own = numbers[(numbers.method == "M3") & (numbers.benchmark == "atari100k")]
    assert list(own.raw) == pytest.approx(list(suites["atari100k"].raw["M3"].mean(axis=0)))
    craftax = numbers.set_index("benchmark").loc["craftax-1m"]
    assert craftax.printed == "14.90" and craftax.raw == pytest.approx(golden["craftax"]["M3"]["final_mean"], abs=1e-9)


def test_a_number_agrees_as_far_as_it_is_printed() -> None:
    rows = pd.DataFrame({"printed": ["1.2", "1.2", "1", "12"], "mean": [1.2, 1.2, 1.0, 12.0]})
    assert m3._agree(rows.assign(raw=[1.249, 1.251, 1.4, 12.6])) == [True, False, True, False]


def test_the_page_marks_what_does_not_agree(context: Context) -> None:
    table = m3.page_table(context)
    assert "| Breakout | Simulus-A | 319 | 331.4577 | +12.4577 | **no** |" in table.markdown
    assert table.markdown.count("**no**") == 1 and "-0.0000" not in table.markdown
    assert "45 agree" in table.caption and "all but Simulus-A on Breakout" in table.caption


def test_variants_are_compared_on_the_tasks_that_all_of_them_played(
    ablations: Callable[..., Context], suites: dict[str, Suite]
) -> None:
    runs = [
        *(("", "paper", f"atari/{game}", seed, 10.0) for game in ("Breakout", "Pong", "Krull") for seed in (0, 1)),
        *((NO_CURIOSITY, "paper", f"atari/{game}", 0, 5.0) for game in ("Pong", "Breakout")),
        *(("", "paper", "dmc/walker-run", seed, 600.0) for seed in (0, 1)),
        (NO_CURIOSITY, "paper", "dmc/walker-run", 0, 400.0),
        (NO_CURIOSITY, "paper", "craftax/Symbolic", 0, 11.3),
        ("", "smoke", "atari/Pong", 0, -20.0),
    ]
    drawing = m3.ablations_figure(ablations(runs))
    titles = [axes.get_title() for axes in drawing.figure.axes]
    assert titles == [
        "Atari (Breakout, Pong), paper scale", "DeepMind Control (walker-run), paper scale",
        "Craftax (Symbolic), paper scale",
    ]  # fmt: skip
    numbers = drawing.numbers.set_index(["benchmark", "method"])
    control = numbers.point["DeepMind Control"]
    assert control["M3 (ours, paper)"] == pytest.approx(0.6)
    assert control["M3+no-curiosity (ours, paper)"] == pytest.approx(0.4)
    column = suites["dmc"].tasks.index("walker-run")
    assert control["M3"] == pytest.approx(suites["dmc"].scores["M3"][:, column].mean())
    assert numbers.point["Craftax", "M3+no-curiosity (ours, paper)"] == pytest.approx(0.05)
    assert numbers.point["Craftax", "M3"] == pytest.approx(0.0659462, abs=1e-6)
    assert set(numbers.loc["Atari"].tasks) == {2}
    assert pd.isna(numbers.low["Craftax", "M3+no-curiosity (ours, paper)"])  # a single run


def test_small_scales_stand_alone_and_variants_without_common_tasks_make_no_figure(
    ablations: Callable[..., Context],
) -> None:
    small = [("", "small", "atari/Pong", 0, -20.0), (NO_CURIOSITY, "small", "atari/Pong", 0, -21.0)]
    drawing = m3.ablations_figure(ablations(small))
    assert set(drawing.numbers.method) == {"M3 (ours, small)", "M3+no-curiosity (ours, small)"}
    with pytest.raises(NoData, match="whole episodes"):
        m3.ablations_figure(ablations([(variant, "smoke", *rest) for variant, _, *rest in small]))
    apart = [("", "paper", "atari/Pong", 0, -20.0), (NO_CURIOSITY, "paper", "atari/Krull", 0, -21.0)]
    with pytest.raises(NoData):
        m3.ablations_figure(ablations(apart))


def test_runs_of_other_methods_are_no_ablations_of_m3(write_runs: Write) -> None:
    path = write_runs([("atari/Pong", 0, 1.0)], method="rem", variant="no-pop", scale="paper")
    with pytest.raises(NoData, match="no ablations of M3"):
        m3.ablations_figure(make_context(path, repetitions=9))


def test_costs_are_means_over_runs_and_only_of_m3(ablations: Callable[..., Context], tmp_path: Path) -> None:
    context = ablations([("", "paper", "atari/Pong", seed, 1.0) for seed in (0, 1)])
    with pytest.raises(NoData, match="make suite"):  # nothing was collected beside the scores
        m3.costs_table(context)
    row: dict[str, object] = dict.fromkeys(names(COSTS), "") | {"variant": "", "task": "atari/Pong", "scale": "paper"}
    row |= {"hardware": "GPU", "hours": 12.0, "seconds_world_model": 40.0, "parameters": 21e6, "env_steps": 1e5}
    runs = [row | {"method": "m3", "seed": 0}, row | {"method": "m3", "seed": 1, "hours": 14.0}]
    pd.DataFrame([*runs, row | {"method": "rem", "seed": 0, "hours": 99.0}]).to_csv(tmp_path / "costs.csv", index=False)
    context = ablations([("", "paper", "atari/Pong", seed, 1.0) for seed in (0, 1)])
    table = m3.costs_table(context)
    line = "| M3 (ours, paper) | atari | GPU | 2 | 13.00 | 100,000 | 21.00 | – | – | 40.0 | – | – | – |"
    assert line in table.markdown and len(table.numbers) == 1


def test_missing_items_are_one_sentence_in_a_file(tmp_path: Path, write_runs: Write) -> None:
    runs = str(write_runs([("atari/Pong", 0, 1.0)]))
    assert main(["--only", "M3-F-abl", "M3-T-cost", "--runs", runs, "--out", str(tmp_path / "out")]) == 0
    files = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"M3-F-abl.missing.txt", "M3-T-cost.missing.txt"}
    assert all(text.startswith("no data yet: ") and text.count("\n") == 1 for text in files.values())
