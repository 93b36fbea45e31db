"""An author's own method in the place of each paper's agent, on every benchmark and in its curves and ablations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.comparisons import IRIS, M3, REM_ABLATIONS
from analysis.context import Context, make_context
from analysis.data.choice import Choice
from analysis.data.contributed import register_looks
from analysis.data.published import ABLATIONS, ATARI, DREAMER_JOURNAL
from analysis.data.scores import References
from analysis.draw.improvement import improvement_figure
from analysis.draw.tables import per_game_table
from analysis.errors import NoData
from analysis.items import ITEMS
from analysis.make_figures import main
from analysis.papers import craftax, crafter, dmc
from analysis.studies import r02_games, r10_curves
from tests.analysis.test_contributed import rows_of, write_csv
from tokenworlds.errors import UserError

Choose = Callable[..., Context]
BY_ID = {item.id: item for item in ITEMS}


@pytest.fixture(autouse=True)
def no_methods_left_over() -> Iterator[None]:
    yield
    register_looks({})


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, references: References) -> Path:
    """Scores of ``Mine`` on all benchmarks, two ablations of it on ten games, and one of REM."""
    few = references.tasks[:10]
    rows = rows_of("Mine", 0.9, dict.fromkeys(references.tasks, 4), references, source="made up")
    rows += rows_of("Mine", 0.5, dict.fromkeys(few, 3), references, variant="no-x")
    rows += rows_of("Mine", 0.6, dict.fromkeys(few[1:], 3), references, variant="no-y")
    rows += rows_of("REM", 0.6, dict.fromkeys(references.tasks, 3), references, variant="no-z")
    rows += rows_of("Some", 0.6, {"Breakout": 3, "Pong": 3}, references)
    rows += [{"method": "Mine", "task": "dmc/walker-walk", "seed": seed, "score": 900 + seed} for seed in range(3)]
    for task, points in {"crafter/Reward": (5e6, 1e7), "craftax/Symbolic": (5e5, 1e6), "Pong": (5e4, 1e5)}.items():
        rows += [
            {"method": "Mine", "task": task, "seed": seed, "score": steps / 1e6 + seed, "env_steps": steps}
            for seed in range(3)
            for steps in points
        ]
    return write_csv(tmp_path_factory.mktemp("mine") / "mine.csv", rows)


@pytest.fixture
def choose(mine: Path) -> Choose:
    def make(subject: str = "", baselines: tuple[str, ...] = (), order: tuple[str, ...] = ()) -> Context:
        return make_context(repetitions=20, scores=[mine], choice=Choice(subject, baselines, order))

    return make


def test_the_subject_takes_the_place_of_the_papers_agent(choose: Choose) -> None:
    context = choose("mINE", ("m3", "drq(eps)", "dreamerv3-2025", "MuZero"))
    for comparison in (IRIS, M3):
        chosen = comparison.chosen(context)
        assert chosen.columns(context) == ["M3", "DrQ(eps)", DREAMER_JOURNAL, "Mine"] == chosen.rows(context)
        assert chosen.table_only == ("MuZero",) and chosen.subject == "Mine" and not chosen.partial(context)
        assert set(chosen.pairs(context)) == {("Mine", name) for name in ("M3", "DrQ(eps)", DREAMER_JOURNAL)}
    header = per_game_table(M3, context).markdown.splitlines()[0]
    assert header == "| Game | Random | Human | MuZero | M3 | DrQ(ε) | DreamerV3 (2025)‡ | Mine‡ |"
    drawing = improvement_figure(IRIS, context)
    assert set(drawing.numbers.x) == {"Mine"} and drawing.figure.axes[0].get_xlabel() == "P(Mine > Y)"
    assert set(r02_games.games_figure((IRIS, M3), context).numbers.x) == {"Mine"}


def test_without_baselines_the_papers_agent_is_one_of_the_others(choose: Choose) -> None:
    context = choose("Mine")
    columns = M3.chosen(context).columns(context)
    assert columns[-1] == "Mine" and {*M3.methods, "REM (no-z)"} < set(columns)
    assert M3.chosen(context).table_only == M3.table_only


def test_the_order_comes_first_and_baselines_alone_keep_the_papers_subject(choose: Choose) -> None:
    context = choose("Mine", order=("SPR", "m3"))
    assert IRIS.chosen(context).columns(context)[:3] == ["SPR", "M3", "SimPLe"]
    context = choose(baselines=("SimPLe", "STORM"))
    assert M3.chosen(context).columns(context) == ["SimPLe", "STORM", "M3"]
    assert M3.chosen(choose()) is M3


def test_ablations_are_the_subjects_own_on_the_games_that_all_have(choose: Choose, references: References) -> None:
    context = choose("Mine", ("IRIS",))
    chosen = REM_ABLATIONS.chosen(context)
    assert chosen.columns(context) == ["Mine (no-x)", "Mine (no-y)", "Mine"]
    assert context.suites[chosen.suite].tasks == references.tasks[1:10]
    assert chosen.heading(context) == "Mine and its ablations, 9 games"
    for name in ("REM-F-abl", "REM-T-abl", "REM-F-abl-poi", "R2-T-abl"):
        artefact = BY_ID[name].make(context)
        assert artefact.caption.startswith("Mine and its ablations") and not BY_ID[name].unmoved(context)
    assert "REM (no-z)" in choose().suites[ABLATIONS].scores
    assert "REM (no-z)" in REM_ABLATIONS.columns(choose())


def test_a_subject_of_some_games_is_compared_on_these(choose: Choose) -> None:
    for subject, games in (("Some", ("Breakout", "Pong")), ("Simulus-A", ("Breakout",))):
        context = choose(subject, ("M3", "REM"))
        chosen = M3.chosen(context)
        assert context.suites[chosen.suite].tasks == games and chosen.columns(context) == ["M3", "REM", subject]
        assert not improvement_figure(M3, context).numbers.empty


def test_a_subject_without_runs_has_no_probability_of_improvement(choose: Choose) -> None:
    with pytest.raises(NoData, match="MuZero has one value per game"):
        improvement_figure(IRIS, choose("MuZero"))


def test_a_subject_of_one_run_is_in_no_comparison_of_runs(tmp_path: Path, references: References) -> None:
    rows = rows_of("Lone", 0.9, dict.fromkeys(references.tasks, 1), references)
    rows += rows_of("Lone", 0.5, dict.fromkeys(references.tasks, 1), references, variant="no-x")
    context = make_context(repetitions=20, scores=[write_csv(tmp_path / "lone.csv", rows)], choice=Choice("Lone"))
    for name in ("REM-F-abl", "REM-F-abl-poi", "R3-T-diff", "R3-F-diff"):
        with pytest.raises(NoData, match="name another --subject"):
            BY_ID[name].make(context)


def test_every_benchmark_shows_contributed_scores(choose: Choose) -> None:
    context = choose("Mine", ("M3", "IRIS", "Delta-IRIS"))
    table = dmc.tasks_table(context)
    assert list(dict.fromkeys(table.numbers.method)) == ["M3", "Mine"]
    last = craftax.last_points_table(context)
    assert list(last.numbers.method) == ["M3", "Mine"] and last.numbers["return"].iloc[-1] == pytest.approx(2.0)
    assert "‡ Mine: curve from mine.csv" in last.markdown
    assert list(dict.fromkeys(craftax.curves_figure(context).numbers.method)) == ["M3", "Mine"]
    rows = crafter.milestones_table(context).numbers
    assert rows.method.iloc[-1] == "Mine" and rows["return_10000000"].iloc[-1] == pytest.approx(11.0)
    assert "Mine" in set(crafter.curves_figure(context).numbers.method)


def test_curves_are_drawn_and_enter_no_aggregate(choose: Choose) -> None:
    context = choose()
    points = r10_curves.curves_figure(context).numbers
    pong = points[(points.method == "Mine") & (points.task == "atari/Pong")]
    assert list(pong.env_steps) == [5e4, 1e5] and set(pong.scale) == {"contributed"}
    assert context.suites[ATARI].runs("Mine")["Pong"] == 4
    assert "Mine" in set(r10_curves.curves_table(context).numbers.method)


def test_what_does_not_apply_says_so(choose: Choose) -> None:
    context = choose("Some")
    assert "Some has no scores here" in BY_ID["M3-T-craftax"].unmoved(context)
    assert "does not compare methods" in BY_ID["IRIS-T-hp"].unmoved(context)
    assert not BY_ID["IRIS-T1"].unmoved(context) and not BY_ID["IRIS-T-hp"].unmoved(choose())
    for item in ITEMS:
        assert item.unmoved(context).count(".") <= 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("Mein"), "--subject: unknown method 'Mein': did you mean Mine"),
        (Choice("Mine", ("IRSI",)), "--baselines: unknown method 'IRSI': did you mean IRIS"),
        (Choice("Mine", ("mine",)), "--baselines: Mine is the subject, too"),
        (Choice(order=("Nobody at all",)), "--order: unknown method"),
    ],
)
def test_unknown_names_are_one_sentence(choice: Choice, message: str, mine: Path) -> None:
    with pytest.raises(UserError, match=message):
        make_context(scores=[mine], choice=choice)


def test_a_seed_does_not_change_what_was_computed_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--aggregates", str(tmp_path / "aggregates.json"), "--out", str(tmp_path)]) == 2
    assert "--seed does not apply to --aggregates" in capsys.readouterr().err


def test_the_command_line_names_the_seed_in_what_it_writes(mine: Path, tmp_path: Path) -> None:
    common = ["--scores", str(mine), "--subject", "mine", "--baselines", "M3", "--only", "REM-F-intro", "IRIS-T-hp"]
    for seed in ("0", "7"):
        out = ["--repetitions", "50", "--out", str(tmp_path / seed)]
        assert main([*common, "--seed", seed, *out]) == 0
    first, second = (tmp_path / seed / "REM-F-intro.csv" for seed in ("0", "7"))
    assert first.read_text() != second.read_text() and "DreamerV3" not in second.read_text()
    assert "Seed of the bootstrap: 7." in (tmp_path / "7" / "REM-F-intro.txt").read_text()
    assert "do not apply" in (tmp_path / "0" / "IRIS-T-hp.txt").read_text()
