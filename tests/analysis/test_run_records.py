"""What run records show: cost, curves, noise of evaluations and effects of variants, on cases computed by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.context import Context, make_context
from analysis.stats.variance_components import Components, between_tasks, components
from analysis.studies import r09_cost, r10_curves, r11_noise, r12_effects, records

ITEMS = (*r09_cost.ITEMS, *r10_curves.ITEMS, *r11_noise.ITEMS, *r12_effects.ITEMS)

Make = Callable[[list[dict[str, object]]], Context]

RANDOM, HUMAN = -20.7, 14.6  # Pong


def pong(*normalised: float) -> list[float]:
    return [RANDOM + value * (HUMAN - RANDOM) for value in normalised]


def run(method: str, variant: str, task: str, seed: int, returns: list[float], **others: object) -> dict[str, object]:
    fixed = {"scale": "smoke", "hours": 1.0, "env_steps": 3600.0, "hardware": "CPU", "episode_limit": 108_000.0}
    who = {"method": method, "variant": variant, "task": task, "seed": seed}
    return {**who, **fixed, "score": float(np.mean(returns)), "returns": returns, **others}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A context of such runs, with tests at half of the steps (half of the score) and at the end."""

    def context(runs: list[dict[str, object]]) -> Context:
        frame = pd.DataFrame(runs)
        frame.drop(columns="returns").to_csv(tmp_path / "scores.csv", index=False)
        frame[[*records.IDENTITY, "hardware", "hours", "env_steps"]].assign(
            epochs=2, parameters=2e6, parameters_tokenizer=1e6, parameters_world_model=5e5, parameters_actor_critic=5e5,
            seconds_collection=1.0, seconds_tokenizer=2.0, seconds_world_model=3.0, seconds_actor_critic=4.0,
            seconds_evaluation=5.0, peak_memory_bytes="",
        ).to_csv(tmp_path / "costs.csv", index=False)  # fmt: skip
        episodes = [
            {**{name: entry[name] for name in records.IDENTITY}, "episode": number, "return": value, "length": 9}
            for entry in runs
            for number, value in enumerate(entry["returns"])  # type: ignore[call-overload]
        ]
        pd.DataFrame(episodes).to_csv(tmp_path / "episodes.csv", index=False)
        tests = []
        for entry in runs:
            who = {name: entry[name] for name in (*records.IDENTITY, "hours")}
            score, steps = float(str(entry["score"])), float(str(entry["env_steps"]))
            for epoch, split, value in ((1, "test", score / 2), (2, "test", 99.0), (2, "final", score)):
                tests.append(
                    who | {"epoch": epoch, "env_steps": steps * epoch / 2, "split": split, "return_mean": value}
                )
        pd.DataFrame(tests).to_csv(tmp_path / "evaluations.csv", index=False)
        return make_context(tmp_path / "scores.csv", repetitions=60)

    return context


def test_without_records_every_item_says_which_command_makes_them(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("method,task,seed,score\niris,atari/Pong,0,1.0\n")
    context = make_context(tmp_path / "scores.csv", repetitions=9)
    for item in ITEMS:
        assert "make repro" in str(item.missing(context)), item.id


def test_all_items_are_made_of_one_run_with_everything_unknown_left_open(make: Make) -> None:
    context = make([run("iris", "64-tokens", "atari/Pong", 0, pong(0.5), episode_limit=400.0)])
    for item in ITEMS:
        assert item.missing(context) is None
        artefact = item.make(context)
        assert len(artefact.numbers) >= 1 and "nan" not in getattr(artefact, "markdown", "")
        assert "episodes were cut" in artefact.caption


def test_the_front_is_what_no_other_beats_and_names_are_moved_apart() -> None:
    hours, scores = np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 3.0, 4.0])
    assert list(r09_cost.pareto(hours, scores)) == [True, True, False, False, True]
    assert list(r09_cost.pareto(np.ones(2), np.ones(2))) == [True, True]  # equal ones beat nobody
    places = r09_cost.spread(np.array([0.1, 0.95, 0.97, 1.0]), gap=0.1)
    assert places[0] == 0.1 and places[-1] == 1.0 and np.diff(places).min() >= 0.1 - 1e-12


