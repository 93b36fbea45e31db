"""Crafter: learning curves, returns at the paper's milestones, and how often which achievement was unlocked.

Everything here is of our own runs, from what ``python -m pipeline.collect`` writes beside ``scores.csv``; the numbers
that others quote from the Delta-IRIS paper are shown with runs at paper scale for reference.
"""

from collections.abc import Collection, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis.comparisons import chosen
from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.notes import curve_notes
from analysis.data.runs import PAPER_SCALE
from analysis.data.secondary import SECONDARY, called, read_secondary
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.curves import draw_curve, over_seeds
from analysis.draw.tables import Cell, Columns, number, records_table, render
from analysis.errors import require
from tokenworlds.scores import crafter_score

FAMILY = "crafter/"
MILESTONES = (1_000_000, 5_000_000, 10_000_000)  # frames
NEAR = 0.02  # an evaluation counts for a milestone that it misses by less than this share
COMMAND = "`make suite SUITE=crafter` and `make repro` (paper scale), or the smoke suite: `make repro`"
MARKERS = ("o", "s", "D", "^", "v", "P")

ROW_INCHES = 0.2


def evaluations(context: Context) -> pd.DataFrame:
    """Evaluations of our runs; ``NoData`` without any, and without contributed curves."""
    ours = _ours(context)
    return ours if contributed(context) else require(ours, f"no data yet: {COMMAND}")


def contributed(context: Context) -> dict[str, pd.DataFrame]:
    """Points of the learning curves of methods from files dropped in."""
    points = {label: each.evaluations(FAMILY[:-1]) for label, each in context.contributed.items()}
    return {label: frame for label, frame in points.items() if len(frame)}


def methods(context: Context) -> list[str]:
    """Methods that are shown: quoted, contributed and ours."""
    ours = (group.label() for group, _ in _groups(_ours(context)))
    return [*dict.fromkeys(read_secondary("crafter").method), *contributed(context), *ours]


def achievements(context: Context) -> pd.DataFrame:
    """Success rates of our runs in percent; ``NoData`` without any."""
    return require(_crafter(context.comparable(context.achievements)), f"no data yet: {COMMAND}")


def _ours(context: Context) -> pd.DataFrame:
    return _crafter(context.comparable(context.evaluations))


def _crafter(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.task.str.startswith(FAMILY)]


def _groups(frame: pd.DataFrame) -> Iterator[tuple[RunGroupId, pd.DataFrame]]:
    """Groups of our runs with their rows."""
    for key, rows in frame.groupby(["method", "variant", "scale"], sort=True):
        yield RunGroupId(*key), rows


def curves_figure(context: Context) -> Drawing:
    """DIRIS-F-crafter: test return against frames, a panel per scale."""
    frame = evaluations(context)
    kept, added = chosen(methods(context), context), contributed(context)
    scales = {*frame.scale, *([PAPER_SCALE] if added else [])}
    parts = []
    with style.house_style():
        size = (6.6, 0.4 + 3.1 * len(scales))
        figure, panels = plt.subplots(len(scales), 1, figsize=size, squeeze=False, layout="constrained")
        for axes, scale in zip(panels[:, 0], sorted(scales, key=lambda scale: (scale != PAPER_SCALE, scale))):
            for group, rows in _groups(frame[frame.scale == scale]):
                if group.label() not in kept:
                    continue
                parts.append(over_seeds(rows).assign(method=group.label(), source="our runs"))
                name = f"{called(group.name)}, ours, {naming.counted(parts[-1].seeds.max(), 'seed')}"
                look = style.colour(group.label()), style.line(group.label()) if group.variant else "-"
                draw_curve(axes, parts[-1], "env_steps", *look, 0.15, marker=".", label=name)
            if scale == PAPER_SCALE:
                parts.append(_draw_quoted(axes, kept))
                for label in (label for label in kept if label in added):
                    parts.append(over_seeds(added[label]).assign(method=label, source="contributed"))
                    name = f"{naming.shown(label)}, contributed, {naming.counted(parts[-1].seeds.max(), 'seed')}"
                    draw_curve(axes, parts[-1], "env_steps", style.colour(label), "-", 0.15, marker=".", label=name)
            axes.set(title=f"{scale.capitalize()} scale", xlabel="Frames", ylabel="Return")
            axes.set_ylim(min(0, axes.get_ylim()[0]), None)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            style.tidy(axes, grid="both")
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    quoted = "None of these runs is of paper scale, so they stand beside no published number."
    caption = (
        "Return on Crafter against frames: mean over seeds of the test episodes, bands are one standard deviation over "
        f"seeds. {f'Hollow marks: {SECONDARY}' if PAPER_SCALE in scales else quoted}"
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, curve_notes(context.origins, kept))


