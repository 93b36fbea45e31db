"""Complete runs of every method and variant, fabricated as they are collected: every item takes them in, as ours."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.context import Context, make_context
from analysis.data import naming
from analysis.data.families import FAMILIES
from analysis.data.identity import NAMES, RunGroupId
from analysis.data.runs import ATARI_FAMILY
from analysis.data.scores import ROOT, read_references
from analysis.item import Item
from analysis.items import ITEMS
from tokenworlds.runs.columns import ACTIVITIES, PARAMETERS

SUITES = ("atari100k", "ablations", "crafter", "dmc", "craftax")
SEEDS = range(5)
LONG = "long"  # a variant that nobody published or shipped: 10 million frames
AGENTS = ("IRIS", "REM", "Delta-IRIS", "M3")
ON_CRAFTER = ["Delta-IRIS", "Delta-IRIS+no-frame-tokens", "Delta-IRIS+16-tokens", "IRIS", "IRIS+64-tokens"]
VARIANTS_OF_M3 = ["M3", "M3+no-intrinsic", "M3+no-extras", "M3+uniform-vectors"]
ABLATIONS = [
    "REM",
    "REM+no-pop",
    "REM+separate-embeddings",
    "REM+4x4-tokenizer",
    "REM+no-latent-ac",
    "REM+no-action-input",
]

# Item -> why no run of ours can enter it
WITHOUT = {
    **dict.fromkeys(("SIM-T-page", "R13-T-summary", "R13-T-agreement"), "printed numbers beside published raw scores"),
    **dict.fromkeys(("R16-T-printed",), "numbers that are printed only"),
    **dict.fromkeys(("R15-T-defects",), "defects of published scores"),
    **dict.fromkeys(("DIRIS-T-tok", "DIRIS-T-abl"), "reconstruction errors and entropies that runs do not record"),
    **dict.fromkeys(("IRIS-T-hp", "REM-T-hp", "DIRIS-T-hp", "M3-T-hp"), "the settings that our runs are made from"),
    **dict.fromkeys(("R5-T-intervals", "R5-F-coverage", "R5-T-coverage"), "100 published runs serve as the truth"),
    **dict.fromkeys(("IRIS-F-rec", "IRIS-F-imag", "REM-F-rec", "DIRIS-F-rec"), "made of frames, not of scores"),
    **dict.fromkeys(("DIRIS-F-delta", "DIRIS-F-imag"), "made of frames, not of scores"),
}
# Item, or what its id begins with -> names of our runs that must be in it; the longest match counts
WITHIN = {
    "IRIS": ["IRIS", f"IRIS+{LONG}"], "IRIS-T-tok": ["64"], "IRIS-T-long": [f"IRIS+{LONG}"],
    "REM": ["IRIS", f"IRIS+{LONG}", "REM", "REM+no-pop"], "REM-F-abl": ABLATIONS, "REM-T-abl": ABLATIONS,
    "REM-F-time": ["IRIS", "REM"], "REM-F-time-abl": ["REM", "REM+no-pop", "REM+no-latent-ac"],
    "REM-F-wmloss": ABLATIONS[1:],
    "DIRIS": ["IRIS", "Delta-IRIS"], "DIRIS-T-paper": ["Delta-IRIS"],
    **dict.fromkeys(("DIRIS-T-crafter", "DIRIS-F-crafter", "DIRIS-F-success", "DIRIS-T-success"), ON_CRAFTER),
    "M3": ["IRIS", f"IRIS+{LONG}", "REM", "REM+no-pop", "M3"], "M3-T-dmc": VARIANTS_OF_M3, "M3-F-dmc": VARIANTS_OF_M3,
    **dict.fromkeys(("M3-F-craftax", "M3-T-craftax", "M3-T-cost"), VARIANTS_OF_M3),
    "M3-F-abl": [*VARIANTS_OF_M3, "M3+simulus-a"],
    "R": [*AGENTS, "REM+no-pop", f"IRIS+{LONG}"],
    **dict.fromkeys(("R1-T-ablations", "R2-T-abl", "R3-T-abl"), ABLATIONS),
    "R2-T-iris": ["IRIS"], "R2-T-rem": ["IRIS", "REM"], "R2-T-delta_iris": ["IRIS", "Delta-IRIS"],
    "R2-T-m3": ["IRIS", "REM", "M3"],
    "R12": ["REM+no-pop", "M3+no-extras"],
    "OURS": AGENTS, "OURS-F-agg": [*ABLATIONS[2:], "M3+simulus-a"], "OURS-F-tasks": [*ON_CRAFTER, *VARIANTS_OF_M3],
}  # fmt: skip
BARE = ("R12-T-effects", "REM-F-wmloss", "IRIS-T-tok")  # items that name runs without who made them, all being ours

Group = tuple[str, str, str]


def groups() -> Iterator[Group]:
    """Method, variant and task of all groups of the suites, and of one more variant."""
    for suite in SUITES:
        content = yaml.safe_load((ROOT / "pipeline" / "suites" / f"{suite}.yaml").read_text())
        for method, parts in content.items():
            for name, part in parts.items() if isinstance(parts, dict) else ():
                family = name.partition("_")[0]
                for variant in part.get("variants", [""]):
                    yield from ((method, variant, f"{family}/{task}") for task in part["tasks"])
    yield from (("iris", LONG, ATARI_FAMILY + game) for game in read_references().tasks)


def world_model_rows(random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Measures of two episodes of a world model."""
    plain = [
        ("teacher-forced", "", "", name) for name in ("loss_observations", "accuracy", "loss_ends", "end_accuracy")
    ]
    pictures = [
        (predictor, horizon, "image", name)
        for predictor in ("open loop", "still", "other", "tokenizer")
        for horizon in (1, 5)
        for name in ("mse", "ssim")
    ]
    bins = [("open loop", "", low, f"{kind}_{end}") for kind, low in (("reward", "-0.1"), ("end", "0"))
            for end in ("predicted", "observed")]  # fmt: skip
    for episode in range(2):
        for predictor, horizon, part, measure in (*plain, *pictures, *bins):
            what = {"predictor": predictor, "horizon": horizon, "part": part, "measure": measure}
            yield {"episode": episode} | what | {"value": random.random(), "count": 8}


