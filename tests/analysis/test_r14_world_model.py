"""How good world models are: means and intervals over episodes, and what the items make of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.context import Context, make_context
from analysis.data.world_model import ROUNDING, shown, summary
from analysis.studies import r14_world_model

WHO = {"method": "iris", "variant": "", "task": "atari/Pong", "seed": 0, "scale": "smoke"}
RESAMPLES = 400


def row(value: float, episode: int = 0, measure: str = "ssim", **changes: Any) -> dict[str, Any]:
    what = {"predictor": "open loop", "horizon": 5, "part": "image", "measure": measure, "count": 8}
    return {**WHO, "episode": episode, **what, "value": value, **changes}


def found(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return summary(pd.DataFrame(rows), np.random.default_rng(0), RESAMPLES)


def test_a_value_is_the_mean_over_runs_of_means_over_episodes() -> None:
    """One run has three episodes, the other one."""
    rows = [row(value, episode) for episode, value in enumerate((0.1, 0.2, 0.6))] + [row(0.9, seed=1)]
    (entry,) = found(rows).itertuples()
    assert entry.value == pytest.approx((0.3 + 0.9) / 2) and entry.episodes == 4
    assert (0.1 + 0.9) / 2 <= entry.low < entry.value < entry.high <= (0.6 + 0.9) / 2


def test_intervals_are_those_of_resampled_episodes() -> None:
    values = np.random.default_rng(1).random(12)
    (entry,) = found([row(value, episode) for episode, value in enumerate(values)]).itertuples()
    drawn = np.random.default_rng(2).choice(values, (20_000, 12)).mean(axis=1)
    assert (entry.low, entry.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.03)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_one_episode_and_equal_ones_have_no_interval(values: list[float]) -> None:
    (entry,) = found([row(value, episode) for episode, value in enumerate(values)]).itertuples()
    assert entry.value == 0.5 and np.isnan([entry.low, entry.high]).all()


def test_short_episodes_count_at_the_horizons_that_they_have() -> None:
    rows = [row(0.2), row(0.4, 1), row(0.8, 1, horizon=10)]
    assert [(entry.horizon, entry.value, entry.episodes) for entry in found(rows).itertuples()] == [
        (5, pytest.approx(0.3), 2), (10, 0.8, 1),
    ]  # fmt: skip


def test_what_is_no_number_counts_nothing() -> None:
    (entry,) = found([row(0.8), row(0.81, 1), row(np.nan, 2)]).itertuples()
    assert entry.value == pytest.approx(0.805) and 0.8 <= entry.low < entry.high <= 0.81 and entry.episodes == 2


def test_the_error_of_pictures_is_shown_in_decibels_also_where_there_is_none() -> None:
    assert list(shown("mse", np.array([0.01, 0.0, ROUNDING / 2]))) == pytest.approx([20, 58.92, 58.92], abs=0.01)
    rows = [row(0.0, measure="mse"), row(0.02, 1, measure="mse"), row(0.1, measure="mse", task="atari/Boxing")]
    (entry,) = found(rows).itertuples()
    assert entry.value == pytest.approx((20 + 10) / 2)  # decibels of each task


def test_calibration_weighs_every_step_alike() -> None:
    rows = [
        row(value, episode, f"end_{kind}", horizon=np.nan, part="0.1", count=count)
        for episode, (value, count) in enumerate(((0.0, 30), (1.0, 10)))
        for kind in ("predicted", "observed")
    ]
    assert list(found(rows).value) == [0.25, 0.25]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Two episodes of which the prediction is better than standing still at 5 steps, and not at 10."""
    score = {**WHO, "score": 1.0, "hours": 1.0, "env_steps": 10.0, "hardware": "CPU", "episode_limit": 400.0}
    pd.DataFrame([score]).to_csv(tmp_path / "scores.csv", index=False)
    levels = {("open loop", 5): 0.9, ("still", 5): 0.5, ("other", 5): 0.3, ("open loop", 10): 0.6, ("still", 10): 0.5,
              ("other", 10): 0.65, ("tokenizer", 5): 0.95}  # fmt: skip
    rows = [
        row(level + 0.01 * episode, episode, predictor=predictor, horizon=horizon)
        for (predictor, horizon), level in levels.items()
        for episode in range(2)
    ]
    forced = {"predictor": "teacher-forced", "horizon": np.nan, "part": ""}
    rows += [row(2.0 + episode, episode, "loss_observations", **forced) for episode in range(2)]
    pd.DataFrame(rows).to_csv(tmp_path / "world_model.csv", index=False)
    return make_context(tmp_path / "scores.csv", repetitions=60)


def test_a_prediction_is_bold_where_it_is_better_than_both_baselines(context: Context) -> None:
    markdown = r14_world_model.quality_table(context).markdown
    line = "| IRIS (ours, smoke) | atari/Pong | SSIM | **0.905 [0.900, 0.910]** | 0.605 [0.600, 0.610] |"
    assert line in markdown


def test_figures_compare_methods_on_the_tasks_that_all_of_them_have() -> None:
    runs = [("iris", "atari/Pong"), ("rem", "atari/Pong"), ("rem", "atari/Krull"), ("m3", "dmc/a"), ("m3", "dmc/b")]
    frame = pd.DataFrame([{"label": label, "task": task, "scale": "laptop", "value": 1.0} for label, task in runs])
    frame = pd.concat([frame.assign(episode=episode, family=frame.task.str[:3]) for episode in (0, 1)])
    kept, note = r14_world_model.on_shared_tasks(frame)
    assert len(kept) == 8 and set(kept.task) == {"atari/Pong", "dmc/a", "dmc/b"}
    assert note == " Without tasks that not all methods of a panel have: atari/Krull."
    apart, nothing = r14_world_model.on_shared_tasks(frame[frame.label.isin(["m3"]) | (frame.task == "atari/Krull")])
    assert len(apart) == 6 and nothing == ""
    other, _ = r14_world_model.on_shared_tasks(frame.iloc[[0, 2]].assign(episode=0))  # no task that both have
    assert len(other) == 2


def test_what_was_not_measured_is_left_open(context: Context) -> None:
    table = r14_world_model.forced_table(context)
    assert "| 2.500 [2.000, 3.000] | – | – | – | – | – | – | 1.00 |" in table.markdown
    assert "nan" not in table.markdown


def test_without_measures_every_item_says_which_command_makes_them(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("method,task,seed,score\niris,atari/Pong,0,1.0\n")
    context = make_context(tmp_path / "scores.csv", repetitions=9)
    for item in r14_world_model.ITEMS:
        assert "make repro" in str(item.missing(context)), item.id
