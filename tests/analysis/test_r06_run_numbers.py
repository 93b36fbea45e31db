"""How many runs: laws that the widths follow, and agreement of rankings counted by hand."""

import numpy as np
import pytest
from scipy import stats

from analysis.context import Context
from analysis.data.scores import References, Suite
from analysis.options import Options
from analysis.stats.bootstrap import FastEngine
from analysis.studies import r06_run_numbers
from analysis.studies.methods import Population
from analysis.studies.r06_run_numbers import agreement, rankings, runs_for, width_factor

FEW = Options().capped(60)


def test_halving_five_runs_takes_twenty_four() -> None:
    # sqrt(4) / 5 = 0.4; sqrt(23) / 24 = 0.1998 is the first at most half of it, sqrt(22) / 23 = 0.2039 is not.
    assert runs_for(0.5, 5) == 24
    assert runs_for(1.0, 5) == 5 and runs_for(3.0, 5) == 2


@pytest.mark.parametrize("runs", [2, 5, 100])
def test_needed_runs_are_the_smallest_that_suffice(runs: int) -> None:
    factors = width_factor(np.arange(2.0, 20_000))
    for share in (0.1, 0.33, 0.5, 0.9, 1.0, 1.1, 2.0):
        assert runs_for(share, runs) == 2 + np.argmax(factors <= share * width_factor(runs) + 1e-9)


def test_widths_follow_the_law_on_a_normal_population() -> None:
    scores = np.random.default_rng(0).normal(size=(100, 12))
    table = r06_run_numbers.widths((Population.of("toy", scores),), Options().capped(400)).set_index("runs").width
    assert list(table.index) == list(r06_run_numbers.RUNS)
    for runs in (5, 20, 100):
        assert table[runs] / table[10] == pytest.approx(width_factor(runs) / width_factor(10), rel=0.12)


def test_agreement_of_rankings_by_hand() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    values = np.array([[1, 2, 1], [2, 1, 3], [3, 3, 2]], dtype=float)  # as the truth; two swapped; another best
    found = agreement(truth, values)
    assert found["same_best"] == pytest.approx(2 / 3) and found["same_order"] == pytest.approx(1 / 3)
    expected = np.mean([stats.kendalltau(truth, each).statistic for each in values.T])
    assert found["kendall_tau"] == pytest.approx(expected)


def test_methods_far_apart_keep_their_order_and_equal_ones_change_it_half_the_time() -> None:
    base = np.random.default_rng(1).normal(size=(5, 6))
    far = rankings((Population.of("a", base), Population.of("b", base + 100)), FEW)
    assert (far[["same_best", "same_order", "kendall_tau"]] == 1).all(axis=None)
    assert list(far.runs) == [2, 3, 4, 5]
    near = rankings((Population.of("a", base), Population.of("b", base + 1e-9)), Options().capped(500))
    assert near.same_best.between(0.4, 0.6).all()


def test_more_runs_keep_the_ranking_more_often() -> None:
    generator = np.random.default_rng(2)
    toys = tuple(Population.of(str(level), generator.normal(level / 5, 1.0, size=(100, 8))) for level in range(4))
    tau = rankings(toys, Options().capped(300)).kendall_tau.to_numpy()
    assert (np.diff(tau) > -0.03).all() and tau[-1] > tau[0] + 0.2


def test_table_and_figure_share_one_study(suites: dict[str, Suite], references: References) -> None:
    context = Context(references, suites, [], FastEngine(), FEW)
    table, figure = r06_run_numbers.runs_table(context), r06_run_numbers.runs_figure(context)
    assert "takes 24 runs" in table.caption and "60" in figure.caption
    lines = [[cell.strip() for cell in line.split("|")] for line in table.markdown.splitlines()[2:9]]
    assert [line[1] for line in lines] == ["IRIS", "REM", "Delta-IRIS", "M3", "DrQ(ε)", "SPR", "CURL"]
    assert lines[0][-2] == "24" and lines[0][6] == ""  # half of five runs' width; no ten runs were published
    assert table.numbers.width.equals(figure.numbers.width)
