"""The best agents as artifacts of DVC: which one, under which name; and in a real project of DVC."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import artifacts as command
from tests.analysis.conftest import write_scores
from tests.conftest import Checkout
from tests.pipeline.support import choose
from tokenworlds.runs.manifest import write_manifest

Capture = pytest.CaptureFixture[str]
FILE = Path("results/best/dvc.yaml")


def write_run(results: Path, task: str, seed: int, score: float, scale: str = "smoke", **changes: Any) -> Path:
    """A finished run, as far as this command reads it."""
    scores = write_scores(results / "scores", task, seed, scale, [score], **changes)
    folder = results / "runs" / "iris" / task / str(seed)
    folder.mkdir(parents=True)
    (folder / "agent.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "scores.json").write_bytes(scores.read_bytes())
    write_manifest(folder)
    return folder


def made(results: Path, status: int = 0) -> dict[str, Any]:
    """The artifacts after the command."""
    folders = [f"--{name}={results / name}" for name in ("scores", "runs")]
    file = results / "best" / "dvc.yaml"
    assert command.main([*folders, f"--out={file}"]) == status
    return yaml.safe_load(file.read_text())["artifacts"] if file.exists() else {}


def test_the_best_seed_of_each_task_and_scale_is_an_artifact(tmp_path: Path) -> None:
    for seed, score in ((0, 1.0), (1, 3.0), (2, 3.0)):
        write_run(tmp_path, "atari/Pong", seed, score)
    best = write_run(tmp_path, "dmc/ball_in_cup-catch", 4, -2.0, "small", config_hash="abc")
    found = made(tmp_path)
    assert [*found] == ["iris-atari-pong-smoke", "iris-dmc-ball-in-cup-catch-small"]
    pong, cup = found.values()
    assert pong["path"] == "../runs/iris/atari/Pong/1" and pong["type"] == "model"
    assert pong["meta"] | {"seed": 1, "seeds": 3, "score": 3.0} == pong["meta"]
    assert "the best of 3 seeds by this score, which is therefore higher" in pong["desc"]
    assert cup["desc"].endswith("seed 4: the only seed.") and cup["meta"]["config_hash"] == "abc"
    record = json.loads((best / "manifest.json").read_text())["files"]["agent.safetensors"]
    assert cup["meta"]["sha256"] == record["sha256"] == command.sha256(best / "agent.safetensors")
    assert cup["meta"]["protocol"]["episodes"] == 1


@pytest.mark.parametrize("name", ["manifest.json", "scores.json"])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, name: str, capsys: Capture) -> None:
    (write_run(tmp_path, "atari/Pong", 0, 1.0) / name).write_text("{")
    assert made(tmp_path, 2) == {}
    error = capsys.readouterr().err
    assert error.startswith("error: ") and name in error and error.count("\n") == 1


def test_only_runs_whose_agent_is_here_count(tmp_path: Path, capsys: Capture) -> None:
    write_scores(tmp_path / "scores", "atari/Pong", 1, "smoke", [9.0])
    assert made(tmp_path) == {} and "no agents in" in capsys.readouterr().out
    write_run(tmp_path, "atari/Pong", 0, 1.0)
    assert made(tmp_path)["iris-atari-pong-smoke"]["meta"]["seed"] == 0


def test_it_is_written_once_and_follows_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "atari/Pong", 0, 1.0)
    made(tmp_path)
    written = (tmp_path / "best" / "dvc.yaml").stat().st_mtime_ns
    made(tmp_path)
    assert (tmp_path / "best" / "dvc.yaml").stat().st_mtime_ns == written
    write_run(tmp_path, "atari/Pong", 1, 2.0)
    assert made(tmp_path)["iris-atari-pong-smoke"]["meta"]["seed"] == 1


def test_names_that_dvc_could_not_tell_apart_are_numbered(tmp_path: Path) -> None:
    rows = [
        {"method": "iris", "variant": variant, "task": "atari/Pong", "scale": "smoke", "seed": 0, "score": 1.0}
        | {"config_hash": "", "git_revision": ""}
        for variant in ("a.b", "a=b")
    ]
    places = [write_run(tmp_path / str(index), "atari/Pong", 0, 1.0) for index in range(2)]
    assert [*command.artifacts(rows, places, FILE)] == ["iris-a-b-atari-pong-smoke", "iris-a-b-atari-pong-smoke-2"]


@pytest.mark.parametrize(
    "content", ["stages: {}", "artifacts: {mine: {path: model.bin}}", "- 1", "artifacts: [", "\t", "plots: []"]
)
def test_what_a_person_wrote_is_kept(content: str, tmp_path: Path, capsys: Capture) -> None:
    write_run(tmp_path, "atari/Pong", 0, 1.0)
    file = tmp_path / "best" / "dvc.yaml"
    file.parent.mkdir()
    file.write_text(content)
    assert command.main([f"--scores={tmp_path / 'scores'}", f"--runs={tmp_path / 'runs'}", f"--out={file}"]) == 2
    assert file.read_text() == content and "exists and is not of this command" in capsys.readouterr().err


TRAIN = """import shutil, sys
given = dict(part.split("=", 1) for part in sys.argv[1:])
run = f"{given['method']}/{given['task']}/{given['seed']}"
shutil.copytree(f"prepared/runs/{run}", f"results/runs/{run}")
shutil.copy(f"prepared/scores/{run}.json", f"results/scores/{run}.json")
"""


@pytest.mark.integration
def test_dvc_shows_and_gets_them_and_runs_nothing_because_of_them(
    make_checkout: Callable[[], Checkout], tmp_path: Path
) -> None:
    """Real stages, whose training only copies."""
    checkout = make_checkout()
    choose(checkout.folder, "Pong", seeds=(0, 1))
    for seed in (0, 1):
        write_run(checkout.folder / "prepared", "atari/Pong", seed, float(seed))
    (checkout.folder / "results/scores/iris/atari/Pong").mkdir(parents=True)
    (checkout.folder / "pipeline" / "train.py").write_text(TRAIN)
    checkout.commit()
    stages = "pipeline/iris/dvc.yaml"
    checkout.dvc("repro", stages)
    for _ in range(2):
        checkout.run(sys.executable, "-m", "pipeline.artifacts")
    assert "Running stage" not in checkout.dvc("repro", stages).stdout
    assert json.loads(checkout.dvc("status", "--json", stages).stdout) == {}
    checkout.commit()
    assert "Running stage" not in checkout.dvc("exp", "run", stages).stdout
    assert (checkout.folder / FILE).is_file()
    checkout.run("git", "tag", "-a", "results/best=iris-atari-pong-smoke@v1.0.0", "-m", "the first")
    name = "results/best:iris-atari-pong-smoke"
    shown = checkout.run(sys.executable, "-c", f"import dvc.api; print(dvc.api.artifacts_show({name!r}))").stdout
    assert "'path': 'results/runs/iris/atari/Pong/1'" in shown
    listed = "from dvc.repo import Repo; print(Repo().artifacts.read())"
    assert "iris-atari-pong-smoke" in checkout.run(sys.executable, "-c", listed).stdout
    checkout.dvc("artifacts", "get", ".", name, "--out", str(tmp_path / "agent"))
    assert json.loads((tmp_path / "agent" / "scores.json").read_text())["run"]["seed"] == 1
