"""Runs of several configurations under one name: refused with both settings named, or told apart by a label."""

import json
from enum import Enum
from typing import Any

import pytest

from analysis.data.runs import ACCEPT as ACCEPT_A_TABLE
from pipeline.collect import ACCEPT as ACCEPT_SCORES
from tests.test_config import fields
from tokenworlds.config import SCHEMAS
from tokenworlds.config.values import Leaf
from tokenworlds.errors import UserError
from tokenworlds.runs.settings import LABEL, label_variants, shown_variants

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


def test_a_mixture_of_an_environment_of_ones_own_is_of_that_environment() -> None:
    with pytest.raises(UserError, match="under iris on gym/CartPole-v1, smoke scale"):
        shown(*(one(task="gym/CartPole-v1") for one in (retnet, shipped)))


def test_runs_that_deviate_on_purpose_or_all_of_them_are_labelled() -> None:
    assert shown(retnet(), shipped(seed=1), mixed=LABEL) == ["model.backbone=retnet", ""]
    assert shown(retnet(variant="64-tokens"), mixed=LABEL) == ["64-tokens+model.backbone=retnet"]
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


def test_unknown_settings_with_two_hashes_of_one_run_are_refused_or_labelled_by_these() -> None:
    assert shown(run(config_hash="x"), run(seed=1, config_hash="y")) == ["", ""]
    runs = [run(config_hash="abcdef012345"), run(seed=1, config_hash="abcdef012345"), run(config_hash="fedcba543210")]
    with pytest.raises(UserError, match=r"holds iris/atari/Pong/0 of two configurations \(abcdef012345 and fedcba54"):
        shown(*runs)
    assert shown(*runs, mixed=LABEL) == ["config=abcdef", "", "config=fedcba"]


def test_equal_overrides_of_different_shipped_configurations_are_a_mixture_too() -> None:
    other = shipped(seed=1, settings_hash="c" * 12)
    with pytest.raises(UserError, match=r"shipped settings aaaaaaaaaaaa .* shipped settings cccccccccccc"):
        shown(shipped(), other)
    assert shown(shipped(), other, mixed=LABEL) == ["settings=aaaaaa", "settings=cccccc"]


def test_a_labelled_table_is_read_again_as_it_is() -> None:
    rows = [retnet(variant="64-tokens"), shipped(variant="64-tokens", seed=1)]
    label_variants(rows, "results", "accept", LABEL)
    labels = ["64-tokens+model.backbone=retnet", "64-tokens"]
    table = [row | {"overrides": json.dumps(row["overrides"])} for row in rows]
    for _ in range(2):
        assert [row["variant"] for row in table] == labels
        assert [row["trained_variant"] for row in table] == ["64-tokens"] * 2
        label_variants(table, "scores.csv", "accept")


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


def values_of(leaf: Leaf) -> list[Any]:
    """Some values of a field that must not be taken for one another."""
    if leaf.kind is bool:
        return [True, False]
    if issubclass(leaf.kind, Enum):
        return [*leaf.kind.__members__]
    if leaf.kind is int:
        return [2, 3, 10**9, 10**9 + 1]
    if leaf.kind is float:
        return [1e-4, 1e-3, 0.00012345678901234567, 0.0001234567890123457, 1e-05, 1e16]
    if leaf.kind is list:
        return [[1, 2], [12], [1, 1, 2, 2, 4], [8] * 40, [8] * 41, []]
    return ["a b", "a/b", "x" * 300, "y" * 300, "x" * 299]


ALL_KEYS = {key: leaf for schema in SCHEMAS.values() for key, leaf in fields(schema)}


@pytest.mark.parametrize("prefix", [None, "64-tokens"])
@pytest.mark.parametrize("key", ALL_KEYS)
def test_every_setting_has_a_label_of_its_own_that_is_known_for_one(key: str, prefix: str | None) -> None:
    settings = [{key: value, **more} for value in values_of(ALL_KEYS[key]) for more in ({}, {"zz.other": 1})]
    runs = [retnet(variant=prefix, overrides=one, settings_hash="") for one in settings]
    labels = [shown(one)[0] for one in runs]
    assert len(set(labels)) == len(labels)
    for label in labels:
        assert label.startswith(f"{prefix}+" if prefix else "") and len(label) <= 140
        assert all("=" in part for part in label.removeprefix("64-tokens+").split(","))


def test_a_label_that_fits_says_all_and_one_that_does_not_keeps_the_value() -> None:
    assert shown(retnet(overrides={"training.actor_critic.learning_rate": 1e-3})) == [
        "training.actor_critic.learning_rate=0.001"
    ]
    assert shown(retnet(overrides={"training.actor_critic.critic_warmup_epochs_": 10**9})) == [
        "...critic_warmup_epochs_=1000000000,settings=bbbbbb"
    ]


@pytest.mark.parametrize("accept", [ACCEPT_SCORES, ACCEPT_A_TABLE])
@pytest.mark.parametrize("place", ["results/scores", "/a/long/place" * 20])
def test_a_refusal_shows_the_values_and_what_the_pipeline_reads(accept: str, place: str) -> None:
    key = "training.actor_critic.critic_warmup_epochs_of_a_long_name"
    runs = [
        retnet(seed=seed, overrides={key: value, "model.backbone": "gru", "z": value}, settings_hash=digest * 12)
        for seed, (value, digest) in enumerate([(2, "a"), (3, "b"), (4, "c")])
    ]
    with pytest.raises(UserError) as refused:
        shown_variants([*runs, *({**runs[0], "seed": 3 + more} for more in range(99))], place, accept)
    message = str(refused.value)
    assert len(message) <= 300 and "name=2 and 1 more" in message and "name=3 and 1 more" in message
    assert "`--mixed label`" in message and "`mixed: label` in analysis/params.yaml" in message


@pytest.mark.parametrize("overrides", ["{", "[1]", "3", [1]])
def test_overrides_that_are_no_mapping_are_refused(overrides: object) -> None:
    with pytest.raises(UserError, match=r"the overrides of iris/atari/Pong/0 are no"):
        shown(run(overrides=overrides))
