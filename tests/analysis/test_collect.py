"""Collecting: one row a run, and a sentence that names the file for whatever is broken."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.runs import read_runs
from analysis.scores import References
from pipeline import collect
from tests.analysis.conftest import write_scores
from tests.analysis.run_folders import write_journal, write_weights


def test_rows_hold_score_spread_and_baseline(run_files: Path, tmp_path: Path, references: References) -> None:
    out = tmp_path / "collected" / "scores.csv"
    assert collect.main(["--scores", str(run_files / "scores"), "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["task"], row["scale"]) for row in rows] == [
        ("atari/Breakout", "smoke"), ("atari/Pong", "smoke"), ("crafter/Reward", "smoke"),
        ("minigrid/Empty-5x5", "small"),
    ]  # fmt: skip
    assert float(rows[0]["score"]) == 1.0 and float(rows[0]["score_std"]) == pytest.approx(2**0.5)
    assert rows[0]["random_score"] == "" and float(rows[3]["random_score"]) == pytest.approx(0.2)
    assert [bool(row["crafter_score"]) for row in rows] == [False, False, True, False]
    assert [group.short_label for group in read_runs(out, references)] == ["IRIS (ours, small)", "IRIS (ours, smoke)"]


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def collect_all(results: Path) -> Path:
    """Collect a ``results`` folder; the folder of what came out."""
    out = results / "collected"
    arguments = {"--scores": results / "scores", "--runs": results / "runs", "--out": out / "scores.csv"}
    assert collect.main([str(part) for pair in arguments.items() for part in pair]) == 0
    return out


def test_achievements_are_rows_of_their_own(run_files: Path) -> None:
    rows = read(collect_all(run_files) / "achievements.csv")
    assert [(row["task"], row["achievement"], float(row["success_rate"])) for row in rows] == [
        ("crafter/Reward", "eat_cow", 50.0), ("crafter/Reward", "wake_up", 0.0),
    ]  # fmt: skip
    assert {(row["method"], row["variant"], row["seed"], row["scale"]) for row in rows} == {("iris", "", "0", "smoke")}


def test_only_crafter_makes_a_score_of_its_achievements(tmp_path: Path) -> None:
    """Craftax has other ones, and counts rewards."""
    write_scores(tmp_path / "scores", "craftax/Symbolic", 0, "smoke", [1.0], achievements={"eat_cow": 50.0})
    (row,) = read(collect_all(tmp_path) / "achievements.csv")
    assert (row["task"], row["achievement"], row["success_rate"]) == ("craftax/Symbolic", "eat_cow", "50.0")
    assert read(tmp_path / "collected" / "scores.csv")[0]["crafter_score"] == ""


def test_evaluations_of_every_run_are_collected(run_files: Path) -> None:
    rows = read(collect_all(run_files) / "evaluations.csv")
    assert [row["task"] for row in rows] == ["atari/Breakout", "atari/Pong", "crafter/Reward", "minigrid/Empty-5x5"]
    assert {(row["env_steps"], row["return_mean"], row["split"]) for row in rows} == {("100", "0.5", "test")}


def test_evaluations_of_another_run_in_the_same_place_are_left_out(run_files: Path) -> None:
    """The scores came from another machine; the folder of that name here is of an older run."""
    (run_files / "runs" / "iris" / "atari" / "Pong" / "0" / "scores.json").write_text("{}")
    (run_files / "runs" / "iris" / "atari" / "Breakout" / "0" / "evaluations.csv").unlink()
    tasks = [row["task"] for row in read(collect_all(run_files) / "evaluations.csv")]
    assert tasks == ["crafter/Reward", "minigrid/Empty-5x5"]


def test_damaged_evaluations_name_the_file(run_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_files / "runs" / "iris" / "atari" / "Pong" / "0" / "evaluations.csv"
    path.write_text("epoch,env_steps,split,return_mean\n2,many,test,1\n")
    arguments = ["--scores", str(run_files / "scores"), "--runs", str(run_files / "runs")]
    assert collect.main([*arguments, "--out", str(run_files / "out.csv")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} holds")
    assert not (run_files / "out.csv").exists()


def test_episodes_are_rows_of_their_own(run_files: Path) -> None:
    """Whether or not the run's folder is here."""
    rows = read(collect_all(run_files) / "episodes.csv")
    pong = [row for row in rows if row["task"] == "atari/Pong"]
    assert [(row["episode"], float(row["return"]), float(row["length"])) for row in pong] == [
        ("0", -21.0, 10.0), ("1", -20.0, 10.0),
    ]  # fmt: skip
    assert len(rows) == 8


