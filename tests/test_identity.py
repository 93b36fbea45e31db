"""Identities of runs: what a run is called, and the label that a group of runs is recognised by."""

import pytest

from analysis.data.identity import RunGroupId, group_of
from tokenworlds.config import load
from tokenworlds.runs.columns import COMPANIONS, IDENTITY, SCORES, names, required
from tokenworlds.runs.identity import RunId, unknown_part

RUN = RunId("iris", "64-tokens", "atari/Pong", 3, "smoke")


def test_a_configuration_its_record_and_its_row_are_one_run() -> None:
    config = load(RUN.overrides())
    assert RunId.of_config(config) == RUN and RUN.name == config.identity == "iris+64-tokens/atari/Pong/3"
    record = {"method": "iris", "variant": "64-tokens", "task": "atari/Pong", "seed": 3, "scale": "smoke"}
    row = record | {"seed": "3", "variant": "64-tokens+model.backbone=retnet", "trained_variant": "64-tokens"}
    assert RunId.of_record(record) == RunId.of_record(row) == RUN
    assert RunId.of_record(record | {"variant": None}).name == "iris/atari/Pong/3"


def test_seeds_are_whole_numbers() -> None:
    assert unknown_part("iris", "atari/Pong", 3) == unknown_part("iris", "atari/Pong", "3") == ""
    for seed in (-1, 1.5, True, "one", None):
        assert "where a whole number" in unknown_part("iris", "atari/Pong", seed)


def test_environments_of_any_package_are_known_by_the_form_of_their_names() -> None:
    """Their package need not be installed where their scores are shown."""
    for task in ("gym/CartPole-v1", "gym/ALE/Pong-v5", "gym/absent.module:Mine-v0", "gym/absent:space/Mine-v0"):
        assert unknown_part("m3", task, 0) == ""
    for task in ("gym/", "gym/../CartPole-v1", "gym/a:b:c", "gym/one/two/three", "gym/.."):
        assert "gym/<module>:<id>" in unknown_part("m3", task, 0)


@pytest.mark.parametrize("variant", ["", "64-tokens", "odd (ours, paper)"])
def test_a_label_is_known_without_being_parsed(variant: str) -> None:
    group = RunGroupId("iris", variant, "smoke")
    assert [group_of(group.label(extent)) for extent in ("", "2 games x 5 seeds")] == [group, group]
    assert group_of(f"IRIS{variant}") is None and group_of("DrQ(eps)") is None


def test_tables_begin_with_the_identity_and_need_only_scores_of_a_run() -> None:
    for columns in (SCORES, *COMPANIONS.values()):
        assert names(columns)[:5] == names(IDENTITY)
        assert len(set(names(columns))) == len(columns)
    assert required(SCORES) == ("method", "task", "seed", "score")
