"""Collecting: one row a run, and a sentence that names the file for whatever is broken."""

import csv
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.data.runs import read_runs
from analysis.data.scores import References
from analysis.options import Options
from pipeline import collect
from tests.analysis.conftest import write_scores
from tests.analysis.run_folders import write_journal, write_weights
from tokenworlds.runs import identity
from tokenworlds.runs.manifest import write_manifest

Capture = pytest.CaptureFixture[str]

PONG = "iris/atari/Pong/0"


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def arguments(results: Path) -> list[str]:
    """Options to collect a ``results`` folder."""
    places = {"--scores": results / "scores", "--runs": results / "runs", "--out": results / "collected" / "scores.csv"}
    return [str(part) for pair in places.items() for part in pair]


def collect_all(results: Path, *options: str) -> Path:
    """Collect a ``results`` folder; the folder of what came out."""
    assert collect.main([*arguments(results), *options]) == 0
    return results / "collected"


def refusal(results: Path, capsys: Capture, *options: str) -> str:
    """The sentence that collecting ends with; nothing is written."""
    capsys.readouterr()
    assert collect.main([*arguments(results), *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and len(message) <= 300 + len("error: \n")
    assert not (results / "collected").exists()
    return message


def test_rows_hold_score_spread_and_baseline(run_files: Path, references: References) -> None:
    out = collect_all(run_files) / "scores.csv"
    rows = read(out)
    assert [(row["task"], row["scale"]) for row in rows] == [
        ("atari/Breakout", "smoke"), ("atari/Pong", "smoke"), ("crafter/Reward", "smoke"),
        ("minigrid/Empty-5x5", "small"),
    ]  # fmt: skip
    assert float(rows[0]["score"]) == 1.0 and float(rows[0]["score_std"]) == pytest.approx(2**0.5)
    assert rows[0]["random_score"] == "" and float(rows[3]["random_score"]) == pytest.approx(0.2)
    assert [bool(row["crafter_score"]) for row in rows] == [False, False, True, False]
    assert [group.short_label for group in read_runs(out, references)] == ["IRIS (ours, small)", "IRIS (ours, smoke)"]
    content = out.read_bytes()
    assert collect_all(run_files) and out.read_bytes() == content


@pytest.mark.parametrize(
    ("protocol", "limit"), [({}, None), ({"max_episode_steps": None}, math.inf), ({"max_episode_steps": 400}, 400.0)]
)
def test_the_limit_of_episodes_is_collected(protocol: dict[str, Any], limit: float | None, tmp_path: Path) -> None:
    write_scores(tmp_path, "atari/Pong", 0, "smoke", [1.0], protocol=protocol)
    assert [row["episode_limit"] for row in collect.collect(tmp_path)] == [limit]


def test_steps_in_the_world_models_place_are_a_column_of_their_own(tmp_path: Path) -> None:
    for seed, more in enumerate(({}, {"oracle_steps": 96})):
        write_scores(tmp_path, "atari/Pong", seed, "smoke", [1.0], budget={"epochs": 4, "env_steps": 180, **more})
    rows = collect.collect(tmp_path)
    assert [(row["env_steps"], row["oracle_steps"]) for row in rows] == [(180, None), (180, 96)]


def test_frames_that_a_part_was_trained_on_before_are_collected_with_the_runs_that_kept_them(tmp_path: Path) -> None:
    runs = ["iris/atari/Boxing/0", "iris+4x4/atari/Pong/12"]
    replayed = {"source": "replay", "frames": 9, "counts_toward_budget": False, "runs": runs}
    random = {"source": "random_policy", "frames": 50, "counts_toward_budget": True}
    for seed, found in enumerate((replayed, random)):
        budget = {"epochs": 4, "env_steps": 180, "trained_on": {"tokenizer": found}}
        write_scores(tmp_path, "atari/Pong", seed, "smoke", [1.0], budget=budget)
    assert [row["trained_on"] for row in collect.collect(tmp_path)] == [
        "tokenizer: 9 frames of replay iris/atari/Boxing/0 iris+4x4/atari/Pong/12, not counted",
        "tokenizer: 50 frames of random_policy, counted",
    ]


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


def test_measures_of_world_models_are_collected_as_they_are(run_files: Path, capsys: Capture) -> None:
    table = run_files / "runs" / PONG / "world_model.csv"
    table.write_text("episode,predictor,horizon,part,measure,value,count\n0,open loop,5,image,mse,0.25,8\n")
    (row,) = read(collect_all(run_files) / "world_model.csv")
    assert list(row.values()) == [
        "iris",
        "",
        "atari/Pong",
        "0",
        "smoke",
        "0",
        "open loop",
        "5",
        "image",
        "mse",
        "0.25",
        "8",
    ]
    shutil.rmtree(run_files / "collected")
    table.write_text("episode,predictor,horizon,part,measure,value,count\n0,open loop,5,image,mse,much,8\n")
    message = refusal(run_files, capsys)
    assert "no numbers as episode, value, count in the line 0, open loop, 5, image, mse, much, 8;" in message


def test_numbers_of_whole_runs_are_collected_as_they_are(run_files: Path, capsys: Capture) -> None:
    """Runs of older versions have none."""
    table, header = run_files / "runs" / PONG / "measures.csv", "group,measure,part,value,count\n"
    table.write_text(f"{header}tokenizer,psnr,image,25.5,256\ncost,parameters,,12.0,\n")
    rows = read(collect_all(run_files) / "measures.csv")
    assert [list(row.values()) for row in rows] == [
        ["iris", "", "atari/Pong", "0", "smoke", "tokenizer", "psnr", "image", "25.5", "256"],
        ["iris", "", "atari/Pong", "0", "smoke", "cost", "parameters", "", "12.0", ""],
    ]
    shutil.rmtree(run_files / "collected")
    table.write_text(f"{header}tokenizer,psnr,image,high,256\n")
    assert "no numbers as value in the line tokenizer, psnr, image, high, 256;" in refusal(run_files, capsys)


def test_a_folder_of_another_run_in_the_same_place_is_left_out(run_files: Path) -> None:
    """The scores came from another machine; the folder of that name here is of an older run."""
    folder = run_files / "runs" / PONG
    write_journal(folder, [{"seconds/tokenizer": 2.0, "tokenizer/train/loss_l1": 0.5}])
    write_weights(folder, {"policy.actor.bias": [6]})
    (folder / "scores.json").write_text("{}")
    (run_files / "runs" / "iris" / "atari" / "Breakout" / "0" / "evaluations.csv").unlink()
    out = collect_all(run_files)
    assert [row["task"] for row in read(out / "evaluations.csv")] == ["crafter/Reward", "minigrid/Empty-5x5"]
    cost = read(out / "costs.csv")[1]
    assert cost["hours"] == "0.01" and cost["seconds_tokenizer"] == cost["parameters"] == ""
    assert not read(out / "losses.csv")


def test_episodes_are_rows_of_their_own(run_files: Path) -> None:
    """Whether or not the run's folder is here."""
    rows = read(collect_all(run_files) / "episodes.csv")
    pong = [row for row in rows if row["task"] == "atari/Pong"]
    assert [(row["episode"], float(row["return"]), float(row["length"])) for row in pong] == [
        ("0", -21.0, 10.0), ("1", -20.0, 10.0),
    ]  # fmt: skip
    assert len(rows) == 8


def test_costs_and_losses_come_from_journal_and_weights(run_files: Path) -> None:
    folder = run_files / "runs" / PONG
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
        ({"score": 10**400}, "as score where a finite number is expected"),
        ({"hours": "x"}, "'x' as hours where a finite number is expected"),
        ({"hours": -3.0}, "-3.0 as hours where a number from 0 on is expected"),
        ({"budget": {"env_steps": "many"}}, "'many' as env_steps"),
        ({"budget": {"trained_on": {"tokenizer": {"frames": 5, "source": "x"}}}}, "as trained_on where frames by part"),
        ({"budget": {"trained_on": ["tokenizer"]}}, "as trained_on where frames by part"),
        ({"hardware": 5}, "5 as hardware where a text is expected"),
        ({"protocol": "x"}, "no section 'protocol'"),
    ],
)
def test_broken_scores_name_the_file(changes: dict[str, Any], finding: str, tmp_path: Path, capsys: Capture) -> None:
    path = write_scores(tmp_path / "scores", "crafter/Reward", 3, "smoke", [1.0, 2.0], **changes)
    message = refusal(tmp_path, capsys)
    assert message.startswith(f"error: {path}") and finding in message and "train that run again" in message


