"""Commands that train in the snapshot of the code what DVC would train in the workspace."""

from pathlib import Path

import pytest

from pipeline.launch.jobs import Share, config_of, job_of
from pipeline.launch.missing import Missing
from pipeline.launch.snapshot import Snapshot
from tests.launch.conftest import TOKENIZER, run_of, tokenizer_of_pong
from tokenworlds.config import load, pretraining_run
from tokenworlds.errors import UserError
from tokenworlds.training.run_folder import scratch_folder

SHARE = Share(0.5, 2)


def missing(*more: str, is_replaceable: bool = False) -> Missing:
    run = run_of("Pong")
    return Missing(run, "pipeline/iris/dvc.yaml:atari@Pong-0", (*run.overrides(), *more), is_replaceable)


@pytest.fixture
def snapshot(project: Path) -> Snapshot:
    """A copy of the project's settings elsewhere."""
    folder = project.parent / "code"
    for name in ("params.yaml", "pipeline/iris/params.yaml", "pipeline/iris/published.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((project / name).read_bytes())
    return Snapshot(folder, "abc")


def test_a_launched_run_and_one_by_hand_have_the_same_scratch_folder(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that either goes on with what the other has begun."""
    job, by_hand = job_of(missing(), snapshot, SHARE), load(run_of("Pong").overrides())
    assert job.command == ("python", "-m", "pipeline.train", *run_of("Pong").overrides(), "runtime.tracking=false")
    assert job.config_hash == by_hand.hash() and job.scratch == str(scratch_folder(by_hand))
    assert (job.gpu_share, job.cpus, job.stage) == (0.5, 2, "pipeline/iris/dvc.yaml:atari@Pong-0")
    monkeypatch.chdir(snapshot.folder)
    there = config_of(job)
    assert str(scratch_folder(there)) == job.scratch and there.out_dir == job.results


def test_a_tokenizer_is_pretrained_as_by_hand(
    project: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tokenizer_of_pong()
    job, by_hand = job_of(wanted, snapshot, SHARE), pretraining_run(load(list(wanted.overrides)))
    assert job.command == ("python", "-m", "pipeline.pretrain", *wanted.overrides, "runtime.tracking=false")
    assert job.config_hash == by_hand.hash() and job.scratch == str(scratch_folder(by_hand))
    assert job.name == wanted.name == TOKENIZER.removeprefix("results/")
    assert job.results == snapshot.folder / TOKENIZER and job.folder.parts[-6:] == Path(job.name).parts
    assert list(job.inputs) == [
        f"results/inputs/iris/tokenizers/random_policy/atari/Pong.{end}" for end in ("code", "settings")
    ]
    assert job != job_of(missing(), snapshot, SHARE) and config_of(job).out_dir == project / TOKENIZER
    (project / TOKENIZER).mkdir(parents=True)
    (project / TOKENIZER / "agent.json").write_text('{"config_hash": "another"}')
    with pytest.raises(UserError, match="holds files of a run"):
        job_of(wanted, snapshot, SHARE)
    assert job_of(tokenizer_of_pong(is_replaceable=True), snapshot, SHARE).command[-1] == "replace=true"
    (project / TOKENIZER / "agent.json").write_text(f'{{"config_hash": "{job.config_hash}"}}')  # by hand
    assert job_of(wanted, snapshot, SHARE) == job and job.is_in_workspace and not job.is_published


def test_files_that_settings_name_are_found_from_the_snapshot(
    project: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = project / "weights of VGG'16" / "perceptual.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    relative = f"model.tokenizer.perceptual_weights='{weights.relative_to(project)}'".replace("G'", "G\\'")
    by_hand = load([*run_of("Pong").overrides(), "model.tokenizer.perceptual=lpips", relative])
    job = job_of(missing("model.tokenizer.perceptual=lpips", relative), snapshot, SHARE)
    monkeypatch.chdir(snapshot.folder)
    there = config_of(job)
    assert there.model.tokenizer.perceptual_weights == str(weights)  # type: ignore[attr-defined]
    assert there.hash() == job.config_hash == by_hand.hash()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("out=elsewhere",),
            "trains into out=elsewhere: train it with `dvc repro pipeline/iris/dvc.yaml:atari@Pong-0`",
        ),
        (("runtime.scratch=elsewhere",), "name the scratch folder of launched runs in .TOKENWORLDS_SCRATCH"),
        (("model.backbon=retnet",), "backbon"),
    ],
)
def test_what_cannot_be_launched_is_refused(snapshot: Snapshot, more: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        job_of(missing(*more), snapshot, SHARE)


def test_a_run_folder_is_replaced_only_if_dvc_holds_it(project: Path, snapshot: Snapshot) -> None:
    place = project / "results/runs/iris/atari/Pong/0"
    place.mkdir(parents=True)
    (place / "scores.json").write_text('{"config_hash": "another"}')
    with pytest.raises(UserError, match=r"holds files of a run without a readable config.yaml"):
        job_of(missing(), snapshot, SHARE)
    job = job_of(missing(is_replaceable=True), snapshot, SHARE)
    assert job.command[-1] == "replace=true" and job.config_hash == load(run_of("Pong").overrides()).hash()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt, not made by this program"):
        job_of(missing(is_replaceable=True), snapshot, SHARE)
