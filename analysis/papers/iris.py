"""What the IRIS paper says in text and small tables, and nobody has published as data: cost, 64 tokens, long runs."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.runs import ATARI_FAMILY
from analysis.draw import style
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.papers.times import OWN_SETTINGS, read_times

METHOD, PUBLISHED, TOKENS = "iris", "IRIS", "64-tokens"
COMMAND = "`make suite SUITE=atari100k` and `make repro`"
LONG_STEPS = 2_500_000  # 10 million frames, four a step
NEAR = 0.95
SECONDS = {
    "seconds_collection": "Collection", "seconds_tokenizer": "Tokenizer", "seconds_world_model": "World model",
    "seconds_actor_critic": "Imagination and policy", "seconds_evaluation": "Test",
}  # fmt: skip
NONE = "–"


def cost_table(context: Context) -> Table:
    """IRIS-T-cost: hours of a run and seconds of an epoch by component; ours, and those that REM's scripts hold."""
    times = read_times()
    records = [
        {
            "run": f"{PUBLISHED}, published" + ("" if settings == OWN_SETTINGS else f" (settings {settings})"),
            "tasks": "Atari",
            "hardware": "not stated",
            **{f"seconds_{name}": row[name] for name in ("tokenizer", "world_model")},
            "seconds_actor_critic": row["imagination"],
        }
        for (method, settings), row in times[::-1].iterrows()  # its own settings first
        if method == PUBLISHED
    ]
    costs = context.costs[context.costs.method == METHOD]
    family = costs.task.str.split("/").str[0]
    for (variant, scale, tasks, hardware), rows in costs.groupby(["variant", "scale", family, "hardware"], sort=True):
        means = rows[["hours", "parameters", *SECONDS]].mean()
        who = {"run": RunGroupId(METHOD, variant, scale).label(), "tasks": tasks.capitalize(), "hardware": hardware}
        records.append({**who, "runs": len(rows), **means})
    forms = {"runs": "{:.0f}", "parameters": "{:,.0f}", "hours": "{:.2f}", **dict.fromkeys(SECONDS, "{:.1f}")}
    numbers = pd.DataFrame(records, columns=["run", "tasks", "hardware", *forms])
    lines = [
        [Cell(style.shown(row["run"])), Cell(row["tasks"]), Cell(row["hardware"])]
        + [Cell(_number(row[name], form)) for name, form in forms.items()]
        for _, row in numbers.iterrows()
    ]
    headers = ["Run", "Tasks", "Hardware", "Runs", "Parameters", "Hours a run", *SECONDS.values()]
    caption = (
        "What IRIS costs: hours of a run, and seconds of an epoch by component (an epoch without it does not count), "
        "means over runs. Published: the constants in the result scripts of REM; other hardware, so compare shares and "
        "not seconds. " + ("" if len(costs) else f"No runs of ours yet: {COMMAND}.")
    )
    return render(headers, lines, numbers, caption.strip(), text_columns=3)


def no_64_tokens(context: Context) -> str | None:
    """Why there is nothing to compare, if so."""
    if any((group.id.method, group.id.variant) == (METHOD, TOKENS) for group in context.groups):
        return None
    return (
        "no runs with 64 tokens yet: `make suite SUITE=crafter` and `make repro`, or on a game of Atari "
        f"`python -m pipeline.train method={METHOD} variant={TOKENS} task=atari/GAME`"
    )


