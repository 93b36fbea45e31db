"""Suites: what `make suite` writes, and which stages DVC makes of it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from analysis.data.families import FAMILIES, Family
from pipeline import plan, suite
from tests.conftest import PROJECT, Checkout
from tests.pipeline.support import ablations_of, edit_yaml, prefix_of, variants_of
from tokenworlds.config import known_methods
from tokenworlds.envs import check_task, craftax, dmc
from tokenworlds.errors import UserError

EXPERIMENTS = {
    "pretrained-transformer": 1950, "pretrained-tokenizer": 1300, "sequence-models": 1690, "tokenizer-losses": 2080,
    "noise": 520, "consistency": 520, "experiments-full": 7540, "experiments-games": 348,
    "pretrained-transformer-screen": 12, "pretrained-tokenizer-screen": 6, "sequence-models-screen": 15,
    "tokenizer-losses-screen": 12, "noise-screen": 12, "consistency-screen": 12, "experiments-screen": 57,
    "pretrained-transformer-smoke": 15, "pretrained-tokenizer-smoke": 10, "sequence-models-smoke": 13,
    "tokenizer-losses-smoke": 16, "noise-smoke": 4, "consistency-smoke": 4, "experiments-smoke": 58,
}  # fmt: skip
"""Runs of the suites of experiments, which docs/experiments.md lists."""


@pytest.fixture(scope="module")
def checkout(make_checkout: Callable[[], Checkout]) -> Checkout:
    return make_checkout()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that consists of nothing but one method's stages and values."""
    (tmp_path / "params.yaml").touch()
    (tmp_path / "pipeline" / "suites").mkdir(parents=True)
    (tmp_path / "pipeline" / "iris").mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / "pipeline" / "iris" / name).write_bytes((PROJECT / "pipeline" / "iris" / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


Suites = Callable[[str], suite.Groups]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Suites:
    """Reads the groups of the suites of this project."""
    monkeypatch.chdir(PROJECT)
    return lambda name: suite.read_suite(name)[1]


def write_suite(project: Path, name: str, text: str) -> None:
    (project / "pipeline" / "suites" / f"{name}.yaml").write_text(text)


def test_committed_grid_is_the_smoke_suite(shipped: Suites) -> None:
    committed = (PROJECT / "pipeline" / "grid.yaml").read_text()
    if "suite: smoke" not in committed:
        pytest.skip("another suite is active in this checkout")
    assert committed == suite.grid_text("smoke")


@pytest.mark.parametrize("name", suite.known_suites())
def test_every_task_of_a_suite_exists(name: str, shipped: Suites) -> None:
    """Every variant: test_config."""
    head, groups = suite.read_suite(name)
    assert head["description"].endswith(".")
    for method_groups in groups.values():
        for group, axes in method_groups.items():
            for task in axes["tasks"]:
                check_task(f"{prefix_of(group)}{task}")


def test_the_smoke_suite_trains_every_method_and_every_benchmark_that_make_setup_installs(shipped: Suites) -> None:
    """Not Craftax, which is an extra; with two seeds each, but for M3: a method of one seed alone has to work, too."""
    groups = shipped("smoke")
    assert {group for chosen in groups.values() for group in chosen} == {"atari", "crafter", "dmc"}
    for method in known_methods():
        assert sum(len(axes["tasks"]) for axes in groups[method].values()) >= 2
        assert {len(axes["seeds"]) for axes in groups[method].values()} == {1 if method == "m3" else 2}


def test_the_laptop_suite_has_all_methods_on_one_game_and_two_on_all_three(shipped: Suites) -> None:
    axes = {method: groups["atari"] for method, groups in shipped("laptop").items()}
    assert {*axes} == {*known_methods()} and all(len(some["seeds"]) >= 2 for some in axes.values())
    games = [set(some["tasks"]) for some in axes.values()]
    assert len(set.intersection(*games)) >= 1 and sum(some == set.union(*games) for some in games) >= 2
    assert len(set.union(*games)) == 3


def test_ablations_of_rem_are_those_of_the_paper(shipped: Suites) -> None:
    """Five ablations x 8 games x 5 seeds; the one without POP on all 26 games."""
    ablations = shipped("ablations")["rem"]
    games, some = ablations["atari_more_variants"]["tasks"], ablations["atari_variants"]["tasks"]
    assert games == shipped("atari100k")["rem"]["atari"]["tasks"] and len(games) == 26
    assert set(some) < set(games) and len(some) == 8
    assert sorted(variant for axes in ablations.values() for variant in axes["variants"]) == sorted(variants_of("rem"))
    assert all(axes["seeds"] == [0, 1, 2, 3, 4] for axes in ablations.values())


def test_ablations_of_delta_iris_are_trained_once_each_on_crafter_beside_iris_of_both_token_budgets(
    shipped: Suites,
) -> None:
    """The variant without frame tokens is a curve of the Crafter suite, the others are ablations."""
    groups, crafter = shipped("paper")["delta_iris"], shipped("crafter")
    chosen = [groups["crafter_variants"], groups["crafter_more_variants"]]
    assert sorted(variant for axes in chosen for variant in axes["variants"]) == sorted(ablations_of("delta_iris"))
    for axes in (groups["crafter"], *chosen, crafter["iris"]["crafter"]):
        assert axes["tasks"] == ["Reward"] and axes["seeds"] == [0, 1, 2, 3, 4]
    assert crafter["iris"]["crafter_variants"]["variants"] == ["64-tokens"]
    assert crafter["delta_iris"]["crafter_variants"]["variants"] == ["no-frame-tokens"]


def test_m3_is_trained_on_its_three_benchmarks(shipped: Suites) -> None:
    """26 games, 18 tasks and Craftax x 5 seeds."""
    groups = shipped("paper")["m3"]
    benchmarks = {group: axes for group, axes in groups.items() if not group.endswith("_variants")}
    assert {group: len(axes["tasks"]) for group, axes in benchmarks.items()} == {"atari": 26, "dmc": 18, "craftax": 1}
    assert benchmarks["dmc"]["tasks"] == dmc.names() and benchmarks["craftax"]["tasks"] == craftax.names()
    assert all(axes["seeds"] == [0, 1, 2, 3, 4] for axes in groups.values())


def test_ablations_of_m3_are_on_tasks_of_ours(shipped: Suites) -> None:
    """Four on each benchmark (REM's games, six tasks of DMC); on the games also the three that lead to Simulus-A, on
    vectors evenly spaced values."""
    head, groups = suite.read_suite("ablations")
    assert "of our choice (the paper's are not known)" in head["description"]
    four = ["no-intrinsic", "no-prioritised-replay", "no-hl-gauss", "no-extras"]
    found = {group: (axes["variants"], len(axes["tasks"])) for group, axes in groups["m3"].items()}
    assert found == {
        "atari_variants": ([*four, "attention", "fsq", "simulus-a"], 8),
        "dmc_variants": ([*four, "uniform-vectors"], 6),
        "craftax_variants": ([*four, "uniform-vectors"], 1),
    }
    assert groups["m3"]["atari_variants"]["tasks"] == groups["rem"]["atari_variants"]["tasks"]
    assert set(groups["m3"]["dmc_variants"]["tasks"]) < set(shipped("paper")["m3"]["dmc"]["tasks"])


def test_sizes_of_the_suites(shipped: Suites) -> None:
    """As docs/runs.md has them; ``paper`` holds all that is trained at the published size."""
    counts = {name: suite.count_runs(shipped(name)) for name in suite.known_suites()}
    assert counts == {
        "smoke": 14, "small": 24, "laptop": 16, "atari100k": 520, "dmc": 90, "craftax": 5, "crafter": 20,
        "ablations": 760, "paper": 1395,
    } | EXPERIMENTS  # fmt: skip
    heads = {name: suite.read_suite(name)[0] for name in counts}
    for name, count in counts.items():
        page = PROJECT / "docs" / ("experiments.md" if name in EXPERIMENTS else "runs.md")
        assert f"| `{name}` | {heads[name]['scale']} | {count:,} |" in page.read_text()
    others = [name for name in {*counts} - {"paper", *EXPERIMENTS} if heads[name]["scale"] == "paper"]
    assert sorted(heads["paper"]["include"]) == sorted(others)
    assert counts["paper"] == sum(counts[name] for name in others)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.key)
@pytest.mark.parametrize(("size", "scale", "benchmark", "seeds"), [
    ("-smoke", "smoke", "minigrid", 1), ("-screen", "small", "minigrid", 3), ("", "paper", "atari", 5),
])  # fmt: skip
def test_a_family_has_a_suite_of_every_size(
    family: Family, size: str, scale: str, benchmark: str, seeds: int, shipped: Suites
) -> None:
    """With the method as published; the screen has some of the variants, of a family of three all."""
    head, groups = suite.read_suite(f"{family.key}{size}")
    assert head["scale"] == scale and groups.keys() == {family.method}
    base, variants = groups[family.method][benchmark], groups[family.method][f"{benchmark}_variants"]
    assert {**base, "variants": variants["variants"]} == variants and base["seeds"] == list(range(seeds))
    assert len(base["tasks"]) == (26 if scale == "paper" else 1)
    chosen, declared = variants["variants"], [*family.names[1:]]
    assert set(chosen) < set(declared) if size == "-screen" and len(declared) > 3 else set(chosen) == set(declared)


@pytest.mark.parametrize("size", ["smoke", "screen", "full"])
def test_the_suite_of_all_families_trains_what_they_share_once(size: str, shipped: Suites) -> None:
    suffix = "" if size == "full" else f"-{size}"
    head, groups = suite.read_suite(f"experiments-{size}")
    assert head["include"] == [f"{key}{suffix}" for key in FAMILIES]
    alone = {family.key: suite.count_runs(shipped(f"{family.key}{suffix}")) for family in FAMILIES.values()}
    of_iris = [family for family in FAMILIES.values() if family.method == "iris"]
    shared = suite.count_runs({"iris": {name: axes for name, axes in groups["iris"].items() if "variants" not in axes}})
    assert suite.count_runs(groups) == sum(alone.values()) - (len(of_iris) - 1) * shared


def test_all_variants_of_the_families_are_on_the_three_games(shipped: Suites) -> None:
    for method, groups in shipped("experiments-games").items():
        declared = [name for family in FAMILIES.values() if family.method == method for name in family.names[1:]]
        assert groups["atari_variants"]["variants"] == declared
        assert all(
            (axes["tasks"], axes["seeds"]) == (["Boxing", "Breakout", "Pong"], [0, 1]) for axes in groups.values()
        )


def test_grid_lists_every_group_that_the_stages_refer_to(project: Path) -> None:
    write_suite(project, "one", "scale: smoke\niris:\n  minigrid: {tasks: [Empty-5x5], seeds: [3]}\n")
    suite.activate("one")
    grid = yaml.safe_load((project / "pipeline" / "grid.yaml").read_text())["grid"]
    assert grid["suite"] == "one" and grid["scale"] == "smoke"
    assert grid["iris"]["minigrid"] == {"tasks": ["Empty-5x5"], "seeds": [3]}
    assert grid["iris"]["atari"] == {"tasks": [], "seeds": []}
    assert grid["iris"]["atari_variants"] == {"variants": [], "tasks": [], "seeds": []}


def test_including_adds_the_groups_of_other_suites(project: Path) -> None:
    write_suite(project, "a", "scale: paper\niris: {atari: {tasks: [Pong], seeds: [0]}}\n")
    write_suite(project, "b", "scale: paper\niris: {minigrid: {tasks: [Empty-5x5], seeds: [0, 1]}}\n")
    write_suite(project, "both", "scale: paper\ninclude: [a, b]\n")
    assert suite.count_runs(suite.read_suite("both")[1]) == 3


def test_a_run_of_several_included_suites_is_trained_once(project: Path) -> None:
    """The agent that two suites compare their variants with; groups that differ in one axis are one matrix."""
    shared = "scale: paper\niris:\n  atari: {tasks: [Pong], seeds: [0, 1]}\n"
    for name, variant in (("a", "64-tokens"), ("b", "block-causal")):
        write_suite(
            project, name, f"{shared}  atari_variants: {{variants: [{variant}], tasks: [Pong], seeds: [0, 1]}}\n"
        )
    write_suite(project, "both", "scale: paper\ninclude: [a, b]\niris: {atari: {tasks: [Pong], seeds: [2]}}\n")
    assert suite.read_suite("both")[1]["iris"] == {
        "atari": {"tasks": ["Pong"], "seeds": [0, 1, 2]},
        "atari_variants": {"variants": ["64-tokens", "block-causal"], "tasks": ["Pong"], "seeds": [0, 1]},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: big\n", "scale is big; it must be one of smoke, small, laptop, paper"),
        ("scale: smoke\nirs: {}\n", "unknown method 'irs': did you mean iris"),
        ("scale: smoke\niris: {atary: {tasks: [], seeds: []}}\n", "iris has no group 'atary': did you mean atari"),
        (
            "scale: smoke\niris: {atari: {games: [Pong], seeds: [0]}}\n",
            "iris.atari gives games, seeds; it needs tasks, seeds",
        ),
        ("scale: smoke\niris: {atari: {tasks: [Pong, Pong], seeds: [0]}}\n", "a list without repetitions"),
        ("scale: smoke\ninclude: [other]\n", "includes 'other' of another scale"),
        (
            "scale: paper\ninclude: [other]\niris: {atari: {tasks: [Boxing], seeds: [1]}}\n",
            "iris.atari stands in two suites, and together they are no matrix of tasks, seeds",
        ),
        ("scale: smoke\ninclude: [othr]\n", "unknown suite 'othr': did you mean other"),
        ("scale: [smoke\n", "no valid YAML"),
        ("scale: smoke\n\tiris: {}\n", "wrong.yaml line 2 is no valid YAML"),
        ("scale: smoke\nscale: smoke\n", "wrong.yaml line 2 is no valid YAML: 'scale' stands in line 1 already"),
        ("- smoke\n", "wrong.yaml line 1: the file must be a mapping"),
        ("smoke\n", "wrong.yaml line 1: the file must be a mapping"),
        ("scale: [smoke, small]\n", "wrong.yaml line 1: scale is"),
        ("scale: smoke\ninclude: other\n", "wrong.yaml line 2: include must be a list of suites, not other"),
        ("scale: smoke\ninclude: [wrong]\n", "wrong.yaml line 2: it includes itself (wrong -> wrong)"),
        ("scale: smoke\ninclude: [loop]\n", "loop.yaml line 2: it includes itself (wrong -> loop -> wrong)"),
        ("scale: smoke\ninclude: [[other]]\n", "unknown suite"),
        ("scale: smoke\niris: 3\n", "wrong.yaml line 2: iris must hold groups"),
        ("scale: smoke\niris:\n  atari: 3\n", "wrong.yaml line 3: iris.atari gives 3; it needs tasks, seeds"),
        ("scale: smoke\niris: {atari: {tasks: Pong, seeds: [0]}}\n", "iris.atari.tasks must be a list without"),
        ("scale: smoke\ndescription: [x]\n", "wrong.yaml line 2: description must be a text"),
        (
            "scale: smoke\niris: {atari: {tasks: [Pogn], seeds: [0]}}\n",
            "unknown task 'Pogn': did you mean Pong",
        ),
        (
            "scale: smoke\niris: {atari: {tasks: [atari/Pong], seeds: [0]}}\n",
            "tasks of this group are named without atari/: write Pong",
        ),
        ("scale: smoke\niris: {atari: {tasks: [../../x], seeds: [0]}}\n", "unknown task '../../x'"),
        ("scale: smoke\niris: {atari: {tasks: [[Pong]], seeds: [0]}}\n", "unknown task"),
        ("scale: smoke\niris: {atari: {tasks: [Pong], seeds: [-1]}}\n", "iris.atari.seeds: -1 is no seed"),
        ("scale: smoke\niris: {atari: {tasks: [Pong], seeds: [one]}}\n", "iris.atari.seeds: one is no seed"),
        ("scale: smoke\niris: {atari: {tasks: [Pong], seeds: [1.5]}}\n", "iris.atari.seeds: 1.5 is no seed"),
        ("scale: smoke\niris: {atari: {tasks: [Pong], seeds: [true]}}\n", "iris.atari.seeds: True is no seed"),
        (
            "scale: smoke\niris: {atari: {tasks: [Pong], seeds: [0]}, any: {tasks: [atari/Pong], seeds: [0, 1]}}\n",
            "wrong.yaml line 2: iris/atari/Pong/0 is in the groups atari and any: take it out of one",
        ),
        (
            "scale: smoke\niris: {any: {tasks: [gym/CartPol-v1], seeds: [0]}}\n",
            "iris.any.tasks: unknown task 'gym/CartPol",
        ),
        ("scale: smoke\niris: {any: {tasks: [CartPole-v1], seeds: [0]}}\n", "expected <benchmark>/<name>"),
        (
            "scale: smoke\niris:\n  atari_variants:\n    {variants: [63-tokens], tasks: [Pong], seeds: [0]}\n",
            "wrong.yaml line 4: iris.atari_variants.variants: unknown variant '63-tokens' of iris: did you mean",
        ),
    ],
)
def test_mistakes_in_a_suite_are_refused_before_the_grid_is_touched(project: Path, text: str, message: str) -> None:
    write_suite(project, "other", "scale: paper\niris: {atari: {tasks: [Pong], seeds: [0]}}\n")
    write_suite(project, "loop", "scale: smoke\ninclude: [wrong]\n")
    write_suite(project, "wrong", text)
    grid = project / "pipeline" / "grid.yaml"
    grid.write_text("grid: kept\n")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        suite.activate("wrong")
    assert len(str(caught.value)) <= 300 and grid.read_text() == "grid: kept\n"