def test_costs_are_compared_on_equal_tasks_and_hardware_only(make: Make) -> None:
    context = make(
        [
            *(run("iris", "", task, 0, [0.0], hours=4.0) for task in ("atari/Pong", "atari/Breakout")),
            run("rem", "", "atari/Pong", 0, pong(1.0), hours=2.0),
            run("rem", "", "atari/Pong", 1, pong(0.0), hours=1.0),
            run("m3", "", "atari/Pong", 0, pong(9.0), hours=0.1, hardware="GPU"),
        ]
    )
    boards = {(board.tasks, board.hardware): board for board in r09_cost.boards(context)}
    assert set(boards) == {
        (("atari/Breakout", "atari/Pong"), "CPU"), (("atari/Pong",), "CPU"), (("atari/Pong",), "GPU"),
    }  # fmt: skip
    points = r09_cost.points(boards[("atari/Pong",), "CPU"], context).set_index("method")
    rem = points.loc["REM (ours, smoke)"]
    assert (rem.hours, rem.score, rem.runs) == (1.5, pytest.approx(0.5), 2) and rem.low < rem.score < rem.high
    assert points.loc["IRIS (ours, smoke)"].isna()[["low", "high"]].all()


def test_runs_without_hours_are_counted_in_the_caption(make: Make) -> None:
    timed = run("rem", "", "atari/Pong", 0, pong(1.0))
    untimed = [run("iris", "", "atari/Pong", seed, pong(0.5), hours="") for seed in (0, 1)]
    for others, said in (([], ""), (untimed[:1], " 1 run without recorded hours is left out."),
                         (untimed, " 2 runs without recorded hours are left out.")):  # fmt: skip
        drawing = r09_cost.cost_figure(make([timed, *others]))
        assert drawing.caption.endswith(f"lead to the names.{said}")
        assert list(drawing.numbers.method) == ["REM (ours, smoke)"]


def test_the_table_of_costs_holds_speed_and_size(make: Make) -> None:
    table = r09_cost.cost_table(make([run("rem", "", "minigrid/Empty-5x5", seed, [0.5], hours=0.5) for seed in (0, 1)]))
    line = "| REM (ours, smoke) | minigrid, 1 task | CPU | 2 | 0.5 | 2.0 | 2.00 M | 1 | 2 | 3 | 4 | 5 | – | 0.500 |"
    assert line in table.markdown


def test_area_and_first_step_of_a_curve() -> None:
    steps, values = pd.Series([0.0, 10.0, 40.0]), pd.Series([0.0, 1.0, 3.0])
    assert r10_curves.area(steps, values) == pytest.approx((5 + 60) / 40)
    assert r10_curves.area(steps[:1], values[1:2]) == 1.0
    assert r10_curves.first_reached(steps, values, 1.0) == 10.0 and np.isnan(
        r10_curves.first_reached(steps, values, 3.1)
    )


def test_a_curve_has_the_t_interval_of_its_mean_and_ends_with_the_final_protocol(make: Make) -> None:
    scores = [1.0, 2.0, 4.0]
    context = make([run("iris", "", "crafter/Reward", seed, [score]) for seed, score in enumerate(scores)])
    points = r10_curves.curve(r10_curves.evaluations(context))
    assert list(points["mean"]) == pytest.approx([7 / 6, 7 / 3])
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (points.low.iloc[1], points.high.iloc[1]) == pytest.approx((expected.low, expected.high))


def test_steps_to_a_level_count_the_seeds_that_reach_it(make: Make) -> None:
    context = make([run("iris", "", "atari/Pong", seed, pong(level)) for seed, level in enumerate((0.3, 0.12))])
    table = r10_curves.curves_table(context)
    (entry,) = table.numbers.itertuples()
    assert entry.last == pytest.approx(0.21)
    tests = r10_curves.evaluations(context).value
    assert (entry.lowest, entry.highest) == pytest.approx((0.12, tests.max())) and tests.max() > 0.3
    numbers = table.numbers.iloc[0]
    assert (numbers["steps_to_0.25"], numbers["reached_0.25"], numbers["reached_1"]) == (1800.0, 2, 0)
    assert "1.8k (2 of 2)" in table.markdown


def test_components_by_hand() -> None:
    """Runs (1, 3), (5, 7): variance within 2, means 2 and 6, MSB = 2 * 8 = 16, so runs (16 - 2) / 2 = 7."""
    parts = components([np.array([1.0, 3.0]), np.array([5.0, 7.0])])
    assert (parts.mean, parts.episode, parts.run, parts.per_run) == (4.0, 2.0, 7.0, 2.0)
    assert parts.share == pytest.approx(1 / 8)
    less = components([np.array([0.0, 4.0]), np.array([1.0, 3.0])])  # runs differ less than their episodes
    assert less.run == 0.0 and less.share == 1.0
    one = components([np.array([1.0, 2.0, 3.0])])
    assert one.episode == 1.0 and np.isnan(one.run)
    assert np.isnan(components([np.array([1.0]), np.array([5.0])]).run)


