"""DVC's tables fit a terminal, and the page of its plots needs no network."""

import json
from pathlib import Path

import pandas as pd

from analysis.context import make_context
from pipeline.aggregate import method_metrics, our_metrics, write_methods
from pipeline.experiments import WIDTH, rendered, transposed
from pipeline.vega import SCRIPT, bundle
from tokenworlds.config import project_root


def scores(path: Path) -> Path:
    rows = ["method,variant,task,seed,scale,score,hours,settings_hash,overrides"]
    for task, score in (("atari/Pong", 10), ("atari/Breakout", 30), ("dmc/walker-run", 500)):
        rows += [f"rem,no-pop,{task},{seed},paper,{score + seed},2,aaaaaaaaaaaa,{{}}" for seed in range(2)]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_method_has_a_row_for_each_benchmark(tmp_path: Path) -> None:
    context = make_context(scores(tmp_path / "scores.csv"), repetitions=20)
    rows = method_metrics(context, our_metrics(context).values())
    assert rows["paper/rem+no-pop/dmc"] == {"runs": 2, "tasks": 1, "hours": 2.0, "score": 500.5}
    atari = rows["paper/rem+no-pop/atari"]
    assert atari.keys() == {"runs", "tasks", "hours", "score", "iqm", "mean"} and atari["score"] == 20.5
    write_methods({"paper/old/atari": {}}, tmp_path / "methods")
    write_methods(rows, tmp_path / "methods")
    files = {path.relative_to(tmp_path / "methods").as_posix() for path in (tmp_path / "methods").rglob("*.json")}
    assert files == {"paper/rem+no-pop/dmc.json", "paper/rem+no-pop/atari.json"}
    assert json.loads((tmp_path / "methods/paper/rem+no-pop/dmc.json").read_text()) == rows["paper/rem+no-pop/dmc"]


def test_experiments_are_columns_and_what_differs_are_rows() -> None:
    text = (
        "Experiment,rev,typ,Created,parent,results/aggregated/methods/smoke/rem/atari.json:score,model.backbone,src\n"
        ",workspace,baseline,,,1.4,retnet,ab\n,main,baseline,2026,,1.0,,cd\nslow-lion,1234,branch_base,2026,,0.5,gru,ef\n"
    )
    table = transposed(text)
    assert list(table.columns) == ["workspace", "main", "slow-lion"]
    assert list(table.index) == ["Created", "smoke/rem/atari score", "model.backbone"]
    assert list(table.loc["smoke/rem/atari score"]) == ["1.4", "1.0", "0.5"]


def test_names_of_rows_are_whole_and_lines_fit() -> None:
    name = "smoke/rem+separate-embeddings/atari score"
    lines = rendered(pd.DataFrame({f"{number}-of-many-experiments": ["0.12345678"] for number in range(9)}, [name]))
    assert max(map(len, lines.splitlines())) <= WIDTH and lines.count(name) > 1 and lines.count("0.12345678") == 9


def test_the_page_of_plots_names_no_network_address() -> None:
    configured = (project_root() / ".dvc" / "config").read_text()
    template = (project_root() / ".dvc" / "plots.html").read_text()
    assert "html_template = plots.html" in configured
    assert "://" not in template and "{scripts}" not in template and "{plot_divs}" in template
    assert f'src="{SCRIPT}"' in template


def test_vega_comes_from_a_package() -> None:
    assert b"window.vegaEmbed" in bundle()
