"""R1: every number with its uncertainty, its runs and its episodes."""

import numpy as np
import pytest

from analysis.data.published import ABLATIONS
from analysis.data.runs import read_runs
from analysis.data.scores import References, Suite
from analysis.stats import metrics
from analysis.studies.r01_uncertainty import ablations_table, atari_table, with_error
from tests.analysis.test_tables import cells, context_of


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (1764.24, 122.1, "1764 ± 122"),
        (-5.4, 1.12, "-5.4 ± 1.1"),
        (93.53, 0.54, "93.53 ± 0.54"),
        (25557.8, 4321.0, "25558 ± 4321"),
        (0.0, 0.0, "0.0 ± 0.0"),
        (530.0, np.nan, "530.0"),
        (np.nan, np.nan, "–"),
    ],
)
def test_two_digits_of_the_error_decide_those_of_the_mean(mean: float, error: float, text: str) -> None:
    assert with_error(mean, error) == text


def test_standard_errors_by_hand() -> None:
    raw = np.array([[1.0, 2.0, 7.0, np.nan], [3.0, 4.0, np.nan, np.nan], [5.0, np.nan, np.nan, np.nan]])
    errors = metrics.standard_errors(raw)
    assert errors[:2] == pytest.approx([2.0 / np.sqrt(3), np.sqrt(2.0) / np.sqrt(2)]) and np.isnan(errors[2:]).all()
    full = np.random.default_rng(0).normal(size=(5, 4))
    assert metrics.standard_errors(full) == pytest.approx(full.std(axis=0, ddof=1) / np.sqrt(5))


def test_atari_table_has_every_method_with_group_runs_and_episodes(
    suites: dict[str, Suite], references: References
) -> None:
    context = context_of(suites, references, [])
    table = atari_table(context)
    header = [cell.strip("†‡ ") for cell in table.markdown.splitlines()[0].strip("|").split("|")]
    assert len(header) == 3 + len(suites["atari100k"].scores) + 1 and "Simulus-A" in header
    column = header.index("CURL") - 1
    assert [cells(table, row)[column] for row in ("Group", "Runs", "Episodes a run")] == ["model-free", "100", "100"]
    assert cells(table, "Assault")[header.index("REM") - 1] == "1764 ± 122"
    assert cells(table, "Pong")[header.index("MuZero") - 1] == "-6.7"
    assert cells(table, "IQM (↑)")[header.index("MuZero") - 1] == "N/A"
    assert cells(table, "Mean (↑)")[header.index("MuZero") - 1] == "0.562"
    assert cells(table, "Alien")[header.index("Simulus-A") - 1] == "–"
    entry = context.aggregates["atari100k"]["REM"]["iqm"]
    assert cells(table, "IQM (↑)")[header.index("REM") - 1] == f"0.673 [{entry['low']:.3f}, {entry['high']:.3f}]"
    assert "N/A" in table.caption and "\n" not in table.caption
    found = table.numbers.set_index(["method", "row"]).loc[("REM", "Assault")]
    raw = suites["atari100k"].raw["REM"][:, 2]
    assert found.value == pytest.approx(raw.mean()) and found.runs == 5 and found.episodes == "100"
    assert found.standard_error == pytest.approx(raw.std(ddof=1) / np.sqrt(5))


def test_ablation_table_shows_the_missing_runs(suites: dict[str, Suite], references: References) -> None:
    table = ablations_table(context_of(suites, references, []))
    assert cells(table, "Frostbite")[3].endswith(" (3)") and cells(table, "UpNDown")[3].endswith(" (4)")
    assert cells(table, "Frostbite")[4:] == ["–"] * 4
    assert cells(table, "RoadRunner")[-1].endswith("†")
    assert "‡ No POP: 3 runs on Frostbite, 4 runs on UpNDown, 5 elsewhere." in table.markdown
    games = [line.split("|")[1].strip() for line in table.markdown.splitlines()[4:30]]
    assert tuple(games[:8]) == suites[ABLATIONS].tasks and sorted(games) == list(references.tasks)


def test_our_complete_runs_have_their_own_group(suites: dict[str, Suite], references: References, paper_runs) -> None:
    paper_runs.write_text("\n".join(paper_runs.read_text().splitlines()[:-2]) + "\n")  # two runs of UpNDown missing
    table = atari_table(context_of(suites, references, read_runs(paper_runs, references)))
    assert cells(table, "Group")[-1] == "ours" and cells(table, "Runs")[-1] == "5"
    assert cells(table, "UpNDown")[-1].endswith(" (3)")
    assert "IRIS (ours, paper, 26 games x 3 to 5 seeds): 3 runs on UpNDown, 5 elsewhere" in table.markdown
