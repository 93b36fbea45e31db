"""Learning curves of run folders."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.learning import learning_curves
from tokenworlds.errors import UserError


def run_folder(folder: Path, seed: int, task: str = "minigrid/Empty-5x5") -> Path:
    folder.mkdir()
    rows = {"epoch": [1, 2], "env_steps": [10, 20], "return_mean": [0.1, 0.5 + seed]}
    pd.DataFrame(rows).to_csv(folder / "evaluations.csv", index=False)
    run = {"method": "iris", "task": task, "scale": "small", "seed": seed}
    (folder / "scores.json").write_text(json.dumps({"run": run, "random": {"score": 0.2}}))
    return folder


def test_every_run_is_a_line_and_the_numbers_stand_beside_the_picture(tmp_path: Path) -> None:
    drawing = learning_curves([run_folder(tmp_path / str(seed), seed) for seed in (0, 1)])
    (axes,) = drawing.figure.axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["seed 0", "seed 1", "random policy"]
    assert list(axes.get_lines()[1].get_ydata()) == [0.1, 1.5]
    assert list(drawing.numbers.return_mean) == [0.1, 0.5, 0.1, 1.5]
    written = drawing.write(tmp_path / "curves")
    assert {path.suffix for path in written} == {".svg", ".png", ".csv", ".txt"}


def test_runs_of_several_tasks_or_unfinished_runs_are_refused(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / "a", 0), run_folder(tmp_path / "b", 0, task="minigrid/Empty-6x6")]
    with pytest.raises(UserError, match="differ in task"):
        learning_curves(runs)
    with pytest.raises(UserError, match=r"has no evaluations\.csv"):
        learning_curves([tmp_path])
