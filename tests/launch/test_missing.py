"""What DVC would train, asked once, in a small project with trainings that take no time."""

from pathlib import Path

import pytest
import yaml

from pipeline.launch.missing import Missing, dvc, find_missing, renew_inputs, select
from tests.launch.conftest import TOKENIZER, git, run_of, tokenizer_of_pong
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.runs.identity import RunId

RUNS = [run_of("Pong"), run_of("Krull")]


def test_selection_takes_every_task_before_the_next_seed() -> None:
    runs = [run_of(game, seed, method) for method in ("iris", "rem") for game in ("Pong", "Krull") for seed in (0, 1)]
    chosen = select(runs, ["rem/atari/*", "iris/*/Pong/1"])
    assert [run.name for run in chosen] == [
        "rem/atari/Pong/0", "rem/atari/Krull/0", "iris/atari/Pong/1", "rem/atari/Pong/1", "rem/atari/Krull/1"
    ]  # fmt: skip
    assert select(runs, []) == [*(run for run in runs if run.seed == 0), *(run for run in runs if run.seed == 1)]
    with pytest.raises(UserError, match=r"--select iris/atari/Pog/0 matches no run.*did you mean iris/atari/Pong/0"):
        select(runs, ["rem/*", "iris/atari/Pog/0"])


def missing_of(runs: list[RunId], restore: bool = True) -> list[Missing]:
    renew_inputs({"iris"})
    return find_missing(runs, restore)


@pytest.fixture
def pipeline(project: Path) -> Path:
    dvc("init")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "dvc")
    return project