def fabricate(folder: Path) -> Path:
    """All tables of ``python -m pipeline.collect`` with five runs of every group, random numbers in them."""
    references, random = read_references(), np.random.default_rng(0)
    names = ("scores", "costs", "evaluations", "losses", "episodes", "achievements", "world_model")
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for method, variant, task in groups():
        column, family = references.position(task), task.partition("/")[0]
        low, high = (0.0, {"dmc": 1000.0, "crafter": 22.0}.get(family, 226.0))
        if column is not None:
            low, high = float(references.random[column]), float(references.human[column])
        level = 0.3 + 0.3 * random.random()
        for seed in SEEDS:
            who = {"method": method, "variant": variant, "task": task, "seed": seed, "scale": "paper"}
            steps = 2_500_000.0 if variant == LONG else 10_000_000.0 if family == "crafter" else 1_000_000.0
            score = low + (high - low) * (level + 0.1 * random.random())
            spent = {"hardware": "GPU", "hours": 10.0 + random.random(), "epochs": 600.0, "env_steps": steps}
            limit = {"atari": 108_000.0, "crafter": 10_000.0}.get(family, np.inf)
            played = {"score": score, "score_std": 1.0, "episodes": 100.0, "length_mean": 500.0, "episode_limit": limit}
            tables["scores"].append(who | played | spent)
            seconds = {f"seconds_{name}": 10.0 + random.random() for name in ACTIVITIES}
            sizes = {column.name: 1e7 for column in PARAMETERS} | {"peak_memory_bytes": 2.0**33}
            tables["costs"].append(who | spent | seconds | sizes)
            for epoch, split in ((200, "test"), (400, "test"), (600, "final")):
                test = {"epoch": epoch, "env_steps": steps * epoch / 600, "split": split, "hours": epoch / 60}
                tables["evaluations"].append(who | test | {"return_mean": low + (score - low) * epoch / 600})
            tables["episodes"] += [
                who | {"episode": number, "return": score + random.normal(), "length": 500} for number in range(4)
            ]
            if seed < 2 and (family != "atari" or task == "atari/Pong"):
                tables["world_model"] += [who | row for row in world_model_rows(random)]
            if family == "crafter":
                rates = {"collect_wood": 99.0, "eat_cow": 40.0, "place_table": 70.0 + seed}
                tables["achievements"] += [who | {"achievement": name, "success_rate": rates[name]} for name in rates]
            if method == "rem":
                kind = {"component": "world_model", "loss": "observations"}
                tables["losses"] += [
                    who | kind | {"epoch": epoch, "split": split, "value": 3.0 - level * epoch / 600 + random.random()}
                    for epoch in (200, 400, 600)
                    for split in ("train", "eval")
                ]
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder / "scores.csv"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return make_context(fabricate(tmp_path_factory.mktemp("collected")), repetitions=20)


def expected(item: Item) -> Sequence[str]:
    """Names of our runs that the item must show."""
    return WITHIN[max((key for key in WITHIN if item.id.startswith(key)), key=len)]


# Those of the families of experiments: test_experiments.py
SHOWN = [item for item in ITEMS if item.id not in WITHOUT and item.paper not in FAMILIES]


@pytest.mark.parametrize("item", SHOWN, ids=lambda item: item.id)
def test_every_item_takes_our_runs_in_under_their_own_name(item: Item, context: Context) -> None:
    assert item.missing(context) is None
    text = item.make(context).numbers.to_csv(index=False)
    assert [name for name in expected(item) if not re.search(_pattern(name, item.id in BARE), text)] == []


def _pattern(name: str, is_bare: bool) -> str:
    """Pattern of a label of our runs, or of its end; an extent may follow it, and nothing that makes it another one
    precede it."""
    base, _, variant = name.partition("+")
    if is_bare:
        return re.escape(variant or base)
    (method,) = [method for method, known in NAMES.items() if known == base]
    label = RunGroupId(method, variant, "paper").label()
    either = "|".join(re.escape(text.removesuffix(")")) for text in (label, naming.shown(label)))
    return rf"(?<![\w-])({either})[,)]"
