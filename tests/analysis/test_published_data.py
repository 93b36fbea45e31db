"""The published scores in ``results/data``: counts, duplicates, printed means, and defects that must stay visible."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.data.defects import read_defects
from analysis.data.published import all_ablation_scores
from analysis.data.scores import DATA, References, Suite
from analysis.stats.metrics import run_counts
from tokenworlds.errors import UserError

ATARI = {
    ("SimPLe", "paper"): (26, 5), ("DrQ(eps)", "paper"): (26, 100), ("SPR", "paper"): (26, 100),
    ("MuZero", "paper"): (26, 1), ("EfficientZero", "paper"): (26, 1), ("IRIS", "paper"): (26, 5),
    ("TWM", "paper"): (26, 5), ("DreamerV3", "paper-v1-2023"): (26, 5), ("REM", "paper"): (26, 5),
    ("Delta-IRIS", "released-config"): (26, 5), ("M3", "paper"): (26, 5), ("Simulus-A", "partial"): (1, 5),
}  # fmt: skip
FURTHER = {("STORM", "repo"): (26, 5), ("DIAMOND", "paper"): (26, 5)}
ABLATIONS = {
    ("REM", "no-pop"): (26, 5), ("REM", "separate-wm-embeddings"): (8, 5), ("REM", "tokenizer-4x4"): (8, 5),
    ("REM", "no-latent-actor-critic"): (8, 5), ("REM", "no-action-input"): (8, 5),
}  # fmt: skip
DMC = {("M3", "paper"): (18, 5)}
SHORT = {("no-pop", "Frostbite"): 3, ("no-pop", "UpNDown"): 4}
KNOWN_DIFFERENCES = {
    ("STORM", "Freeway"), ("DreamerV3", "ChopperCommand"), ("DreamerV3", "UpNDown"), ("Simulus-A", "Breakout"),
}  # fmt: skip


def read(name: str) -> pd.DataFrame:
    frame = pd.read_csv(DATA / name, dtype=str, keep_default_na=False)
    for column in ("score", "mean", "random", "human", "hns_final", "hns_max"):
        if column in frame:
            frame[column] = [float(text or "nan") for text in frame[column]]
    return frame


@pytest.mark.parametrize(
    ("name", "expected"),
    [("atari100k.csv", ATARI), ("further_seeds.csv", FURTHER), ("ablations.csv", ABLATIONS), ("dmc.csv", DMC)],
)
def test_every_method_has_its_tasks_and_seeds(name: str, expected: dict) -> None:
    frame = read(name)
    assert frame.score.notna().all()
    assert not frame.duplicated(["method", "variant", "task", "seed"]).any()
    assert set(zip(frame.method, frame.variant)) == set(expected)
    for (method, variant, task), rows in frame.groupby(["method", "variant", "task"]):
        wanted = SHORT.get((variant, task), expected[method, variant][1])
        assert sorted(map(int, rows.seed)) == list(range(wanted)), (method, variant, task)
    tasks = frame.groupby(["method", "variant"]).task.nunique()
    assert tasks.to_dict() == {key: count for key, (count, _) in expected.items()}


def test_references_are_26_games_on_which_humans_beat_random() -> None:
    frame = read("reference_scores.csv")
    assert frame.task.is_unique and len(frame) == 26
    assert (frame.human > frame.random).all()
    assert set(frame.task) == set(read("atari100k.csv").task) == set(read("further_seeds.csv").task)


def test_curl_is_100_runs_of_26_games_and_further_curves_have_no_duplicates() -> None:
    curves = read("further_curves.csv")
    assert len(curves) == 24903
    assert not curves.duplicated(["benchmark", "method", "variant", "task", "seed", "point"]).any()
    frame = read("atari100k_hns_only.csv")
    assert frame.groupby("task").seed.nunique().eq(100).all() and frame.task.nunique() == 26
    assert (frame.hns_final <= frame.hns_max + 1e-12).all()


def test_craftax_curves_are_complete() -> None:
    frame = read("craftax_curves.csv")
    assert not frame.duplicated(["method", "seed", "point"]).any()
    for method, seeds, points in (("M3", 5, 50), ("PPO-RNN", 10, 244), ("RND", 10, 244), ("E3B", 10, 244)):
        sizes = frame[frame.method == method].groupby("seed").size()
        assert len(sizes) == seeds and sizes.eq(points).all(), method


def test_printed_means_agree_with_raw_scores_except_where_known() -> None:
    means = pd.concat([read("atari100k.csv"), read("further_seeds.csv")]).groupby(["method", "task"]).score.mean()
    printed = read("printed_means.csv")
    for row in printed[printed.benchmark == "atari100k"].itertuples():
        digits = 1 if "Table" in row.source else (0 if row.method == "Simulus-A" else 2)
        slack = 1.0 if row.method == "DreamerV3" else 0.5 * 10**-digits + 1e-6
        agrees = abs(row.mean - means[row.method, row.task]) <= slack
        assert agrees != ((row.method, row.task) in KNOWN_DIFFERENCES), (row.method, row.task)


def test_no_two_methods_share_their_scores_except_where_declared(suites: dict[str, Suite]) -> None:
    declared = {(frozenset(defect.methods), task) for defect in read_defects() for task in defect.tasks}
    copies = set()
    for suite in suites.values():
        for (x, first), (y, second) in itertools.combinations(suite.raw.items(), 2):
            for column, task in enumerate(suite.tasks):
                values = np.sort(first[:, column])
                if len(np.unique(values)) > 1 and np.array_equal(values, np.sort(second[:, column])):
                    copies.add((frozenset((x, y)), task))
    assert copies == {(frozenset(("no-latent-actor-critic", "no-action-input")), "RoadRunner")}
    assert copies <= declared


def test_simulus_a_is_kept_apart_and_in_no_aggregate(suites: dict[str, Suite]) -> None:
    suite = suites["atari100k"]
    assert list(suite.partial) == ["Simulus-A"] and "Simulus-A" not in suite.scores and len(suite.scores) == 15
    assert {task for task, runs in suite.runs("Simulus-A").items() if runs} == {"Breakout"}
    assert suite.partial_raw["Simulus-A"][:, suite.tasks.index("Breakout")].mean() == pytest.approx(331.46, abs=0.005)


def test_only_one_ablation_has_unequal_numbers_of_runs(references: References) -> None:
    scores = all_ablation_scores(references)
    ragged = {name: dict(zip(references.tasks, run_counts(raw))) for name, raw in scores.items()}
    assert {task: int(runs) for task, runs in ragged.pop("no-pop").items() if runs != 5} == {
        "Frostbite": 3,
        "UpNDown": 4,
    }
    assert all(sorted(set(runs.values())) == [0, 5] for runs in ragged.values())


def test_defects_name_known_methods_and_games(suites: dict[str, Suite]) -> None:
    methods = {method for suite in suites.values() for method in (*suite.scores, *suite.partial)}
    methods |= set(read("craftax_curves.csv").method)
    tasks = {task for suite in suites.values() for task in suite.tasks}
    for defect in read_defects():
        assert set(defect.methods) <= methods and set(defect.tasks) <= tasks and defect.note.endswith(".")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("defct,REM,,,Wrong.\n", r"line 2: unknown kind 'defct'.* defect"),
        ("defect,REM,,,None.\ndefect,REM,,eight_game,Wrong.\n", r"line 3: unknown effect 'eight_game'.* eight_games"),
    ],
)
def test_unknown_kinds_and_effects_of_defects_are_refused(rows: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "defects.csv").write_text(f"kind,methods,tasks,effect,note\n{rows}")
    with pytest.raises(UserError, match=message):
        read_defects(tmp_path)


def test_remarks_on_episodes_are_what_the_digits_of_the_scores_prove() -> None:
    """A mean over 100 episodes is a multiple of 1/100."""
    ablations = read("ablations.csv")
    more = (ablations.score * 100).round(6) % 1 != 0
    counts = more.groupby(ablations.variant).sum()
    (remark,) = (defect for defect in read_defects() if defect.effect == "episodes")
    assert set(remark.methods) == {*ablations.variant} - {"no-pop"}
    assert f"{counts[list(remark.methods)].sum()} of the 160" in remark.note
    assert f"{counts['tokenizer-4x4']} of 40" in remark.note
    rest = ablations[more & (ablations.variant != "no-pop")].score * 104
    fitting = int(((rest - rest.round()).abs() <= 0.0005 * 104 + 1e-6).sum())  # rounded to 3 decimals
    assert f"{fitting} of the {len(rest)} fit 104" in remark.note
    odd = ablations[more & (ablations.variant == "no-pop")]
    assert odd.task.tolist() == ["UpNDown"] and str(odd.score.item()) in "".join(map(str, read_defects()))


def test_what_the_sources_say_of_single_methods_is_remarked() -> None:
    remarks = [(set(entry.methods), entry.tasks, entry.note) for entry in read_defects() if entry.kind == "remark"]
    for method, tasks, word in (
        ("REM", ("Frostbite",), "104 episodes"),
        ("no-pop", ("Frostbite", "UpNDown"), "3 runs on Frostbite and 4 on UpNDown"),
        ("no-pop", ("Frostbite", "UpNDown"), "103 episodes"),
        ("Simulus-A", ("Breakout",), "319"),
        ("M3", (), "decisions or simulator steps"),
        ("RND", (), "inferred"),
    ):
        assert any(method in who and where == tasks and word in note for who, where, note in remarks), (method, word)


def test_the_duplicated_ablation_column_is_still_there() -> None:
    frame = read("ablations.csv")
    rows = frame[frame.task == "RoadRunner"].pivot(index="seed", columns="variant", values="score")
    assert (rows["no-latent-actor-critic"] == rows["no-action-input"]).all()
