"""Learning curves of run folders."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis import make_figures
from analysis.papers.folders import LOSS, loss_curves, return_curves
from tokenworlds.errors import UserError


def run_folder(
    folder: Path, seed: int, task: str = "minigrid/Empty-5x5", variant: str | None = None, scale: str = "small"
) -> Path:
    """A finished run whose losses are 4 + seed in the first epoch and 2 + seed in the second, which evaluates."""
    folder.mkdir()
    rows = {"epoch": [1, 2], "env_steps": [10, 20], "return_mean": [0.1, 0.5 + seed]}
    pd.DataFrame(rows).to_csv(folder / "evaluations.csv", index=False)
    run = {"method": "iris", "variant": variant, "task": task, "scale": scale, "seed": seed}
    first, second = {LOSS.format("train"): 4.0 + seed}, {LOSS.format("train"): 2.0 + seed, LOSS.format("eval"): 3.0}
    epochs = [{"kind": "metrics", "step": step + 1, "values": values} for step, values in enumerate((first, second))]
    records = [{"kind": "journal", "id": "x"}, *epochs]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "scores.json").write_text(json.dumps({"run": run, "random": {"score": 0.2}}))
    return folder


def test_every_run_is_a_line_and_the_numbers_stand_beside_the_picture(tmp_path: Path) -> None:
    drawing = return_curves([run_folder(tmp_path / str(seed), seed) for seed in (0, 1)])
    (axes,) = drawing.figure.axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["seed 0", "seed 1", "random policy"]
    assert list(axes.get_lines()[1].get_ydata()) == [0.1, 1.5]
    assert list(drawing.numbers.return_mean) == [0.1, 0.5, 0.1, 1.5]
    written = drawing.write(tmp_path / "curves")
    assert {path.suffix for path in written} == {".svg", ".png", ".csv", ".txt"}


def test_the_random_policy_is_the_mean_of_runs_however_often_each_was_tested(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / str(seed), seed) for seed in (0, 1)]
    scores = json.loads((runs[1] / "scores.json").read_text()) | {"random": {"score": 0.6}}
    (runs[1] / "scores.json").write_text(json.dumps(scores))
    tested = pd.read_csv(runs[1] / "evaluations.csv")
    tested.tail(1).to_csv(runs[1] / "evaluations.csv", index=False)
    (axes,) = return_curves(runs).figure.axes
    assert axes.get_lines()[2].get_ydata()[0] == pytest.approx(0.4)  # type: ignore[index]


@pytest.mark.parametrize("suffix", [".svg", ".png", ".csv", ".txt"])
def test_files_of_something_else_are_not_replaced(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(run_folder(tmp_path / "0", 0)), tmp_path / "curves"
    for _ in range(2):  # its own figure is drawn again
        assert make_figures.main(["--folders", folder, "--out", str(out)]) == 0
    for path in tmp_path.glob("curves.*"):
        path.unlink()
    out.with_suffix(suffix).write_text("mine")
    assert make_figures.main(["--folders", folder, "--out", str(out)]) == 2
    assert "exists and is not of this command; name other files with --out" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.glob("curves.*")] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folders", "x", "--scores", "nowhere.csv"], "--scores is about items, in whose place --folders draws"),
        (["--folders", "x", "--list"], "--list is about items"),
        (["--folders", "x", "--seed", "5"], "--seed is about items"),
        (["--curve", "loss", "--only", "IRIS-T1"], "--curve is of the runs that --folders names"),
    ],
)
def test_options_without_a_use_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_figures.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_every_task_has_a_panel(tmp_path: Path) -> None:
    tasks = ("minigrid/Empty-6x6", "minigrid/Empty-5x5")
    runs = [run_folder(tmp_path / f"{i}{seed}", seed, task) for i, task in enumerate(tasks) for seed in range(2 - i)]
    drawing = return_curves(runs)
    assert [axes.get_title() for axes in drawing.figure.axes] == list(tasks)
    assert [len(axes.get_lines()) for axes in drawing.figure.axes] == [3, 2]
    legend = drawing.figure.axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["seed 0", "seed 1", "random policy"]
    with pytest.raises(UserError, match=r"differ in task \(minigrid/Empty-5x5, minigrid/Empty-6x6\)"):
        loss_curves(runs)


def test_unfinished_runs_and_runs_of_several_scales_are_refused(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / "a", 0), run_folder(tmp_path / "b", 0, scale="paper")]
    with pytest.raises(UserError, match=r"differ in scale \(paper, small\)"):
        return_curves(runs)
    with pytest.raises(UserError, match=r"has no evaluations\.csv"):
        return_curves([tmp_path])


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"run": {}}'])
def test_damaged_scores_and_evaluations_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "a", 0)
    (run / "evaluations.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"evaluations\.csv"):
        return_curves([run])
    (run / "scores.json").write_bytes(content)
    with pytest.raises(UserError, match=r"scores\.json is damaged"):
        return_curves([run])


def test_runs_of_other_settings_are_a_line_of_their_own(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / str(seed), seed) for seed in (0, 1)]
    record = json.loads((runs[1] / "scores.json").read_text())
    changed = record | {"settings_hash": "b" * 12, "overrides": {"model.backbone": "retnet"}}
    (runs[1] / "scores.json").write_text(json.dumps(changed))
    assert set(loss_curves(runs).numbers.method) == {"iris", "iris+model.backbone=retnet"}


def test_losses_are_averaged_over_the_runs_of_a_variant(tmp_path: Path) -> None:
    plain = [run_folder(tmp_path / str(seed), seed) for seed in (0, 1)]
    drawing = loss_curves([*plain, run_folder(tmp_path / "a", 5, variant="no-pop")])
    numbers = drawing.numbers.set_index(["method", "split", "epoch"])
    assert tuple(numbers.loc[("iris", "train", 2)]) == (2.5, 0.5, 2)  # mean, population deviation, runs
    assert tuple(numbers.loc[("iris+no-pop", "train", 1)]) == (9.0, 0.0, 1)
    assert ("iris", "eval", 1) not in numbers.index and numbers.loc[("iris", "eval", 2), "mean"] == 3.0
    (axes,) = drawing.figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == [
        f"{name}, {split}" for name in ("IRIS", "IRIS+no-pop") for split in ("evaluation", "training")
    ]
    assert [lines[f"IRIS, {split}"].get_linestyle() for split in ("training", "evaluation")] == ["-", "--"]
    assert lines["IRIS, training"].get_color() != lines["IRIS+no-pop, training"].get_color()


def test_runs_without_losses_are_refused(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 0)
    (run / "metrics.jsonl").write_text('{"kind": "journal", "id": "x"}\n')
    with pytest.raises(UserError, match="holds no losses"):
        loss_curves([run])


def test_no_run_is_dropped_where_there_are_more_than_line_styles(tmp_path: Path) -> None:
    drawing = return_curves([run_folder(tmp_path / str(seed), seed) for seed in range(7)])
    assert [line.get_label() for line in drawing.figure.axes[0].get_lines()][:7] == [f"seed {n}" for n in range(7)]
