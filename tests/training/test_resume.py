"""Runs that are killed anywhere and started again end with the bits of the run that was left alone."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import torch as safetensors
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline import compare
from tokenworlds.cli import STATUS_BUSY
from tokenworlds.episodes import load as load_episode
from tokenworlds.epoch_files import checksum, digest
from tokenworlds.files import shortened
from tokenworlds.replay.prioritised import NEW

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]
EPOCHS = 4
TINY = (
    "scale=smoke",
    *(f"environment.{split}.{key}" for split in ("train", "test") for key in ("size=16", "max_episode_steps=44")),
    "collection.train.steps=12",
    f"collection.train.stop_after_epochs={EPOCHS}",
    "collection.test.num_envs=1",
    "collection.test.episodes=1",
    f"training.epochs={EPOCHS}",
    *(
        f"training.{part}.batch_size={size}"
        for part, size in (("tokenizer", 2), ("world_model", 2), ("actor_critic", 4))
    ),
    *(f"training.{part}.updates_per_epoch=2" for part in ("tokenizer", "world_model", "actor_critic")),
    "training.tokenizer.stop_after_epochs=3",
    "training.world_model.start_after_epochs=0",
    "training.actor_critic.start_after_epochs=1",
    "model.world_model.transformer.embed_dropout=0.1",  # so that torch's global generator has to be restored, too
    "evaluation.every=3",
    "evaluation.imagined_episodes=2",
    "evaluation.final_episodes=1",
    "evaluation.final_num_envs=1",
    "evaluation.random_episodes=0",
    "runtime.deterministic=true",
    "runtime.threads=1",
    "runtime.tracking=false",
    "runtime.keep_replay=true",
)
TOKENS = (
    "training.actor_critic.burn_in=8",  # more draws than there are frames: they are decoded beforehand
    "model.tokenizer.resnet={num_res_blocks: 0, ch_mult: [1, 1, 1, 1], attn_resolutions: [4]}",
)
DELTA = (
    "collection.train.num_envs=3",  # rounds go on across epochs, which end with a surplus
    "collection.train.steps=8",
    "collection.train.steps_first_epoch=10",
    "training.tokenizer.updates_first_epoch=3",
    "training.tokenizer_sequence_length=3",
    "training.sequence_length=10",  # more draws than there are transitions: they are encoded beforehand
    "training.actor_critic.burn_in=3",
    "training.sampling_exponent=5",
    *(f"environment.{split}.size=24" for split in ("train", "test")),
    "model.world_model.embed_dim=36",
    "model.tokenizer.revival_updates=null",
    "runtime.keep_scratch=true",
)
M3 = (
    "training.world_model.batch_size=4",  # one segment a member of the ensemble
    "training.actor_critic.burn_in=8",
    "runtime.keep_scratch=true",
)
OWN = {"iris": TOKENS, "rem": TOKENS, "delta_iris": DELTA, "m3": M3}
CASES = (
    ("iris", "minigrid/Empty-5x5"),
    ("iris", "atari/Pong"),
    ("rem", "minigrid/Empty-5x5"),
    ("delta_iris", "minigrid/Empty-5x5"),
    ("delta_iris", "crafter/Reward"),
    ("m3", "minigrid_mixed/Empty-5x5"),
)


class Server:
    """The process that runs trainings (run_server.py)."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
        command = [sys.executable, "-m", "tests.training.run_server"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe, text=True)

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@dataclass
class Run:
    """One run in a folder of its own, started as often as wanted."""

    server: Server
    folder: Path
    case: tuple[str, str] = CASES[0]  # method and task
    overrides: list[str] = field(default_factory=list)
    stopped: int = 0

    def start(
        self, *more: str, strike: tuple[str, str | int, int] | None = None, revision: str | None = None
    ) -> int | str:
        places = [f"out={self.out}", f"runtime.scratch={self.folder / 'scratch'}"]
        method, task = self.case
        overrides = [*TINY, *OWN[method], f"method={method}", f"task={task}", *places, *self.overrides, *more]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        job = {"overrides": overrides, "output": str(self.log), "strike": strike, "revision": revision}
        answer = self.server.ask(job | {"scratch": str(self.folder / "scratch")})
        outcome: int | str = answer["outcome"]
        if outcome == "stopped":
            self.stopped = answer["pid"]
        return outcome

    def wake(self) -> int | str:
        outcome: int | str = self.server.ask({"continue": self.stopped})["outcome"]
        return outcome

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def scratch(self) -> Path:
        """The folder of the checkpoints while the run is unfinished."""
        (folder,) = (self.folder / "scratch").rglob("0-*")
        return folder

    @property
    def weights(self) -> bytes:
        """Without the header, which names configuration and revision."""
        return safetensors.save(safetensors.load((self.out / "agent.safetensors").read_bytes()))

    def kept(self) -> dict[str, bytes]:
        """Kept episodes and the whole experience, by path."""
        paths = [*self.out.glob("media/episodes/*/*"), *self.out.glob("replay/*")]
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in paths}

    def state(self) -> dict[str, Tensor]:
        """All of the last checkpoint, where it is kept."""
        paths = [*(self.folder / "scratch").rglob(f"epoch_{EPOCHS:05}.safetensors")]
        assert bool(paths) == ("runtime.keep_scratch=true" in (*OWN[self.case[0]], *self.overrides))
        return load_file(paths[0]) if paths else {}

    @property
    def steps(self) -> list[int]:
        """Epochs of the records of metrics, in order."""
        return [record["step"] for record in self.records("metrics")]

    def records(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.out / "metrics.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.fixture(scope="module")
def uninterrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    runs = {case: Run(server, tmp_path_factory.mktemp("uninterrupted"), case) for case in CASES}
    for run in runs.values():
        assert run.start() == 0, run.output
    return runs


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    return Run(server, tmp_path)


def differing(run: Run, other: Run) -> list[str]:
    """What differs in the finished runs: numbers, games, tables, weights."""
    found = compare.parts(run.out, other.out)
    assert {"budget", "scores.json", "agent.safetensors"} <= {part.title for part in found}
    return [f"{part.title} {name}" for part in found for name in part.differing]


def assert_same(run: Run, expected: Run) -> None:
    found, state = run.state(), expected.state()
    assert found.keys() == state.keys()
    for key, value in found.items():
        assert value.dtype is state[key].dtype and value.numpy().tobytes() == state[key].numpy().tobytes(), key
    assert differing(run, expected) == []
    assert run.kept() == expected.kept()
    assert run.steps == [*range(1, EPOCHS + 1), EPOCHS]  # every epoch once, and the final evaluation
    assert [record["value"] for record in run.records("status")] == ["FINISHED"]


# When, and what it is that the kill meets. Updates are counted from 0: four in the first epoch, then six, in the last
# epoch four.
KILLS = {
    "in the first epoch": ("update", 1),
    "in the last component of the third epoch": ("update", 15),
    "when the tokenizer is frozen": ("update", 17),
    "while the replay shard is written": ("write", "replay_*_000000025.safetensors"),
    "while the weights are written": ("write", "epoch_00002.safetensors"),
    "before the weights are renamed": ("rename", "epoch_00003.safetensors"),
    "while the head is written": ("write", "epoch_00002.json"),
    "while old checkpoints are removed": ("unlink", "epoch_00001.safetensors"),
    "after the final evaluation": ("rename", "scores.json"),
    "while episodes are kept": ("rename", "episode_*.npz"),
    "at the last step of publication": ("rename", "out"),
}


@pytest.mark.parametrize("when", KILLS)
def test_a_killed_run_that_is_started_again_ends_with_the_same_bits(
    run: Run, uninterrupted: dict[tuple[str, str], Run], when: str
) -> None:
    point, which = KILLS[when]
    assert run.start(strike=(point, which, signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert not run.out.exists()
    assert run.start() == 0, run.output
    assert ("resuming after epoch" in run.output) == (when != "in the first epoch")
    assert_same(run, uninterrupted[run.case])


@pytest.mark.parametrize("case", CASES[1:], ids=" ".join)
def test_a_run_of_another_method_or_environment_that_is_killed_twice_ends_with_the_same_bits(
    server: Server, tmp_path: Path, uninterrupted: dict[tuple[str, str], Run], case: tuple[str, str]
) -> None:
    run = Run(server, tmp_path, case)
    for point, which in (("rename", "epoch_00002.json"), ("update", 8)):
        assert run.start(strike=(point, which, signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert run.start() == 0, run.output
    assert_same(run, uninterrupted[run.case])


VARIANTS = {  # of IRIS, with what makes them small enough
    "noise-01": (),
    "ncp-frame": (),
    "oracle": (),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_that_is_killed_ends_with_the_same_bits(server: Server, tmp_path: Path, variant: str) -> None:
    overrides = [f"variant={variant}", *VARIANTS[variant]]
    whole, run = (Run(server, tmp_path / name, CASES[0], overrides) for name in ("whole", "killed"))
    assert whole.start() == 0, whole.output
    for point, which in (("rename", "epoch_00002.json"), ("update", 3)):
        assert run.start(strike=(point, which, signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert run.start() == 0, run.output
    assert_same(run, whole)
    budget = json.loads((run.out / "scores.json").read_text())["budget"]
    # Updates of the actor-critic in three epochs, trajectories, steps of each but the last
    assert budget.get("oracle_steps") == (3 * 2 * 4 * 4 if variant == "oracle" else None)


LOSSES = {  # overrides of the tokenizer, and tensors that the comparison has to cover
    "value": (
        ("loss.value.weight=0.1", "loss.value.hidden_dim=8", "loss.value.unfinished=2"),
        ("agent.tokenizer.parts.image.terms.value.critic.1.weight",),
    ),
    "moving averages": (
        ("quantiser=ema", "ema.reset_after=3"),
        tuple(f"agent.tokenizer.parts.image.embedding.{name}" for name in ("counts", "sums")),
    ),
    "adversarial": (
        tuple(f"loss.adversarial.{one}" for one in ("weight=0.1", "channels=2", "num_layers=2", "start_step=1")),
        ("agent.tokenizer.parts.image.terms.adversarial.discriminator.0.weight",),
    ),
}


@pytest.mark.parametrize("which", LOSSES)
def test_a_tokenizer_with_a_state_of_its_own_goes_on_with_the_same_bits(
    server: Server, tmp_path: Path, which: str
) -> None:
    chosen, names = LOSSES[which]
    overrides = [*(f"model.tokenizer.{one}" for one in chosen), "runtime.keep_scratch=true"]
    whole, run = (Run(server, tmp_path / name, overrides=list(overrides)) for name in ("whole", "killed"))
    assert whole.start() == 0, whole.output
    for point, at in (("rename", "epoch_00002.json"), ("update", 8)):
        assert run.start(strike=(point, at, signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert run.start() == 0, run.output
    assert_same(run, whole)
    assert all(whole.state()[name].any() for name in names)


def test_the_state_of_delta_iris_is_in_its_checkpoints(uninterrupted: dict[tuple[str, str], Run]) -> None:
    """So that the comparisons above are of counters, codebook and target, too."""
    for case in CASES[3:5]:
        run = uninterrupted[case]
        state = run.state()
        for component in ("tokenizer", "world_model", "actor_critic"):
            assert state[f"sampler.{component}.uses"].any()
        assert len(state["sampler.tokenizer.uses"]) > 1
        assert {"agent.tokenizer.quantiser.codebook", "agent.target.actor.weight"} <= state.keys()
        assert not torch.equal(state["agent.target.actor.weight"], state["agent.policy.actor.weight"])


def test_the_state_of_m3_is_in_its_checkpoints(uninterrupted: dict[tuple[str, str], Run]) -> None:
    state = uninterrupted[CASES[5]].state()
    priorities = state["sampler.world_model.priorities"]
    is_segment = priorities > -math.inf
    assert (priorities == NEW).any() and (is_segment & (priorities < NEW)).any() and not is_segment.all()
    assert state["memory.actor_critic.count"] == 2 * (EPOCHS - 1)  # batches of returns
    assert state["memory.actor_critic.returns"].isfinite().any(dim=1).sum() == 2 * (EPOCHS - 1)


def test_every_kind_of_episode_is_kept(uninterrupted: dict[tuple[str, str], Run]) -> None:
    for run in uninterrupted.values():
        names = run.kept()
        kinds = {name.rpartition("/")[0] for name in names}
        assert kinds == {*(f"media/episodes/{kind}" for kind in ("train", "test", "imagined")), "replay"}
        steps = sum(len(load_episode(run.out / name)) for name in names if name.startswith("replay/"))
        assert steps == json.loads((run.out / "scores.json").read_text())["budget"]["env_steps"]
        for name in names:
            assert name.startswith("replay/") or {f"{Path(name).with_suffix(end)}" for end in (".npz", ".mp4")} <= set(
                names
            )


def test_nothing_is_kept_on_request_and_all_else_is_the_same(
    run: Run, uninterrupted: dict[tuple[str, str], Run]
) -> None:
    assert run.start("runtime.kept_episodes=0", "runtime.keep_replay=false") == 0, run.output
    assert run.kept() == {} and not (run.out / "media" / "episodes").exists()
    assert differing(run, uninterrupted[run.case]) == []


def test_another_seed_is_another_run(run: Run, uninterrupted: dict[tuple[str, str], Run]) -> None:
    """The comparisons above are not of constants."""
    assert run.start("seed=1") == 0, run.output
    parts = {name.split()[0] for name in differing(run, uninterrupted[run.case])}
    assert parts >= {"tokenizer", "world_model", "actor_critic", "agent.safetensors"}


def test_a_second_trainer_is_refused_and_the_first_goes_on(run: Run, uninterrupted: dict[tuple[str, str], Run]) -> None:
    assert run.start(strike=("update", 7, signal.SIGSTOP)) == "stopped"
    first = run.stopped
    assert run.start() == STATUS_BUSY
    holder = f"process {first} on {socket.gethostname()}; it holds {run.scratch / 'lock'}"
    assert run.output.startswith(f"error: another trainer is at work on iris/minigrid/Empty-5x5/0 ({holder})")
    assert run.output.count("\n") == 1
    run.stopped = first
    assert run.wake() == 0
    assert_same(run, uninterrupted[run.case])


def test_a_finished_run_is_not_trained_twice_and_leaves_no_scratch(run: Run) -> None:
    assert run.start() == 0, run.output
    assert not list((run.folder / "scratch").rglob("*.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*")}
    assert run.start() == 0
    assert "holds this run already" in run.output and "epoch" not in run.output
    assert {path: path.stat().st_mtime_ns for path in run.out.rglob("*")} == before
    (run.out / "agent.safetensors").write_bytes(b"")
    assert_error(run, "agent.safetensors is damaged (0 of ", "replace=true")
    assert run.start("replace=true") == 0 and run.weights


def interrupted(run: Run) -> Path:
    """The scratch folder of a run that was killed in its third epoch: checkpoints 1 and 2 are there."""
    assert run.start(strike=("update", 12, signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert sorted(path.name for path in run.scratch.glob("epoch_*.json")) == ["epoch_00001.json", "epoch_00002.json"]
    return run.scratch


def assert_error(run: Run, *sentences: str) -> None:
    assert run.start() == 2, run.output
    (line,) = [line for line in run.output.splitlines() if line.startswith("error: ")]
    for sentence in sentences:
        assert sentence in line
    assert "Traceback" not in run.output


def test_fewer_checkpoints_give_the_same_run(run: Run, uninterrupted: dict[tuple[str, str], Run]) -> None:
    run.overrides.append("runtime.checkpoint_every=3")
    assert run.start(strike=("update", 18, signal.SIGKILL)) == -signal.SIGKILL
    assert run.start() == 0, run.output
    assert "resuming after epoch 3 of" in run.output
    assert_same(run, uninterrupted[run.case])


def test_scratch_that_is_deleted_during_the_run_costs_its_record_and_no_agent(
    run: Run, uninterrupted: dict[tuple[str, str], Run]
) -> None:
    assert run.start(strike=("vanish", 12, 0)) == 0, run.output
    assert "metrics.jsonl was deleted during the run" in run.output
    assert run.weights == uninterrupted[run.case].weights
    kinds = [json.loads(line)["kind"] for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert kinds[:3] == ["journal", "tags", "params"]
    assert run.steps == [3, 4, 4]


def test_a_run_whose_scratch_was_deleted_can_be_killed_and_resumed_afterwards(
    run: Run, uninterrupted: dict[tuple[str, str], Run]
) -> None:
    """The checkpoint after it holds all of the replay."""
    run.overrides.append("runtime.keep_scratch=true")
    assert run.start(strike=("vanish", 12, 0)) == 0, run.output
    (last,) = run.scratch.glob("epoch_00004.json")
    assert next(iter(json.loads(last.read_text())["replay"]["shards"])).startswith("replay_000000001_")
    shutil.rmtree(run.out)
    assert run.start() == 0, run.output
    assert "resuming after epoch 4 of" in run.output
    assert run.weights == uninterrupted[run.case].weights


def test_a_checkpoint_of_other_code_is_refused_and_going_on_names_both(run: Run) -> None:
    scratch = interrupted(run)
    assert run.start(revision="feedbeef") == 2
    (line,) = run.output.splitlines()[-1:]
    assert f"the checkpoint in {shortened(scratch, 60)} is of revision " in line
    assert "this is feedbeef (tokenworlds.losses changed)" in line and len(line) < 310
    before = json.loads((scratch / "environment.json").read_text())["git_revision"]
    assert run.start("runtime.resume=any_code", revision="feedbeef") == 0, run.output
    scores = json.loads((run.out / "scores.json").read_text())
    sessions = [(session["from_epoch"], session["git_revision"]) for session in scores["sessions"]]
    assert sessions == [(1, before), (3, "feedbeef")] and scores["git_revision"] == f"{before}+feedbeef"


def test_a_run_can_start_again_under_other_code(run: Run, uninterrupted: dict[tuple[str, str], Run]) -> None:
    interrupted(run)
    again = {"revision": "feedbeef", "strike": ("update", 12, signal.SIGKILL)}
    assert run.start("runtime.resume=never", **again) == -signal.SIGKILL
    assert "resuming" not in run.output
    assert run.start("runtime.resume=never", revision="feedbeef") == 0, run.output
    assert "resuming after epoch 2" in run.output  # the same command resumes: this code wrote the checkpoint
    assert_same(run, uninterrupted[run.case])
    assert json.loads((run.out / "scores.json").read_text())["git_revision"] == "feedbeef"


def test_a_checkpoint_without_a_record_of_its_code_is_refused_by_the_revision_beside_it(run: Run) -> None:
    scratch = interrupted(run)
    path = scratch / "epoch_00002.json"
    head = json.loads(path.read_text())
    del head["checksum"], head["state"]["sessions"]
    head["checksum"] = checksum(head)
    path.write_text(json.dumps(head))
    revision = json.loads((scratch / "environment.json").read_text())["git_revision"]
    assert_error(run, f"is of revision {revision}", "runtime.resume=any_code")


def test_weights_of_other_names_are_one_sentence(run: Run) -> None:
    scratch = interrupted(run)
    path = scratch / "epoch_00002.safetensors"
    content = save({f"agent.renamed.{name}": tensor for name, tensor in load_file(path).items()})
    path.write_bytes(content)
    head = json.loads(path.with_suffix(".json").read_text())
    del head["checksum"]
    head["sha256"] = digest(content)
    head["checksum"] = checksum(head)
    path.with_suffix(".json").write_text(json.dumps(head))
    assert_error(run, "does not fit this code", "runtime.resume=never")


def test_another_run_in_the_folder_is_refused_before_training_and_replaced_when_told(
    run: Run, uninterrupted: dict[tuple[str, str], Run]
) -> None:
    assert run.start("seed=1") == 0, run.output
    before = run.weights
    assert run.start() == 2 and "epoch " not in run.output
    assert f"holds a run of another configuration: scale smoke, {EPOCHS} epochs, seed 1" in run.output
    assert run.weights == before
    # killed between moving the old run aside and moving the new one in
    assert run.start("replace=true", strike=("rename", "out", signal.SIGKILL)) == -signal.SIGKILL
    assert run.start("replace=true") == 0, run.output
    assert_same(run, uninterrupted[run.case])
    assert [path.name for path in run.folder.iterdir() if path.name.startswith(".")] == []


def test_files_that_come_into_the_folder_during_the_run_survive_and_the_run_is_kept(
    run: Run, uninterrupted: dict[tuple[str, str], Run]
) -> None:
    assert run.start(strike=("update", 12, signal.SIGSTOP)) == "stopped"
    run.out.mkdir()
    (run.out / "notes.txt").write_text("three days of notes")
    assert run.wake() == 2
    assert "out holds notes.txt, not made by this program; move" in run.output
    assert (run.out / "notes.txt").read_text() == "three days of notes"
    (run.out / "notes.txt").unlink()
    assert run.start() == 0, run.output
    assert_same(run, uninterrupted[run.case])


def test_another_run_that_was_published_meanwhile_is_not_replaced(run: Run) -> None:
    assert run.start(strike=("update", 12, signal.SIGSTOP)) == "stopped"
    first = run.stopped
    assert run.start("seed=1") == 0, run.output
    other = run.weights
    run.stopped = first
    assert run.wake() == 2
    assert run.weights == other
    assert run.start() == 2 and "holds a run of another configuration" in run.output
    assert run.start("replace=true") == 0 and run.weights != other


def test_scratch_of_a_run_that_is_published_elsewhere_is_kept(run: Run) -> None:
    assert run.start() == 0, run.output
    assert run.start(f"out={run.folder}/elsewhere", strike=("update", 12, signal.SIGKILL)) == -signal.SIGKILL
    assert run.start() == 0 and "holds this run already" in run.output
    assert list(run.scratch.glob("epoch_*.json"))


def test_scratch_that_was_to_be_kept_survives_the_plain_command(run: Run) -> None:
    assert run.start("runtime.keep_scratch=true") == 0, run.output
    assert run.start() == 0 and "holds this run already" in run.output
    assert list(run.scratch.glob("epoch_*.json"))


def test_scratch_that_a_kill_left_behind_goes_at_the_next_start(run: Run) -> None:
    assert run.start(strike=("unlink", "epoch_00004.json", signal.SIGKILL)) == -signal.SIGKILL, run.output
    assert (run.out / "scores.json").exists() and (run.scratch / "lock").exists()
    assert run.start() == 0
    assert "holds this run already" in run.output
    assert not list((run.folder / "scratch").rglob("0-*"))


def test_weights_that_are_not_finite_are_refused_by_name(run: Run) -> None:
    assert run.start(strike=("spoil", 0, 0)) == 2
    assert "tokenizer" in run.output and "is not finite after the last update" in run.output
    assert not run.out.exists()
