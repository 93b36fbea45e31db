"""The published suites: which rows of ``results/data/`` form which comparison.

Sources and known defects of the numbers: ``results/data/SOURCES.md``.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data.scores import DATA, RETURNS, References, Suite, check_rows, read_references, read_table, stack
from analysis.stats.metrics import Matrix
from tokenworlds.errors import UserError

SCORE_COLUMNS = ["method", "variant", "task", "seed", "score"]
ATARI = "atari100k"
ABLATIONS = "rem_ablations_8_games"
ABLATIONS_WITHOUT_DEFECT = "rem_ablations_7_games_without_RoadRunner"
STORM_PRINTED = "storm_with_printed_freeway"
DMC = "dmc"
# Suites of the method that ``--subject`` names: the games that it has, if not all; and with its own variants
SUBJECT_GAMES = "atari100k_games_of_the_subject"
SUBJECT_ABLATIONS = "ablations_of_the_subject"

# Episodes that a score of Atari-100k is a mean of, as far as ``SOURCES.md`` knows; the others are not stated anywhere.
EPISODES = {
    "SimPLe": "64", "CURL": "100", "DrQ(eps)": "100", "SPR": "100", "IRIS": "100", "TWM": "100", "DreamerV3": "few",
    "DreamerV3-2025": "few", "REM": "100", "M3": "100", "Simulus-A": "104",
    "no-pop": "100", **dict.fromkeys(
        ("separate-wm-embeddings", "tokenizer-4x4", "no-latent-actor-critic", "no-action-input"), "100 or 104"
    ),
}  # fmt: skip
ABLATION_GAMES = (
    "Assault", "Asterix", "ChopperCommand", "CrazyClimber", "DemonAttack", "Gopher", "Krull", "RoadRunner",
)  # fmt: skip
PRINTED_FREEWAY = 33.5  # STORM's papers print a run with demonstrations; the published file has 0 in all five runs
DMC_MAXIMUM = RETURNS["dmc"][1]  # returns are divided by it: this project's choice, no published script normalises
DREAMER_JOURNAL = "DreamerV3-2025"  # the journal version's numbers; "DreamerV3" are those of the first arXiv version
DREAMER_WINDOW = (390_000, 400_000)  # frames: the score of a run is the mean of its training episodes in there
DREAMER_DMC = "DreamerV3 (official curves, last point, 490k frames)"
CRAFTAX = "Craftax-Symbolic"
CRAFTAX_METHODS = ("M3", "PPO-RNN", "RND", "E3B")  # with published curves
CRAFTAX_MAXIMUM = RETURNS["craftax"][1]  # the project page's percentages are of it


def published_suites(data: Path = DATA, references: References | None = None) -> dict[str, Suite]:
    """Every suite that the published scores make, by name; ``references`` None: those of the folder."""
    references = references or read_references(data)
    atari = atari_suite(references, data)
    ablations = ablation_suite(atari, references, data)
    seven = [task for task in ablations.tasks if task != "RoadRunner"]
    return {
        ATARI: atari,
        STORM_PRINTED: storm_with_printed_freeway(atari, references),
        ABLATIONS: ablations,
        ABLATIONS_WITHOUT_DEFECT: ablations.restricted(ABLATIONS_WITHOUT_DEFECT, seven),
        DMC: dmc_suite(data),
    }


def atari_suite(references: References, data: Path = DATA) -> Suite:
    """The 26 games of Atari-100k; a method that lacks some of them (Simulus-A: all but Breakout) is partial."""
    suite = Suite(ATARI, references.tasks, {}, {})
    for source in ("atari100k.csv", "further_seeds.csv"):
        for method, rows in _read(data / source).groupby("method", sort=False):
            check_rows(rows, str(method), source, references.tasks)
            raw = stack(rows, references.tasks, str(method), source, partial=True)
            suite = suite.with_method(str(method), raw, references.normalise(raw))
    journal = _dreamer_journal(references, data)
    suite = suite.with_method(DREAMER_JOURNAL, journal, references.normalise(journal))
    return suite.with_method("CURL", *curl_scores(references, data))


def _read(path: Path) -> pd.DataFrame:
    return read_table(path, SCORE_COLUMNS, ["score"])


def curl_scores(references: References, data: Path = DATA, column: str = "hns_final") -> tuple[Matrix, Matrix]:
    """Raw and normalised scores of CURL, of its final evaluation, which IRIS's analysis uses, or of ``hns_max``.

    It is published human-normalised, rounded to 10 decimals. Mapped back, every score is a multiple of 1/100 to half a
    unit of the last of them, and becomes that multiple.
    """
    name = "atari100k_hns_only.csv"
    rows = read_table(data / name, ["task", "seed", column], [column]).rename(columns={column: "score"})
    check_rows(rows, "CURL", name, references.tasks)
    stored = stack(rows, references.tasks, "CURL", name)
    raw = references.raw(stored)
    return raw, stored if references.as_stored else references.normalise(np.round(raw, 2))


def _dreamer_journal(references: References, data: Path) -> Matrix:
    """Final scores of the journal version of DreamerV3 by its authors' rule, from its public curves.

    Five runs of 26 games; 8 of these 130 have no training episode that ends within the window, so no score.
    """
    name = "further_curves.csv"
    rows = _official_curves("DV3-A", data)
    scores = rows[rows.x.between(*DREAMER_WINDOW)].groupby(["task", "seed"], as_index=False).score.mean()
    check_rows(scores, DREAMER_JOURNAL, name, references.tasks)
    return stack(scores, references.tasks, DREAMER_JOURNAL, name)


def _official_curves(source: str, data: Path) -> pd.DataFrame:
    """The rows of one source of ``further_curves.csv``: task, seed, x, score."""
    rows = _further_curves(data)
    rows = rows[rows.source == source]
    if rows.empty:
        raise UserError(f"further_curves.csv has no rows of source {source} (DreamerV3); restore the file from git.")
    return rows


@cache
def _further_curves(data: Path) -> pd.DataFrame:
    return read_table(data / "further_curves.csv", ["task", "seed", "source"], ["x", "score"])


def storm_with_printed_freeway(atari: Suite, references: References) -> Suite:
    """STORM with Freeway as papers print it, in all runs: kept apart from the five runs of the file."""
    raw = atari.raw["STORM"].copy()
    raw[:, atari.tasks.index("Freeway")] = PRINTED_FREEWAY
    return Suite(STORM_PRINTED, atari.tasks, {"STORM": references.normalise(raw)}, {"STORM": raw})


def ablation_suite(atari: Suite, references: References, data: Path = DATA) -> Suite:
    """REM and its ablations on the eight games all of them were run on."""
    base = atari.restricted(ABLATIONS, ABLATION_GAMES, ["REM"])
    raw = dict(base.raw)
    name = "ablations.csv"
    for variant, rows in _read(data / name).groupby("variant", sort=False):
        check_rows(rows, f"REM {variant}", name, references.tasks)
        chosen = rows[rows.task.isin(ABLATION_GAMES)]
        raw[str(variant)] = stack(chosen, ABLATION_GAMES, f"REM {variant}", name)
    scores = {variant: references.normalise(matrix, ABLATION_GAMES) for variant, matrix in raw.items()}
    return Suite(ABLATIONS, ABLATION_GAMES, scores, raw)


def all_ablation_scores(references: References, data: Path = DATA) -> dict[str, Matrix]:
    """Raw scores of REM's ablations on all 26 games, NaN where a variant was not run: for tables game by game."""
    rows_of = _read(data / "ablations.csv").groupby("variant", sort=False)
    return {
        str(variant): stack(rows, references.tasks, f"REM {variant}", "ablations.csv", partial=True)
        for variant, rows in rows_of
    }


