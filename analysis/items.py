"""The inventory: every table and figure by its id, with the paper it belongs to and the function that makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from analysis import crafter, ours, secondary
from analysis.artefacts import Artefact
from analysis.comparisons import DELTA_IRIS, IRIS, REM, REM_ABLATIONS
from analysis.context import Context
from analysis.improvement import improvement_figure
from analysis.intervals import interval_figure
from analysis.profiles import profile_figure
from analysis.summary import summary_figure
from analysis.tables import per_game_table
from analysis.times import ABLATION_TIMES, REM_TIMES, times_figure
from tokenworlds.errors import UserError, near_matches


def has_published_data(context: Context) -> str | None:
    """Items made from published scores always have data."""
    return None


def no_published_losses(context: Context) -> str:
    """REM-F-wmloss was drawn from run logs that nobody has published."""
    return (
        "its run logs are not published; the losses of our own runs: `python analysis/learning.py "
        "results/runs/METHOD/TASK/* --curve loss --out STEM`"
    )


def not_from_scores(context: Context) -> str:
    """Pictures are made of frames, not of scores."""
    return (
        "pictures of our runs, not made from scores: every run keeps them in `results/runs/RUN/media`, and "
        "`python -m pipeline.evaluate results/runs/RUN --media FOLDER` makes them anew"
    )


THREE, FOUR = ("mean", "median", "iqm"), ("mean", "median", "iqm", "optimality_gap")
IQM, GAP = ("iqm",), ("optimality_gap",)
MISSING = ".missing.txt"  # of an item without data: why, in the place of its files


@dataclass(frozen=True)
class Item:
    """One table or figure. ``missing`` says why it cannot be made now, or None; without ``make`` it never can."""

    id: str
    paper: str
    kind: str  # "table" or "figure"
    title: str
    make: Callable[[Context], Artefact] | None
    missing: Callable[[Context], str | None] = has_published_data

    @property
    def command(self) -> str:
        """What redraws exactly this item."""
        return f"python analysis/make_figures.py --only {self.id}"


PAPERS = {
    "iris": "IRIS (Micheli, Alonso, Fleuret, ICLR 2023)",
    "rem": "REM (Cohen, Wang, Kang, Mannor, ICML 2024)",
    "delta_iris": "Delta-IRIS (Micheli, Alonso, Fleuret, ICML 2024)",
    "ours": "Our runs",
}
ITEMS = (
    Item("IRIS-T1", "iris", "table", "Atari-100k per game, IRIS paper's Table 1", partial(per_game_table, IRIS)),
    Item("IRIS-F-agg", "iris", "figure", "Mean, median and IQM with intervals", partial(interval_figure, IRIS, THREE)),
    Item("IRIS-F-og", "iris", "figure", "Optimality gap with intervals", partial(interval_figure, IRIS, GAP)),
    Item("IRIS-F-pp", "iris", "figure", "Performance profiles", partial(profile_figure, IRIS)),
    Item("IRIS-F-poi", "iris", "figure", "Probability of improvement", partial(improvement_figure, IRIS)),
    Item("REM-F-intro", "rem", "figure", "IQM with intervals", partial(interval_figure, REM, IQM)),
    Item("REM-F-agg", "rem", "figure", "Four aggregates with intervals", partial(interval_figure, REM, FOUR)),
    Item("REM-F-pp", "rem", "figure", "Performance profiles", partial(profile_figure, REM)),
    Item("REM-F-poi", "rem", "figure", "Probability of improvement", partial(improvement_figure, REM)),
    Item("REM-T1", "rem", "table", "Atari-100k per game", partial(per_game_table, REM)),
    Item("REM-F-abl", "rem", "figure", "Ablations: summary", partial(summary_figure, REM_ABLATIONS)),
    Item("REM-F-abl-agg", "rem", "figure", "Ablations: four aggregates", partial(interval_figure, REM_ABLATIONS, FOUR)),
    Item("REM-F-abl-pp", "rem", "figure", "Ablations: performance profiles", partial(profile_figure, REM_ABLATIONS)),
    Item(
        "REM-F-abl-poi",
        "rem",
        "figure",
        "Ablations: probability of improvement",
        partial(improvement_figure, REM_ABLATIONS),
    ),
    Item("REM-T-abl", "rem", "table", "Ablations per game", partial(per_game_table, REM_ABLATIONS)),
    Item("REM-F-time", "rem", "figure", "Seconds per epoch, IRIS and REM", partial(times_figure, REM_TIMES)),
    Item("REM-F-time-abl", "rem", "figure", "Seconds per epoch, ablations", partial(times_figure, ABLATION_TIMES)),
    Item("REM-F-wmloss", "rem", "figure", "Ablations: losses of the world model", None, no_published_losses),
    Item("DIRIS-T-atari", "delta_iris", "table", "Atari-100k per game", partial(per_game_table, DELTA_IRIS)),
    Item(
        "DIRIS-T-paper", "delta_iris", "table", "The paper's Atari table and the released scores", secondary.paper_table
    ),
    Item("DIRIS-T-crafter", "delta_iris", "table", "Crafter at 1, 5 and 10 million frames", crafter.milestones_table),
    Item(
        "DIRIS-F-crafter",
        "delta_iris",
        "figure",
        "Crafter: return against frames",
        crafter.curves_figure,
        crafter.no_curves,
    ),
    Item(
        "DIRIS-F-success",
        "delta_iris",
        "figure",
        "Crafter: success rates",
        crafter.achievements_figure,
        crafter.no_achievements,
    ),
    Item(
        "DIRIS-T-success",
        "delta_iris",
        "table",
        "Crafter: success rates",
        crafter.achievements_table,
        crafter.no_achievements,
    ),
    Item("DIRIS-T-tok", "delta_iris", "table", "Crafter: reconstruction of the tokenizers", secondary.tokenizer_table),
    Item("DIRIS-T-abl", "delta_iris", "table", "Crafter: with and without frame tokens", secondary.frame_tokens_table),
    Item("DIRIS-F-rec", "delta_iris", "figure", "Worst reconstructions", None, not_from_scores),
    Item("DIRIS-F-delta", "delta_iris", "figure", "Frames without delta tokens and with others", None, not_from_scores),
    Item("DIRIS-F-imag", "delta_iris", "figure", "Imagined trajectories", None, not_from_scores),
    Item("OURS-T", "ours", "table", "Our runs, task by task", ours.runs_table, ours.no_runs),
    Item("OURS-F-games", "ours", "figure", "Our runs game by game", ours.games_figure, ours.no_atari_runs),
    Item("OURS-F-agg", "ours", "figure", "Our aggregates on the games we ran", ours.aggregates_figure, ours.no_subset),
    Item(
        "OURS-F-tasks", "ours", "figure", "Our runs on tasks other than Atari", ours.tasks_figure, ours.no_other_tasks
    ),
)


def select(ids: Sequence[str] = (), kind: str = "all") -> list[Item]:
    """The items asked for; all of that kind when no id is given."""
    known = {item.id: item for item in ITEMS}
    for name in ids:
        if name not in known:
            raise UserError(f"unknown item {name!r}: {near_matches(name, known)}")
    chosen = [known[name] for name in dict.fromkeys(ids)] or list(ITEMS)
    return [item for item in chosen if kind in ("all", item.kind)]
