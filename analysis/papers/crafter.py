"""Crafter: learning curves, returns at the paper's milestones, and how often which achievement was unlocked.

Everything here is of our own runs, from what ``python -m pipeline.collect`` writes beside ``scores.csv``; the numbers
that others quote from the Delta-IRIS paper stand beside runs at paper scale as points of reference.
"""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis.context import Context
from analysis.data.runs import PAPER_SCALE, ours_label
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.tables import Cell, render
from analysis.papers.delta_iris import MISSING, SECONDARY, called, read_secondary
from tokenworlds.envs.crafter import crafter_score

FAMILY = "crafter/"
MILESTONES = (1_000_000, 5_000_000, 10_000_000)  # frames
NEAR = 0.02  # an evaluation counts for a milestone that it misses by less than this share
COMMAND = "`make suite SUITE=crafter` and `make repro` (paper scale), or the smoke suite: `make repro`"
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P")

ROW_INCHES = 0.2


def no_curves(context: Context) -> str | None:
    """Why there is nothing to show, if so."""
    return None if len(_crafter(context.evaluations)) else f"no data yet: {COMMAND}"


def no_achievements(context: Context) -> str | None:
    """The same for achievements."""
    return None if len(_crafter(context.achievements)) else f"no data yet: {COMMAND}"


def _crafter(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.task.str.startswith(FAMILY)]


def _groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Label, scale and rows of the runs of one method, variant and scale."""
    for (method, variant, scale), rows in frame.groupby(["method", "variant", "scale"], sort=True):
        yield ours_label(method, variant, scale), str(scale), rows


def curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds at every evaluated epoch; the final protocol replaces the test of its
    epoch. A single seed has no deviation."""
    last = rows.sort_values("split").drop_duplicates(["seed", "epoch"])  # final < test
    over_seeds = last.groupby("epoch")
    return pd.DataFrame(
        {
            "env_steps": over_seeds.env_steps.mean(),
            "mean": over_seeds.return_mean.mean(),
            "deviation": over_seeds.return_mean.std(ddof=1),
            "seeds": over_seeds.seed.nunique(),
        }
    ).reset_index()


def curves_figure(context: Context) -> Drawing:
    """DIRIS-F-crafter: test return against frames, a panel per scale."""
    frame = _crafter(context.evaluations)
    scales = sorted(frame.scale.unique(), key=lambda scale: (scale != PAPER_SCALE, scale))
    parts = []
    with style.house_style():
        size = (6.6, 0.4 + 3.1 * len(scales))
        figure, panels = plt.subplots(len(scales), 1, figsize=size, squeeze=False, layout="constrained")
        for axes, scale in zip(panels[:, 0], scales):
            for label, _, rows in _groups(frame[frame.scale == scale]):
                parts.append(curve(rows).assign(method=label, source="our runs"))
                _draw_curve(axes, label, parts[-1])
            if scale == PAPER_SCALE:
                parts.append(_draw_quoted(axes))
            axes.set(
                title=f"{scale.capitalize()} scale",
                xlabel="Frames",
                ylabel="Return",
                ylim=(min(0, axes.get_ylim()[0]), None),
            )
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            style.tidy(axes, grid="both")
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    caption = (
        "Return on Crafter against frames: mean over seeds of the test episodes, bands are one standard deviation over "
        "seeds. "
    )
    caption += (
        f"Hollow marks: {SECONDARY}"
        if PAPER_SCALE in scales
        else "None of these runs is of paper scale, so they stand beside no published number."
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption)


def _draw_curve(axes: Axes, label: str, points: pd.DataFrame) -> None:
    variant = "+" in label.split(" (ours")[0]
    seeds = int(points.seeds.max())
    name = f"{called(label.split(' (ours')[0])}, ours, {seeds} seed{'s' if seeds > 1 else ''}"
    place = {"color": style.colour(label), "linestyle": LINES[int(variant)]}
    axes.plot(points.env_steps, points["mean"], marker=".", label=name, **place)
    low, high = points["mean"] - points.deviation, points["mean"] + points.deviation
    axes.fill_between(points.env_steps, low, high, color=style.colour(label), alpha=0.15, linewidth=0)