def test_a_copied_file_is_not_counted_as_another_run(tmp_path: Path, capsys: Capture) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    path.with_name("1.json").write_text(path.read_text())
    assert "'iris/atari/Pong/0' under the name 'iris/atari/Pong/1'" in refusal(tmp_path, capsys)


def test_variants_are_part_of_the_identity(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    record = json.loads(path.read_text())
    record["run"]["variant"] = "64-tokens"
    target = tmp_path / "scores" / "iris+64-tokens" / "atari" / "Pong" / "0.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(record))
    assert [row["variant"] for row in collect.collect(tmp_path / "scores")] == ["", "64-tokens"]


def test_no_scores_say_how_to_get_some(tmp_path: Path, capsys: Capture) -> None:
    assert "make repro" in refusal(tmp_path, capsys)


# Two configurations under one name

RETNET = {"settings_hash": "b" * 12, "overrides": {"model.backbone": "retnet"}}
SHIPPED = {"settings_hash": "a" * 12, "overrides": {}}


LONG = {"settings_hash": "c" * 12, "overrides": {"model.world_model.transformer.attention_dropout": 0.25}}


def mixture(results: Path, other: dict[str, Any] = RETNET) -> None:
    """Write one run of a changed configuration, and two as shipped."""
    for seed, settings in enumerate((SHIPPED, other, SHIPPED)):
        path = write_scores(results / "scores", "atari/Pong", seed, "smoke", [1.0 + seed], **settings)
        folder = results / "runs" / "iris" / "atari" / "Pong" / str(seed)
        folder.mkdir(parents=True)
        (folder / "scores.json").write_bytes(path.read_bytes())
        (folder / "evaluations.csv").write_text("epoch,env_steps,split,return_mean\n2,100,test,0.5\n")


def test_a_mixture_is_refused_with_settings_numbers_example_and_remedy(tmp_path: Path, capsys: Capture) -> None:
    mixture(tmp_path)
    message = refusal(tmp_path, capsys)
    assert "2 runs with the shipped settings and 1 run with model.backbone=retnet (such as atari/Pong/1)" in message
    assert "train or restore the others, or accept both with `--mixed label`" in message


def test_a_deliberate_mixture_is_labelled_and_nothing_averages_over_it(
    tmp_path: Path, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture(tmp_path)
    out = collect_all(tmp_path, "--mixed", "label") / "scores.csv"
    rows = read(out)
    assert [(row["variant"], row["seed"]) for row in rows] == [("", "0"), ("", "2"), ("model.backbone=retnet", "1")]
    assert {row["trained_variant"] for row in rows} == {""}
    assert json.loads(rows[2]["overrides"]) == RETNET["overrides"] and rows[2]["settings_hash"] == "b" * 12
    assert [group.short_label for group in read_runs(out, references)] == [
        "IRIS (ours, smoke)", "IRIS+model.backbone=retnet (ours, smoke)",
    ]  # fmt: skip
    tested = read(out.with_name("evaluations.csv"))  # the folders keep their names
    assert [(row["variant"], row["seed"]) for row in tested] == [(row["variant"], row["seed"]) for row in rows]
    monkeypatch.setattr(collect, "read_options", lambda: Options(mixed="label"))  # the same for the pipeline
    assert read(collect_all(tmp_path) / "scores.csv") == rows


def test_runs_that_all_deviate_do_not_pass_for_the_shipped_ones(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0], **RETNET)
    assert read(collect_all(tmp_path) / "scores.csv")[0]["variant"] == "model.backbone=retnet"


def test_runs_under_a_label_that_was_cut_keep_their_folders_and_their_label(
    tmp_path: Path, references: References
) -> None:
    mixture(tmp_path, LONG)
    out = collect_all(tmp_path, "--mixed", "label")
    label = read(out / "scores.csv")[-1]["variant"]
    assert label == "...transformer.attention_dropout=0.25,settings=cccccc"
    assert [row["seed"] for row in read(out / "evaluations.csv")] == ["0", "2", "1"]
    names = {group.short_label for group in read_runs(out / "scores.csv", references)}
    assert names == {"IRIS (ours, smoke)", f"IRIS+{label} (ours, smoke)"}


def test_runs_are_read_where_not_every_family_is_installed(
    tmp_path: Path, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture(tmp_path, SHIPPED)
    out = collect_all(tmp_path)
    identity._tasks.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenworlds.envs.atari", None)
    assert len(read_runs(out / "scores.csv", references)) == 1


# Damaged folders


@pytest.fixture
def complete(run_files: Path) -> Path:
    """The folder of one run with everything that a run has; ``run_files`` holds others beside it."""
    folder = run_files / "runs" / PONG
    write_journal(folder, [{"seconds/tokenizer": 2.0}])
    write_weights(folder, {"policy.actor.bias": [6]})
    return folder


@pytest.mark.parametrize("name", ["agent.safetensors", "metrics.jsonl", "evaluations.csv", "scores.json"])
def test_a_file_that_lost_its_end_or_was_altered_is_named(
    name: str, run_files: Path, complete: Path, capsys: Capture
) -> None:
    write_manifest(complete)
    path, content = complete / name, (complete / name).read_bytes()
    path.write_bytes(content[:-3])
    expected = f"{path} is damaged ({len(content) - 3} of {len(content)} bytes); restore it with"
    assert expected in refusal(run_files, capsys)
    path.unlink()
    assert f"{path} is missing; restore it with" in refusal(run_files, capsys)
    if name != "agent.safetensors":  # large, and not read
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        assert f"{path} is damaged (its content" in refusal(run_files, capsys)
    path.write_bytes(content)
    collect_all(run_files)


def test_without_a_manifest_weights_journal_and_scores_still_have_to_be_whole(
    run_files: Path, complete: Path, capsys: Capture
) -> None:
    weights, journal, scores = (complete / name for name in ("agent.safetensors", "metrics.jsonl", "scores.json"))
    with journal.open("a") as file:
        file.write("{half a line\n{}\n")
    assert refusal(run_files, capsys).startswith(f"error: line 3 of the journal {journal}")
    weights.write_bytes(weights.read_bytes() + b"x")
    assert f"{weights} is damaged" in refusal(run_files, capsys)
    weights.unlink()
    scores.write_text(scores.read_text()[:50])
    assert f"{scores} is not valid JSON" in refusal(run_files, capsys)


@pytest.mark.parametrize(
    "content",
    [b"epoch,env_steps\xff\n", b"epoch,env_steps\n1\x00,2\n", b'"epoch\n', b"env_steps,return_mean\nmany,1\n"],
)
def test_evaluations_that_are_no_table_name_the_file(
    content: bytes, run_files: Path, complete: Path, capsys: Capture
) -> None:
    (complete / "evaluations.csv").write_bytes(content)
    assert f"{complete / 'evaluations.csv'} holds" in refusal(run_files, capsys)


# What is given on the command line


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"method": "irsi"}, "the unknown method 'irsi': did you mean iris"),
        ({"method": None}, "the unknown method None"),
        ({"task": "atari/Pogn"}, "the unknown task 'atari/Pogn': did you mean Pong"),
        ({"task": ["atari/Pong"]}, "the unknown task ['atari/Pong']"),
        ({"seed": "one"}, "the seed 'one' where a whole number"),
        ({"seed": -1}, "the seed -1 where a whole number"),
        ({"seed": True}, "the seed True where a whole number"),
        ({"scale": ""}, "no scale"),
        ({"scale": ["a"]}, "['a'] as scale where a text is expected"),
        ({"variant": {}}, "{} as variant where a text is expected"),
        ({"method": "z" * 999}, "the unknown method"),
    ],
)
def test_methods_tasks_and_seeds_that_cannot_be_are_refused(
    changes: dict[str, Any], found: str, tmp_path: Path, capsys: Capture
) -> None:
    path = write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0])
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"run": record["run"] | changes}))
    assert f"0.json holds {found}" in refusal(tmp_path, capsys)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"\xff\xfe\x00", "not valid JSON"),
        (b'{"schema": 1, "run', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "schema 1, found 'list'"),
        (json.dumps({"schema": "x" * 999}).encode(), "schema 1, found 'xxx"),
    ],
)
def test_files_that_hold_no_scores_are_one_short_sentence(
    content: bytes, finding: str, tmp_path: Path, capsys: Capture
) -> None:
    write_scores(tmp_path / "scores", "atari/Pong", 0, "smoke", [1.0]).write_bytes(content)
    assert finding in refusal(tmp_path, capsys)


def test_places_that_cannot_take_the_tables_are_refused_before_work(
    run_files: Path, tmp_path: Path, capsys: Capture
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "losses.csv").write_text("profit,loss\n1,2\n")
    (tmp_path / "letter.txt").write_text("dear\n")
    for option, place, finding in (
        ("--out", mine, "is no file"),
        ("--out", tmp_path / "letter.txt", "letter.txt is no table that this program wrote"),
        ("--out", mine / "scores.csv", "losses.csv is no table that this program wrote"),
        ("--out", tmp_path / "letter.txt" / "scores.csv", "letter.txt is no folder"),
        ("--out", tmp_path / "losses.csv", "a table of that name is written beside the scores"),
        ("--runs", tmp_path / "letter.txt", "letter.txt is a file where the folder"),
    ):
        assert finding in refusal(run_files, capsys, option, str(place))
    assert (tmp_path / "letter.txt").read_text() == "dear\n" and sorted(mine.iterdir()) == [mine / "losses.csv"]
    for _ in range(2):  # its own tables are replaced
        assert collect_all(run_files, "--out", str(tmp_path / "new" / "scores.csv"))