def test_costs_and_losses_come_from_journal_and_weights(run_files: Path) -> None:
    folder = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    write_journal(folder, [{"seconds/tokenizer": 2.0, "tokenizer/train/loss_l1": 0.5}, {"seconds/tokenizer": 4.0}])
    write_weights(folder, {"tokenizer.encoder.weight": [3, 4], "policy.actor.bias": [6], "target.actor.bias": [6]})
    out = collect_all(run_files)
    cost = read(out / "costs.csv")[1]
    assert (cost["task"], cost["hardware"], cost["hours"], cost["epochs"]) == ("atari/Pong", "cpu x2", "0.01", "3")
    assert (cost["parameters"], cost["parameters_tokenizer"], cost["parameters_world_model"]) == ("18", "12", "0")
    assert float(cost["seconds_tokenizer"]) == 3.0 and cost["seconds_world_model"] == cost["peak_memory_bytes"] == ""
    (loss,) = read(out / "losses.csv")
    assert (loss["task"], loss["epoch"], loss["component"], loss["split"], loss["loss"], loss["value"]) == (
        "atari/Pong", "1", "tokenizer", "train", "l1", "0.5",
    )  # fmt: skip


def test_a_run_from_another_machine_has_only_the_costs_in_its_scores(run_files: Path) -> None:
    folder = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    write_journal(folder, [{"seconds/tokenizer": 2.0, "tokenizer/train/loss_l1": 0.5}])
    write_weights(folder, {"policy.actor.bias": [6]})
    (folder / "scores.json").write_text("{}")
    out = collect_all(run_files)
    cost = read(out / "costs.csv")[1]
    assert cost["hours"] == "0.01" and cost["seconds_tokenizer"] == cost["parameters"] == ""
    assert not read(out / "losses.csv")


def test_a_damaged_journal_names_the_file_and_leaves_nothing_half_written(
    run_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_files / "runs" / "iris" / "atari" / "Pong" / "0"
    write_journal(folder, [{"seconds/tokenizer": 2.0}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{half a line\n{}\n")
    arguments = ["--scores", str(run_files / "scores"), "--runs", str(run_files / "runs")]
    assert collect.main([*arguments, "--out", str(run_files / "out.csv")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: line 3 of the journal {folder / 'metrics.jsonl'}") and message.count("\n") == 1
    assert not (run_files / "out.csv").exists()


def test_crafter_score_is_the_papers_geometric_mean() -> None:
    """All at 100 % give 100, all at zero nothing, and one of two at 3 % the mean of logarithms."""
    assert collect.geometric_mean([100.0] * 22) == pytest.approx(100.0)
    assert collect.geometric_mean([0.0] * 22) == 0.0
    assert collect.geometric_mean([3.0, 0.0]) == pytest.approx(1.0)


def test_collecting_twice_gives_equal_bytes(run_files: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a.csv", "b.csv")]
    for out in outs:
        assert collect.main(["--scores", str(run_files / "scores"), "--out", str(out)]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"schema": 9}, "schema 1, found 9"),
        ({"returns": []}, "[] as returns"),
        ({"returns": [1.0, "x"]}, "'x' as one of the returns"),
        ({"returns": [1.0, float("nan")]}, "nan as one of the returns"),
        ({"lengths": [1]}, "2 returns and 1 lengths"),
        ({"score": 99.0}, "not the mean"),
        ({"score": None}, "None as score"),
        ({"run": None}, "no section 'run'"),
        ({"random": {"returns": "many"}}, "'many' as returns"),
        ({"achievements": [1.0]}, "no section 'achievements'"),
        ({"achievements": {}}, "success rates of {}"),
        ({"achievements": {"eat_cow": "often"}}, "'often' as the success rate of eat_cow"),
        ({"achievements": {"eat_cow": 101.0}, "crafter_score": 101.0}, "where percentages are expected"),
        ({"achievements": {"eat_cow": 3.0}}, "None as crafter_score"),
        ({"achievements": {"eat_cow": 3.0}, "crafter_score": 4.0}, "where the success rates give 3.0"),
    ],
)
def test_broken_scores_name_the_file(
    changes: dict[str, Any], finding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scores(tmp_path / "scores", "crafter/Reward", 3, "smoke", [1.0, 2.0], **changes)
    assert collect.main(["--scores", str(tmp_path / "scores"), "--out", str(tmp_path / "out.csv")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}") and message.count("\n") == 1
    assert finding in message and "train that run again" in message
    assert not (tmp_path / "out.csv").exists()


def test_truncated_json_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    path.write_text(path.read_text()[:40])
    assert collect.main(["--scores", str(tmp_path / "scores"), "--out", str(tmp_path / "out.csv")]) == 2
    assert f"error: {path} is not valid JSON" in capsys.readouterr().err


def test_a_copied_file_is_not_counted_as_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    path.with_name("1.json").write_text(path.read_text())
    assert collect.main(["--scores", str(tmp_path / "scores"), "--out", str(tmp_path / "out.csv")]) == 2
    assert "'iris/atari/Pong/0' under the name 'iris/atari/Pong/1'" in capsys.readouterr().err


def test_variants_are_part_of_the_identity(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    record = json.loads(path.read_text())
    record["run"]["variant"] = "64-tokens"
    target = tmp_path / "scores" / "iris+64-tokens" / "atari" / "Pong" / "0.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(record))
    assert [row["variant"] for row in collect.collect(tmp_path / "scores")] == ["", "64-tokens"]


def test_no_scores_say_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect.main(["--scores", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out.csv")]) == 2
    assert "make repro" in capsys.readouterr().err
