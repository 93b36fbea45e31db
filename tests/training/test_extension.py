"""Finished runs that go on for more epochs: from their last state, or from their weights."""

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.training.test_resume import EPOCHS, Run, Server, differing
from tokenworlds.config import Resume, load, to_dict
from tokenworlds.errors import UserError
from tokenworlds.training.run_folder import kept_scratch

LONGER = 2 * EPOCHS
TASK = "minigrid/Empty-5x5"
KEEP = "runtime.keep_scratch=true"
STOP = f"collection.train.stop_after_epochs={LONGER - 1}"  # it collects after the end of the shorter run, too


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def started(server: Server, folder: Path, method: str, *overrides: str) -> Run:
    run = Run(server, folder, (method, TASK), [KEEP, STOP, *overrides])
    assert run.start() == 0, run.output
    return run


def files(*folders: Path) -> dict[Path, tuple[int, bytes]]:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def scores_of(run: Run) -> dict[str, Any]:
    return json.loads((run.out / "scores.json").read_text())


def rows(run: Run) -> list[dict[str, str]]:
    with (run.out / "evaluations.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "hours"} for row in csv.DictReader(file)]


@pytest.mark.integration
@pytest.mark.parametrize("method", ["iris", "delta_iris", "m3"])
def test_extending_from_the_last_state_equals_all_epochs_at_once(server: Server, tmp_path: Path, method: str) -> None:
    """Also if it is killed and the same command is given again; the shorter run stays as it is."""
    short = started(server, tmp_path / "short", method)
    at_once = started(server, tmp_path / "at_once", method, f"training.epochs={LONGER}")
    before = files(short.folder)
    run = Run(
        server, tmp_path / "long", (method, TASK), [KEEP, STOP, f"extend={short.out}", f"training.epochs={LONGER}"]
    )
    run.overrides.append(f"runtime.scratch={short.folder / 'scratch'}")
    assert run.start(strike=("rename", f"epoch_{EPOCHS + 2:05d}.json", signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert f"going on after epoch {EPOCHS} of {LONGER} from the last state of" in run.output
    assert run.start() == 0, run.output
    assert f"resuming after epoch {EPOCHS + 1} of {LONGER}" in run.output
    assert differing(run, at_once) == []
    assert rows(run) == rows(at_once) and run.kept() == at_once.kept()
    assert run.steps == [*range(1, LONGER + 1), LONGER]
    states = [next(folder.rglob(f"epoch_{LONGER:05d}.safetensors")) for folder in (short.folder, at_once.folder)]
    assert states[0].read_bytes() == states[1].read_bytes()
    assert {path: content for path, content in files(short.folder).items() if path in before} == before
    about = scores_of(run)["extended_from"]
    assert about["from"] == "state" and about["epochs"] == EPOCHS and about["run"] == f"{method}/{TASK}/0"
    assert about["config_hash"] == scores_of(short)["config_hash"] != scores_of(run)["config_hash"]
    identifiers = [json.loads((some.out / "metrics.jsonl").read_text().splitlines()[0])["id"] for some in (run, short)]
    assert identifiers[0] != identifiers[1]  # runs of their own in MLflow


@pytest.mark.integration
def test_without_its_state_a_run_goes_on_from_its_weights_and_says_so(server: Server, tmp_path: Path) -> None:
    short = started(server, tmp_path / "short", "iris", "runtime.keep_scratch=false")
    before = files(short.out)
    run = Run(server, tmp_path / "long", ("iris", TASK), [f"extend={short.out}", f"training.epochs={LONGER}"])
    assert run.start("collection.train.stop_after_epochs=4") == 2
    assert "are taken, and collection.train.stop_after_epochs=4 leaves nothing to learn from" in run.output
    strike = ("rename", f"epoch_{EPOCHS + 2:05d}.json", signal.SIGKILL)
    assert run.start(STOP, strike=strike) == -signal.SIGKILL, run.output
    assert f"going on after epoch {EPOCHS} of {LONGER} from the weights of " in run.output
    assert run.start(STOP) == 0, run.output
    assert files(short.out) == before
    scores, own = scores_of(run), scores_of(short)
    assert scores["extended_from"]["from"] == "weights" and scores["overrides"]["extended_from"] == "weights"
    assert scores["budget"]["epochs"] == LONGER
    assert scores["budget"]["env_steps"] == own["budget"]["env_steps"] + 12 * (LONGER - 1 - EPOCHS)
    assert scores["budget"]["agent_updates"]["world_model"] == 2 * LONGER
    assert run.steps == [*range(1, LONGER + 1), LONGER]
    assert rows(run)[: len(rows(short)) - 1] == rows(short)[:-1]


def finished(folder: Path, *overrides: str) -> Path:
    """The folder of a finished run, as far as the configuration of a longer one is read from it."""
    config = load(["method=iris", f"task={TASK}", "scale=smoke", "runtime.suite=smoke", *overrides])
    folder.mkdir()
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    (folder / "agent.safetensors").write_bytes(b"weights")
    about = {key: getattr(config, key) for key in ("method", "variant", "task", "seed")}
    record = {"budget": {"epochs": config.training.epochs}, "config_hash": config.hash(), "run": about, "overrides": {}}
    (folder / "scores.json").write_text(json.dumps(record))
    return folder


def test_the_configuration_is_that_of_the_run_with_more_epochs(tmp_path: Path) -> None:
    run = finished(
        tmp_path / "run",
        "training.actor_critic.entropy_weight=0.5",
        "out=/somewhere",
        "replace=true",
        "runtime.resume=never",
    )
    config = load([f"extend={run}", "training.epochs=9", f"out={tmp_path / 'long'}", "evaluation.every=3"])
    assert config.training.actor_critic.entropy_weight == 0.5 and config.training.epochs == 9
    assert config.out == str(tmp_path / "long") and not config.replace and config.runtime.suite is None
    assert config.runtime.resume is Resume.same_code  # or the same command would never go on
    assert config.extended_from is not None and config.extended_from.epochs == 4
    assert len({config.hash(), load(["method=iris", f"task={TASK}", "scale=smoke"]).hash()}) == 2
    again = finished(tmp_path / "copy", "training.actor_critic.entropy_weight=0.5")
    assert config.hash() == load([f"extend={again}", "training.epochs=9", "out=x", "evaluation.every=3"]).hash()
    (again / "agent.safetensors").write_bytes(b"other weights")
    assert config.hash() != load([f"extend={again}", "training.epochs=9", "out=x", "evaluation.every=3"]).hash()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["out=long"], "has 4 epochs already: give more, such as training.epochs=8"),
        (["training.epochs=4", "out=long"], "has 4 epochs already"),
        (["training.epochs=8", "method=rem", "out=long"], "goes on with method=iris, not with rem"),
        (["training.epochs=8", "seed=3", "out=long"], "goes on with seed=0, not with 3"),
        (["training.epochs=8", "model.backbone=gru", "out=long"], "goes on with model.backbone=transformer, not with"),
        (["training.epochs=8", "training.tokenizer.decay=all", "out=long"], "goes on with training.tokenizer.decay="),
        (["training.epochs=8", "out={run}"], "stays as it is: give the longer run a folder with out="),
        (["training.epochs=8", "out={run}", "replace=true"], "stays as it is"),
        (["training.epoch=8", "out=long"], "Key 'epoch' not in"),
    ],
)
def test_what_cannot_go_on_is_refused(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    run = finished(tmp_path / "run")
    with pytest.raises(UserError, match=sentence):
        load([f"extend={run}", *(given.format(run=run) for given in overrides)])


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no finished run: it has no scores"):
        load([f"extend={tmp_path}", "training.epochs=8"])
    (finished(tmp_path / "run") / "agent.safetensors").unlink()
    with pytest.raises(UserError, match="is no finished run"):
        load([f"extend={tmp_path / 'run'}", "training.epochs=8"])
    with pytest.raises(UserError, match="extended_from is what extend=RUN finds"):
        load(
            [
                "method=iris",
                f"task={TASK}",
                "extended_from.epochs=3",
                "extended_from.config_hash=0123456789ab",
                "extended_from.weights=0123456789ab",
            ]
        )
    assert kept_scratch(tmp_path / "run") is None