@pytest.mark.integration
def test_missing_is_what_dvc_would_run(pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = missing_of(RUNS)
    assert [each.run for each in found] == RUNS
    assert found[0].stage == "pipeline/iris/dvc.yaml:atari@Pong-0" and not found[0].is_replaceable
    assert found[0].overrides == ("method=iris", "task=atari/Pong", "seed=0", "scale=smoke")
    dvc("repro", found[0].stage)
    assert [each.run for each in missing_of(RUNS)] == RUNS[1:]
    assert [each.run for each in missing_of(RUNS[:1])] == []

    (pipeline / "src/code.txt").write_text("# a remark\none\n")
    assert [each.run for each in missing_of(RUNS)] == RUNS[1:]  # the input file is what it was
    (pipeline / "src/code.txt").write_text("two\n")
    stale, never_run = missing_of(RUNS)
    assert stale.is_replaceable and not never_run.is_replaceable
    (pipeline / "results/runs/iris/atari/Pong/0/agent.safetensors").chmod(0o644)
    (pipeline / "results/runs/iris/atari/Pong/0/agent.safetensors").write_text("edited by hand")
    assert not missing_of(RUNS)[0].is_replaceable

    (pipeline / "src/code.txt").write_text("one\n")  # back: the run cache has it
    assert [each.run for each in missing_of(RUNS, restore=False)] == RUNS[1:]
    assert (pipeline / "results/runs/iris/atari/Pong/0/agent.safetensors").read_text() == "edited by hand"
    foreign = pipeline / "results/runs/iris/atari/Pong/0/notes.txt"
    foreign.write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt, not made by this program; move them away"):
        missing_of(RUNS)
    foreign.unlink()
    capfd.readouterr()
    assert [each.run for each in missing_of(RUNS)] == RUNS[1:]
    assert capfd.readouterr().out == "1 result restored from DVC's cache\n"
    assert (pipeline / "results/runs/iris/atari/Pong/0/agent.safetensors").read_text() == "one\n"
    assert (pipeline / "trained.txt").read_text() == "iris/atari/Pong/0\n"

    (pipeline / "results/scores/iris/atari/Pong/0.json").unlink()
    assert [each.run for each in missing_of(RUNS)] == RUNS[1:]
    assert (pipeline / "results/scores/iris/atari/Pong/0.json").is_file()


def add_variant(project: Path) -> RunId:
    """A run that begins with that of Pong."""
    path, run = project / "pipeline/iris/dvc.yaml", run_of("Pong", variant="same")
    stages = yaml.safe_load(path.read_text())
    stages["stages"]["same_game"] = {
        "cmd": "python -m pipeline.train method=iris+same task=atari/Pong seed=0 scale=smoke",
        "wdir": "../..",
        "deps": ["results/inputs/iris/code.txt", f"results/runs/{RUNS[0].name}/agent.safetensors"],
        "outs": [f"results/runs/{run.name}", f"results/scores/{run.name}.json"],
    }
    path.write_text(yaml.safe_dump(stages, sort_keys=False))
    return run


def test_a_run_comes_after_the_stale_run_that_it_begins_with(project: Path) -> None:
    """The weights of before the edit are there. The stage of the input files is no reason to wait."""
    from dvc.repo import Repo

    variant, code = add_variant(project), project / "results/inputs/iris/code.txt"
    runs = [*RUNS, variant]
    write_atomic(code, b"one\n")
    for run in runs:
        write_atomic(project / f"results/runs/{run.name}/agent.safetensors", b"one\n")
        write_atomic(project / f"results/scores/{run.name}.json", b"one\n")
    with Repo.init(str(project)) as repo:
        repo.commit(force=True)
    (project / "src/code.txt").write_text("two\n")
    assert find_missing(runs) == []
    write_atomic(code, b"two\n")
    found = find_missing(runs)
    base = "pipeline/iris/dvc.yaml:atari@Pong-0"
    assert [(each.run, each.after) for each in found] == [(RUNS[0], ""), (RUNS[1], ""), (variant, base)]
    assert found[0].stage == base and find_missing([variant]) == found[2:]


@pytest.mark.integration
def test_a_tokenizer_of_two_variants_is_pretrained_once_or_restored(
    pipeline: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, wanted = pipeline / "pipeline/iris/dvc.yaml", tokenizer_of_pong()
    stages = yaml.safe_load(path.read_text())
    weights, code = f"{TOKENIZER}/agent.safetensors", "results/inputs/iris/code.txt"
    command = f"python -m pipeline.pretrain {' '.join(wanted.overrides)}"
    (pipeline / "pipeline/pretrain.py").write_text(
        f"import pathlib; path = pathlib.Path('{weights}'); path.parent.mkdir(parents=True)\n"
        f"path.write_bytes(pathlib.Path('{code}').read_bytes())\n"
    )
    matrix = {"task": ["atari/Pong"], "seed": [0]}
    stages["stages"]["random_policy"] = {
        "matrix": matrix, "cmd": command, "wdir": "../..", "deps": [code], "outs": [TOKENIZER]
    }  # fmt: skip
    runs = [run_of("Pong", variant=name) for name in ("tokenizer-random-policy", "tokenizer-random-policy-trained")]
    for run in runs:
        stages["stages"][run.variant] = {
            "cmd": f"python -m pipeline.train method=iris+{run.variant} task=atari/Pong seed=0 scale=smoke",
            "wdir": "../..",
            "deps": [code, weights],
            "outs": [f"results/runs/{run.name}", f"results/scores/{run.name}.json"],
        }
    path.write_text(yaml.safe_dump(stages, sort_keys=False))
    first, *others = missing_of(runs)
    assert first == wanted and [(each.run, each.after) for each in others] == [(run, wanted.stage) for run in runs]
    dvc("repro", *(each.stage for each in others))
    assert missing_of(runs) == []
    (pipeline / "src/code.txt").write_text("two\n")
    assert missing_of(runs)[0] == tokenizer_of_pong(is_replaceable=True)
    dvc("repro", wanted.stage)
    (pipeline / "src/code.txt").write_text("one\n")
    capfd.readouterr()
    assert missing_of(runs) == [] and (pipeline / weights).read_text() == "one\n"
    assert "1 result restored" in capfd.readouterr().out


@pytest.mark.integration
def test_what_begins_with_a_restored_run_is_restored_too(pipeline: Path) -> None:
    runs = [RUNS[0], add_variant(pipeline)]
    for code in ("one\n", "two\n"):
        (pipeline / "src/code.txt").write_text(code)
        first, second = missing_of(runs)
        assert (first.after, second.after) == ("", first.stage)
        dvc("repro", second.stage)
        assert missing_of(runs) == []
    (pipeline / "src/code.txt").write_text("one\n")
    assert missing_of(runs) == []
    assert (pipeline / f"results/runs/{runs[1].name}/agent.safetensors").read_text() == "one\n"


@pytest.mark.integration
def test_files_that_settings_name_are_made_before_the_inputs_are_renewed(pipeline: Path) -> None:
    path, weights = pipeline / "pipeline/iris/dvc.yaml", "results/pretrained/stand-in.txt"
    stages = yaml.safe_load(path.read_text())
    command = f"mkdir -p results/pretrained && echo random > {weights}"
    stages["stages"]["stand_ins"] = {"cmd": command, "wdir": "../..", "outs": [weights]}
    stages["stages"]["inputs"]["deps"].append(weights)
    path.write_text(yaml.safe_dump(stages, sort_keys=False))
    renew_inputs({"iris"})
    assert (pipeline / weights).read_text() == "random\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("grid.yaml", "Krull", "Qbert", "no stage of pipeline/iris/dvc.yaml writes the scores of iris/atari/Krull/0"),
        ("iris/dvc.yaml", "cmd: python", "cmd: nice python", "does not run `python -m pipeline.train ...` alone"),
        ("iris/dvc.yaml", "- results/inputs/iris/code.txt", "- [", "dvc repro .* failed: .*iris/dvc.yaml' is invalid"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused(pipeline: Path, file: str, old: str, new: str, message: str) -> None:
    path = pipeline / "pipeline" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        missing_of(RUNS)
