"""Journals and weights become seconds, losses and sizes, and these become tables and figures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from analysis.context import Context, make_context
from analysis.data.runs import read_beside
from analysis.data.scores import ROOT
from analysis.draw.artefacts import Table
from analysis.errors import NoData
from analysis.papers import hyperparameters
from analysis.papers import iris as iris_runs
from analysis.papers import rem as world_model_losses
from pipeline.aggregate import our_metrics
from pipeline.plots import as_json, write_plots
from pipeline.records import LOSS_EPOCHS, parameter_counts, read_records
from tests.analysis.run_folders import write_journal
from tokenworlds.errors import UserError
from tokenworlds.runs.columns import COMPANIONS, COSTS, IDENTITY, names

COMMAND = "python -m pipeline.train"


# The journal


def test_seconds_are_means_over_the_epochs_in_which_a_component_was_active(tmp_path: Path) -> None:
    """The world model starts in the second epoch, collection ends after it, the third one tests."""
    path = write_journal(
        tmp_path,
        [
            {"budget/env_steps": 100, "seconds/collection": 3.0, "seconds/tokenizer": 1.0, "seconds/epoch": 4.0},
            {"budget/env_steps": 200, "seconds/collection": 5.0, "seconds/tokenizer": 2.0, "seconds/world_model": 8.0},
            {"budget/env_steps": 200, "seconds/collection": 1e-6, "seconds/tokenizer": 6.0, "seconds/evaluation": 7.0},
        ],
    )
    means = {"collection": 4.0, "tokenizer": 3.0, "world_model": 8.0, "evaluation": 7.0}
    expected = {f"seconds_{name}": value for name, value in means.items()} | {"peak_memory_bytes": None}
    assert read_records(path).costs() == expected
    write_journal(tmp_path, [{"memory/peak_bytes": peak} for peak in (3, 9, 5)])
    assert read_records(path).costs() == expected | {"peak_memory_bytes": 9.0}


def test_losses_keep_component_split_and_name_and_nothing_else_is_one(tmp_path: Path) -> None:
    values = {
        "world_model/train/loss_observations": 4.0,
        "world_model/eval/loss_total": 5.0,
        "world_model/train/gradient_norm": 1.0,
        "actor_critic/train/policy_entropy": 1.0,
        "eval/return_mean": 1.0,
        "tokenizer/train/loss_total": float("nan"),
        "tokenizer/train/loss_l1": "much",
    }
    rows = list(read_records(write_journal(tmp_path, [values])).loss_rows())
    assert sorted((row["component"], row["split"], row["loss"], row["value"]) for row in rows) == [
        ("world_model", "eval", "total", "5"), ("world_model", "train", "observations", "4"),
    ]  # fmt: skip


def test_losses_know_the_steps_updates_and_seconds_until_then(tmp_path: Path) -> None:
    """The world model starts in the second epoch; a test in an epoch without training; the first is a longer one."""
    train, test, every = "world_model/train/loss_total", "world_model/eval/loss_total", {"tokenizer/train/loss_l1": 1.0}
    epochs = [
        {"budget/env_steps": 100, "seconds/tokenizer": 1.0, **every},
        {"budget/env_steps": 200, "seconds/tokenizer": 2.0, "seconds/world_model": 8.0, train: 4.0, **every},
        {"budget/env_steps": 200, "seconds/world_model": 9.0, train: 3.0, test: 5.0},
    ]
    settings = {f"training.{name}.updates_per_epoch": count for name, count in (("tokenizer", 6), ("world_model", 3))}
    settings["training.tokenizer.updates_first_epoch"] = 50
    rows = list(read_records(write_journal(tmp_path, epochs, settings)).loss_rows())
    found = [
        tuple(row[name] for name in ("component", "split", "epoch", "env_steps", "updates", "seconds")) for row in rows
    ]
    assert found == [
        ("world_model", "eval", 3, "200", "6", "17"), ("tokenizer", "train", 1, "100", "50", "1"),
        ("world_model", "train", 2, "200", "3", "8"), ("tokenizer", "train", 2, "200", "56", "3"),
        ("world_model", "train", 3, "200", "6", "17"),
    ]  # fmt: skip
    (tmp_path / "old").mkdir()
    (row,) = read_records(write_journal(tmp_path / "old", [{"seconds/tokenizer": 1.0, **every}])).loss_rows()
    assert (row["env_steps"], row["updates"], row["seconds"]) == ("", "", "1")


@pytest.mark.parametrize("epochs", [1, 119, 120, 121, 600, 1000])
def test_thinning_keeps_the_last_epoch_even_spacing_and_at_most_as_many_as_it_says(epochs: int, tmp_path: Path) -> None:
    """Tests every 50 epochs are few: all of them stay."""
    values = [
        {"tokenizer/train/loss_total": 1.0} | ({"tokenizer/eval/loss_total": 2.0} if epoch % 50 == 0 else {})
        for epoch in range(1, epochs + 1)
    ]
    rows = list(read_records(write_journal(tmp_path, values)).loss_rows())
    kept = [row["epoch"] for row in rows if row["split"] == "train"]
    assert kept[-1] == epochs and kept[0] <= epochs / (LOSS_EPOCHS / 2) + 1 and len(kept) <= LOSS_EPOCHS
    assert len(set(np.diff(kept))) <= 1
    assert [row["epoch"] for row in rows if row["split"] == "eval"] == list(range(50, epochs + 1, 50))


def test_a_torn_last_line_and_no_journal_are_no_errors(tmp_path: Path) -> None:
    path = write_journal(tmp_path, [{"seconds/tokenizer": 2.0}])
    with path.open("a") as file:
        file.write('{"kind": "metrics", "step": 2, "val')
    assert read_records(path).costs()["seconds_tokenizer"] == 2.0
    assert read_records(tmp_path / "nowhere.jsonl").costs() == {"peak_memory_bytes": None}


@pytest.mark.parametrize("line", ['{"kind": "metrics"}', '{"kind": "metrics", "step": 1, "values": 3}', "3", "\udcff"])
def test_a_line_that_is_no_record_is_one_sentence(line: str, tmp_path: Path) -> None:
    path = write_journal(tmp_path, [{}])
    with path.open("a", errors="surrogateescape") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        read_records(path)


# The weights


def test_weights_are_counted_as_torch_counts_them(tmp_path: Path) -> None:
    tokenizer, world_model, policy = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(5, 6), torch.nn.LSTMCell(2, 3)
    modules = {"tokenizer": tokenizer, "world_model": world_model, "policy": policy}
    uncounted = {"target.x": policy, "tokenizer.norm": torch.nn.BatchNorm2d(7, affine=False)}
    state = {
        f"{part}.{name}": value.clone()
        for part, module in (modules | uncounted).items()
        for name, value in module.state_dict().items()
    }
    state |= {f"tokenizer.quantiser.{name}": torch.ones(9) for name in ("updates", "frequencies")}
    path = tmp_path / "agent.safetensors"
    assert parameter_counts(path) == {}
    save_file(state, path)
    counts = [sum(value.numel() for value in module.parameters()) for module in modules.values()]
    assert list(parameter_counts(path).values()) == [sum(counts), *counts]


@pytest.mark.parametrize(
    "content", [b"", b"short", (9).to_bytes(8, "little") + b"{}", b"\xff" * 16, (2).to_bytes(8, "little") + b"[]"]
)
def test_broken_weights_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        parameter_counts(path)


# What the analysis reads

Records = Callable[..., Context]


@pytest.fixture
def with_records(write_runs: Callable[..., Path]) -> Records:
    """Runs (method, variant, task, seed, score), with losses and costs beside them."""

    def make(runs: list[tuple[str, str, str, int, float]], scale: str = "paper", steps: float = 1e5) -> Context:
        path = write_runs([(task, seed, score) for _, _, task, seed, score in runs], scale=scale, env_steps=steps)
        frame = pd.read_csv(path, dtype=str)
        frame["method"], frame["variant"] = [run[0] for run in runs], [run[1] for run in runs]
        frame.to_csv(path, index=False)
        who = frame[list(names(IDENTITY))].to_dict("records")
        losses = [
            {**run, "epoch": epoch, "component": "world_model", "split": split, "loss": loss, "value": value}
            for number, run in enumerate(who)
            for epoch in (50, 100)
            for split in ("train", "eval")
            for loss, value in (("observations", 10.0 * (number + 1) / epoch), ("total", 3.0))
        ]
        costs = [
            dict.fromkeys(names(COSTS), "")
            | run
            | {"hardware": "H200", "hours": 2.0 + number, "parameters": 1_000_000, "seconds_tokenizer": 4.0}
            for number, run in enumerate(who)
        ]
        pd.DataFrame(losses).to_csv(path.with_name("losses.csv"), index=False)
        pd.DataFrame(costs).to_csv(path.with_name("costs.csv"), index=False)
        return make_context(path, repetitions=20)

    return make


def test_numbers_are_numbers_and_identities_are_text_and_what_is_not_there_is_empty(
    with_records: Records, tmp_path: Path
) -> None:
    context = with_records([("rem", "", "atari/Pong", 0, 1.0)])
    assert context.losses.value.dtype == context.costs.hours.dtype == float
    assert context.losses.seed.tolist() == ["0"] * 8
    assert np.isnan(context.costs.seconds_world_model).all()
    for name, columns in COMPANIONS.items():
        frame = read_beside(tmp_path / "nowhere" / "scores.csv", name)
        assert tuple(frame.columns) == names(columns) and frame.empty
        assert frame.iloc[:, -1].dtype == float and np.isnan(frame.iloc[:, -1].mean())


# REM-F-wmloss


def test_loss_curves_are_mean_and_population_deviation_over_runs(with_records: Records) -> None:
    context = with_records([("rem", "", "atari/Gopher", seed, 1.0) for seed in (0, 1, 2)])
    drawing = world_model_losses.losses_figure(context)
    point = drawing.numbers.set_index(["split", "epoch"]).loc[("train", 50.0)]
    assert point["mean"] == pytest.approx(0.4) and point.runs == 3
    assert point.deviation == pytest.approx(np.std([0.2, 0.4, 0.6]))
    assert "no published data" in drawing.caption and "3 runs" in drawing.caption
    (axes,) = drawing.figure.axes
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"]


def test_ablations_wear_the_colour_of_the_published_ones_and_are_told_apart(with_records: Records) -> None:
    runs = [("rem", variant, "atari/Gopher", 0, 1.0) for variant in ("", "no-pop", "separate-embeddings", "mine")]
    drawing = world_model_losses.losses_figure(with_records(runs))
    (axes,) = drawing.figure.axes
    assert len({str(line.get_color()) for line in axes.lines}) == 4
    (legend,) = drawing.figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert {"REM", "No POP", "Separate embeddings", "REM+mine"} < set(labels)
    assert "compare within one of them" in drawing.caption


def test_of_many_games_the_papers_are_drawn_and_other_methods_never(with_records: Records) -> None:
    elsewhere = ("Alien", "Amidar", "BankHeist", "BattleZone", "Boxing", "Breakout", "Freeway", "Hero", "Kangaroo")
    games = ("Assault", "Asterix", "Gopher", "Krull", *elsewhere)
    runs = [("rem", "", f"atari/{game}", 0, 1.0) for game in games] + [("iris", "", "atari/Pong", 0, 1.0)]
    drawing = world_model_losses.losses_figure(with_records(runs))
    assert [axes.get_title() for axes in drawing.figure.axes] == ["Assault", "Asterix", "Gopher", "Krull"]
    assert set(drawing.numbers.task) == {"atari/Assault", "atari/Asterix", "atari/Gopher", "atari/Krull"}


def test_without_runs_of_rem_the_loss_figure_says_how_to_get_some(with_records: Records) -> None:
    context = with_records([("iris", "", "atari/Pong", 0, 1.0)])
    with pytest.raises(NoData, match="make suite SUITE=ablations"):
        world_model_losses.losses_figure(context)


# IRIS's small tables


def cells(table: Table) -> list[list[str]]:
    lines = [line for line in table.markdown.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_costs_stand_beside_the_published_times(with_records: Records) -> None:
    context = with_records([("iris", "", "atari/Pong", 0, 1.0), ("iris", "", "atari/Boxing", 0, 1.0)])
    table = iris_runs.cost_table(context)
    published, of_rem, ours = cells(table)
    assert published[0] == "IRIS, published" and published[-3:-1] == ["55.0", "309.0"]
    assert of_rem[0] == "IRIS, published (settings of REM)"
    assert ours[:6] == ["IRIS (ours, paper)", "Atari", "H200", "2", "1,000,000", "2.50"] and ours[7] == "4.0"


def test_without_runs_only_the_published_times_stand_there(with_records: Records) -> None:
    table = iris_runs.cost_table(with_records([("rem", "", "atari/Pong", 0, 1.0)]))
    assert len(cells(table)) == 2 and "No runs of ours yet" in table.caption


def test_64_tokens_are_compared_on_their_tasks_at_their_scale(with_records: Records, suites: dict) -> None:
    pong = [("iris", "64-tokens", "atari/Pong", seed, 10.0 + seed) for seed in (0, 1)]
    context = with_records([*pong, ("iris", "", "atari/Pong", 0, 5.0), ("iris", "", "atari/Alien", 0, 7.0)])
    table = iris_runs.tokens_table(context)
    (line,) = cells(table)
    published = suites["atari100k"].raw["IRIS"][:, suites["atari100k"].tasks.index("Pong")].mean()
    assert line == ["atari/Pong", "paper", "1", "5.00", "–", "2", "10.50", "0.50", f"{published:.1f}"]


def test_64_tokens_and_long_runs_that_do_not_exist_name_the_command(with_records: Records) -> None:
    context = with_records([("iris", "", "atari/Pong", 0, 5.0)])
    for table in (iris_runs.tokens_table, iris_runs.long_table):
        with pytest.raises(NoData, match=f"`{COMMAND} method=iris"):
            table(context)


def test_long_runs_are_those_of_10_million_frames(with_records: Records) -> None:
    context = with_records([("iris", "long", "atari/Pong", seed, 20.0) for seed in (0, 1)], steps=2.5e6)
    (line,) = cells(iris_runs.long_table(context))
    assert line[:6] == ["atari/Pong", "IRIS, long (ours, paper)", "2", "2,500,000", "20.0", "–"]  # equal runs


# Hyper-parameters


@pytest.mark.parametrize("method", ["iris", "rem", "delta_iris", "m3"])
def test_every_shown_number_is_the_files(method: str, with_records: Records) -> None:
    import yaml

    context = with_records([("iris", "", "atari/Pong", 0, 5.0)])
    layers = yaml.safe_load((ROOT / "pipeline" / method / "params.yaml").read_text())
    rows = {(line[0], line[1]): line[2] for line in cells(hyperparameters.hyperparameter_table(method, context))}
    assert rows["training.tokenizer", "learning_rate"] == f"{layers['training']['tokenizer']['learning_rate']:g}"
    assert rows["training", "epochs"] == "600"
    backbone = layers["model"]["backbone"]
    sections = {section for section, _ in rows}
    assert f"model.world_model.{backbone}" in sections and "model.world_model.gru" not in sections
    tops = list(dict.fromkeys(section.split(".")[0] for section, _ in rows))
    assert tops == list(hyperparameters.SECTIONS)


def test_families_are_columns_and_scales_show_only_what_they_change() -> None:
    layers = {
        **{name: {} for name in hyperparameters.SECTIONS},
        "training": {"epochs": 600, "rate": 0.1},
        "families": {
            "crafter": {"training": {"epochs": 100}, "scales": {"smoke": {"training": {"epochs": 2}}}},
            "minigrid": {"training": {"epochs": 1}},
        },
        "scales": {"smoke": {"training": {"epochs": 4, "rate": 0.1}, "runtime": {"threads": 1}},
                   "laptop": {"training": {"rest": 2}}},
    }  # fmt: skip
    assert hyperparameters.values_by_column(layers, {"training.rest": 0, "training.other": 3}) == {
        "Atari": {"training.epochs": 600, "training.rate": 0.1, "training.rest": 0},
        "Crafter": {"training.epochs": 100, "training.rate": 0.1, "training.rest": 0},
        "Laptop scale": {"training.rest": 2},
        "Small scale": {},
        "Smoke scale": {"training.epochs": 4},
    }


def test_without_pyyaml_the_table_says_what_to_install(with_records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(NoData, match="pip install"):
        hyperparameters.require_yaml(with_records([("iris", "", "atari/Pong", 0, 5.0)]))


# What DVC draws


def test_curves_of_runs_that_are_gone_disappear(with_records: Records, tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    gone = folder / "returns" / "smoke" / "iris" / "atari" / "Pong.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("[]")
    write_plots(with_records([("rem", "no-pop", "atari/Pong", 0, 1.0)]), folder)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.json")] == [
        "losses/paper/rem+no-pop/atari/Pong.json"
    ]


@pytest.mark.parametrize("name", ["thesis.txt", "returns/notes.txt", "losses/paper/rem/atari/mine.csv"])
def test_a_folder_of_plots_with_something_else_in_it_is_refused(
    name: str, with_records: Records, tmp_path: Path
) -> None:
    path = tmp_path / "plots" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="give another folder with --out"):
        write_plots(with_records([("rem", "", "atari/Pong", 0, 1.0)]), tmp_path / "plots")
    assert path.read_text() == "mine"


def test_dvc_finds_the_fields_that_it_draws(with_records: Records, smoke_runs: Path, tmp_path: Path) -> None:
    import yaml

    write_plots(with_records([("rem", "", "atari/Pong", 0, 1.0)]), tmp_path / "losses")
    write_plots(make_context(smoke_runs, repetitions=20), tmp_path / "returns")
    for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]:
        ((folder, declared),) = plot.items()
        kind = Path(folder).name
        (path, *_) = sorted((tmp_path / kind / kind).rglob("*.json"))
        fields = {declared["x"], *np.atleast_1d(declared["y"])}
        assert all(fields <= set(record) for record in json.loads(path.read_text())), folder


OTHERS = ("minigrid/Empty-5x5", "crafter/Reward")


def test_metrics_are_a_level_of_names_and_one_of_numbers(small_runs: Path) -> None:
    found = our_metrics(make_context(small_runs, repetitions=20))
    assert list(found) == ["IRIS (ours, small)"]  # published scores are no metric of an experiment
    ours = found["IRIS (ours, small)"]
    assert ours["games"] == 2 and ours["atari/Pong"] == -20.5 and ours["crafter/Reward"] == pytest.approx(1.6)
    assert set(ours) == {"games", "iqm", "mean", *(f"atari/{game}" for game in ("Breakout", "Pong")), *OTHERS}


def test_an_absent_number_is_null_not_zero() -> None:
    assert as_json(pd.DataFrame({"epoch": [1.0], "value": [float("nan")]})) == '[{"epoch":1.0,"value":null}]'
