"""The leaderboard: DreamerV3's journal version by its rule, methods of some games, and what is printed only."""

from pathlib import Path

import numpy as np
import pytest

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI, DREAMER_JOURNAL
from analysis.data.scores import DATA, References, Suite, read_table
from analysis.draw import style
from analysis.options import Options
from analysis.stats import bootstrap, metrics
from analysis.stats.bootstrap import FastEngine
from analysis.studies import r16_leaderboard
from tokenworlds.errors import UserError


@pytest.fixture(scope="module")
def context(suites: dict[str, Suite], references: References) -> Context:
    return Context(references, suites, [], FastEngine(), Options().capped(40))


EXAMPLES = {  # as stated, to one decimal
    "Alien": 1117.7, "Amidar": 97.5, "Assault": 683.5, "Asterix": 1062, "BankHeist": 397.8, "BattleZone": 20300,
    "CrazyClimber": 86225, "Kangaroo": 2643.3, "KungFuMaster": 25900, "UpNDown": 46910,
}  # fmt: skip


def test_the_journal_version_of_dreamer_has_the_numbers_of_its_rule(suites: dict[str, Suite]) -> None:
    suite = suites[ATARI]
    points = metrics.points(suite.scores[DREAMER_JOURNAL])
    wanted = {"mean": 1.247, "median": 0.494, "iqm": 0.463, "optimality_gap": 0.487, "superhuman": 7}
    assert {name: round(value, 3) for name, value in points.items()} == wanted
    assert {game: suite.mean(DREAMER_JOURNAL, game) for game in EXAMPLES} == pytest.approx(EXAMPLES, abs=0.05 + 1e-9)
    runs = suite.runs(DREAMER_JOURNAL)
    assert sum(runs.values()) == 122
    short = {game: count for game, count in runs.items() if count != 5}
    assert short == {"UpNDown": 1, **dict.fromkeys(("CrazyClimber", "Gopher", "KungFuMaster", "Pong"), 4)}


def test_a_resample_of_everything_once_has_the_points_of_a_ragged_matrix(suites: dict[str, Suite]) -> None:
    scores = suites[ATARI].scores[DREAMER_JOURNAL]
    once = np.isfinite(scores).T[None].astype(float)
    replicate = {name: float(values[0]) for name, values in bootstrap._metrics_of_counts(scores, once).items()}
    assert replicate == pytest.approx(metrics.points(scores))


def test_the_two_versions_of_dreamer_are_told_apart() -> None:
    names = ["DreamerV3", DREAMER_JOURNAL]
    assert [naming.shown(name) for name in names] == ["DreamerV3 (2023)", "DreamerV3 (2025)"]
    for look in style.LOOKS:
        with style.chosen(look):
            assert style.colour(names[0]) != style.colour(names[1])


def test_the_leaderboard_is_by_iqm_with_its_holes_noted(context: Context) -> None:
    table = r16_leaderboard.leaderboard_table(context)
    first = [line.split("|")[1].strip() for line in table.markdown.splitlines()[2:] if line.startswith("|")]
    assert first[0] == "M3" and first[-2:] == ["EfficientZero", "MuZero"] and len(first) == 15
    iqms = table.numbers[(table.numbers.metric == "iqm") & (table.numbers.runs > 1)].point
    assert iqms.is_monotonic_decreasing
    assert "‡ DreamerV3 (2025): 1 run on UpNDown, 4 runs on CrazyClimber" in table.markdown
    assert "| DreamerV3 (2025)‡ | published | 1 to 5 | 0.463" in table.markdown
    figure = r16_leaderboard.leaderboard_figure(context).figure
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][::-1] == [
        name.rstrip("†‡") for name in first[:-2]
    ]


def test_methods_of_some_games_are_compared_on_these(context: Context, suites: dict[str, Suite]) -> None:
    numbers = r16_leaderboard.partial_table(context).numbers
    assert set(numbers.games) == {"Breakout"} and {"Simulus-A", DREAMER_JOURNAL, "M3"} <= set(numbers.method)
    mean = numbers[(numbers.method == "Simulus-A") & (numbers.metric == "mean")].point.item()
    assert mean == pytest.approx((331.46 - 1.7) / (30.5 - 1.7), abs=1e-3)


def test_what_is_printed_only_enters_no_statistic(
    context: Context, suites: dict[str, Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = r16_leaderboard.read_printed_only()
    assert {"TWISTER", "EDELINE", "JEDI (v2)", "ITC", "EMERALD", "BBF", "EfficientZero V2"} == set(frame.method)
    known = {method for suite in suites.values() for method in (*suite.scores, *suite.partial)}
    assert not known & set(frame.method)
    table = r16_leaderboard.printed_table(context)
    assert "| Atari-100k | TWISTER | ICLR 2025 | mean | 1.62 |" in table.markdown
    assert not {"58.1", "2.428", "1.286"} & set(table.markdown.replace("|", " ").split())  # known from memory only
    opened = []
    monkeypatch.setattr(r16_leaderboard, "read_table", lambda path, *rest: opened.append(path.name))
    for item in r16_leaderboard.ITEMS[:3]:
        item.make(context)
    assert not opened and not set(context.aggregates[ATARI]) & set(frame.method)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("A,B,C,mean,1.0,not read,", "line 2: a number is printed if and only if it was read"),
        ("A,B,C,mean,,read,abstract", "line 2: a number is printed if and only if it was read"),
        ("A,B,C,mean,1.0,recalled,", "line 2: unknown kind 'recalled'"),
    ],
)
def test_a_number_that_nobody_read_is_refused(row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "printed_only.csv").write_text(f"benchmark,method,paper,quantity,printed,known,source\n{row}\n")
    with pytest.raises(UserError, match=said):
        r16_leaderboard.read_printed_only(tmp_path)


def test_the_rule_takes_every_point_of_the_window(references: References) -> None:
    curves = read_table(DATA / "further_curves.csv", ["source"], ["x", "score"])
    alien = curves[(curves.source == "DV3-A") & (curves.task == "Alien")]
    runs = [rows[(rows.x >= 390_000) & (rows.x <= 400_000)].score.mean() for _, rows in alien.groupby("seed")]
    assert np.mean(runs) == pytest.approx(1117.67, abs=0.01)
