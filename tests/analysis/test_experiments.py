"""Families of experiments: their declaration, what is compared, and the answers that are computed."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.context import Context, make_context
from analysis.data.families import FAMILIES, PREDICTED, PSNR, RANDOM_PLAY, SCORE, Claim, Family
from analysis.data.scores import ROOT
from analysis.draw.artefacts import Drawing
from analysis.errors import NoData
from analysis.stats.bootstrap import FastEngine
from analysis.studies import experiment_pages
from analysis.studies.experiment_figures import curves, loss_figure, paint
from analysis.studies.experiment_tables import CHANCE, answers_table, variants_table
from analysis.studies.experiments import (
    FEW,
    MEASURES,
    NO,
    SAME,
    YES,
    Estimate,
    answer,
    boards,
    estimate,
    findings,
    improvement,
    measured_runs,
    seen,
    telling,
)
from tests.analysis import fabricated_experiments as fabricated
from tests.analysis.layout import assert_tidy

EMPTY, GAMES = ("minigrid/Empty-5x5",), ("atari/Boxing", "atari/Pong")
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.key)

Collect = Callable[..., Context]


@pytest.fixture
def collect(tmp_path: Path) -> Collect:
    def collected(*groups: list[fabricated.Run], better: dict[str, float] | None = None) -> Context:
        rows = [run for group in groups for run in group]
        return make_context(fabricated.write(tmp_path, rows, better), repetitions=200)

    return collected


@every_family
def test_every_variant_is_one_of_its_method(family: Family) -> None:
    known = yaml.safe_load((ROOT / "pipeline" / family.method / "params.yaml").read_text())["variants"]
    assert family.names[0] == "" and len({*family.names}) == len(family.names)
    assert [name for name in family.names[1:] if name not in known] == []
    ids = [variant.id for variant in family.variants]
    assert len({*ids}) == len(ids)


@every_family
def test_a_claim_compares_what_may_be_compared_by_what_is_measured(family: Family) -> None:
    for claim in family.claims:
        for name in (name for pair in claim.pairs for name in pair):
            assert name in family.names and not family.variant(name).beyond
        assert {*claim.measures} <= {*MEASURES}
    assert {*family.measures, *family.columns} <= {*MEASURES} and any(part.is_control for part in family.variants) is (
        family.key != "noise"  # whose control is the method itself
    )


def test_what_is_no_result_of_100k_steps_is_what_the_plan_says() -> None:
    beyond = {variant.id for family in FAMILIES.values() for variant in family.variants if variant.beyond}
    assert beyond == {"B1", "B2", "B8", "C3"}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Estimate(0.9, 0.6, 1.0, 5), YES), (Estimate(0.1, 0.0, 0.4, 5), NO), (Estimate(0.6, 0.4, 0.8, 5), SAME),
        (Estimate(0.6, 0.5, 0.8, 5), SAME), (Estimate(1.0, 1.0, 1.0, 2), FEW), (Estimate(1.0, np.nan, np.nan, 1), FEW),
    ],
)  # fmt: skip
def test_what_is_seen_follows_from_interval_and_runs(found: Estimate, text: str) -> None:
    assert seen(found) == text


@pytest.mark.parametrize(("count", "share"), [(3, 1 / 5), (5, 1 / 10)])
def test_chance_answers_as_often_as_is_said(count: int, share: float) -> None:
    """All orders of so many runs of equal agents on a task are equally likely; half of them mirror the others."""
    assert CHANCE.startswith("On a single task chance alone answers one question in five")
    found = []
    for others in itertools.combinations(range(1, 2 * count), count - 1):
        values = np.arange(2.0 * count)
        is_first = np.isin(values, [0, *others])
        x, y = (values[mask][:, None] for mask in (is_first, ~is_first))
        low, high = FastEngine().improvement(x, y, np.random.default_rng(0), 1_000)
        found.append(seen(Estimate(0.5, low, high, count)))
    answered = [text in (YES, NO) for text in found]
    assert sum(answered) / len(answered) == pytest.approx(share, abs=0.01)


def test_an_answer_is_what_all_comparisons_say_or_each_of_them() -> None:
    better, worse, same = Estimate(0.9, 0.6, 1.0, 5), Estimate(0.1, 0.0, 0.4, 5), Estimate(0.5, 0.2, 0.8, 5)
    assert answer([better, better]) == "yes" and answer([same]) == "no difference seen"
    assert answer([better, same]) == "yes; no difference seen" and answer([worse]) == "no, the other way round"
    assert answer([better, Estimate(0.9, 0.6, 1.0, 3)]) == "yes (screening, 3 runs)"
    assert answer([better, Estimate(1.0, 1.0, 1.0, 2)]) == "not enough runs (2; 3 are needed)"


def test_a_variant_that_is_better_is_found_and_the_others_are_not(collect: Collect) -> None:
    """Losses are better where they are low."""
    context = collect(fabricated.runs(["sequence-models"], EMPTY, 5, "small"), better={"mamba": 0.3, "lstm": -0.3})
    (board,) = boards(FAMILIES["sequence-models"], context)
    found = {(each.claim.pairs[0][0], each.measure): each.answer for each in findings(board, context)}
    for measure in (RANDOM_PLAY, SCORE):
        assert found["mamba", measure] == "yes" and found["lstm", measure] == "no, the other way round"
    assert (
        improvement(board, "mamba", "", RANDOM_PLAY, context).point
        == improvement(board, "mamba", "", SCORE, context).point
        == 1
    )
    assert improvement(board, "", "mamba", SCORE, context).point == 0


def test_variants_of_different_tasks_are_compared_on_those_that_they_share(collect: Collect) -> None:
    """A variant that was trained on the easier half only does not look better for it."""
    easy, hard = EMPTY[0], "minigrid/DoorKey-6x6"
    chosen = fabricated.runs(["sequence-models"], [easy, hard], 5, "small")
    chosen = [run for run in chosen if run["variant"] != "retnet" or run["task"] == easy]
    context = collect(chosen, better={"retnet": -0.3})
    family = FAMILIES["sequence-models"]
    (board,) = boards(family, context)
    own = board.runs[(board.runs.variant == "") & (board.runs.task == easy)]
    found = estimate(board, "", SCORE, context, beside=["retnet"])
    assert found.point == pytest.approx(own[SCORE].mean()) != estimate(board, "", SCORE, context).point
    assert f"{own[SCORE].mean():.3f}" in answers_table(family, context).markdown
    for item in (variants_table(family, context), loss_figure(family.names, family, context)):
        assert "Means are not over the same tasks (minigrid (small): IRIS 2, " in item.caption
    even = collect([run for run in chosen if run["task"] == easy])
    assert "not over the same tasks" not in variants_table(family, even).caption


def test_losses_of_another_kind_are_not_compared(collect: Collect) -> None:
    context = collect(fabricated.runs(["sequence-models"], EMPTY, 3, "small"))
    (board,) = boards(FAMILIES["sequence-models"], context)
    asked = {(each.claim.pairs[0][0], each.measure) for each in findings(board, context)}
    assert ("pop-retnet", SCORE) in asked and ("retnet", RANDOM_PLAY) in asked
    assert asked.isdisjoint({("pop-retnet", RANDOM_PLAY), ("ncp-frame", RANDOM_PLAY), ("block-causal", RANDOM_PLAY)})


def test_what_was_not_trained_or_measured_is_said(collect: Collect, tmp_path: Path) -> None:
    rows = fabricated.runs(["pretrained-transformer"], EMPTY, 3, "small")
    context = collect([run for run in rows if run["variant"] not in ("gpt2", "gpt2-frozen")])
    (tmp_path / "measures.csv").unlink()
    (board,) = boards(FAMILIES["pretrained-transformer"], make_context(tmp_path / "scores.csv", repetitions=200))
    answers = {(each.claim.question, each.measure): each.answer for each in findings(board, context)}
    assert answers["Does pretraining on language help?", SCORE] == "not trained: gpt2 and gpt2-frozen"
    assert answers["Does size alone help?", RANDOM_PLAY] == "not measured"


def test_scales_and_benchmarks_are_boards_of_their_own_and_smoke_tells_nothing(collect: Collect) -> None:
    chosen = [("noise", EMPTY, 1, "smoke"), ("noise", EMPTY, 3, "small"), ("noise", GAMES, 2, "paper")]
    context = collect(*(fabricated.runs([key], *rest) for key, *rest in chosen))
    family = FAMILIES["noise"]
    assert [board.title for board in boards(family, context)] == [
        "atari (paper)",
        "minigrid (small)",
        "minigrid (smoke)",
    ]
    assert [board.title for board in telling(family, context)] == ["atari (paper)", "minigrid (small)"]
    alone = collect(fabricated.runs(["noise"], EMPTY, 1, "smoke"))
    assert [board.title for board in telling(family, alone)] == ["minigrid (smoke)"]


def test_a_base_without_variants_is_no_experiment(collect: Collect) -> None:
    context = collect([run for run in fabricated.runs(["noise"], EMPTY, 3, "small") if not run["variant"]])
    with pytest.raises(NoData, match="make suite SUITE=noise-smoke"):
        boards(FAMILIES["noise"], context)


def test_estimates_are_means_over_tasks_and_on_games_the_interquartile_mean(collect: Collect) -> None:
    context = collect(fabricated.runs(["noise"], GAMES, 4, "paper"))
    (board,) = boards(FAMILIES["noise"], context)
    runs = board.of("noise-01", SCORE)
    assert runs.is_normalised.all() and len(runs) == 8
    values = np.sort(runs.value)
    found = estimate(board, "noise-01", SCORE, context)
    assert found.point == pytest.approx(values[2:6].mean()) and found.low < found.point < found.high and found.runs == 4
    psnr = estimate(board, "noise-01", "psnr", context)
    assert psnr.point == pytest.approx(board.of("noise-01", "psnr").psnr.mean())


def test_a_single_run_has_no_interval_and_is_labelled_a_screening(collect: Collect) -> None:
    context = collect(fabricated.runs(["noise"], EMPTY, 1, "smoke"))
    table = variants_table(FAMILIES["noise"], context)
    assert table.numbers.score_low.isna().all() and table.markdown.count("1 (screening)") == 4
    assert "not enough runs (1; 3 are needed)" in answers_table(FAMILIES["noise"], context).markdown


def test_what_is_no_result_of_100k_steps_comes_last_and_is_compared_with_nothing(collect: Collect) -> None:
    context = collect(fabricated.runs(["pretrained-tokenizer"], EMPTY, 3, "small"))
    numbers = variants_table(FAMILIES["pretrained-tokenizer"], context).numbers
    assert [text.split()[0] for text in numbers.variant] == ["B0", "B3", "B4", "B5", "B6", "B7", "B9", "B1", "B2", "B8"]
    assert list(numbers.better.isna()) == [True, *[False] * 6, *[True] * 3] and numbers.score.notna().all()
    assert list(numbers.what.str.contains("No result of 100k steps")) == [False] * 7 + [True] * 3


def test_what_is_no_result_of_100k_steps_is_shown_beside_the_others_also_on_games(collect: Collect) -> None:
    """On the scale of their scores."""
    context = collect(fabricated.runs(["sequence-models", "pretrained-tokenizer"], GAMES, 2, "paper"))
    for key in ("sequence-models", "pretrained-tokenizer"):
        (board,) = boards(FAMILIES[key], context)
        assert board.present == FAMILIES[key].names and board.runs.is_normalised.all()


def test_a_measure_of_a_part_is_apart_from_that_of_the_whole(collect: Collect) -> None:
    context = collect(fabricated.runs(["noise"], EMPTY, 1, "small"))
    found = measured_runs(context).set_index("variant")
    assert found[[*MEASURES]].notna().all().drop("peak_memory_bytes").all()
    rows = context.measures[context.measures.measure == "parameters"]
    for part, column in (("", "parameters"), ("world_model", "parameters world_model")):
        own = rows[rows.part == part].set_index("variant").value
        assert dict(found[column]) == dict(own)


def test_a_measure_of_predicted_frames_is_that_of_so_many_steps_ahead(collect: Collect) -> None:
    context = collect(fabricated.runs(["consistency"], EMPTY, 1, "small"))
    found = measured_runs(context).set_index("variant")
    errors = context.world_models[context.world_models.horizon == 5].set_index("variant").value
    assert dict(found[PREDICTED]) == pytest.approx(dict(-10 * np.log10(errors)))
    assert (found[PREDICTED] != found[PSNR]).all() and MEASURES[PREDICTED].title == "PSNR (dB), 5 steps ahead"


def test_a_frame_without_noise_is_clean(collect: Collect, tmp_path: Path) -> None:
    collect(fabricated.runs(["noise"], EMPTY, 1, "small"))
    table = pd.read_csv(tmp_path / "measures.csv", keep_default_na=False)
    noisy = table[(table.measure == "psnr") & (table.variant == "noise-02")].assign(measure="psnr_clean", value=12.0)
    pd.concat([table, noisy]).to_csv(tmp_path / "measures.csv", index=False)
    found = measured_runs(make_context(tmp_path / "scores.csv")).set_index("variant")
    assert found.psnr_clean["noise-02"] == 12.0 != found.psnr["noise-02"] and found.psnr_clean[""] == found.psnr[""]


def test_losses_are_drawn_against_steps_updates_and_seconds(collect: Collect, tmp_path: Path) -> None:
    context = collect(fabricated.runs(["pretrained-transformer"], EMPTY, 3, "small"))
    (board,) = boards(FAMILIES["pretrained-transformer"], context)
    frame = curves(board, experiment_pages.COMPARED, context)
    assert list(frame.groupby("variant", sort=False).size()) == [len(fabricated.EPOCHS)] * len(
        experiment_pages.COMPARED
    )
    losses = context.losses[(context.losses.variant == "gpt2") & (context.losses.split == "eval")]
    last = losses[losses.epoch == fabricated.EPOCHS[-1]]
    point = frame[frame.variant == "gpt2"].iloc[-1]
    assert (point["mean"], point.seconds) == pytest.approx((last.value.mean(), last.seconds.mean()))
    assert point.low < point["mean"] < point.high and point.updates == 200 * fabricated.EPOCHS[-1]
    table = pd.read_csv(tmp_path / "losses.csv").drop(columns=["env_steps", "updates", "seconds"])
    table.to_csv(tmp_path / "losses.csv", index=False)
    old = make_context(tmp_path / "scores.csv", repetitions=20)
    with pytest.raises(NoData, match="collect"):
        experiment_pages.ITEMS[1].make(old)


@every_family
def test_every_item_of_a_family_shows_all_of_its_variants_that_it_is_about(family: Family, collect: Collect) -> None:
    """Of one task each and at one scale, two seeds; the figure of family A has some of the variants."""
    context = collect(fabricated.runs([family.key], EMPTY, 2, "small"))
    items = [item for item in experiment_pages.ITEMS if item.paper == family.key]
    assert [item.kind for item in items] == ["table", "figure", "table"]
    for item in items:
        assert item.missing(context) is None
        made = item.make(context)
        if isinstance(made, Drawing):
            assert_tidy(made.figure)
        text = made.numbers.to_csv(index=False)
        names = experiment_pages.COMPARED if item.id == "X-A-F-loss" else _named(family, item.id)
        assert [name for name in names if name and name not in text] == [], item.id


def _named(family: Family, id: str) -> list[str]:
    """Variants that an item shows."""
    if id.endswith("-T-answers"):
        return [name for claim in family.claims for pair in claim.pairs for name in pair]
    return [*family.names]


@every_family
def test_without_runs_an_item_says_how_to_get_them(family: Family, collect: Collect) -> None:
    other = "noise" if family.key != "noise" else "sequence-models"
    context = collect(fabricated.runs([other], EMPTY, 1, "smoke"))
    for item in experiment_pages.ITEMS:
        if item.paper == family.key:
            assert f"make suite SUITE={family.key}-smoke" in str(item.missing(context))


@every_family
def test_variants_that_are_drawn_together_have_colours_of_their_own(family: Family) -> None:
    names = experiment_pages.COMPARED if family.letter == "A" else family.names[:13]
    assert len({paint(family, name, names) for name in names}) == len(names)


def test_a_claim_of_several_comparisons_is_the_and_of_them(collect: Collect) -> None:
    claim = next(claim for claim in FAMILIES["pretrained-transformer"].claims if len(claim.pairs) > 1)
    assert claim == Claim(claim.question, (("gpt2", "gpt2-scratch"), ("gpt2-frozen", "gpt2-random-frozen")))
    for other, text in (("gpt2-frozen", "yes"), ("gpt2-random-frozen", "yes; no, the other way round")):
        better = {"gpt2": 0.3, other: 0.3}
        context = collect(fabricated.runs(["pretrained-transformer"], EMPTY, 5, "small"), better=better)
        (board,) = boards(FAMILIES["pretrained-transformer"], context)
        (found,) = [each for each in findings(board, context) if each.claim == claim and each.measure == SCORE]
        assert found.answer == text