def _draw_quoted(axes: Axes) -> pd.DataFrame:
    """Returns that others quote from the paper, as hollow marks."""
    quoted = read_secondary("crafter")
    quoted = quoted[quoted["quantity"] == "return"]
    for marker, (method, rows) in zip(MARKERS, quoted.groupby("method", sort=False)):
        name = f"{called(str(method))}, secondary"
        look = {"markerfacecolor": "none", "color": style.colour(str(method)), "linestyle": "none"}
        axes.plot(rows.env_steps, rows.value, marker=marker, label=name, **look)
    columns = {"value": "mean"}
    return quoted.drop(columns=["quantity"]).rename(columns=columns)[["env_steps", "mean", "method", "source"]]


def milestones_table(context: Context) -> Table:
    """DIRIS-T-crafter: returns at 1, 5 and 10 million frames, size and speed; quoted ones first, then ours."""
    records = [*_quoted_records(), *_our_records(context)]
    lines = [
        [
            Cell(str(record["method"])),
            Cell(str(record["source"])),
            *(_number(record[f"return_{steps}"], "{:.1f}") for steps in MILESTONES),
            _number(record["parameters"], "{:.0f} M", 1e6),
            _number(record["frames_per_second"], "{:.0f}"),
        ]
        for record in records
    ]
    titles = [f"Return at {steps // 1_000_000} M" for steps in MILESTONES]
    headers = ["Method", "Source", *titles, "Parameters", "Frames/s"]
    ours = any("ours" in str(record["source"]) for record in records)
    caption = (
        f"Crafter: mean return after so many frames, and frames collected per second over the whole training loop. "
        f"{SECONDARY} The FPS of the paper are of an unknown GPU. "
        + ("Ours: mean over seeds of runs at paper scale." if ours else f"Our runs: no data yet: {COMMAND}.")
    )
    return render(headers, lines, pd.DataFrame(records), caption, text_columns=2)


def _number(value: object, form: str, unit: float = 1.0) -> Cell:
    return Cell(MISSING if pd.isna(value) else form.format(float(str(value)) / unit))


def _quoted_records() -> list[dict[str, object]]:
    records = []
    for table, note in (("crafter", "secondary"), ("crafter_independent", "secondary, one independent run")):
        for method, rows in read_secondary(table).groupby("method", sort=False):
            steps = rows[rows["quantity"] == "return"].set_index("env_steps").value
            others = rows[rows.env_steps.isna()].set_index("quantity").value
            record: dict[str, object] = {"method": called(str(method)), "source": note}
            record |= {f"return_{milestone}": steps.get(milestone, np.nan) for milestone in MILESTONES}
            records.append(record | {name: others.get(name, np.nan) for name in ("parameters", "frames_per_second")})
    return records


def _our_records(context: Context) -> list[dict[str, object]]:
    """Runs at paper scale; parameters are not recorded with the scores."""
    records = []
    frame = _crafter(context.evaluations)
    for label, _, rows in _groups(frame[frame.scale == PAPER_SCALE]):
        points = curve(rows)
        seeds = int(points.seeds.max())
        record: dict[str, object] = {
            "method": called(label.split(" (ours")[0]),
            "source": f"ours, {seeds} seed{'s' if seeds > 1 else ''}",
        }
        for milestone in MILESTONES:
            distance = (points.env_steps - milestone).abs()
            near = points.loc[distance.idxmin()] if distance.min() <= NEAR * milestone else None
            record[f"return_{milestone}"] = np.nan if near is None else float(near["mean"])
        longest = rows.loc[rows.groupby("seed").hours.idxmax()]
        speed = float((longest.env_steps / longest.hours).mean() / 3600)
        records.append({**record, "parameters": np.nan, "frames_per_second": speed})
    return records