def _draw_quoted(axes: Axes, kept: Collection[str]) -> pd.DataFrame:
    """Returns that others quote from the paper, as hollow marks."""
    quoted = read_secondary("crafter")
    quoted = quoted[(quoted["quantity"] == "return") & quoted.method.isin(kept)]
    for marker, (method, rows) in zip(MARKERS, quoted.groupby("method", sort=False)):
        look: dict[str, Any] = {"marker": marker, "markerfacecolor": "none", "linestyle": "none"}
        look |= {"color": style.colour(str(method).split("+")[0]), "label": f"{called(str(method))}, secondary"}
        axes.plot(rows.env_steps, rows.value, **look)
    return quoted.rename(columns={"value": "mean"})[["env_steps", "mean", "method", "source"]]


def milestones_table(context: Context) -> Table:
    """DIRIS-T-crafter: returns at 1, 5 and 10 million frames, size and speed; quoted ones first, then ours."""
    records = [*_quoted_records(), *_contributed_records(context), *_our_records(context)]
    shown = chosen(methods(context), context)
    if context.choice.among(methods(context)):
        records = [each for name in shown for each in records if each["method"] in (name, called(name))]
    columns: Columns = {
        "method": ("Method", ""), "source": ("Source", ""),
        **{f"return_{steps}": (f"Return at {steps // 1_000_000} M", "{:.1f}") for steps in MILESTONES},
        "parameters": ("Parameters", "{:.0f} M", 1e6), "frames_per_second": ("Frames/s", "{:.0f}"),
    }  # fmt: skip
    ours = any("ours" in str(record["source"]) for record in records)
    caption = (
        f"Crafter: mean return after so many frames, and frames collected per second over the whole training loop. "
        f"{SECONDARY} The FPS of the paper are of an unknown GPU. "
        + ("Ours: mean over seeds of runs at paper scale." if ours else f"Our runs: no data yet: {COMMAND}.")
    )
    return records_table(records, columns, caption, defects=curve_notes(context.origins, shown))


def _contributed_records(context: Context) -> list[dict[str, object]]:
    unknown = dict.fromkeys(("parameters", "frames_per_second"), np.nan)
    return [
        {"method": called(label), "source": "contributed", **_returns(over_seeds(rows)), **unknown}
        for label, rows in contributed(context).items()
    ]


def _returns(points: pd.DataFrame) -> dict[str, float]:
    """Mean return at each milestone, NaN where no evaluation is near it."""
    found = {}
    for milestone in MILESTONES:
        distance = (points.env_steps - milestone).abs()
        is_near = distance.min() <= NEAR * milestone
        found[f"return_{milestone}"] = float(points.loc[distance.idxmin(), "mean"]) if is_near else np.nan
    return found


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
    frame = _ours(context)
    for group, rows in _groups(frame[frame.scale == PAPER_SCALE]):
        points = over_seeds(rows)
        record: dict[str, object] = {
            "method": group.label(),
            "source": f"ours, {naming.counted(points.seeds.max(), 'seed')}",
        }
        record |= _returns(points)
        timed = rows[rows.hours > 0]
        longest = timed.loc[timed.groupby("seed").hours.idxmax()]
        speed = float((longest.env_steps / longest.hours).mean() / 3600)  # NaN where no run says its hours
        records.append({**record, "parameters": np.nan, "frames_per_second": speed})
    return records


def rates(context: Context) -> pd.DataFrame:
    """Success rates in percent: a row per achievement, a column per group with its label; unlocked most often first."""
    columns = {}
    for group, rows in _groups(achievements(context)):
        table = rows.pivot(index="achievement", columns="seed", values="success_rate")
        columns[group.label(naming.counted(table.shape[1], "seed"))] = table
    order = pd.concat([table.mean(axis=1) for table in columns.values()], axis=1).mean(axis=1)
    names = order.sort_values(ascending=False, kind="stable").index
    return pd.concat({label: table.reindex(names) for label, table in columns.items()}, axis=1)


def _episodes(context: Context) -> str:
    """Episodes of the final evaluation: ``32 a run``, ``4 to 32 a run``."""
    parts = [_crafter(context.comparable(group.rows)).episodes for group in context.groups]
    counts = pd.concat(parts, ignore_index=True).dropna()
    if counts.empty:
        return "their number is not stated"
    fewest, most = int(counts.min()), int(counts.max())
    return f"{fewest if fewest == most else f'{fewest} to {most}'} a run"


def achievements_table(context: Context) -> Table:
    """DIRIS-T-success: mean success rate of every achievement, and the scores that they make."""
    table = rates(context)
    labels = list(dict.fromkeys(table.columns.get_level_values(0)))
    means = pd.DataFrame({label: table[label].mean(axis=1) for label in labels})
    lines = [[Cell(_words(name)), *(number(value, "{:.1f}") for value in row)] for name, row in means.iterrows()]
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