def dmc_suite(data: Path = DATA) -> Suite:
    """DeepMind Control, proprioceptive: returns divided by the maximum of 1000."""
    rows = _read(data / "dmc.csv").assign(family=DMC)
    check_rows(rows, "M3", "dmc.csv")
    tasks = tuple(sorted(rows.task.unique()))
    raw = {"M3": stack(rows, tasks, "M3", "dmc.csv"), DREAMER_DMC: _dreamer_dmc(tasks, data)}
    return Suite(DMC, tasks, {method: matrix / DMC_MAXIMUM for method, matrix in raw.items()}, raw)


def _dreamer_dmc(tasks: tuple[str, ...], data: Path) -> Matrix:
    """The last point of every official DreamerV3 curve: the nearest thing to a final score that is published."""
    name = "further_curves.csv"
    rows = _official_curves("DV3-D", data)
    last = rows.loc[rows.groupby(["task", "seed"]).x.idxmax()]
    check_rows(last.assign(family=DMC), DREAMER_DMC, name)
    return stack(last, tasks, DREAMER_DMC, name)


def craftax_curves(data: Path = DATA) -> pd.DataFrame:
    """Return on Craftax against environment steps, a row per point of a run: method, seed, env_steps, score.

    The first points of the baselines are left out: they are empty, for no episode had ended.
    """
    columns = ["method", "seed", "env_steps", "score"]
    rows = read_table(data / "craftax_curves.csv", columns, columns[2:])[columns]
    return rows[rows.score.notna()].reset_index(drop=True)


def printed_means(data: Path = DATA) -> pd.DataFrame:
    """Means as papers and pages print them: ``printed`` is the text itself, whose digits say how far it was rounded."""
    columns = ["benchmark", "method", "task", "mean", "source"]
    rows = read_table(data / "printed_means.csv", columns)[columns].rename(columns={"mean": "printed"})
    return rows.assign(mean=rows.printed.map(float))


def raw_means(data: Path = DATA) -> pd.Series:
    """Mean over runs of the published raw scores, indexed by method and task; on Craftax of the runs' last points."""
    curves = craftax_curves(data)
    last = curves.loc[curves.groupby(["method", "seed"]).env_steps.idxmax()].assign(task=CRAFTAX)
    names = ("atari100k.csv", "further_seeds.csv", "dmc.csv")
    frames = [_read(data / name)[["method", "task", "score"]] for name in names]
    return pd.concat([*frames, last[["method", "task", "score"]]]).groupby(["method", "task"]).score.mean()