def rates(context: Context) -> pd.DataFrame:
    """Success rates in percent: a row per achievement, a column per group with its label; unlocked most often first."""
    columns = {}
    for label, _, rows in _groups(_crafter(context.achievements)):
        table = rows.pivot(index="achievement", columns="seed", values="success_rate")
        columns[f"{label.removesuffix(')')}, {table.shape[1]} seed{'s' if table.shape[1] > 1 else ''})"] = table
    order = pd.concat([table.mean(axis=1) for table in columns.values()], axis=1).mean(axis=1)
    names = order.sort_values(ascending=False, kind="stable").index
    return pd.concat({label: table.reindex(names) for label, table in columns.items()}, axis=1)


def _episodes(context: Context) -> str:
    """How many a run: ``32 a run``, ``4 to 32 a run``."""
    counts = pd.concat([_crafter(group.rows).episodes for group in context.groups], ignore_index=True).dropna()
    if counts.empty:
        return "their number is not stated"
    fewest, most = int(counts.min()), int(counts.max())
    return f"{fewest if fewest == most else f'{fewest} to {most}'} a run"


def achievements_table(context: Context) -> Table:
    """DIRIS-T-success: mean success rate of every achievement, and the scores that they make."""
    table = rates(context)
    labels = list(dict.fromkeys(table.columns.get_level_values(0)))
    means = pd.DataFrame({label: table[label].mean(axis=1) for label in labels})
    lines = [[Cell(_words(name)), *(_number(value, "{:.1f}") for value in row)] for name, row in means.iterrows()]
    scores = [float(np.mean([crafter_score(table[label][seed].dropna()) for seed in table[label]])) for label in labels]
    lines.append([Cell("Crafter score"), *(Cell(f"{score:.2f}") for score in scores)])
    numbers = means.reset_index()
    numbers.loc[len(numbers)] = ["crafter_score", *scores]
    caption = (
        f"Success rates of our runs on Crafter in percent: episodes of the final evaluation ({_episodes(context)}) in "
        "which an achievement was unlocked, mean over seeds. Crafter score: geometric mean of the rates of a run (of "
        "1 + rate, minus 1), mean over seeds, over these test episodes of the trained agent: the benchmark itself "
        "takes its rates over all episodes of training, so its scores are other numbers."
    )
    return render(["Achievement", *labels], lines, numbers, caption, rules=[len(lines) - 1])


def achievements_figure(context: Context) -> Drawing:
    """DIRIS-F-success: success rates as bars, a dot for each seed."""
    table = rates(context)
    labels = list(dict.fromkeys(table.columns.get_level_values(0)))
    height = 0.8 / len(labels)
    records = []
    with style.house_style():
        size = (7.0, 1.2 + ROW_INCHES * len(table) * max(1.0, 0.55 * len(labels)))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        for position, label in enumerate(labels):
            places = np.arange(len(table)) + (position - (len(labels) - 1) / 2) * height
            mean = table[label].mean(axis=1)
            paint = style.tint(label, labels)
            axes.barh(places, mean, height=0.9 * height, color=paint, label=label)
            for seed in table[label]:
                axes.scatter(
                    table[label][seed], places, s=7, color=style.ink(), alpha=0.6, linewidths=0, zorder=3, clip_on=False
                )
            records += [
                {"method": label, "achievement": name, "seed": seed, "success_rate": value}
                for seed in table[label]
                for name, value in table[label][seed].items()
            ]
        axes.set_yticks(range(len(table)), [_words(name) for name in table.index])
        axes.set(xlim=(0, 100), ylim=(len(table) - 0.4, -0.6), xlabel="Success rate (%)")
        axes.tick_params(axis="y", length=0)
        style.tidy(axes)
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    caption = (
        "How often our runs unlocked each achievement of Crafter in an episode of the final evaluation; bars are means "
        "over seeds, dots are seeds. The paper's figure has no published data."
    )
    return Drawing(figure, pd.DataFrame(records), caption)


def _words(name: object) -> str:
    """``collect_iron_ore`` -> ``collect iron ore``."""
    return str(name).replace("_", " ")
