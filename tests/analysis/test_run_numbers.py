"""How many runs: laws that the widths follow, and agreement of rankings counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.context import Context
from analysis.data.scores import References, Suite
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine
from analysis.studies import run_numbers
from analysis.studies.run_numbers import agreement, runs_for, width_factor
from analysis.studies.samples import Population

FEW = Options().capped(60)


def test_halving_five_runs_takes_twenty_four() -> None:
    # sqrt(4) / 5 = 0.4; sqrt(23) / 24 = 0.1998 is the first at most half of it, sqrt(22) / 23 = 0.2039 is not.
    assert runs_for(0.5, 5) == 24
    assert runs_for(1.0, 5) == 5 and runs_for(3.0, 5) == 2


@pytest.mark.parametrize("runs", [2, 5, 17, 100])
@pytest.mark.parametrize("share", [0.1, 0.33, 0.5, 0.9, 1.0, 1.1, 2.0])
def test_needed_runs_are_the_smallest_that_suffice(runs: int, share: float) -> None:
    wanted = share * width_factor(runs) + 1e-9
    assert runs_for(share, runs) == next(n for n in range(2, 20_000) if width_factor(n) <= wanted)


def test_widths_follow_the_law_on_a_normal_population() -> None:
    scores = np.random.default_rng(0).normal(size=(100, 12))
    table = run_numbers.widths((Population.of("toy", scores),), Options().capped(400)).set_index("runs").width
    assert list(table.index) == list(run_numbers.RUNS)
    for runs in (5, 20, 100):
        assert table[runs] / table[10] == pytest.approx(width_factor(runs) / width_factor(10), rel=0.12)


def test_agreement_of_rankings_by_hand() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    values = np.array([[1, 2, 1], [2, 1, 3], [3, 3, 2]], dtype=float)  # as the truth; two swapped; another best
    found = agreement(truth, values)
    assert found["same_best"] == pytest.approx(2 / 3)
    assert found["same_order"] == pytest.approx(1 / 3)
    expected = np.mean([stats.kendalltau(truth, each).statistic for each in values.T])
    assert found["kendall_tau"] == pytest.approx(expected)


def test_methods_far_apart_never_change_places_and_equal_ones_do_half_the_time() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(size=(5, 6))
    far = run_numbers.rankings((Population.of("a", base), Population.of("b", base + 100)), FEW)
    assert (far[["same_best", "same_order", "kendall_tau"]] == 1).all(axis=None)
    assert list(far.runs) == [2, 3, 4, 5]
    near = run_numbers.rankings((Population.of("a", base), Population.of("b", base + 1e-9)), Options().capped(500))
    assert near.same_best.between(0.4, 0.6).all()


def test_more_runs_keep_the_ranking_more_often() -> None:
    generator = np.random.default_rng(2)
    toys = tuple(Population.of(str(level), generator.normal(level / 5, 1.0, size=(100, 8))) for level in range(4))
    tau = run_numbers.rankings(toys, Options().capped(300)).kendall_tau.to_numpy()
    assert (np.diff(tau) > -0.03).all() and tau[-1] > tau[0] + 0.2


def test_table_and_figure_share_one_study(suites: dict[str, Suite], references: References, tmp_path: Path) -> None:
    context = Context(references, suites, [], FastEngine(), FEW)
    table, figure = run_numbers.runs_table(context), run_numbers.runs_figure(context)
    assert "takes 24 runs" in table.caption and "60" in figure.caption
    lines = table.markdown.splitlines()
    methods = [line.split("|")[1].strip() for line in lines[2:9]]
    assert methods == ["IRIS", "REM", "Delta-IRIS", "M3", "DrQ(ε)", "SPR", "CURL"]
    iris = [cell.strip() for cell in lines[2].split("|")]
    assert iris[-2] == "24" and iris[6] == ""  # half of five runs' width; no ten runs were published
    assert table.numbers.width.equals(figure.numbers.width)
    assert figure.write(tmp_path / "figure")