def test_a_mistake_in_one_suite_hides_no_other(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_suite(project, "aaa", "scale: huge\n")
    write_suite(project, "zzz", "scale: smoke\niris: {atari: {tasks: [Pong], seeds: [0]}}\n")
    assert suite.main([]) == 2
    printed = capsys.readouterr()
    assert "zzz smoke       1 runs" in printed.out and "aaa.yaml" in printed.err and printed.err.count("\n") == 1


def test_no_mistake_in_a_suite_makes_a_long_message(project: Path) -> None:
    names = ", ".join(f"game-{number}" for number in range(200))
    for text in (
        f"scale: [{names}]\n", f"scale: smoke\ninclude: [[{names}]]\n", f"scale: smoke\ninclude: {{a: [{names}]}}\n",
        f"scale: smoke\niris: [{names}]\n", f"scale: smoke\niris: {{atari: [{names}]}}\n",
        f"scale: smoke\niris: {{atari: {{tasks: [{names}, game-1], seeds: [0]}}}}\n",
        f"scale: smoke\niris: {{atari: {{tasks: [Pong], seeds: [[{names}]]}}}}\n",
        f"scale: smoke\niris: {{atari: {{tasks: [[{names}]], seeds: [0]}}}}\n",
    ):  # fmt: skip
        write_suite(project, "long", text)
        with pytest.raises(UserError) as caught:
            suite.activate("long")
        assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("name", ["../suites/a", "pipeline/suites/a.yaml", "a.yaml", "", ".", "x" * 5000])
def test_a_path_is_no_name_of_a_suite(project: Path, name: str) -> None:
    write_suite(project, "a", "scale: smoke\n")
    with pytest.raises(UserError, match="unknown suite") as caught:
        suite.activate(name)
    assert len(str(caught.value)) <= 300


def test_seeds_are_decimal(project: Path) -> None:
    write_suite(project, "a", "scale: smoke\niris: {atari: {tasks: [Pong], seeds: [08, 010]}}\n")
    assert suite.read_suite("a")[1]["iris"]["atari"]["seeds"] == [8, 10]


def test_tasks_of_groups_begin_as_their_commands_say(shipped: Suites) -> None:
    for method, groups in suite.known_groups().items():
        assert [plan.prefix_of(method, group) for group in groups] == [prefix_of(group) for group in groups]


@pytest.mark.parametrize(
    "content", [b"grid: [\n", b"grid:\n\tsuite: a\n", b"- a\n", b"grid: 3\n", b"grid: {suite: a}\n", b"\xff\xfe\0", b""]
)
def test_a_broken_grid_is_one_sentence(project: Path, content: bytes) -> None:
    (project / "pipeline" / "grid.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"pipeline/grid\.yaml") as caught:
        plan.active_plan()
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)


MADE = "tokenizer-random-policy"
BEGIN = """
  minigrid: {tasks: [Empty-5x5], seeds: [0, 1]}
  minigrid_variants: {variants: [64-tokens, tokenizer-same-game, %s], tasks: [Empty-5x5], seeds: [0, 1]}
  atari_variants: {variants: [tokenizer-same-game], tasks: [Pong], seeds: [%s]}
"""


def test_variants_that_begin_with_another_stage_are_in_groups_that_depend_on_it(project: Path) -> None:
    write_suite(project, "begin", f"scale: smoke\niris:{BEGIN % (MADE, '0, 1')}")
    grid = yaml.safe_load(suite.grid_text("begin"))["grid"]
    assert (
        grid["iris"]["minigrid_variants"]["variants"] == ["64-tokens"]
        and not grid["iris"]["other_games_variants"]["tasks"]
    )
    assert grid["iris"]["same_game_variants"] == {
        "variants": ["tokenizer-same-game"], "tasks": ["minigrid/Empty-5x5", "atari/Pong"], "seeds": [0, 1]
    }  # fmt: skip
    assert grid["iris"]["random_policy_variants"]["variants"] == ["tokenizer-random-policy"]
    names = [run.name for run in plan.plan_of(grid).runs]
    assert len(names) == len(set(names)) == 10 and "iris+tokenizer-same-game/atari/Pong/1" in names
    write_suite(project, "begin", f"scale: smoke\niris:{BEGIN % (MADE, '0')}")
    with pytest.raises(UserError, match="atari_variants and another group have different same_game_variants"):
        suite.grid_text("begin")


def test_the_command_lists_the_suites_and_names_the_nearest(checkout: Checkout) -> None:
    lines = checkout.run("python", "-m", "pipeline.suite", "--list").stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(suite.known_suites())
    done = checkout.run("python", "-m", "pipeline.suite", "crafte", status=2)
    assert done.stderr.startswith("error: unknown suite 'crafte': did you mean crafter, ")


STAGES = {
    "iris": {"atari@MsPacman-4", "crafter_variants@64-tokens-Reward-0"},
    "rem": {"atari@Alien-0", "atari_variants@4x4-tokenizer-Krull-4", "atari_more_variants@no-pop-Alien-0"},
    "delta_iris": {"crafter@Reward-4", "crafter_variants@no-frame-tokens-Reward-0"},
    "m3": {"dmc@ball_in_cup-catch-4", "craftax@Symbolic-0", "dmc_variants@no-extras-cartpole-swingup_sparse-0"},
}


@pytest.mark.parametrize("path", ["dvc.yaml", *(f"pipeline/{method}/dvc.yaml" for method in known_methods())])
def test_stages_depend_on_what_other_stages_make_or_a_clone_has(path: str, checkout: Checkout) -> None:
    """DVC notices that a file is missing only when its turn comes, behind hours of training."""
    stages = yaml.safe_load((PROJECT / path).read_text())["stages"]
    needed = {dependency for stage in stages.values() for dependency in stage.get("deps", ())}
    assert needed
    assert [name for name in needed if not name.startswith("results/") and not (checkout.folder / name).exists()] == []


@pytest.mark.parametrize("method", known_methods())
def test_every_run_of_a_suite_becomes_a_stage(checkout: Checkout, shipped: Suites, method: str) -> None:
    checkout.run("python", "-m", "pipeline.suite", "paper")
    names = checkout.dvc("stage", "list", "--name-only", f"pipeline/{method}/dvc.yaml").stdout.split()
    helpers = {"inputs", "stand_ins"} & {name.rpartition(":")[2] for name in names}
    assert len(names) == len(set(names)) == len(helpers) + suite.count_runs({method: shipped("paper")[method]})
    assert {f"pipeline/{method}/dvc.yaml:{name}" for name in STAGES[method]} <= set(names)


def test_variants_are_stages_of_their_own(checkout: Checkout) -> None:
    checkout.run("python", "-m", "pipeline.suite", "smoke")
    variants = {"variants": ["64-tokens"], "tasks": ["Pong"], "seeds": [0]}
    edit_yaml(checkout.folder / "pipeline" / "grid.yaml", {"grid": {"iris": {"atari_variants": variants}}})
    checkout.run("python", "-m", "pipeline.inputs")  # or DVC has nothing to compare
    stages = checkout.dvc("repro", "--dry", "pipeline/iris/dvc.yaml").stdout
    assert "pipeline/iris/dvc.yaml:atari_variants@64-tokens-Pong-0" in stages
    assert "method=iris variant=64-tokens task=atari/Pong seed=0 scale=smoke" in stages


def test_scale_of_the_suite_reaches_the_runs(checkout: Checkout) -> None:
    checkout.run("python", "-m", "pipeline.suite", "small")
    for method, runs in {"iris": 3, "rem": 6, "delta_iris": 3, "m3": 12}.items():
        stages = checkout.dvc("repro", "--dry", f"pipeline/{method}/dvc.yaml").stdout
        assert stages.count(f"method={method} ") == stages.count("scale=small") == runs
        assert stages.count("task=minigrid/Empty-5x5") == (3 if method == "m3" else runs)
