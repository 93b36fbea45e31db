"""Crafter: our curves and success rates, and quoted numbers that are labelled and never mixed with ours."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.draw.curves import over_seeds
from analysis.errors import NoData
from analysis.papers import crafter
from tests.analysis.conftest import CrafterRun, write_beside

Write = Callable[..., Path]
RATES = {"eat_cow": 50.0, "wake_up": 25.0, "eat_plant": 0.0}
PAPER: list[CrafterRun] = [
    *(("delta_iris", "", "paper", seed, 10e6, RATES) for seed in range(3)),
    ("delta_iris", "no-frame-tokens", "paper", 0, 10e6, RATES),
    *(("iris", "", "smoke", seed, 200.0, RATES) for seed in (0, 1)),
]


@pytest.fixture
def make(write_runs: Write) -> Callable[[list[CrafterRun]], Context]:
    """A context with these runs on Crafter."""

    def context(runs: list[CrafterRun]) -> Context:
        path = write_runs([("crafter/Reward", seed, 3.0 + seed) for seed in (0, 1)])
        write_beside(path, runs)
        return make_context(path, repetitions=9)

    return context


def test_a_curve_is_the_mean_over_seeds_and_ends_with_the_final_protocol(
    make: Callable[[list[CrafterRun]], Context],
) -> None:
    frame = make(PAPER).evaluations
    rows = frame[(frame.method == "delta_iris") & (frame.variant == "")]
    points = over_seeds(rows)
    assert list(points.env_steps) == [5e6, 10e6] and list(points.seeds) == [3, 3]
    assert list(points["mean"]) == [2.0, 4.0]  # not the 99 of the last test
    assert list(points.deviation) == pytest.approx([1.0, 1.0])


def test_curves_never_mix_scales_and_quoted_numbers_stand_beside_paper_scale_only(
    make: Callable[[list[CrafterRun]], Context],
) -> None:
    drawing = crafter.curves_figure(make(PAPER))
    paper, smoke = drawing.figure.axes
    assert [axes.get_title() for axes in (paper, smoke)] == ["Paper scale", "Smoke scale"]
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (paper, smoke)]
    assert names[0][:2] == ["Delta-IRIS, ours, 3 seeds", "Delta-IRIS without frame tokens, ours, 1 seed"]
    assert len(names[0]) == 2 + 6 and all(name.endswith("secondary") for name in names[0][2:])
    assert names[1] == ["IRIS, 16 tokens, ours, 2 seeds"]
    assert "Secondary: quoted" in drawing.caption
    sources = drawing.numbers.set_index("method").source
    assert all(("(ours" in method) == (source == "our runs") for method, source in sources.items())


def test_smoke_curves_stand_alone(make: Callable[[list[CrafterRun]], Context]) -> None:
    drawing = crafter.curves_figure(make(PAPER[-2:]))
    assert len(drawing.figure.axes) == 1 and set(drawing.numbers.source) == {"our runs"}
    assert "beside no published number" in drawing.caption and "Secondary" not in drawing.caption


def test_milestones_hold_quoted_numbers_and_ours_at_paper_scale(make: Callable[[list[CrafterRun]], Context]) -> None:
    table = crafter.milestones_table(make(PAPER))
    numbers = table.numbers.set_index(["method", "source"])
    quoted = numbers.loc[("Delta-IRIS", "secondary")]
    assert list(quoted) == [7.7, 15.4, 16.1, 25e6, 20]
    ours = numbers.loc[("Delta-IRIS (ours, paper)", "ours, 3 seeds")]
    assert list(ours.iloc[1:3]) == [2.0, 4.0] and pd.isna(ours.iloc[0])  # nothing was tested at 1 M
    assert ours.frames_per_second == pytest.approx(10.0)
    assert not [source for _, source in numbers.index if "2 seeds" in source]  # the smoke runs
    assert "| Delta-IRIS (ours, paper) | ours, 3 seeds | – | 2.0 | 4.0 | – | 10 |" in table.markdown


@pytest.mark.parametrize(("untimed", "speed"), [(["0"], 10.0), (["0", "1", "2"], np.nan)])
def test_the_speed_is_that_of_the_seeds_whose_hours_are_known(
    untimed: list[str], speed: float, make: Callable[[list[CrafterRun]], Context]
) -> None:
    context = make(PAPER[:3])
    context.evaluations.loc[context.evaluations.seed.isin(untimed), "hours"] = np.nan
    numbers = crafter.milestones_table(context).numbers.set_index("method")
    assert numbers.frames_per_second["Delta-IRIS (ours, paper)"] == pytest.approx(speed, nan_ok=True)


def test_without_runs_the_quoted_numbers_stay_and_say_how_to_get_ours(
    make: Callable[[list[CrafterRun]], Context],
) -> None:
    table = crafter.milestones_table(make(PAPER[-2:]))
    assert "no data yet: `make suite SUITE=crafter`" in table.caption
    assert set(table.numbers.source) == {"secondary", "secondary, one independent run"}


def test_seeds_that_were_tested_at_other_steps_count_with_lines_between_their_own() -> None:
    """A curve from elsewhere has the step at which an episode ended."""
    steps = np.arange(1, 6) * 1e6
    rows = pd.concat(
        pd.DataFrame({"seed": str(seed), "epoch": steps + 448 * seed, "return_mean": steps / 2e6 + shift}).assign(
            env_steps=steps + 448 * seed, split="test"
        )
        for seed, shift in enumerate((0.0, 2.0, 5.0))
    )
    points = over_seeds(rows)
    assert (points.seeds == 3).all() and points.env_steps.between(1_000_896, 5_000_000).all()
    assert np.allclose(points["mean"], points.env_steps / 2e6 + 7 / 3, atol=1e-3)
    alone = over_seeds(rows[~rows.duplicated("seed")])  # no step that all have
    assert list(alone.seeds) == [1, 1, 1] and list(alone["mean"]) == [0.5, 2.5, 5.5]


def test_success_rates_are_means_over_seeds_with_the_score_below(make: Callable[[list[CrafterRun]], Context]) -> None:
    runs: list[CrafterRun] = [
        ("delta_iris", "", "paper", 0, 10e6, {"eat_cow": 3.0, "wake_up": 0.0}),
        ("delta_iris", "", "paper", 1, 10e6, {"eat_cow": 0.0, "wake_up": 8.0}),
    ]
    numbers = crafter.achievements_table(make(runs)).numbers
    label = "Delta-IRIS (ours, paper, 2 seeds)"
    assert list(numbers.columns) == ["achievement", label]
    assert dict(zip(numbers.achievement, numbers[label])) == {
        "wake_up": 4.0, "eat_cow": 1.5, "crafter_score": pytest.approx((1.0 + 2.0) / 2),
    }  # fmt: skip


def test_the_caption_says_over_which_episodes_the_score_is_taken(
    make: Callable[[list[CrafterRun]], Context], smoke_runs: Path
) -> None:
    caption = crafter.achievements_table(make_context(smoke_runs, repetitions=9)).caption
    assert "episodes of the final evaluation (4 a run)" in caption
    assert "the benchmark itself takes its rates over all episodes of training" in caption
    assert "(their number is not stated)" in crafter.achievements_table(make(PAPER)).caption


def test_every_bar_names_seeds_and_scale_and_every_seed_is_a_dot(make: Callable[[list[CrafterRun]], Context]) -> None:
    drawing = crafter.achievements_figure(make(PAPER))
    (axes,) = drawing.figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "Delta-IRIS (ours, paper, 3 seeds)",
        "Delta-IRIS+no-frame-tokens (ours, paper, 1 seed)",
        "IRIS (ours, smoke, 2 seeds)",
    ]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["eat cow", "wake up", "eat plant"]
    assert len(axes.patches) == 3 * 3 and len(axes.collections) == 6
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    assert len(drawing.numbers) == 6 * 3


def test_items_without_data_name_the_command(write_runs: Write) -> None:
    context = make_context(write_runs([("atari/Pong", 0, 1.0)]), repetitions=9)
    for needed in (crafter.evaluations, crafter.achievements):
        with pytest.raises(NoData, match="make suite SUITE=crafter"):
            needed(context)


def test_runs_on_other_tasks_are_no_curves_of_crafter(make: Callable[[list[CrafterRun]], Context]) -> None:
    context = make(PAPER)
    context.evaluations["task"] = "atari/Pong"
    with pytest.raises(NoData):
        crafter.curves_figure(context)


def test_achievements_of_craftax_are_none_of_crafter(make: Callable[[list[CrafterRun]], Context]) -> None:
    """Some have the same names."""
    context = make(PAPER)
    craftax = context.achievements.assign(task="craftax/Symbolic", method="m3", success_rate=99.0)
    both = replace(context, achievements=pd.concat([context.achievements, craftax]))
    pd.testing.assert_frame_equal(crafter.achievements_table(both).numbers, crafter.achievements_table(context).numbers)
    with pytest.raises(NoData):
        crafter.achievements_table(replace(context, achievements=craftax))


def test_runs_that_learned_in_the_environment_itself_stand_nowhere(write_runs: Write) -> None:
    path = write_runs([("crafter/Reward", 0, 3.0)], variant="oracle", scale="paper", oracle_steps=1e9)
    write_beside(path, [("iris", "oracle", "paper", 0, 1e6, RATES), ("iris", "", "paper", 0, 1e6, RATES)])
    context = make_context(path, repetitions=9)
    assert "oracle" not in " ".join(crafter.methods(context)) and "IRIS (ours, paper)" in crafter.methods(context)
    assert set(crafter.achievements(context).variant) == {""} and crafter._episodes(context).endswith("not stated")