def tokens_table(context: Context) -> Table:
    """IRIS-T-tok: scores with 16 and with 64 tokens a frame, on every task that 64 tokens were tried on."""
    records = []
    for group in context.groups:
        if (group.id.method, group.id.variant) != (METHOD, TOKENS):
            continue
        plain = [other for other in context.groups if other.id == replace(group.id, variant="")]
        for task, rows in group.rows.groupby("task"):
            same = [other.rows[other.rows.task == task] for other in plain]
            records.append(
                {"task": str(task), "scale": group.scale}
                | _statistics("16", same[0] if same else rows[:0])
                | _statistics("64", rows)
                | {"published_16": _published(str(task), context)}
            )
    forms = {"runs_16": "{:.0f}", "score_16": "{:.2f}", "error_16": "{:.2f}", "runs_64": "{:.0f}"}
    forms |= {"score_64": "{:.2f}", "error_64": "{:.2f}", "published_16": "{:.1f}"}
    headers = ["Task", "Scale", "Runs", "16 tokens", "±", "Runs", "64 tokens", "±", "Published, 16 tokens"]
    caption = (
        "IRIS with 16 and with 64 tokens a frame, our runs: mean score over runs and the standard error of that mean. "
        "Published: the paper's mean with 16 tokens, at paper scale; its own comparison has no published data."
    )
    return _scores_table(records, headers, forms, caption)


def no_long_runs(context: Context) -> str | None:
    """Why there is nothing to show, if so."""
    if len(_long(context)):
        return None
    return (
        "no runs of 10 million frames yet, nor published data: give `pipeline/iris/params.yaml` a variant with "
        "`training.epochs` and `collection.train.stop_after_epochs` of 12500, then "
        f"`python -m pipeline.train method={METHOD} variant=NAME task=atari/GAME` and `make report`"
    )


def long_table(context: Context) -> Table:
    """IRIS-T-long: scores after 10 million frames beside those after 400 thousand."""
    records = [
        {"task": str(task), "scale": f"{name}, {scale}"}
        | _statistics("long", rows)
        | {"steps": rows.env_steps.mean(), "published": _published(str(task), context)}
        for (name, scale, task), rows in _long(context).groupby(["name", "scale", "task"])
    ]
    forms = {"runs_long": "{:.0f}", "steps": "{:,.0f}", "score_long": "{:.1f}", "error_long": "{:.1f}"}
    forms |= {"published": "{:.1f}"}
    headers = ["Task", "Runs of", "Runs", "Agent steps", "Score", "±", "Published, 100 thousand steps"]
    caption = (
        "IRIS after 10 million frames, our runs: mean score over runs and the standard error of that mean, beside the "
        "published mean after 400 thousand frames. The paper's own long runs and DreamerV2's have no published data."
    )
    return _scores_table(records, headers, forms, caption)


def _long(context: Context) -> pd.DataFrame:
    """Our runs of IRIS and its variants on Atari that are long enough."""
    parts = [group.rows.assign(name=group.id.name) for group in context.groups if group.id.base == PUBLISHED]
    rows = pd.concat(parts) if parts else pd.DataFrame(columns=["name", "task", "env_steps"])
    is_long = pd.to_numeric(rows.env_steps) >= NEAR * LONG_STEPS
    return rows[is_long & rows.task.astype(str).str.startswith(ATARI_FAMILY)]


def _statistics(name: str, rows: pd.DataFrame) -> dict[str, object]:
    scores = rows.score.to_numpy(dtype=float)
    count = len(scores)
    return {
        f"runs_{name}": count or np.nan,
        f"score_{name}": scores.mean() if count else np.nan,
        f"error_{name}": scores.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan,
    }


def _published(task: str, context: Context) -> float:
    """The published mean on a game; nothing on other tasks."""
    game, suite = task.removeprefix(ATARI_FAMILY), context.suites[ATARI]
    return float(suite.raw[PUBLISHED][:, suite.tasks.index(game)].mean()) if game in suite.tasks else np.nan


def _scores_table(records: list[dict[str, object]], headers: list[str], forms: dict[str, str], caption: str) -> Table:
    numbers = pd.DataFrame(records)
    lines = [
        [Cell(str(record["task"])), Cell(str(record["scale"]))]
        + [Cell(_number(record[name], form)) for name, form in forms.items()]
        for record in records
    ]
    return render(headers, lines, numbers, caption, text_columns=2)


def _number(value: object, form: str) -> str:
    return NONE if pd.isna(value) else form.format(value)
