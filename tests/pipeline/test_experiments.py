"""Every variant of the families of experiments through the whole pipeline: trained, evaluated, collected, reported.

EXPERIMENTS="retnet lstm" in the environment restricts it to some variants.
"""

import csv
import html
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from analysis.data.families import FAMILIES
from pipeline.plan import plan_of
from tests.conftest import Checkout
from tests.pipeline.test_repro import stop_after_first_checkpoint, weights
from tokenworlds.runs.identity import RunId

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SUITE, TASK = "experiments-smoke", "minigrid/Empty-5x5"
MINUTES = 20.0  # of two cores for all of it
ONLY = os.environ.get("EXPERIMENTS", "").split()
RESUMED = ("gpt2-lora", "tokenizer-random-policy", "ncp-frame", "pop-retnet", "adversarial", "noise-02", "consistency")
"""Variants of every family with something of their own to resume: weights that stay, states, critics, noise."""


@dataclass(frozen=True)
class Trained:
    """The copy of the project in which the suite was trained, its runs, and the minutes that it took."""

    checkout: Checkout
    runs: tuple[RunId, ...]
    minutes: float


def restrict(folder: Path) -> None:
    """Leave only the variants that were asked for, and the methods themselves, in the suites of this size."""
    for path in (folder / "pipeline" / "suites").glob("*-smoke.yaml"):
        suite = yaml.safe_load(path.read_text())
        for groups in (part for part in suite.values() if isinstance(part, dict)):
            for name, axes in [*groups.items()]:
                if "variants" in axes:
                    axes["variants"] = [variant for variant in axes["variants"] if variant in ONLY]
                    if not axes["variants"]:
                        del groups[name]
        path.write_text(yaml.safe_dump(suite))


@pytest.fixture(scope="module")
def trained(make_checkout: Callable[[], Checkout]) -> Trained:
    checkout = make_checkout()
    if ONLY:
        restrict(checkout.folder)
    checkout.run(sys.executable, "-m", "pipeline.suite", SUITE)
    runs = plan_of(yaml.safe_load((checkout.folder / "pipeline" / "grid.yaml").read_text())["grid"]).runs
    began = time.monotonic()
    checkout.run(sys.executable, "-m", "pipeline.launch", "--cpus", "2")  # all that waits for no other stage
    checkout.run(sys.executable, "-m", "pipeline.repro")
    return Trained(checkout, runs, (time.monotonic() - began) / 60)


def test_the_suite_takes_at_most_as_long_as_it_says(trained: Trained) -> None:
    assert trained.minutes <= MINUTES, f"{len(trained.runs)} runs took {trained.minutes:.1f} minutes"


def test_every_run_was_trained_and_evaluated(trained: Trained) -> None:
    """An oracle trains no world model and a fixed tokenizer no tokenizer: all train a policy."""
    for run in trained.runs:
        folder = trained.checkout.folder / "results" / "runs" / run.name
        scores = json.loads((folder / "scores.json").read_text())
        assert scores["run"]["suite"] == SUITE and len(scores["returns"]) == scores["protocol"]["episodes"]
        assert scores["budget"]["agent_updates"]["actor_critic"] > 0, run.name
        tests = list(csv.DictReader((folder / "evaluations.csv").read_text().splitlines()))
        assert [row["split"] for row in tests][-1] == "final" and len(tests) > 1, run.name


def test_every_run_is_collected_with_its_measures(trained: Trained) -> None:
    collected = trained.checkout.folder / "results" / "collected"
    tables = {
        name: list(csv.DictReader((collected / f"{name}.csv").read_text().splitlines()))
        for name in ("scores", "measures", "losses")
    }
    expected = {run.name for run in trained.runs}
    assert {RunId.of_record(row).name for row in tables["scores"]} == expected
    assert {RunId.of_record(row).name for row in tables["measures"]} == expected
    assert {RunId.of_record(row).name for row in tables["losses"]} == expected
    assert all(row["updates"] and row["env_steps"] and row["seconds"] for row in tables["losses"])


def test_the_report_shows_every_variant_in_the_part_of_its_family(trained: Trained) -> None:
    page = (trained.checkout.folder / "results" / "report" / "index.html").read_text()
    assert 'id="failures"' not in page and 'id="unfinished"' not in page
    chosen = {(run.method, run.variant) for run in trained.runs}
    for family in FAMILIES.values():
        part = re.search(rf'<section id="{family.key}">(.*?)</section>', page, re.DOTALL)
        assert part is not None and family.question in html.unescape(part[1])
        names = [name for name in family.names[1:] if (family.method, name) in chosen]
        for variant in map(family.variant, ["", *names] if names else []):
            assert f"{variant.id} {family.shown(variant.name)}</td>" in part[1], variant.name


def test_a_second_repro_trains_nothing(trained: Trained) -> None:
    assert "Running stage" not in trained.checkout.dvc("repro", "--all-pipelines").stdout


@pytest.mark.parametrize("variant", [name for name in RESUMED if not ONLY or name in ONLY])
def test_a_killed_run_ends_with_the_same_bits(variant: str, trained: Trained) -> None:
    method = next(family.method for family in FAMILIES.values() if variant in family.names)
    checkout, again = trained.checkout, Path("resumed", "runs", f"{method}+{variant}")
    whole = checkout.folder / "whole" / again.name
    settings = (f"method={method}", f"variant={variant}", f"task={TASK}", "seed=0", "scale=smoke",
                "runtime.deterministic=true", "runtime.tracking=false")  # fmt: skip
    checkout.train(*settings, f"out={whole}", f"runtime.scratch={checkout.folder / 'whole' / 'scratch'}")
    command = (sys.executable, "-m", "pipeline.train", *settings, f"out={checkout.folder / again}")
    stop_after_first_checkpoint(checkout, command, signal.SIGKILL, again)
    assert "resuming after epoch" in checkout.run(*command).stdout
    assert weights(checkout.folder / again) == weights(whole)
