"""Runs of several configurations under one name: refused with both settings named, or told apart by a label."""

import json
from typing import Any

import pytest

from tokenworlds.errors import UserError
from tokenworlds.settings import LABEL, shown_variants, trained_variant

ACCEPT = "accept both with `--mixed label`"


def run(task: str = "atari/Pong", seed: int = 0, **changes: Any) -> dict[str, Any]:
    return {"method": "iris", "variant": None, "task": task, "seed": seed, "scale": "smoke", **changes}


def shipped(**changes: Any) -> dict[str, Any]:
    return run(**{"settings_hash": "a" * 12, "overrides": {}, **changes})


def retnet(**changes: Any) -> dict[str, Any]:
    return run(**{"settings_hash": "b" * 12, "overrides": {"model.backbone": "retnet"}, **changes})


def shown(*runs: dict[str, Any], mixed: str = "refuse") -> list[str]:
    return shown_variants(runs, "results/scores", ACCEPT, mixed)


def test_a_mixture_is_refused_naming_settings_numbers_and_remedy() -> None:
    with pytest.raises(UserError) as refused:
        shown(retnet(), *(shipped(seed=seed) for seed in (1, 2, 3)))
    message = str(refused.value)
    assert message == (
        "results/scores mixes settings under iris on atari, smoke scale: 3 runs with the shipped settings "
        "and 1 run with model.backbone=retnet (such as atari/Pong/0); train or restore the others, or accept both with "
        "`--mixed label`."
    )
    assert len(message) <= 300


def test_a_deliberate_mixture_is_labelled() -> None:
    assert shown(retnet(), shipped(seed=1), mixed=LABEL) == ["model.backbone=retnet", ""]
    assert shown(retnet(variant="64-tokens"), mixed=LABEL) == ["64-tokens+model.backbone=retnet"]


def test_a_pure_group_that_deviates_never_passes_for_the_shipped_one() -> None:
    assert shown(retnet(), retnet(seed=1)) == ["model.backbone=retnet"] * 2


@pytest.mark.parametrize(
    "changes", [{"scale": "paper"}, {"method": "rem"}, {"variant": "64-tokens"}, {"task": "minigrid/Empty-5x5"}]
)
def test_runs_of_another_name_scale_or_family_are_not_compared(changes: dict[str, Any]) -> None:
    shown(shipped(), retnet(**changes))


def test_runs_that_say_nothing_count_as_shipped() -> None:
    assert shown(run(), run(seed=1), shipped(seed=2)) == [""] * 3
    with pytest.raises(UserError, match="1 run with the shipped settings"):
        shown(run(), retnet(seed=1))


def test_unknown_settings_with_two_hashes_of_one_run_are_refused() -> None:
    assert shown(run(config_hash="x"), run(seed=1, config_hash="y")) == ["", ""]
    with pytest.raises(UserError, match=r"holds iris/atari/Pong/0 of two configurations \(x and y\)"):
        shown(run(config_hash="x"), run(config_hash="y"))


def test_equal_overrides_of_different_shipped_configurations_are_a_mixture_too() -> None:
    other = shipped(seed=1, settings_hash="c" * 12)
    with pytest.raises(UserError, match=r"shipped settings aaaaaaaaaaaa .* shipped settings cccccccccccc"):
        shown(shipped(), other)
    assert shown(shipped(), other, mixed=LABEL) == ["settings=aaaaaa", "settings=cccccc"]


def test_a_labelled_table_is_read_again_as_it_is() -> None:
    rows = [retnet(), shipped(seed=1)]
    labels = shown(*rows, mixed=LABEL)
    table = [row | {"variant": label, "overrides": json.dumps(row["overrides"])} for row, label in zip(rows, labels)]
    assert shown(*table) == labels
    assert [trained_variant(label) for label in labels] == ["", ""]
    assert trained_variant("64-tokens+model.backbone=retnet") == "64-tokens"
    assert trained_variant("no-pop") == "no-pop"


def test_many_long_settings_fit_into_a_message_and_into_a_file_name() -> None:
    values = {f"training.{'very_' * 9}long_{number}": "/a b/c" * 9 for number in range(9)}
    odd = retnet(overrides=values, task="minigrid_symbolic/" + "Very" * 30)
    even = shipped(task="minigrid_symbolic/" + "Long" * 30)
    third = retnet(overrides=values | {"a": 1}, settings_hash="c" * 12, task=odd["task"])
    with pytest.raises(UserError) as refused:
        shown(odd, even, third)
    assert len(str(refused.value)) <= 300
    (label,) = shown(odd)
    assert label.endswith(",and-7-more,settings=bbbbbb") and "/" not in label and " " not in label


@pytest.mark.parametrize("overrides", ["{", "[1]", "3", [1]])
def test_overrides_that_are_no_mapping_are_refused(overrides: object) -> None:
    with pytest.raises(UserError, match=r"the overrides of iris/atari/Pong/0 are no"):
        shown(run(overrides=overrides))
