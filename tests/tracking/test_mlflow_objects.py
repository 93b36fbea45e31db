"""What a finished run is in MLflow: numbers, data sets, a model with an alias; once, however often it is sent."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

import tokenworlds
from tests.methods.support import build_agent, configure
from tests.tracking.support import tracked_runs
from tokenworlds import envs
from tokenworlds.config import to_dict
from tokenworlds.tracking import store
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.summary import summary
from tokenworlds.tracking.sync import sync

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

RUN = {"method": "iris", "variant": "", "task": "atari/Pong", "seed": "3", "scale": "paper"}
SCORES = {"run": RUN, "score": 14.6, "random": None, "hours": 7.25, "hardware": "A100"}
REFERENCE = (-20.7, 14.6)  # of Pong: a random policy's, a human's


def published_run(folder: Path, seed: int = 3, **scores: Any) -> Path:
    journal = Journal(folder / "metrics.jsonl")
    journal.append("tags", values=RUN | {"seed": str(seed)})
    journal.append("params", values={"task": "atari/Pong", "environment.train.size": 64, "training.limit": None})
    journal.append("metrics", step=600, values={"budget/env_steps": 100_000})
    journal.append("artifact", step=600, key="scores", path="scores.json", final=True)
    journal.append("status", value="FINISHED")
    for name, content in {"agent.safetensors": "weights", "agent.json": "{}", "config.yaml": "a: 1"}.items():
        (folder / name).write_text(content)
    (folder / "scores.json").write_text(json.dumps(SCORES | scores))
    return folder


def test_a_run_sent_twice_has_one_of_everything(address: str, tmp_path: Path) -> None:
    folder = published_run(tmp_path / "run")
    for _ in range(2):
        sync([folder], address)
    client, experiment = store.prepare(address)
    (run,) = tracked_runs(address)
    assert {key: value for key, value in run.data.metrics.items() if "/" not in key} == {
        "score": 14.6, "score_human_normalised": 1.0, "score_random": REFERENCE[0], "hours": 7.25,
    }  # fmt: skip
    assert run.data.tags["hardware"] == "A100"
    assert "training.limit" not in run.data.params and run.data.params["environment.train.size"] == "64"
    assert sorted(found.dataset.name for found in run.inputs.dataset_inputs) == ["atari/Pong", "reference_scores.csv"]
    records = list(Journal(folder / "metrics.jsonl").read())
    assert [run.info.start_time, run.info.end_time] == [int(records[at]["time"] * 1000) for at in (0, -1)]
    (model,) = client.search_logged_models([experiment])
    assert (model.name, str(model.status), model.source_run_id) == ("iris-atari-Pong", "READY", run.info.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    (version,) = client.search_model_versions("name = 'iris-atari-Pong'")
    by_alias = client.get_model_version_by_alias("iris-atari-Pong", "paper-seed-3")
    assert (by_alias.version, by_alias.run_id, by_alias.source) == (version.version, run.info.run_id, version.source)
    sent = {entry.path for entry in client.list_logged_model_artifacts(model.model_id)}
    assert sent == {"agent.safetensors", "agent.json", "config.yaml", "scores.json"}


def test_an_alias_moves_to_the_best_seed(address: str, tmp_path: Path) -> None:
    """However often and in which order they are sent; of equal ones the lowest seed."""
    client, _ = store.prepare(address)
    for seed, score, best in ((3, 1.0, 3), (0, 0.5, 3), (4, 2.0, 4), (2, 2.0, 2)):
        folder = published_run(tmp_path / str(seed), seed, score=score)
        for _ in range(2):
            sync([folder], address)
        found = client.get_registered_model("iris-atari-Pong").aliases
        assert found["paper-best"] == found[f"paper-seed-{best}"], seed
    client.delete_run(client.get_model_version_by_alias("iris-atari-Pong", "paper-best").run_id)
    sync([tmp_path / "0"], address)
    found = client.get_registered_model("iris-atari-Pong").aliases
    assert found["paper-best"] == found["paper-seed-4"]


def test_a_model_is_an_agent_that_can_be_loaded(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    folder, config = published_run(tmp_path / "run"), configure("iris")
    with envs.make(config.task, config.environment.test) as environment:
        agent = build_agent(config, environment.environment_spec)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    (folder / "agent.safetensors").unlink()
    save_file({key: value.contiguous() for key, value in agent.state_dict().items()}, folder / "agent.safetensors")
    sync([folder], database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    for alias in ("paper-seed-3", "paper-best"):
        place = mlflow.artifacts.download_artifacts(f"models:/iris-atari-Pong@{alias}", dst_path=str(tmp_path / alias))
        loaded = tokenworlds.load(place, "cpu").agent.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in agent.state_dict().items())


def test_weights_on_the_same_disk_are_not_copied(database: str, tmp_path: Path) -> None:
    sync([published_run(tmp_path / "run")], database)
    client, experiment = store.prepare(database)
    (model,) = client.search_logged_models([experiment])
    stored = Path(model.artifact_location.removeprefix("file://")) / "agent.safetensors"
    assert stored.samefile(tmp_path / "run" / "agent.safetensors")


@pytest.mark.parametrize("last", ["finalize_logged_model", "set_registered_model_alias"])
def test_an_agent_sent_in_part_is_completed(
    last: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    folder = published_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, last, lambda *arguments: 1 / 0)
        with pytest.raises(Exception, match="did not take"):
            sync([folder], database)
    sync([folder], database)
    client, experiment = store.prepare(database)
    (model,) = client.search_logged_models([experiment])
    (version,) = client.search_model_versions("name = 'iris-atari-Pong'")
    assert str(model.status) == "READY"
    assert client.get_model_version_by_alias("iris-atari-Pong", "paper-seed-3").version == version.version


@pytest.mark.parametrize("first", ["search_logged_models", "search_model_versions"])
def test_a_store_without_models_or_registry_takes_everything_else(
    first: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("no such place", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(MlflowClient, first, refuse)
    sync([published_run(tmp_path / "run")], database)
    (run,) = tracked_runs(database)
    assert run.info.status == "FINISHED" and run.data.metrics["score"] == 14.6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run": RUN | {"scale": "smoke"}}, {"score", "hours"}),
        ({"protocol": {"max_episode_steps": 400}}, {"score", "hours"}),
        ({"protocol": {"max_episode_steps": 108_000}}, {"score", "hours", "score_random", "score_human_normalised"}),
        ({"run": RUN | {"task": "atari/Bowling"}}, {"score", "hours"}),
        ({"run": RUN | {"task": "dmc/walker-run"}, "random": {"score": 2}}, {"score", "hours", "score_random"}),
    ],
)
def test_what_is_not_defined_is_left_out(changes: dict[str, Any], expected: set[str]) -> None:
    assert summary(SCORES | changes).keys() == expected


def test_the_experiment_is_model_training_with_views_and_keeps_what_a_person_edits(database: str) -> None:
    client, experiment = store.prepare(database)
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(json.loads(tags["mlflow.sharedViewState.scores"])["state"])
    assert view["selectedColumns"][:2] == ["metrics.`score`", "metrics.`score_human_normalised`"]
    curves = json.loads(json.loads(tags["mlflow.sharedViewState.curves"])["state"])
    assert curves["globalLineChartConfig"]["selectedXAxisMetricKey"] == "budget/env_steps"
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    client.delete_experiment_tag(experiment, "mlflow.sharedViewState.scores")
    store.prepare(database)
    again = client.get_experiment(experiment).tags
    assert again["mlflow.note.content"] == "mine" and "mlflow.sharedViewState.scores" in again
