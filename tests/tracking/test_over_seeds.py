"""Summaries over seeds: right, once, of runs that belong together, and never taken for runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from tests.tracking.support import tracked_runs
from tokenworlds.errors import UserError
from tokenworlds.runs.settings import LABEL
from tokenworlds.tracking import store
from tokenworlds.tracking.__main__ import main
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.over_seeds import interval, summarise
from tokenworlds.tracking.sync import sync

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def finished_run(folder: Path, seed: int, epochs: int = 4, **about: Any) -> Path:
    """A run whose return in each epoch is the epoch plus its seed."""
    run = {"method": "iris", "variant": None, "task": "atari/Pong", "seed": seed, "scale": "paper", "suite": "two"}
    run, place = run | about, folder / f"{about.get('suite', 'two')}-{about.get('task', 'Pong')[-5:]}-{seed}"
    journal = Journal(place / "metrics.jsonl")
    journal.append("params", values={"seed": seed, "task": run["task"], "a": 1, "b": seed, "c": None})
    for epoch in range(1, epochs + 1):
        values = {"tokenizer/train/loss_total": epoch / 10 + seed, "budget/env_steps": 100 * epoch, "seconds/epoch": 3}
        values |= {"eval/return_mean": epoch + seed} if epoch % 2 == 0 else {}
        journal.append("metrics", step=epoch, values=values)
    journal.append("status", value="FINISHED")
    (place / "scores.json").write_text(json.dumps({"run": run, "score": 10.0 * seed, "config_hash": f"{seed}"}))
    return place


def summaries(uri: str, suite: str = "two") -> list[Any]:
    client, experiment = store.prepare(uri, f"tokenworlds-summary/{suite}")
    return store.runs(client, experiment)


def history(uri: str, run: Any, key: str) -> dict[int, float]:
    found = store.connect(uri).get_metric_history(run.info.run_id, key)
    assert len({metric.step for metric in found}) == len(found), "a step twice"
    return {metric.step: metric.value for metric in found}


def test_curves_are_means_with_intervals_at_the_steps_of_all_seeds(database: str, tmp_path: Path) -> None:
    for seed, epochs in ((0, 4), (2, 4), (4, 3)):
        finished_run(tmp_path, seed, epochs)
    assert main(["summarise", str(tmp_path), "--uri", database]) == 0
    (run,) = summaries(database)
    assert (run.info.run_name, run.info.status) == ("iris/atari/Pong (3 seeds, paper)", "FINISHED")
    assert run.data.params == {"task": "atari/Pong", "a": "1", "seeds": "3"}
    tags = {"kind": "summary", "seeds": "0, 2, 4", "method": "iris", "suite": "two", "scale": "paper", "variant": ""}
    assert tags.items() <= run.data.tags.items() and "bootstrap" in run.data.tags["interval"]
    mean, low, high = (history(database, run, f"tokenizer/train/loss_total{end}") for end in ("", "_low", "_high"))
    assert mean == pytest.approx({epoch: epoch / 10 + 2 for epoch in (1, 2, 3)})
    assert all(epoch / 10 <= low[epoch] < mean[epoch] < high[epoch] <= epoch / 10 + 4 for epoch in (1, 2, 3))
    assert history(database, run, "eval/return_mean") == {2: 4.0}
    assert history(database, run, "budget/env_steps") == {1: 100, 2: 200, 3: 300}
    assert not {"seconds/epoch", "budget/env_steps_low"} & run.data.metrics.keys()


def test_scores_of_seeds_that_end_together_have_an_interval(database: str, tmp_path: Path) -> None:
    for seed in (1, 3):
        finished_run(tmp_path, seed)
    summarise([tmp_path], database)
    (run,) = summaries(database)
    names = ("score", "score_low", "score_high", "score_human_normalised", "eval/return_mean_high")
    assert [run.data.metrics[name] for name in names] == pytest.approx([20, 10, 30, 40.7 / 35.3, 7], rel=1e-3)


def test_a_summary_is_sent_once_and_replaced_when_a_seed_is_added(database: str, tmp_path: Path) -> None:
    from mlflow.entities import ViewType

    finished_run(tmp_path, 0)
    assert "; 1 were" in summarise([tmp_path], database)
    (first,) = summaries(database)
    assert not [name for name in first.data.metrics if name.endswith(("_low", "_high"))]
    assert "; 0 were" in summarise([tmp_path], database)
    assert [run.info.run_id for run in summaries(database)] == [first.info.run_id]
    finished_run(tmp_path, 1)
    finished_run(tmp_path, 0, task="atari/Boxing")
    assert "2 summaries over seeds are at" in (sentence := summarise([tmp_path], database)) and "; 2 were" in sentence
    assert {run.info.run_name for run in summaries(database)} == {
        "iris/atari/Pong (2 seeds, paper)", "iris/atari/Boxing (1 seed, paper)",
    }  # fmt: skip
    client = store.connect(database)
    experiment = store.experiments(client, store.SUMMARIES)["tokenworlds-summary/two"]
    (trashed,) = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert trashed.info.run_id == first.info.run_id


def test_a_summary_sent_in_part_is_replaced(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    finished_run(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", lambda *arguments: 1 / 0)
        with pytest.raises(UserError, match="did not take the summaries"):
            summarise([tmp_path], database)
    assert [run.info.status for run in summaries(database)] == ["RUNNING"]
    for _ in range(2):
        summarise([tmp_path], database)
    assert [run.info.status for run in summaries(database)] == ["FINISHED"]


def test_what_differs_is_never_in_one_summary(database: str, tmp_path: Path) -> None:
    for seed, about in enumerate(
        ({}, {"suite": None}, {"scale": "smoke"}, {"variant": "64-tokens"}, {"method": "rem"})
    ):
        finished_run(tmp_path, seed, **about)
    other = finished_run(tmp_path, 7)
    scores = json.loads((other / "scores.json").read_text())
    (other / "scores.json").write_text(json.dumps(scores | {"overrides": {"model.backbone": "retnet"}}))
    with pytest.raises(UserError, match="mixes settings"):
        summarise([tmp_path], database)
    summarise([tmp_path], database, LABEL)
    assert {run.info.run_name for run in summaries(database)} == {
        "iris/atari/Pong (1 seed, paper)", "iris/atari/Pong (1 seed, smoke)", "rem/atari/Pong (1 seed, paper)",
        "iris+64-tokens/atari/Pong (1 seed, paper)", "iris+model.backbone=retnet/atari/Pong (1 seed, paper)",
    }  # fmt: skip
    client, none = store.prepare(database, "tokenworlds-summary")
    assert [run.info.run_name for run in store.runs(client, none)] == ["iris/atari/Pong (1 seed, paper)"]


def test_a_summary_is_no_run(database: str, tmp_path: Path) -> None:
    places = [finished_run(tmp_path, seed) for seed in (0, 1)]
    sync(places, database)
    before = {run.info.run_id for run in tracked_runs(database)}
    summarise(places, database)
    assert sync(places, database) == 0
    assert {run.info.run_id for run in tracked_runs(database)} == before and len(before) == 2


def test_a_seed_twice_is_refused_and_a_run_that_trains_is_left_out(database: str, tmp_path: Path) -> None:
    scores = finished_run(tmp_path, 0) / "scores.json"
    scores.write_text('{"run": {"method": "iris", "task": "atari/Pong", "scale": "paper"}}')
    with pytest.raises(UserError, match=r"scores\.json is damaged \(no seed\)"):
        summarise([tmp_path], database)
    scores.unlink()
    with pytest.raises(UserError, match="no finished runs"):
        summarise([tmp_path], database)
    finished_run(tmp_path / "one", 1)
    summarise([tmp_path], database)
    assert [run.data.tags["seeds"] for run in summaries(database)] == ["1"]
    finished_run(tmp_path / "other", 1)
    with pytest.raises(UserError, match="seed 1 of iris/atari/Pong is there twice"):
        summarise([tmp_path], database)


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_intervals_are_those_of_the_percentile_bootstrap(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=(seeds, 3))
    found = interval(values)
    reference = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", vectorized=True)
    expected = np.array([reference.confidence_interval.low, reference.confidence_interval.high])
    assert np.abs(found - expected).max() < 0.1
    if seeds == 2:
        assert np.array_equal(found, [values.min(axis=0), values.max(axis=0)])
