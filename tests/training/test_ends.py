"""How a session ends, in the journal; and that a whole run writes and prints no password. In process: a tiny run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.methods.support import configure
from tests.tracking.support import free_port
from tokenworlds.cli import (
    STATUS_BUG,
    STATUS_ERROR,
    STATUS_INTERRUPTED,
    STATUS_MEMORY,
    STATUS_TERMINATED,
    Terminated,
    exit_status,
)
from tokenworlds.config import RunConfig
from tokenworlds.errors import UserError
from tokenworlds.training.run import run_training, scratch_folder
from tokenworlds.training.trainer import Trainer

SECRET = "hunter2-S3cr3t"
TINY = (
    "collection.train.steps=8",
    "collection.train.parallel=false",
    "collection.test.num_envs=1",
    "collection.test.episodes=1",
    *(f"environment.{split}.max_episode_steps=12" for split in ("train", "test")),
    *(f"environment.{split}.noop_max=0" for split in ("train", "test")),
    "training.epochs=2",
    "training.world_model.start_after_epochs=0",
    "training.actor_critic.start_after_epochs=1",
    "evaluation.every=2",
    "evaluation.imagined_episodes=1",
    "evaluation.final_episodes=1",
    "evaluation.final_num_envs=1",
    "evaluation.random_episodes=0",
    *(f"training.{part}.updates_per_epoch=1" for part in ("tokenizer", "world_model", "actor_critic")),
)

# raised inside MLflow by its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    benchmark, threads = torch.backends.cudnn.benchmark, torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.backends.cudnn.benchmark = benchmark
    torch.set_num_threads(threads)


def statuses(journal: Path) -> list[str]:
    records = map(json.loads, journal.read_text().splitlines())
    return [record["value"] for record in records if record["kind"] == "status"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A tiny run with a password in the address of its MLflow server, which refuses connections."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://me:{SECRET}@127.0.0.1:{free_port()}/mlflow?token={SECRET}"
    places = (f"runtime.scratch={tmp_path / 'scratch'}", f"out={tmp_path / 'out'}")
    config = configure("rem", *TINY, *places, f"runtime.tracking_uri='{address}'")
    assert config.runtime.tracking_uri == address  # what is used is the real one
    return config


def assert_secret(folder: Path, printed: str) -> None:
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in printed


@pytest.mark.parametrize(
    ("end", "status", "recorded"),
    [
        (KeyboardInterrupt(), STATUS_INTERRUPTED, "KILLED"),
        (UserError(f"no http://me:{SECRET}@host"), STATUS_ERROR, "FAILED"),
        (RuntimeError(f"no http://me:{SECRET}@host"), STATUS_BUG, "FAILED"),
        (torch.OutOfMemoryError("CUDA out of memory"), STATUS_MEMORY, "FAILED"),
    ],
)
def test_an_error_is_a_failure_an_interruption_is_none(
    end: BaseException,
    status: int,
    recorded: str,
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def stop(trainer: Trainer) -> None:
        raise end

    monkeypatch.setattr(Trainer, "run", stop)
    assert exit_status(lambda: run_training(config)) == status
    assert statuses(scratch_folder(config) / "metrics.jsonl") == [recorded]
    assert_secret(tmp_path, "".join(capfd.readouterr()))


def test_a_terminated_run_is_resumed_and_tells_no_password(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save = Trainer.save

    def save_and_end(trainer: Trainer) -> None:
        save(trainer)
        raise Terminated

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_end)
        assert exit_status(lambda: run_training(config)) == STATUS_TERMINATED
    assert statuses(scratch_folder(config) / "metrics.jsonl") == ["KILLED"]
    assert exit_status(lambda: run_training(config)) == 0
    assert statuses(tmp_path / "out" / "metrics.jsonl") == ["FINISHED"]
    assert "tracking_uri: http://***@127.0.0.1" in (tmp_path / "out" / "config.yaml").read_text()
    captured = capfd.readouterr()
    assert "resuming after epoch 1 of 2" in captured.out
    assert "warning: MLflow cannot be reached" in captured.err
    assert_secret(tmp_path, captured.out + captured.err)


def test_a_disk_too_full_for_the_journal_does_not_hide_what_ended_the_run(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, runtime=replace(config.runtime, tracking=False))

    def fill_the_disk(trainer: Trainer) -> None:
        trainer.journal.path = Path("/dev/full")
        raise UserError("training has diverged.")

    monkeypatch.setattr(Trainer, "run", fill_the_disk)
    assert exit_status(lambda: run_training(config)) == STATUS_ERROR
    assert capsys.readouterr().err == "error: training has diverged.\n"