def test_components_are_unbiased_with_unequal_numbers_of_episodes() -> None:
    generator = np.random.default_rng(0)
    estimates = [
        components([generator.normal(generator.normal(0.0, 6.0), 3.0, size) for size in (4, 9, 16, 30)])
        for _ in range(4000)
    ]
    assert np.mean([parts.episode for parts in estimates]) == pytest.approx(9.0, rel=0.02)
    assert np.mean([parts.run for parts in estimates]) == pytest.approx(36.0, rel=0.05)


def test_variance_of_games_is_that_of_their_means_less_the_noise() -> None:
    tasks = [Components(mean, 2, 20, 5.0, 1.0) for mean in (0.0, 4.0)]
    assert between_tasks(tasks) == pytest.approx(8.0 - (1.0 + 0.5) / 2)
    assert np.isnan(between_tasks([components([np.array([mean, mean + 1])]) for mean in (0.0, 4.0)]))


def test_pairs_are_of_one_seed_and_the_interval_is_that_of_the_paired_t_test(make: Make) -> None:
    full, changed = [1.0, 2.0, 4.0, 3.0], [0.5, 1.9, 3.0]
    context = make(
        [
            *(run("rem", "", "minigrid/Empty-5x5", seed, [score]) for seed, score in enumerate(full)),
            *(run("rem", "no-pop", "minigrid/Empty-5x5", seed, [score]) for seed, score in enumerate(changed)),
            run("rem", "no-pop", "minigrid/Empty-5x5", 7, [50.0]),
        ]
    )
    table = r12_effects.effects_table(context)
    (entry,) = table.numbers.itertuples()
    expected = stats.ttest_rel(changed, full[:3]).confidence_interval(0.95)
    assert entry.pairs == 3 and entry.change == pytest.approx(-1.6 / 3)
    assert (entry.low, entry.high) == pytest.approx((expected.low, expected.high))
    assert entry.missing == "full agent lacks seed 7; variant lacks seed 3"
    assert "full agent lacks seed 7; variant lacks seed 3" in table.markdown


def test_differences_that_only_rounding_tells_apart_have_no_interval() -> None:
    assert np.isnan(r12_effects.paired_interval(np.array([0.1 + 0.2, 0.3, 0.3]))).all()
    assert np.isfinite(r12_effects.paired_interval(np.array([0.1, 0.2]))).all()


def test_over_games_every_game_weighs_the_same_and_one_without_a_pair_is_named(make: Make) -> None:
    context = make(
        [
            *(run("rem", variant, "atari/Pong", seed, pong(score)) for variant, score in (("", 1.0), ("no-pop", 0.5))
              for seed in range(3)),
            run("rem", "", "atari/Freeway", 0, [29.6]),
            run("rem", "no-pop", "atari/Freeway", 0, [2 * 29.6]),
            run("rem", "no-pop", "atari/Krull", 0, [1.0]),
        ]
    )  # fmt: skip
    numbers = r12_effects.effects_table(context).numbers.set_index("task")
    assert numbers.change["atari/Pong"] == pytest.approx(-0.5) and numbers.change["atari/Freeway"] == pytest.approx(1.0)
    assert numbers.change["2 games"] == pytest.approx(0.25) and pd.isna(numbers.low["2 games"])
    assert numbers.missing["2 games"] == "1 run without a partner; no pair on Krull"
    assert numbers.pairs["atari/Krull"] == 0 and numbers.missing["atari/Krull"] == "full agent lacks seed 0"


def test_an_oracle_enters_no_front_no_curve_and_no_pair(make: Make) -> None:
    """On a task without a human score, too, where nothing else keeps it apart; nor before it has learned anything."""
    task = "minigrid/Empty-5x5"
    for steps in (1e6, 0.0):
        plain = [run("iris", variant, task, seed, [0.5]) for variant in ("", "gru") for seed in (0, 1)]
        oracle = [run("iris", "oracle", task, seed, [0.9], oracle_steps=steps) for seed in (0, 1)]
        context = make(plain + oracle)
        (board,) = r09_cost.boards(context)
        assert {*board.runs.variant} == {*r10_curves.evaluations(context).variant} == {"", "gru"}
        assert {*r12_effects.effects_table(context).numbers.method} == {"IRIS+gru"}
        assert "IRIS+oracle (ours, smoke)" in {*r09_cost.cost_table(context).numbers.method}
        assert "learned in the environment itself" in r09_cost.cost_figure(context).caption
        alone = make(oracle)
        for item in (*r10_curves.ITEMS, *r12_effects.ITEMS, r09_cost.ITEMS[0]):
            assert item.missing(alone) is not None, item.id
