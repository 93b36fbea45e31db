"""Our runs: on their own games, their scale on every label, uncertainty of episodes apart from that of runs."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.comparisons import IRIS
from analysis.context import make_context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.runs import read_runs, subset_name, subset_suites
from analysis.data.scores import References, Suite
from analysis.draw import style
from analysis.draw.intervals import interval_figure
from analysis.errors import NoData
from analysis.papers import ours
from analysis.studies import r10_curves, records
from pipeline.aggregate import our_metrics
from pipeline.page.overview import suite_title
from tests.analysis.test_tables import context_of
from tokenworlds.scores import is_cut

LABEL = "IRIS (ours, small, 2 games x 2 seeds)"


def test_published_methods_are_restricted_to_our_games(
    suites: dict[str, Suite], references: References, small_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(small_runs, references))
    (suite,) = subset_suites(context.suites)
    assert suite.tasks == ("Breakout", "Pong")
    assert LABEL in suite.scores and LABEL not in context.suites[ATARI].scores
    assert suite.scores["IRIS"].shape == (5, 2)
    assert context.aggregates[suite.name][LABEL]["iqm"]["runs"] == 2
    assert context.aggregates[suite.name][LABEL]["iqm"]["tasks"] == 2


def test_normalised_scores_of_ours_use_the_references_of_their_game(
    suites: dict[str, Suite], references: References, small_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(small_runs, references))
    (suite,) = subset_suites(context.suites)
    assert suite.scores[LABEL][:, 1] == pytest.approx([(-20.0 + 20.7) / 35.3, (-21.0 + 20.7) / 35.3])


def test_every_drawn_number_of_ours_is_labelled_with_its_scale(
    suites: dict[str, Suite], references: References, small_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(small_runs, references))
    for make in (ours.games_figure, ours.aggregates_figure, ours.tasks_figure):
        numbers = make(context).numbers
        methods = set(numbers.method)
        assert {method for method in methods if "small" in method}
        assert all(method in suites[ATARI].scores or "(ours, small" in method for method in methods)
    games = ours.games_figure(context).numbers
    assert set(games.task) == {"Breakout", "Pong"}
    assert (games[games.method == "IRIS"].groupby("task").size() == 5).all()


def test_complete_paper_runs_stand_in_the_main_figures_and_need_no_subset(
    suites: dict[str, Suite], references: References, paper_runs: Path
) -> None:
    context = context_of(suites, references, read_runs(paper_runs, references))
    label = "IRIS (ours, paper, 26 games x 5 seeds)"
    assert label in set(interval_figure(IRIS, ("iqm",), context).numbers.method)
    with pytest.raises(NoData):
        ours.aggregates_figure(context)
    assert context.aggregates[ATARI]["IRIS"] == context_of(suites, references, []).aggregates[ATARI]["IRIS"]


def test_a_single_seed_has_a_point_and_no_interval(
    suites: dict[str, Suite], references: References, write_runs: Callable[..., Path]
) -> None:
    context = context_of(suites, references, read_runs(write_runs([("atari/Pong", 0, 1.0)], scale="small"), references))
    numbers = ours.aggregates_figure(context).numbers
    mine = numbers[numbers.method == "IRIS (ours, small, 1 game x 1 seed)"]
    assert mine.low.isna().all() and mine.point.notna().all()


def test_table_separates_uncertainty_over_runs_from_that_over_episodes(
    suites: dict[str, Suite], references: References, small_runs: Path
) -> None:
    table = ours.runs_table(context_of(suites, references, read_runs(small_runs, references)))
    row = table.numbers.set_index("task").loc["atari/Breakout"]
    assert row.score == pytest.approx(1.0)
    assert row.standard_error_runs == pytest.approx(0.5)
    assert row.standard_error_episodes == pytest.approx(math.sqrt(2 * (0.5 / 2) ** 2) / 2)
    assert row.published_mean == pytest.approx(suites[ATARI].raw["IRIS"][:, 7].mean())
    assert pd.isna(table.numbers.set_index("task").loc["minigrid/Empty-5x5"].human_normalised)


def test_published_means_of_every_benchmark_stand_beside_ours(
    suites: dict[str, Suite], references: References, write_runs: Callable[..., Path]
) -> None:
    tasks = ("atari/Breakout", "craftax/Symbolic", "dmc/cartpole-balance", "minigrid_symbolic/Empty-5x5")
    path = write_runs([(task, 0, 1.0) for task in tasks], method="m3", variant="", scale="small")
    context = context_of(suites, references, read_runs(path, references))
    published = ours.runs_table(context).numbers.set_index("task").published_mean
    assert published.round(2).to_dict() == pytest.approx(
        {"atari/Breakout": 148.86, "craftax/Symbolic": 14.9, "dmc/cartpole-balance": 993.44, tasks[-1]: math.nan},
        nan_ok=True,
    )
    assert set(ours.tasks_figure(context).numbers.task) == set(tasks[1:])


@pytest.mark.parametrize(
    ("method", "variant", "task", "published"),
    [
        ("rem", "no-pop", "atari/DemonAttack", 12316.0),  # REM itself: 5738.6
        ("rem", "4x4-tokenizer", "atari/Krull", 4612.8),
        ("rem", "4x4-tokenizer", "atari/Alien", math.nan),  # this ablation was not run there
        ("m3", "simulus-a", "atari/Breakout", 331.46),
        ("iris", "64-tokens", "atari/Pong", math.nan),  # published on Crafter only, as quoted numbers
    ],
)
def test_the_published_twin_is_that_of_method_and_variant(
    method: str, variant: str, task: str, published: float, write_runs: Callable[..., Path]
) -> None:
    path = write_runs([(task, 0, 1.0)], method=method, variant=variant, scale="paper")
    (row,) = ours.runs_table(make_context(path, repetitions=9)).numbers.itertuples()
    assert row.published_mean == pytest.approx(published, abs=0.05, nan_ok=True)


@pytest.mark.parametrize(
    ("scale", "limit", "cut"),
    [
        ("smoke", math.nan, True), ("scale not stated", math.nan, True), ("small", math.nan, False),
        ("paper", math.nan, False), ("paper", 400.0, True), ("smoke", 108_000.0, False), ("smoke", math.inf, False),
    ],
)  # fmt: skip
def test_episodes_are_cut_by_the_recorded_limit_else_by_scale(scale: str, limit: float, cut: bool) -> None:
    assert is_cut("atari/Pong", limit, scale) == cut


def test_runs_with_cut_episodes_have_no_human_normalised_score_anywhere(
    write_runs: Callable[..., Path], suites: dict[str, Suite]
) -> None:
    random = {"random_score": -20.0, "random_std": 2.0, "random_episodes": 4.0}
    path = write_runs([("atari/Pong", seed, -3.0) for seed in (0, 1)], scale="paper", episode_limit=400, **random)
    write_tests(path)
    context = make_context(path, repetitions=9)
    assert set(context.suites) == set(suites)
    for figure in (ours.games_figure, ours.aggregates_figure):
        with pytest.raises(NoData, match="cut episodes, are shown raw with the random policy"):
            figure(context)
    table = ours.runs_table(context)
    (row,) = table.numbers.itertuples()
    assert math.isnan(row.human_normalised) and math.isnan(row.published_mean) and math.isnan(row.human)
    assert math.isnan(row.standard_error_runs)  # equal runs do not tell how runs spread
    assert (row.score, row.random) == (-3.0, -20.0) and row.random_error == pytest.approx(math.sqrt(2) / 2)
    assert "episodes were cut" in table.caption
    drawing = ours.tasks_figure(context)
    assert set(drawing.numbers.score) == {-3.0} and set(drawing.numbers.random) == {-20.0}
    assert not records.runs(context).is_normalised.any() and not r10_curves.evaluations(context).is_normalised.any()
    assert r10_curves.curves_table(context).numbers["steps_to_0.5"].isna().all()
    assert our_metrics(context) == {"IRIS (ours, paper)": {"atari/Pong": -3.0}}


REPLAYED = ("iris/atari/Boxing/0", "iris+4x4/atari/Pong/12")


@pytest.mark.parametrize(
    "more",
    [
        {"variant": "oracle", "oracle_steps": 1e9},
        {"variant": "warm", "trained_on": "tokenizer: 100000 frames of iris/atari/Pong/0, not counted"},
        {"variant": "kept", "trained_on": f"tokenizer: 9 frames of replay {' '.join(REPLAYED)}, not counted"},
        {"variant": "first", "trained_on": f"tokenizer: 9 frames of replay {' '.join(REPLAYED[::-1])}, counted"},
    ],
    ids=lambda more: str(more["variant"]),
)
def test_runs_of_more_steps_than_their_own_enter_no_comparison_and_it_is_said_why(
    write_runs: Callable[..., Path], suites: dict[str, Suite], more: dict[str, object]
) -> None:
    runs = [("atari/Pong", seed, 3.0) for seed in (0, 1)]
    path = write_runs(runs, scale="paper", episode_limit=108_000, **more)
    context = make_context(path, repetitions=9)
    assert set(context.suites) == set(suites) and all(group.raw is None for group in context.groups)
    (row,) = ours.runs_table(context).numbers.itertuples()
    assert row.score == 3.0 and math.isnan(row.human_normalised)
    assert "learned in the environment itself" in ours.runs_table(context).caption
    assert "episodes were cut" not in ours.runs_table(context).caption
    assert records.runs(context).empty and len(records.runs(context, with_beyond=True)) == 2
    others = (
        "tokenizer: 9 frames of iris/atari/PongLike/0, not counted; world_model: 9 frames of random_policy, counted; "
        "actor_critic: 9 frames of replay iris/atari/Boxing/0 iris/atari/PongLike/1, not counted"
    )
    plain = make_context(write_runs(runs, scale="paper", episode_limit=108_000, trained_on=others), repetitions=9)
    assert set(plain.suites) > set(suites)
    assert "environment itself" not in ours.runs_table(plain).caption and len(records.runs(plain)) == 2


def write_tests(path: Path) -> None:
    """A test of each run during its training, beside the scores."""
    who = pd.read_csv(path)[["method", "task", "seed", "scale"]]
    tests = who.assign(variant="", epoch=1, env_steps=120, split="test", return_mean=20.0, hours=1.0)
    tests.to_csv(path.with_name("evaluations.csv"), index=False)


def test_equal_runs_have_a_point_and_no_interval(write_runs: Callable[..., Path]) -> None:
    path = write_runs([("atari/Pong", seed, 1.0) for seed in range(5)], scale="small")
    numbers = ours.aggregates_figure(make_context(path, repetitions=9)).numbers.set_index("method")
    mine = numbers.loc["IRIS (ours, small, 1 game x 5 seeds)"]
    assert mine.low.isna().all() and mine.high.isna().all() and mine.point.notna().all()


def test_without_runs_items_say_how_to_get_them(suites: dict[str, Suite], references: References) -> None:
    context = context_of(suites, references, [])
    for make in (ours.runs_table, ours.games_figure, ours.aggregates_figure):
        with pytest.raises(NoData, match="make repro"):
            make(context)


def test_a_method_has_one_colour_everywhere() -> None:
    assert len(set(naming.COLOURS.values())) == len(naming.COLOURS)
    labels = [RunGroupId("iris", variant, "small").label() for variant in ("", "64-tokens")]
    assert labels == ["IRIS (ours, small)", "IRIS+64-tokens (ours, small)"]
    assert style.colour(labels[0]) == style.colour("IRIS") != style.colour(labels[1])
    assert style.colour(RunGroupId("rem", "separate-embeddings", "paper").label()) == style.colour(
        "separate-wm-embeddings"
    )
    assert style.colour("DrQ(eps)") == naming.COLOURS["DrQ(eps)"]
    assert style.colour(RunGroupId("new_method", "", "smoke").label()) == style.colour("new_method")


def test_sets_of_games_that_begin_and_end_alike_are_suites_of_their_own(references: References) -> None:
    games = references.tasks
    without = [tuple(game for game in games if game != left_out) for left_out in ("Krull", "Pong")]
    names = [subset_name(some) for some in without]
    assert len({*names}) == 2 and {suite_title(name) for name in names} == {
        "Atari 100k, 25 games: Alien, Amidar to UpNDown"
    }
