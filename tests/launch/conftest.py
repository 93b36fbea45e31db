"""A small project with git and DVC, whose trainings take no time."""

import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.launch.missing import Missing
from tests.conftest import PROJECT
from tokenworlds.runs.identity import RunId

TRAIN = """\
import json, pathlib, sys
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
name = f"{given['method']}/{given['task']}/{given['seed']}"
pathlib.Path("trained.txt").open("a").write(f"{name}\\n")
run, scores = pathlib.Path("results/runs", name), pathlib.Path("results/scores", f"{name}.json")
run.mkdir(parents=True, exist_ok=True)
scores.parent.mkdir(parents=True, exist_ok=True)
code = pathlib.Path("results/inputs/iris/code.txt").read_text()
(run / "agent.safetensors").write_text(code)
scores.write_text(json.dumps({"code": code}))
"""
STAGES = {
    "vars": ["../grid.yaml"],
    "stages": {
        "inputs": {
            "cmd": "mkdir -p results/inputs/iris && grep -v ^# src/code.txt > results/inputs/iris/code.txt",
            "wdir": "../..",
            "deps": ["src/code.txt"],
            "outs": [{"results/inputs/iris/code.txt": {"cache": False}}],
        },
        "atari": {
            "matrix": {"task": "${grid.iris.atari.tasks}", "seed": "${grid.iris.atari.seeds}"},
            "wdir": "../..",
            "cmd": "python -m pipeline.train method=iris task=atari/${item.task} seed=${item.seed} scale=smoke",
            "deps": ["results/inputs/iris/code.txt"],
            "outs": [
                "results/runs/iris/atari/${item.task}/${item.seed}",
                "results/scores/iris/atari/${item.task}/${item.seed}.json",
            ],
        },
    },
}


def run_of(game: str, seed: int = 0, method: str = "iris", variant: str = "") -> RunId:
    return RunId(method, variant, f"atari/{game}", seed, "smoke")


TOKENIZER = "results/tokenizers/random_policy/iris/atari/Pong/0"


def tokenizer_of_pong(is_replaceable: bool = False) -> Missing:
    """The tokenizer that variants on Pong begin with."""
    run = run_of("Pong", variant="tokenizer-random-policy")
    stage = "pipeline/iris/dvc.yaml:random_policy@atari/Pong-0"
    return Missing(run, stage, tuple(run.overrides()), is_replaceable, tokenizer=TOKENIZER)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: settings of IRIS, one file of code, two games of one seed; committed."""
    folder = tmp_path / "project"
    for name in ("params.yaml", "pipeline/iris/params.yaml", "pipeline/iris/published.yaml", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((PROJECT / name).read_bytes())
    grid = {"suite": "test", "scale": "smoke", "iris": {"atari": {"tasks": ["Pong", "Krull"], "seeds": [0]}}}
    (folder / "pipeline/grid.yaml").write_text(yaml.safe_dump({"grid": grid}))
    (folder / "pipeline/iris/dvc.yaml").write_text(yaml.safe_dump(STAGES, sort_keys=False))
    (folder / "pipeline/train.py").write_text(TRAIN)
    (folder / "src").mkdir()
    (folder / "src/code.txt").write_text("one\n")
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "test")
    git(folder, "config", "user.email", "test@example.com")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "state")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder
