"""The configuration's layers, its errors, and the published values."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from omegaconf import OmegaConf

from tests.pipeline.support import family_of
from tokenworlds.config import (
    SCHEMAS,
    Backbone,
    Decoding,
    Embeddings,
    EndsAlignment,
    Provenance,
    RunConfig,
    Scale,
    TokenRunConfig,
    known_methods,
    load,
    project_root,
    provenance,
    to_dict,
)
from tokenworlds.config.checks import validate
from tokenworlds.config.method_file import MethodFile
from tokenworlds.config.method_file import main as print_records
from tokenworlds.config.values import Leaf, fields_of
from tokenworlds.errors import UserError
from tokenworlds.ranges import Range, Text

Sections = dict[str, dict[str, Any]]  # section -> key -> value

PROJECT = Path(__file__).resolve().parents[1]
PONG = ("method=iris", "task=atari/Pong")
SMOKE = (*PONG, "scale=smoke")
PAPER = (*PONG, "scale=paper", "model.tokenizer.perceptual=none")
REM = ("method=rem", "task=atari/Pong", "scale=smoke")
DELTA = ("method=delta_iris", "task=atari/Pong", "scale=smoke")
M3 = ("method=m3", "task=atari/Pong", "scale=smoke")
TASKS = {
    "atari": "atari/Pong", "crafter": "crafter/Reward", "minigrid": "minigrid/Empty-5x5",
    "minigrid_symbolic": "minigrid_symbolic/Empty-5x5", "minigrid_mixed": "minigrid_mixed/Empty-5x5",
    "dmc": "dmc/walker-run", "craftax": "craftax/Symbolic",
}  # fmt: skip
PICTURES = ("atari", "crafter", "minigrid")
FAMILIES = {
    "iris": PICTURES, "delta_iris": PICTURES,
    "m3": ("atari", "dmc", "craftax", "minigrid", "minigrid_symbolic", "minigrid_mixed"),
}  # fmt: skip
DECODINGS = {
    "iris": tuple(Decoding), "rem": tuple(Decoding), "delta_iris": (Decoding.autoregressive,), "m3": (Decoding.pop,),
}  # fmt: skip


def without_weights(method: str) -> tuple[str, ...]:
    """The perceptual loss, where there is one, reads weights that are not shipped."""
    return () if method == "delta_iris" else ("model.tokenizer.perceptual=none",)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files, in which the test stands."""
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nested(sections: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(sections):
        values = {name: values}
    return values


def values_at(key: str, value: Any) -> dict[str, Any]:
    *sections, name = key.split(".")
    return nested(tuple(sections), {name: value})


def change(path: Path, **values: Any) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.merge(yaml.safe_load(path.read_text()), values)))


def error_of(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(list(overrides))
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 300
    return message


# Layers


RATE = "training.tokenizer.learning_rate"


def rate(value: float) -> dict[str, Any]:
    return {"training": {"tokenizer": {"learning_rate": value}}}


def learning_rate(*overrides: str) -> float:
    return load([*SMOKE, *overrides]).training.tokenizer.learning_rate


def test_layers_go_on_top_of_each_other_in_order(project: Path) -> None:
    """method < family < scale < scale of the family < task < variant."""
    params = project / "pipeline" / "iris" / "params.yaml"

    def put(value: float, *sections: str) -> None:
        """A layer as its author ships it: with a record."""
        change(params, **nested(sections, rate(value)), published=nested(sections, rate(value)))

    put(0.1)
    assert learning_rate() == 0.1
    put(0.15, "families", "atari")
    put(0.16, "families", "minigrid")
    assert learning_rate() == 0.15
    put(0.2, "scales", "smoke")
    assert learning_rate() == 0.2
    put(0.25, "families", "atari", "scales", "smoke")
    put(0.26, "families", "atari", "scales", "small")
    assert learning_rate() == 0.25
    put(0.27, "families", "minigrid", "scales", "smoke")
    assert learning_rate() == 0.25
    put(0.3, "tasks", "atari/Pong")
    assert learning_rate() == 0.3
    put(0.4, "variants", "tried")
    assert learning_rate() == 0.3
    assert learning_rate("variant=tried") == 0.4


LAYERS = ((), ("families", "atari"), ("scales", "smoke"), ("families", "atari", "scales", "smoke"))


@pytest.mark.parametrize("edited", LAYERS)
def test_what_a_person_sets_in_a_layer_takes_effect_over_those_above(project: Path, edited: tuple[str, ...]) -> None:
    params = project / "pipeline" / "iris" / "params.yaml"
    for index, sections in enumerate((*LAYERS, ("tasks", "atari/Pong"))):
        value = (index + 1) / 100
        change(params, **nested(sections, rate(value)), published=nested(sections, rate(value)))
    assert learning_rate() == 0.05
    change(params, **nested(edited, rate(0.9)))
    assert learning_rate() == 0.9
    assert provenance(load([*SMOKE])).overrides == {RATE: 0.9}
    change(project / "params.yaml", **rate(0.8))
    assert learning_rate() == 0.8 and learning_rate(f"{RATE}=0.7") == 0.7


def test_of_two_layers_that_a_person_edits_the_upper_one_counts(project: Path) -> None:
    params = project / "pipeline" / "iris" / "params.yaml"
    change(params, training={"epochs": 8}, families={"crafter": {"training": {"epochs": 9}}})
    assert load([*SMOKE]).training.epochs == 8
    assert load(["method=iris", "task=crafter/Reward", "scale=smoke"]).training.epochs == 9


def test_an_edit_of_the_published_epochs_reaches_every_scale(project: Path) -> None:
    """dvc exp run -S pipeline/iris/params.yaml:training.epochs=8"""
    path = project / "pipeline" / "iris" / "params.yaml"
    path.write_text(path.read_text().replace("\n  epochs: 600\n", "\n  epochs: 8\n"))
    assert [
        load([*PAPER[:2], "model.tokenizer.perceptual=none", f"scale={scale.name}"]).training.epochs for scale in Scale
    ] == [8, 8, 8]


def test_a_layer_below_another_without_a_record_is_refused(project: Path) -> None:
    """Whether a person or the author of the upper layer set it cannot be known."""
    params = project / "pipeline" / "iris" / "params.yaml"
    change(params, families={"atari": {"training": {"sequence_length": 3}}})
    found = error_of(*SMOKE)
    assert found.startswith("pipeline/iris/params.yaml line ")
    assert "families.atari.training.sequence_length has no effect here" in found and "published" in found


def iris_smoke(edit: dict[str, Any], *overrides: str) -> Provenance:
    """What becomes of an edit of IRIS's file at the smallest scale."""
    change(project_root() / "pipeline" / "iris" / "params.yaml", **edit)
    return provenance(load([*SMOKE, *overrides]))


LAMBDA = "training.actor_critic.lambda_"
EDITS: list[tuple[tuple[str, ...], str, Any]] = [
    ((), LAMBDA, 0.9), ((), "model.backbone", "gru"), ((), "collection.test.final_observation", True),
    (("scales", "smoke"), "training.epochs", 9), (("scales", "smoke"), LAMBDA, 0.9),
    (("families", "atari"), LAMBDA, 0.9), (("tasks", "atari/Pong"), "evaluation.every", 1),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "key", "value"), EDITS)
def test_every_edit_of_a_methods_file_deviates_from_the_shipped_method(
    project: Path, sections: tuple[str, ...], key: str, value: Any
) -> None:
    """Whether or not another layer lies above it, also a value that the file did not hold."""
    shipped = settings_hash(*SMOKE)
    found = iris_smoke(nested(sections, values_at(key, value)))
    assert found.overrides == {key: value} and found.settings_hash != shipped


def test_an_edit_of_a_shipped_variant_deviates_and_a_variant_of_ones_own_does_not(project: Path) -> None:
    multipliers = "model.tokenizer.residual.ch_mult"
    assert iris_smoke({}, "variant=64-tokens").overrides == {}
    edit = {"variants": {"64-tokens": values_at(multipliers, [1, 1])}}
    assert iris_smoke(edit, "variant=64-tokens").overrides == {multipliers: [1, 1]}
    mine = {"variants": {"mine": values_at(multipliers, [1, 1])}}
    assert iris_smoke(mine, "variant=mine").overrides == {}
    assert load([*SMOKE, "variant=mine"]).model.tokenizer.residual.ch_mult == [1, 1]  # type: ignore[attr-defined]


def test_of_two_edits_of_one_setting_the_topmost_counts(project: Path) -> None:
    edit = {"training": {"epochs": 7}, "scales": {"smoke": {"training": {"epochs": 9}}}}
    assert iris_smoke(edit).overrides == {"training.epochs": 9}


@pytest.mark.parametrize("method", known_methods())
def test_the_record_of_what_is_shipped_is_complete(method: str) -> None:
    file = MethodFile(method)
    assert dict(file.section("published")) == file.record(), (
        f"pipeline/{method}/params.yaml: replace its section `published` by what "
        f"`python -m tokenworlds.config.method_file {method}` prints"
    )


@pytest.mark.parametrize("method", known_methods())
def test_what_is_printed_for_the_record_is_that_record(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_records([method])
    assert yaml.safe_load(capsys.readouterr().out) == {"published": MethodFile(method).record()}


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "pipeline").glob("*/params.yaml")), ids=lambda path: path.parent.name
)
def test_no_two_places_of_a_file_share_their_values(path: Path) -> None:
    """`dvc exp run -S` on a section with an anchor changes the other place, or nothing."""
    assert not [event for event in yaml.parse(path.read_text()) if isinstance(event, yaml.AliasEvent)]


def test_root_switches_win_over_the_methods_and_lose_to_the_command_line(project: Path) -> None:
    def layers(*overrides: str) -> int:
        return load([*SMOKE, *overrides]).model.world_model.transformer.num_layers

    change(project / "params.yaml", model={"world_model": {"transformer": {"num_layers": 7}}})
    assert layers() == 7
    assert layers("model.world_model.transformer.num_layers=3") == 3


def test_a_null_in_the_root_switches_means_the_methods_own_value(project: Path) -> None:
    change(project / "params.yaml", model={"backbone": None, "world_model": {"transformer": {"num_layers": None}}})
    model = load([*SMOKE]).model
    assert model.backbone is Backbone.transformer and model.world_model.transformer.num_layers == 2


@pytest.mark.parametrize("method", known_methods())
def test_root_switches_reach_every_method(project: Path, method: str) -> None:
    decoding = DECODINGS[method][0]
    change(project / "params.yaml", model={"backbone": "gru", "decoding": decoding.name})
    model = load([f"method={method}", "task=atari/Pong", "scale=smoke"]).model
    assert model.backbone is Backbone.gru and model.decoding is decoding


def test_the_committed_root_switches_choose_nothing() -> None:
    assert yaml.safe_load((PROJECT / "params.yaml").read_text()) == {"model": {"backbone": None, "decoding": None}}


def test_an_unknown_backbone_in_the_root_switches_lists_the_known_ones(project: Path) -> None:
    change(project / "params.yaml", model={"backbone": "retnett"})
    message = error_of(*SMOKE)
    assert "model.backbone" in message and "'retnett'" in message
    assert all(backbone.name in message for backbone in Backbone)


@pytest.mark.parametrize("value", ["transformer", None])
def test_an_unknown_root_switch_is_an_error(project: Path, value: str | None) -> None:
    change(project / "params.yaml", model={"backbon": value})
    assert "did you mean backbone?" in error_of(*SMOKE)


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"epochs": 8}}, {"collection": {"train": {"steps": 8}}}, {"evaluation": {"every": 8}},
        {"environment": {"train": {"noop_max": 8}}}, {"model": {"policy": {"hidden_dim": 8}}},
    ],
)  # fmt: skip
def test_every_section_that_suits_all_runs_may_stand_in_the_root_file(project: Path, values: dict[str, Any]) -> None:
    change(project / "params.yaml", **values)
    (found,) = provenance(load([*SMOKE])).overrides.items()
    assert dict([found]) == leaves(values)


def test_what_only_other_methods_know_may_stand_in_the_root_file(project: Path) -> None:
    """Perceptual weights are named there for all methods at once; Delta-IRIS has none."""
    before = load(["method=delta_iris", "task=atari/Pong"]).hash()
    (project / "weights").touch()
    weights = str(project / "weights")
    change(project / "params.yaml", model={"tokenizer": {"perceptual_weights": weights}})
    assert load(["method=delta_iris", "task=atari/Pong"]).hash() == before
    for method in ("iris", "rem", "m3"):
        config = load([f"method={method}", "task=atari/Pong"])
        assert isinstance(config, TokenRunConfig) and config.model.tokenizer.perceptual_weights == weights
    change(project / "params.yaml", model={"tokenizer": {"perceptual_weight": weights}})
    assert "did you mean perceptual_weights" in error_of(*SMOKE)


@pytest.mark.parametrize("name", ["method", "task", "seed", "out", "scale", "variant", "runtime", "replace", "trainin"])
def test_what_suits_no_other_run_is_refused_in_the_root_file(project: Path, name: str) -> None:
    change(project / "params.yaml", **{name: 1})
    assert error_of(*SMOKE).startswith(f"params.yaml line 4: '{name}' is no section for all runs")


def test_a_null_in_the_root_file_that_cannot_mean_itself_is_refused(project: Path) -> None:
    change(project / "params.yaml", collection={"train": {"stop_after_epochs": None, "episodes": None}})
    found = error_of(*SMOKE)
    assert "collection.train.stop_after_epochs: null means the method's own value, 3" in found


SWITCHED = [
    ("rem", "no-pop", "model.decoding", "pop", "autoregressive"),
    ("m3", "attention", "model.backbone", "retnet", "transformer"),
    ("iris", "64-tokens", "model.tokenizer.residual.ch_mult", [1, 1, 1], [1, 1, 1, 1]),
]


@pytest.mark.parametrize(
    ("method", "variant", "key", "other", "own", "place"),
    [
        *((*switch, place) for switch in SWITCHED for place in ("params.yaml", "the command line")),
        ("m3", "attention", "model.backbone", "gru", "transformer", "pipeline/m3/params.yaml"),
        ("iris", "64-tokens", "model.tokenizer.residual.ch_mult", [1, 2], [1, 1, 1, 1], "pipeline/iris/params.yaml"),
    ],
)
def test_what_a_variant_is_about_cannot_be_set_otherwise(
    project: Path, method: str, variant: str, key: str, other: Any, own: Any, place: str
) -> None:
    chosen = (f"method={method}", f"variant={variant}", "task=atari/Pong", "scale=smoke")
    path = project / place

    def set_to(value: Any) -> tuple[str, ...]:
        if place == "the command line":
            return (f"{key}={value}".replace(" ", ""),)
        change(path, **nested(tuple(key.split(".")[:-1]), {key.split(".")[-1]: value}))
        return ()

    more = set_to(other)
    found = error_of(*chosen, *more)
    assert f"variant '{variant}' of {method} sets {key} to {own}" in found and f"to {other}: leave the variant" in found
    assert place in found
    assert load([*chosen, *set_to(own)]).variant == variant


def test_task_overrides_concern_their_task_only() -> None:
    assert load(["method=iris", "task=atari/Freeway", "scale=smoke"]).collection.train.temperature == 0.01
    assert load([*SMOKE]).collection.train.temperature == 1.0


@pytest.mark.parametrize("method", ["iris", "delta_iris"])
def test_families_differ_where_their_environments_do(method: str) -> None:
    envs, steps = (
        [getattr(load([f"method={method}", f"task={TASKS[family]}", *without_weights(method)]).collection.train, key)
         for family in ("atari", "crafter", "minigrid")]
        for key in ("num_envs", "steps")
    )  # fmt: skip
    assert envs == [1, 16, 1] and steps == [200, 10000, 200]


def test_every_method_has_a_schema_and_numbers() -> None:
    assert known_methods() == sorted(SCHEMAS)
    for method, schema in SCHEMAS.items():
        assert type(load([f"method={method}", "task=atari/Pong", "scale=smoke"])) is schema


def test_the_project_is_where_one_stands_or_the_checkout(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_root() == project
    (project / "deeper").mkdir()
    monkeypatch.chdir(project / "deeper")
    assert project_root() == project
    monkeypatch.chdir("/")
    assert project_root() == PROJECT


# Errors


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.tokenizer.learning_rat=1", "training.tokenizer.learning_rat: .*did you mean learning_rate"),
        ("trainin.epochs=1", "trainin: .*did you mean training"),
        ("model.world_model.width=3", "model.world_model.width: .*known: "),
        ("training.epochs=many", "training.epochs: Value 'many'"),
        ("training.epochs=1.5", "training.epochs: Value '1.5'"),
        ("model.tokenizer.residual.ch_mult=1", "model.tokenizer.residual.ch_mult: "),
        ("model.tokenizer.ch=32", "model.tokenizer.ch: .*known: .*residual"),
        ("model.world_model.num_layers=3", "model.world_model.num_layers: .*known: .*embed_dim"),
        ("model.decoding=popp", r"model.decoding: Invalid value 'popp', expected one of \[autoregressive, pop\]"),
        ("model.policy.input=pixel", "model.policy.input: Invalid value 'pixel'"),
        ("training.tokenizer=3", "training.tokenizer: '3' stands where a section"),
        ("training=[1]", "training: "),
        ("runtime.deterministic=perhaps", "runtime.deterministic: Value 'perhaps'"),
        ("scale=tiny", r"scale: Invalid value 'tiny', expected one of \[smoke, small, paper\]"),
        ("model.backbone=mambaa", "model.backbone: Invalid value 'mambaa', expected one of .*transformer"),
        ("training.precision=fp8", "training.precision: Invalid value 'fp8'"),
        ("variant=63-tokens", "unknown variant '63-tokens' of iris: did you mean 64-tokens"),
        ("variant=no-pop", "unknown variant 'no-pop' of iris"),
        ("method=irsi", "unknown method 'irsi': did you mean iris"),
        ("training.sampling_exponent=5", "training.sampling_exponent: .*did you mean sampling"),
        ("model.world_model.frame_tokens=false", "model.world_model.frame_tokens: .*not in 'TokenWorldModelConfig'"),
        ("model.policy.values=symlgo", r"'symlgo', expected one of \[sign, regression, symlog, two_hot, hl_gauss\]"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_full_key(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*SMOKE, override])
    error_of(*SMOKE, override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.sampling=episodes", "training.sampling: .*did you mean sampling_exponent"),
        ("model.world_model.context=2", "model.world_model.context: .*known: "),
        ("model.tokenizer.perceptual=none", "model.tokenizer.perceptual: .*known: "),
        ("model.tokenizer.encoder=3", "model.tokenizer.encoder: "),
        ("model.tokenizer.encoder.multiplier=[1]", "model.tokenizer.encoder.multiplier: .*did you mean multipliers"),
        ("variant=2-token", "unknown variant '2-token' of delta_iris: did you mean 1-token"),
    ],
)
def test_a_mistake_in_the_settings_of_another_method_is_one_sentence(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*DELTA, override])
    error_of(*DELTA, override)


@pytest.mark.parametrize("given", [(), ("method=iris",), ("task=atari/Pong",)])
def test_method_and_task_have_to_be_given(given: tuple[str, ...]) -> None:
    assert "is not given" in error_of(*given)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "model.world_model.transformer.num_heads=3",
            r"embed_dim \(32\) must be a multiple of .*transformer.num_heads",
        ),
        ("training.sequence_length=6", r"training.sequence_length \(6\) exceeds model.world_model.max_blocks \(5\)"),
        ("model.tokenizer.residual.ch=48", "each must be a multiple of 32"),
        (
            "environment.train.size=40 environment.test.size=40",
            r"environment.train.size \(40\) cannot be halved 4 times",
        ),
        ("model.tokenizer.residual.ch_mult=[1,1,1,1,1,1,1]", "cannot be halved 6 times to 2 pixels or more"),
        ("environment.test.size=32", "environment.train.size and environment.test.size differ"),
        ("collection.train.num_envs=0", "collection.train.num_envs must be at least 1, not 0"),
        ("collection.train.steps_first_epoch=0", "collection.train.steps_first_epoch must be at least 1, not 0"),
        ("collection.train.steps=null", "collection.train.steps is not set"),
        ("collection.test.episodes=null", "collection.test.episodes is not set"),
        ("model.world_model.max_blocks=1", "model.world_model.max_blocks must be at least 2, not 1"),
        ("training.actor_critic.horizon=1", "training.actor_critic.horizon must be at least 2, not 1"),
        ("training.actor_critic.burn_in=-1", "training.actor_critic.burn_in must be at least 0, not -1"),
        ("training.epochs=0", "training.epochs must be at least 1, not 0"),
        ("training.tokenizer.updates_per_epoch=0", "training.tokenizer.updates_per_epoch must be at least 1, not 0"),
        ("training.tokenizer.updates_first_epoch=0", "tokenizer.updates_first_epoch must be at least 1, not 0"),
        ("training.world_model.gradient_accumulation=0", "gradient_accumulation must be at least 1, not 0"),
        ("model.world_model.rewards=regression", "model.world_model.rewards must be sign, symlog, two_hot or hl_gauss"),
        ("model.policy.values=sign", "model.policy.values must be regression, two_hot or hl_gauss"),
        ("model.policy.values=symlog", "model.policy.values must be regression, two_hot or hl_gauss"),
        ("model.policy.input=tokens", "model.policy.input=tokens needs model.policy.fuser"),
        ("model.world_model.read_out=prediction", "read_out=prediction needs model.decoding=pop"),
        ("evaluation.every=0", "evaluation.every must be at least 1, not 0"),
        ("evaluation.final_episodes=0", "evaluation.final_episodes must be at least 1, not 0"),
        ("collection.train.stop_after_epochs=0", "collection.train.stop_after_epochs must be at least 1, not 0"),
        ("runtime.checkpoint_every=0", "runtime.checkpoint_every must be at least 1, not 0"),
        ("environment.train.frame_skip=1", "environment.train.frame_skip must be at least 2"),
        ("model.tokenizer.perceptual=lpips", "needs model.tokenizer.perceptual_weights=FILE"),
    ],
)
def test_an_impossible_combination_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*SMOKE, *override.split()])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.world_model.retnet.num_heads=3", r"embed_dim \(32\) must be a multiple of .*retnet.num_heads \(3\)"),
        ("model.world_model.retnet.value_dim=33", r"value_dim \(33\) must be a multiple of .*retnet.num_heads \(2\)"),
        ("model.world_model.retnet.num_heads=32", "must be a multiple of twice .*heads need even widths"),
        ("model.world_model.context=0", "model.world_model.context must be at least 1, not 0"),
        ("model.world_model.context=5", "model.world_model.context .5. must be less than .*max_blocks .5."),
        ("training.actor_critic.burn_in=0", "model.world_model.context .2. needs .*burn_in of at least 1"),
        ("model.world_model.unscored_blocks=-1", "model.world_model.unscored_blocks must be at least 0, not -1"),
        ("model.world_model.unscored_blocks=5", "unscored_blocks .5. leaves nothing of training.sequence_length .5."),
        ("model.tokenizer.plain.ch=12", "model.tokenizer.plain.ch .12. must be a multiple of num_groups .8."),
        ("model.tokenizer.z_channels=20", r"the decoder's blocks widths \[20, 10, 8\]; each must be a multiple of"),
        (
            "model.tokenizer.plain.decoder_groups=32",
            r"widths \[32, 16, 8\]; each must be a multiple of .*decoder_groups",
        ),
        ("model.tokenizer.plain.num_halvings=6", "cannot be halved 6 times to 2 pixels or more .*plain.num_halvings"),
        (
            "environment.train.size=36 environment.test.size=36",
            r"environment.train.size \(36\) cannot be halved 3 times",
        ),
    ],
)
def test_an_impossible_combination_of_rem_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*REM, *override.split()])


@pytest.mark.parametrize("key", ["model.world_model.embed_dim=64", "model.tokenizer.embed_dim=64"])
def test_a_codebook_of_another_width_than_the_world_model_is_projected(key: str) -> None:
    assert load([*REM, key]).model.world_model.embeddings is Embeddings.codebook


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.decoding=autoregressive", "model.world_model.read_out=prediction needs model.decoding=pop"),
        ("collection.train.final_observation=false", "read_out=prediction needs .*train.final_observation=true"),
        (
            "model.world_model.curiosity.members=3",
            r"training.world_model.batch_size \(4\) must be a multiple of .*curiosity.members \(3\)",
        ),
        ("training.world_model.batch_size=6", r"batch_size \(6\) must be a multiple of .*curiosity.members \(4\)"),
        ("model.world_model.curiosity.members=-4", "curiosity.members must be at least 0, not -4"),
        ("training.uniform_fraction=1.5", "training.uniform_fraction must be at most 1, not 1.5"),
        ("training.uniform_fraction=-0.5", "training.uniform_fraction must be at least 0, not -0.5"),
        ("training.priority_lag=-1", "training.priority_lag must be at least 0, not -1"),
        ("training.actor_critic.return_window=0", "training.actor_critic.return_window must be at least 1, not 0"),
        ("training.actor_critic.critic_warmup_epochs=-1", "critic_warmup_epochs must be at least 0, not -1"),
        ("model.policy.fuser=[]", "model.policy.input=tokens needs model.policy.fuser, the widths of the layers"),
        ("model.policy.token_dim=0", "model.policy.token_dim must be at least 1, not 0"),
        ("model.policy.value_bins=1", "model.policy.value_bins must be at least 2, not 1"),
        ("model.world_model.curiosity.members=1", "curiosity.members=1 never disagrees; it takes two, or 0"),
        ("model.world_model.prediction_token_std=-1", "model.world_model.prediction_token_std must be at least 0"),
        ("model.tokenizer.vectors.count=1", "model.tokenizer.vectors.count must be at least 2, not 1"),
        ("model.tokenizer.vectors.limit=0", "model.tokenizer.vectors.limit must be above 0, not 0"),
        ("model.world_model.action_levels=1", "model.world_model.action_levels must be at least 2, not 1"),
        ("variant=fsq model.tokenizer.fsq_levels=[8,8,8]", r"\[8, 8, 8\] make 512 codes; .*vocab_size \(64\)"),
        ("variant=fsq model.tokenizer.fsq_levels=[64,1]", r"fsq_levels\[1\] must be at least 2, not 1"),
        ("variant=fsq model.tokenizer.fsq_levels=[]", "they must be at least 2 each"),
        ("variant=fsq model.tokenizer.projections=true", "quantiser=fsq needs model.tokenizer.projections=false"),
        ("model.tokenizer.z_channels=16", r"projections=false needs .*z_channels \(16\) equal to .*embed_dim \(32\)"),
        ("model.tokenizer.plain.convolutions=3", "model.tokenizer.plain.convolutions must be at most 2, not 3"),
        ("model.tokenizer.plain.decoder_groups=32", r"widths \[64, 32, 16\]; each must be a multiple of .*groups"),
        ("training.sequence_length=2", r"unscored_blocks \(2\) leaves nothing of training.sequence_length \(2\)"),
        ("training.actor_critic.burn_in=0", r"context \(2\) needs training.actor_critic.burn_in of at least 1"),
        ("model.world_model.retnet.num_heads=32", "must be a multiple of twice .*heads need even widths"),
    ],
)
def test_an_impossible_combination_of_m3_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*M3, *override.split()])


def test_without_the_ensemble_any_batch_will_do() -> None:
    assert load([*M3, "variant=no-intrinsic", "training.world_model.batch_size=3"]).training.world_model.batch_size == 3


def test_levels_of_a_quantiser_that_is_not_used_are_not_checked() -> None:
    assert load([*M3, "model.tokenizer.fsq_levels=[3]"]).method == "m3"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.decoding=pop", "model.decoding=pop is not known for delta tokens"),
        ("training.actor_critic.target_decay=1.5", "training.actor_critic.target_decay must be at most 1, not 1.5"),
        ("training.actor_critic.target_decay=-0.1", "target_decay must be at least 0, not -0.1"),
        ("training.actor_critic.horizon=0", "training.actor_critic.horizon must be at least 1, not 0"),
        ("training.sampling_exponent=-1", "training.sampling_exponent must be at least 0, not -1"),
        ("model.tokenizer.revival_updates=-1", "model.tokenizer.revival_updates must be at least 0, not -1"),
        ("model.world_model.transformer.attention=block_causal", "transformer.attention must be causal"),
        ("training.precision=bf16", "training.precision and .*actor_critic.precision must both be float32, or neither"),
        ("training.actor_critic.precision=tf32", "must both be float32, or neither"),
        ("training.actor_critic.horizon=5", r"max_blocks \(10\) must be at least .*burn_in \+ horizon \+ 1 \(11\)"),
        ("training.actor_critic.burn_in=6", r"max_blocks \(10\) must be at least .*burn_in \+ horizon \+ 1 \(11\)"),
        ("training.sequence_length=11", r"training.sequence_length \(11\) exceeds model.world_model.max_blocks \(10\)"),
        ("training.sequence_length=1", "training.sequence_length must be at least 2, not 1"),
        ("training.tokenizer_sequence_length=1", "training.tokenizer_sequence_length must be at least 2, not 1"),
        ("model.world_model.transformer.num_heads=3", r"embed_dim \(64\) must be a multiple of .*num_heads \(3\)"),
        ("model.world_model.embed_dim=32", r"frame_encoder gives 64 numbers a frame, which must be .*embed_dim \(32\)"),
        ("model.world_model.frame_encoder.latent_dim=2", "frame_encoder gives 128 numbers a frame"),
        ("model.policy.frame_encoder.channels=48", r"model.policy.frame_encoder.channels .* widths \[48, 48, 48\]"),
        ("model.tokenizer.decoder.multipliers=[1,0]", r"model.tokenizer.decoder.multipliers\[1\] must be at least 1"),
        (
            "model.tokenizer.encoder.halve=[1]",
            r"encoder.multipliers \[1, 1\] and .*encoder.halve \[1\] must be as long",
        ),
        ("model.tokenizer.encoder.halve=[1,2]", r"encoder.halve\[1\] must be at most 1, not 2"),
        ("model.tokenizer.decoder.halve=[1,0]", "decoder halves 1 times, model.tokenizer.encoder 2"),
        ("model.tokenizer.frame_encoder.halve=[0,0]", "frame_encoder halves 0 times, model.tokenizer.encoder 2"),
        ("model.tokenizer.num_tokens=3", r"num_tokens \(3\) must be a square that divides the map of 8 x 8"),
        ("model.tokenizer.num_tokens=9", r"num_tokens \(9\) must be a square"),
        ("model.tokenizer.num_tokens=256", r"num_tokens \(256\) must be a square"),
        ("model.tokenizer.num_tokens=0", "num_tokens must be at least 1, not 0"),
        (
            "environment.train.size=34 environment.test.size=34",
            r"environment.train.size \(34\) cannot be halved 2 times \(model.tokenizer.encoder.halve\)",
        ),
    ],
)
def test_an_impossible_combination_of_delta_iris_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*DELTA, *override.split()])


@pytest.mark.parametrize("num_tokens", [1, 4, 16, 64])
def test_delta_tokens_are_squares_of_the_map(num_tokens: int) -> None:
    """Of 8 x 8."""
    assert load([*DELTA, f"model.tokenizer.num_tokens={num_tokens}"]).model.tokenizer.num_tokens == num_tokens


@pytest.mark.parametrize(
    "override",
    [
        "model.world_model.transformer.num_heads=3",
        "model.tokenizer.residual.ch=48",
        "model.tokenizer.residual.ch_mult=[1,1,1,1,1,1,1]",
    ],
)
def test_sections_that_are_not_used_are_not_checked(override: str) -> None:
    assert load([*REM, override]).method == "rem"


def fields(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    for name, place in fields_of(schema).items():
        if isinstance(place, Leaf):
            yield f"{prefix}{name}", place
        else:
            yield from fields(place, f"{prefix}{name}.")


FIELDS = [(base, key, leaf) for base in (M3, DELTA) for key, leaf in fields(SCHEMAS[base[0].removeprefix("method=")])]
BY_TYPE = (bool, Enum)  # a type with few values is its own range


def test_every_field_has_a_range_or_says_why_it_has_none() -> None:
    for _, key, leaf in FIELDS:
        if not issubclass(leaf.kind, BY_TYPE):
            assert isinstance(leaf.constraint, Text if leaf.kind is str else Range), key
        if isinstance(leaf.constraint, Text):
            assert leaf.constraint.because or leaf.constraint.expected, key


@pytest.mark.parametrize(
    "value", ["-1", "0", "1000000000", "1e300", str(10**400), "nan", "inf", "word", "[x]", "{a: 1}"]
)
def test_every_field_refuses_what_no_run_can_have(value: str) -> None:
    """Or it is within the range: zero where that is a choice, and any text where the schema says why."""
    for base, key, leaf in FIELDS:
        started = time.process_time()
        try:
            config = load([*base, f"{key}={value}"])
        except UserError as error:
            assert key in str(error) and len(str(error)) <= 300 and "\n" not in str(error)
        else:
            found = functools.reduce(getattr, key.split("."), cast(Any, config))
            if leaf.kind is str:
                assert str(found) == value and isinstance(leaf.constraint, Text) and leaf.constraint.because
            else:
                assert isinstance(leaf.constraint, Range) and found == float(value)
                assert leaf.constraint.lowest <= found <= leaf.constraint.highest
                assert found == 0 or key == "seed"  # what is large costs memory or time, but for the seed
        assert time.process_time() - started < 2, key


@pytest.mark.parametrize(("base", "key"), [(base, key) for base, key, leaf in FIELDS if leaf.kind is list])
def test_elements_and_lengths_of_lists_have_ranges(base: tuple[str, ...], key: str) -> None:
    for value in ("[-1]", "[1000000000]", "[nan]", "[null]", f"[{','.join(['1'] * 1000)}]", "[[1]]", "1"):
        assert key in error_of(*base, f"{key}={value}")


@pytest.mark.parametrize(
    "override",
    [
        "model.world_model.transformer.embed_dropout=1", "training.actor_critic.gamma=-3", "runtime.threads=0",
        "training.tokenizer.learning_rate=0", "collection.train.epsilon=2", "collection.test.temperature=0",
        "runtime.threads=-3", "runtime.device=gpu", "runtime.device=tpu", "runtime.device=cuda:", "seed=-1",
        "runtime.device=cuda:x", "training.world_model.start_after_epochs=-1", "out=", "out=${oc.env:HOME}/runs",
        "model.world_model.retnet.shortest_memory=1", "runtime.tracking=0", "model=null", "training=null",
        f"training.epochs={'x' * 5000}",
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_sentence_with_its_key(override: str) -> None:
    assert override.partition("=")[0] in error_of(*SMOKE, override)


@pytest.mark.parametrize(
    "override",
    [f"seed={'1' * 5000}", "seed=[1,2", "seed=1,2", "~seed", "=3", "training..epochs=3", "x" * 500, f"{'x' * 500}=1"],
)
def test_what_is_no_setting_is_one_sentence(override: str) -> None:
    error_of(*SMOKE, override)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15", "mps"])
def test_names_of_devices_are_known_without_looking_for_them(device: str) -> None:
    assert load([*SMOKE, f"runtime.device={device}"]).runtime.device == device


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=010", 10), ("seed='010'", 10), ("runtime.scratch=/tmp/a b", "/tmp/a b"), ("out=1.10", "1.10"),
        ("out=010", "010"), ("out=true", "true"), ("runtime.tracking_uri=sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("runtime.suite=a: b", "a: b"), ("model.tokenizer.residual={num_res_blocks: 0}", 0), ("variant=null", None),
        ("training.tokenizer.learning_rate=1e-4", 1e-4), ("training.epochs=1_0", 10),
        ("runtime.keep_scratch=TRUE", True),
    ],
)  # fmt: skip
def test_what_the_command_line_hands_over_arrives(override: str, expected: Any) -> None:
    key = override.partition("=")[0] + (".num_res_blocks" if "{" in override else "")
    found = functools.reduce(getattr, key.split("."), cast(Any, load([*SMOKE, override])))
    assert found == expected and type(found) is type(expected)


def test_missing_perceptual_weights_are_noticed_before_anything_runs(tmp_path: Path) -> None:
    weights = tmp_path / "vgg.safetensors"
    overrides = [*PONG, f"model.tokenizer.perceptual_weights={weights}"]
    assert f"there is no file {weights}" in error_of(*overrides)
    weights.touch()
    assert load(overrides).model.tokenizer.perceptual_weights == str(weights)


def test_a_wrong_kind_of_value_in_a_file_is_named(project: Path) -> None:
    path = project / "pipeline" / "iris" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["scales"]["smoke"]["model"]["policy"] = 3
    path.write_text(yaml.safe_dump(params))
    assert re.match(r"pipeline/iris/params.yaml line \d+: model.policy: '3' stands where a section", error_of(*SMOKE))


BROKEN = {
    "syntax": b"model: {backbone: [\n", "tab": b"model:\n\tbackbone: gru\n", "utf-16": "model: {}\n".encode("utf-16"),
    "duplicate key": b"model: {}\nmodel: {}\n", "list": b"- model\n", "scalar": b"model\n",
    "section that is a number": b"model: 3\n", "section that is a list": b"training:\n  tokenizer: [1]\n",
    "value that is a section": b"training: {epochs: {a: 1}}\n", "unknown key": b"training:\n  epoch: 3\n",
    "out of range": b"training:\n\n  epochs: 0\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ["params.yaml", "pipeline/iris/params.yaml"])
@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_in_a_file_is_one_sentence_with_its_line(project: Path, name: str, mistake: str) -> None:
    (project / name).write_bytes(BROKEN[mistake])
    assert re.match(rf"{name} line \d", error_of(*SMOKE))


@pytest.mark.parametrize(
    ("sections", "value"),
    [
        ((), {"scales": 3}), ((), {"families": [1]}), (("scales",), {"smoke": "x"}), ((), {"tasks": 3}),
        (("families",), {"atari": 3}), (("families", "atari"), {"scales": 3}), ((), {"published": 3}),
        (("tasks",), {"atari/Pong": 3}), ((), {"variants": 3}), (("variants",), {"64-tokens": [3]}),
        (("variants", "64-tokens"), {"families": 3}), (("published", "training"), {"epochs": "x"}),
        (("published", "scales"), {"smoke": 3}),
    ],
)  # fmt: skip
def test_sections_of_overrides_have_a_shape(project: Path, sections: tuple[str, ...], value: dict[str, Any]) -> None:
    path = project / "pipeline" / "iris" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    section = params
    for name in sections:
        section = section.setdefault(name, {})
    section.update(value)
    path.write_text(yaml.safe_dump(params))
    found = error_of(*SMOKE, "variant=64-tokens")
    assert re.match(r"pipeline/iris/params.yaml line \d+: ", found) and next(iter(value)) in found


def test_a_family_that_a_method_has_no_settings_for_is_an_error() -> None:
    for task in ("dmc/walker-run", "minigrid_symbolic/Empty-5x5"):
        found = error_of("method=delta_iris", f"task={task}", "scale=smoke")
        assert (
            f"delta_iris has no settings for {task.split('/')[0]}; it has some for crafter, atari, minigrid." in found
        )


def test_a_variant_of_an_unknown_family_is_an_error(project: Path) -> None:
    path = project / "pipeline" / "m3" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["variants"]["simulus-a"]["families"]["dcm"] = {}
    path.write_text(yaml.safe_dump(params))
    found = error_of("method=m3", "task=dmc/walker-run", "variant=simulus-a")
    assert found == "variant 'simulus-a' of m3 names families without settings: dcm."


def test_a_method_without_a_value_is_an_error(project: Path) -> None:
    path = project / "pipeline" / "iris" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    del params["training"]["actor_critic"]["gamma"]
    path.write_text(yaml.safe_dump(params))
    assert "training.actor_critic.gamma has no value" in error_of(*SMOKE)


# Identity and hash


def test_identity_names_method_variant_task_and_seed() -> None:
    assert load([*SMOKE, "seed=3"]).identity == "iris/atari/Pong/3"
    assert load([*SMOKE, "variant=64-tokens"]).identity == "iris+64-tokens/atari/Pong/0"


def test_the_run_folder_is_named_by_the_identity_unless_given(tmp_path: Path) -> None:
    assert load([*SMOKE]).out_dir == project_root() / "results" / "runs" / "iris" / "atari" / "Pong" / "0"
    assert load([*SMOKE, f"out={tmp_path}"]).out_dir == tmp_path


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def another(value: Any) -> Any:
    """A different value of the same kind."""
    if value is None:
        return 999
    if isinstance(value, bool):
        return not value
    return [*value, 2] if isinstance(value, list) else value + (type(value)(1) if not isinstance(value, str) else "x")


def changed(config: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return dataclasses.replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


@pytest.mark.parametrize("overrides", [SMOKE, DELTA, M3], ids=["iris", "delta_iris", "m3"])
def test_the_hash_changes_with_everything_but_how_and_where_a_run_is_executed(overrides: tuple[str, ...]) -> None:
    config = load([*overrides])
    for key, value in leaves(to_dict(config)).items():
        other = changed(config, key, another(value))
        is_irrelevant = key in ("out", "replace") or (key.startswith("runtime.") and key != "runtime.deterministic")
        assert (other.hash() == config.hash()) == is_irrelevant, key


def test_the_hash_is_that_of_the_values_however_they_were_given() -> None:
    assert load([*SMOKE]).hash() == load([*SMOKE, "training.tokenizer.batch_size=8", "runtime.threads=2"]).hash()
    assert len(load([*SMOKE]).hash()) == 12


def test_perceptual_weights_enter_the_hash_by_their_content(tmp_path: Path) -> None:
    def hash_with(name: str) -> str:
        return load([*PONG, f"model.tokenizer.perceptual_weights={tmp_path / name}"]).hash()

    for name, content in {"a": "one", "b": "one", "c": "two"}.items():
        (tmp_path / name).write_text(content)
    assert hash_with("a") == hash_with("b") != hash_with("c")
    before = hash_with("a")
    (tmp_path / "a").write_text("three")
    assert hash_with("a") != before
    for folder in ("d", "e"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vgg.pth").write_text("heads")
    assert hash_with("d") == hash_with("e")
    (tmp_path / "e" / "vgg.pth").write_text("other heads")
    assert hash_with("d") != hash_with("e")


def test_provenance_names_what_a_person_set_and_nothing_else() -> None:
    assert provenance(load([*SMOKE])).overrides == {}
    chosen = ["seed=3", "out=x", "replace=true", "runtime.threads=2", "training.epochs=4", "model.backbone=gru"]
    assert provenance(load([*SMOKE, *chosen])).overrides == {"model.backbone": "gru"}
    assert provenance(load([*M3, "variant=simulus-a"])).overrides == {}


def settings_hash(*overrides: str) -> str:
    return provenance(load([*overrides])).settings_hash


def test_tasks_and_seeds_made_with_the_same_settings_share_a_hash(tmp_path: Path) -> None:
    """Also those with values of their own, such as Freeway's temperature."""
    freeway = ("method=iris", "task=atari/Freeway", "scale=smoke")
    for settings in ((), ("training.epochs=8",), ("runtime.threads=2", f"out={tmp_path}", "seed=7")):
        assert settings_hash(*SMOKE, *settings) == settings_hash(*freeway, *settings, "seed=3")
    others = ("training.epochs=8", "variant=64-tokens", "scale=small", "task=minigrid/Empty-5x5", "model.backbone=gru")
    hashes = {settings_hash(*SMOKE), *(settings_hash(*SMOKE, other) for other in others)}
    assert len(hashes) == 1 + len(others)
    assert len(settings_hash(*SMOKE)) == 12


def test_a_shipped_value_set_by_a_person_is_no_other_setting(project: Path) -> None:
    before = settings_hash(*SMOKE)
    change(project / "params.yaml", training={"epochs": 4})
    assert settings_hash(*SMOKE) == before
    change(project / "params.yaml", training={"epochs": 5})
    after = settings_hash(*SMOKE)
    change(project / "params.yaml", training={"epochs": None})
    change(project / "pipeline" / "iris" / "params.yaml", training={"epochs": 5})
    assert settings_hash(*SMOKE) == after != before


FREEWAY = ("method=iris", "task=atari/Freeway", "scale=smoke")
TEMPERATURE = "collection.train.temperature"


def cold(value: float) -> dict[str, Any]:
    return {"collection": {"train": {"temperature": value}}}


@pytest.mark.parametrize("place", ["command line", "params.yaml", "pipeline/iris/params.yaml"])
@pytest.mark.parametrize("value", [0.01, 0.3, 1.0])
def test_a_setting_for_all_runs_that_one_task_has_anyway_is_the_same_for_all(
    project: Path, place: str, value: float
) -> None:
    """IRIS ships a temperature of 0.01 for Freeway alone."""
    given = [f"{TEMPERATURE}={value}"] if place == "command line" else []
    if not given:
        change(project / place, **cold(value))
    pong, freeway = (provenance(load([*task, *given])) for task in (SMOKE, FREEWAY))
    assert pong == freeway and pong.overrides == ({} if value == 1.0 else {TEMPERATURE: value})


def test_a_tasks_own_value_is_no_override(project: Path) -> None:
    assert provenance(load([*FREEWAY])).overrides == {}
    change(project / "pipeline" / "iris" / "params.yaml", tasks={"atari/Freeway": cold(0.02)})
    assert provenance(load([*FREEWAY])).overrides == {TEMPERATURE: 0.02}


@pytest.mark.parametrize(
    "overrides", [(*PAPER, "variant=block-causal"), (*DELTA, "variant=no-frame-tokens"), (*M3, "variant=simulus-a")]
)
def test_a_configuration_survives_being_written_and_read(overrides: tuple[str, ...]) -> None:
    config = load([*overrides])
    merged = OmegaConf.merge(OmegaConf.structured(type(config)), OmegaConf.create(OmegaConf.to_yaml(to_dict(config))))
    assert OmegaConf.to_object(merged) == config


# Values


@pytest.mark.parametrize("suite", sorted((PROJECT / "pipeline" / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_groups_of_every_suite_have_a_configuration(suite: Path) -> None:
    content = yaml.safe_load(suite.read_text())
    for method in set(content) & set(known_methods()):
        for group, runs in content[method].items():
            for task in runs["tasks"][:2]:  # all tasks of a group have the same layers, unless they are named
                for variant in runs.get("variants", [None]):
                    chosen = [f"variant={variant}"] if variant else []
                    family = family_of(group)
                    overrides = [f"method={method}", f"task={family}/{task}", f"scale={content['scale']}", *chosen]
                    load([*overrides, *without_weights(method)])


def variants(method: str) -> list[str]:
    return [*yaml.safe_load((PROJECT / "pipeline" / method / "params.yaml").read_text())["variants"]]


IMPOSSIBLE = {("delta_iris", "16-tokens", "small")}  # its map of 10 x 10 has no 16 equal patches


@pytest.mark.parametrize(
    ("method", "variant", "scale"),
    sorted(
        {(method, variant, scale.name) for method in known_methods() for variant in variants(method) for scale in Scale}
        - IMPOSSIBLE
    ),
)
def test_every_variant_loads_at_every_scale(method: str, variant: str, scale: str) -> None:
    overrides = [f"method={method}", "task=atari/Pong", f"scale={scale}", f"variant={variant}"]
    assert load([*overrides, *without_weights(method)]).variant == variant


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
@pytest.mark.parametrize(("method", "family"), [(method, name) for method in FAMILIES for name in FAMILIES[method]])
def test_every_family_loads_at_every_scale(method: str, family: str, scale: str) -> None:
    config = load([f"method={method}", f"task={TASKS[family]}", f"scale={scale}", *without_weights(method)])
    assert config.task == TASKS[family] and config.scale.name == scale


ATARI: Sections = {
    "environment.train": {
        "size": 64, "max_episode_steps": 20000, "noop_max": 30, "frame_skip": 4, "done_on_life_loss": True,
        "clip_reward": False,
    },
    "environment.test": {
        "size": 64, "max_episode_steps": 108000, "noop_max": 1, "frame_skip": 4, "done_on_life_loss": False,
        "clip_reward": False,
    },
    "collection.train": {
        "num_envs": 1, "epsilon": 0.01, "temperature": 1.0, "burn_in": 20, "steps": 200, "episodes": None,
        "stop_after_epochs": 500,
    },
    "collection.test": {
        "num_envs": 8, "epsilon": 0.0, "temperature": 0.5, "burn_in": 20, "steps": None, "episodes": 16,
        "stop_after_epochs": None,
    },
}  # fmt: skip

PUBLISHED: dict[tuple[str, str], Sections] = {
    ("iris", "atari"): ATARI | {
        "model": {"backbone": "transformer", "decoding": "autoregressive"},
        "model.tokenizer": {
            "network": "residual", "vocab_size": 512, "embed_dim": 512, "z_channels": 512, "beta": 1.0,
            "reconstruction": "l1",
        },
        "model.tokenizer.residual": {
            "ch": 64, "ch_mult": [1, 1, 1, 1, 1], "num_res_blocks": 2, "attn_resolutions": [8, 16], "dropout": 0.0,
        },
        "model.world_model": {
            "max_blocks": 20, "embed_dim": 256, "context": 1, "unscored_blocks": 0, "embeddings": "own",
            "initialisation": "gpt",
        },
        "model.world_model.transformer": {
            "num_layers": 10, "num_heads": 4, "attention": "causal", "embed_dropout": 0.1, "residual_dropout": 0.1,
            "attention_dropout": 0.1,
        },
        "model.policy": {"input": "pixels", "recurrence": "lstm", "hidden_dim": 512, "action_input": False},
        "training": {"epochs": 600, "sequence_length": 20, "sampling": "episodes", "precision": "tf32"},
        "training.tokenizer": {
            "batch_size": 256, "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4,
            "weight_decay": 0.0, "start_after_epochs": 5, "stop_after_epochs": None, "updates_per_epoch": 200,
        },
        "training.world_model": {
            "batch_size": 64, "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4,
            "weight_decay": 0.01, "decay": "linear", "start_after_epochs": 25, "stop_after_epochs": None,
            "updates_per_epoch": 200,
        },
        "training.actor_critic": {
            "batch_size": 64, "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4,
            "weight_decay": 0.0, "start_after_epochs": 50, "stop_after_epochs": None, "updates_per_epoch": 200,
            "horizon": 20, "burn_in": 20, "gamma": 0.995, "lambda_": 0.95, "entropy_weight": 0.001,
        },
        "evaluation": {
            "every": 5, "tokenizer_batch_size": 256, "world_model_batch_size": 64, "imagined_episodes": 64,
            "final_episodes": 100, "final_num_envs": 25, "random_episodes": 0,
        },
    },
    ("rem", "atari"): ATARI | {
        "model": {"backbone": "retnet", "decoding": "pop"},
        "model.tokenizer": {
            "network": "plain", "vocab_size": 512, "embed_dim": 256, "z_channels": 256, "beta": 1.0,
            "reconstruction": "mse",
        },
        "model.tokenizer.plain": {"ch": 32, "num_halvings": 3, "num_groups": 8, "decoder_groups": 8},
        "model.world_model": {
            "max_blocks": 10, "embed_dim": 256, "context": 2, "unscored_blocks": 2, "embeddings": "codebook",
            "shared_prediction_token": False, "frozen_action_embeddings": False, "initialisation": "torch",
        },
        "model.world_model.retnet": {
            "num_layers": 5, "num_heads": 4, "value_dim": 256, "hidden_dim": 1024, "dropout": 0.1,
            "identical_layers": True,
        },
        "model.policy": {
            "input": "codes", "recurrence": "lstm", "hidden_dim": 512, "action_input": True,
            "burn_in_actions": "published",
        },
        "training": {"epochs": 600, "sequence_length": 10, "sampling": "segments", "precision": "float32"},
        "training.tokenizer": {
            "batch_size": 128, "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4,
            "weight_decay": 0.01, "decay": "all", "start_after_epochs": 5, "stop_after_epochs": None,
            "updates_per_epoch": 200,
        },
        "training.world_model": {
            "batch_size": 64, "gradient_accumulation": 1, "max_grad_norm": 100.0, "learning_rate": 2e-4,
            "weight_decay": 0.05, "decay": "linear", "start_after_epochs": 25, "stop_after_epochs": None,
            "updates_per_epoch": 200,
        },
        "training.actor_critic": {
            "batch_size": 128, "gradient_accumulation": 1, "max_grad_norm": 3.0, "learning_rate": 1e-4,
            "weight_decay": 0.01, "decay": "all", "start_after_epochs": 50, "stop_after_epochs": None,
            "updates_per_epoch": 100, "horizon": 9, "burn_in": 20, "gamma": 0.995, "lambda_": 0.95,
            "entropy_weight": 0.001,
        },
        "evaluation": {
            "every": 10, "tokenizer_batch_size": 128, "world_model_batch_size": 64, "imagined_episodes": 128,
            "final_episodes": 100, "final_num_envs": 8, "random_episodes": 0,
        },
    },
}  # fmt: skip


STACK: dict[str, Any] = {"multipliers": [1, 1, 2, 2, 4], "halve": [1, 0, 1, 1, 0]}
COMPONENT: dict[str, Any] = {
    "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4, "decay": "linear",
    "stop_after_epochs": None,
}  # fmt: skip


def delta_iris(
    *, train: dict[str, Any], test: dict[str, Any], revival: int, view: tuple[int, int], blocks: int, width: int,
    heads: int, numbers: tuple[str, str], weights: tuple[float, float], exponent: float, epochs: int,
    tokenizer: dict[str, Any], world_model: dict[str, Any], actor_critic: dict[str, Any], evaluation: dict[str, Any],
) -> Sections:  # fmt: skip
    """What its two benchmarks share, and where they differ."""
    dropouts = dict.fromkeys(("embed_dropout", "residual_dropout", "attention_dropout"), 0.0)
    return {
        "collection.train": {"temperature": 1.0, "burn_in": 5, "epsilon": 0.01, "episodes": None, **train},
        "collection.test": {"temperature": 1.0, "burn_in": 5, "epsilon": 0.0, "steps": None, **test},
        "model": {"backbone": "transformer", "decoding": "autoregressive"},
        "model.tokenizer": {
            "num_tokens": 4, "vocab_size": 1024, "embed_dim": 64, "action_channels": 4, "revival_updates": revival,
            "l1_weight": 0.1, "l2_weight": 1.0, "worst_pixel_weight": 0.01, "commitment_weight": 0.02,
        },
        "model.tokenizer.encoder": STACK | {"channels": 64, "latent_dim": 64},
        "model.tokenizer.decoder": STACK | {"channels": 64},
        "model.tokenizer.frame_encoder": STACK | {"channels": view[0], "latent_dim": view[1]},
        "model.world_model": {"max_blocks": blocks, "embed_dim": width, "rewards": numbers[0], "frame_tokens": True},
        "model.world_model.frame_encoder": STACK | {"channels": 32, "latent_dim": width // 64},
        "model.world_model.weights": {"observations": weights[0], "rewards": 1.0, "ends": weights[1]},
        "model.world_model.transformer": {"num_layers": 3, "num_heads": heads, "attention": "causal", **dropouts},
        "model.policy": {"recurrence": "lstm", "hidden_dim": 512, "values": numbers[1]},
        "model.policy.frame_encoder": STACK | {"channels": 32, "latent_dim": 16},
        "training": {
            "epochs": epochs, "sequence_length": blocks, "tokenizer_sequence_length": 21, "precision": "bf16",
            "sampling_exponent": exponent,
        },
        "training.tokenizer": COMPONENT | tokenizer,
        "training.world_model": COMPONENT | {"weight_decay": 0.01} | world_model,
        "training.actor_critic": COMPONENT | {
            "weight_decay": 0.0, "updates_first_epoch": None, "burn_in": 5, "lambda_": 0.95, "target_decay": 0.995,
            "stop_at_end": True, "precision": "tf32",
        } | actor_critic,
        "evaluation": evaluation,
    }  # fmt: skip


PUBLISHED |= {
    ("delta_iris", "crafter"): delta_iris(
        train={"num_envs": 16, "steps": 10000, "steps_first_epoch": 100_000, "stop_after_epochs": 991},
        test={"num_envs": 32, "episodes": 64},
        revival=0, view=(64, 8), blocks=21, width=512, heads=8, numbers=("two_hot", "two_hot"), weights=(1.0, 1.0),
        exponent=5.0, epochs=1000,
        tokenizer={
            "batch_size": 32, "weight_decay": 0.01, "start_after_epochs": 0, "updates_per_epoch": 500,
            "updates_first_epoch": 5000,
        },
        world_model={
            "batch_size": 32, "start_after_epochs": 0, "updates_per_epoch": 500, "updates_first_epoch": 2500,
        },
        actor_critic={
            "batch_size": 86, "start_after_epochs": 0, "updates_per_epoch": 500, "horizon": 15, "gamma": 0.997,
            "entropy_weight": 0.001,
        },
        evaluation={"every": 50, "tokenizer_batch_size": 32, "world_model_batch_size": 32, "final_episodes": 256},
    ) | {f"environment.{split}": {"size": 64, "max_episode_steps": 10000} for split in ("train", "test")},
    ("delta_iris", "atari"): delta_iris(
        train={"num_envs": 1, "steps": 200, "steps_first_epoch": 2000, "stop_after_epochs": 491},
        test={"num_envs": 8, "episodes": 32},
        revival=400, view=(32, 16), blocks=26, width=256, heads=4, numbers=("sign", "regression"), weights=(0.1, 0.1),
        exponent=1.0, epochs=600,
        tokenizer={"batch_size": 16, "weight_decay": 0.0, "start_after_epochs": 5, "updates_per_epoch": 200},
        world_model={"batch_size": 64, "start_after_epochs": 50, "updates_per_epoch": 120},
        actor_critic={
            "batch_size": 64, "start_after_epochs": 75, "updates_per_epoch": 200, "horizon": 20, "gamma": 0.995,
            "entropy_weight": 0.002,
        },
        evaluation={"every": 25, "tokenizer_batch_size": 16, "world_model_batch_size": 64, "final_episodes": 100},
    ) | {key: ATARI[key] for key in ("environment.train", "environment.test")},
}  # fmt: skip


M3_WORLD: dict[str, Any] = {
    "unscored_blocks": 2, "context": 2, "frozen_action_embeddings": False, "shared_prediction_token": False,
    "initialisation": "torch", "rewards": "hl_gauss", "heads": "normed", "read_out": "prediction",
    "ends_alignment": "legacy", "action_levels": 51, "tokenized_actions": True,
}  # fmt: skip


def m3(
    *, train: dict[str, Any], world: dict[str, Any], retnet: dict[str, Any], curiosity: tuple[float, float],
    policy: dict[str, Any], epochs: int, blocks: int, world_model: dict[str, Any], actor_critic: dict[str, Any],
    evaluation: dict[str, Any], precision: str = "float32",
) -> Sections:  # fmt: skip
    """What its three benchmarks share, and where they differ."""
    return {
        "collection.train": {
            "num_envs": 1, "temperature": 1.0, "burn_in": 20, "episodes": None, "final_observation": True,
            "truncation_is_end": False, "steps_first_epoch": None, **train,
        },
        "collection.test": {
            "num_envs": 8, "epsilon": 0.0, "temperature": 0.5, "burn_in": 20, "steps": None,
            "final_observation": True, "truncation_is_end": False, "episodes": evaluation.pop("episodes"),
        },
        "model": {"backbone": "retnet", "decoding": "pop"},
        "model.world_model": M3_WORLD | {"max_blocks": blocks} | world,
        "model.world_model.retnet": {
            "dropout": 0.1, "identical_layers": False, "memory_in_blocks": True, **retnet,
        },
        "model.world_model.curiosity": {
            "members": 4, "real_weight": curiosity[0], "intrinsic_weight": curiosity[1],
        },
        "model.policy": {
            "input": "tokens", "recurrence": "lstm", "token_dim": 64, "action_input": True, "burn_in_actions": "never",
            "values": "hl_gauss", "value_bins": 129, **policy,
        },
        "training": {
            "epochs": epochs, "sequence_length": blocks, "sampling": "prioritised", "uniform_fraction": 0.7,
            "precision": precision,
        },
        "training.world_model": {
            "gradient_accumulation": 1, "max_grad_norm": 3.0, "learning_rate": 2e-4, "weight_decay": 0.05,
            "decay": "heads", "stop_after_epochs": None, "updates_first_epoch": None, **world_model,
        },
        "training.actor_critic": {
            "batch_size": 128, "gradient_accumulation": 1, "max_grad_norm": 3.0, "learning_rate": 2e-4,
            "weight_decay": 0.01, "decay": "all", "stop_after_epochs": None, "gamma": 0.99, "lambda_": 0.95,
            "entropy_weight": 0.001, "entropy_of_last": True, "return_window": 500, "stop_at_end": False,
            "imagination_start": "legacy", "critic_warmup_epochs": 0, **actor_critic,
        },
        "evaluation": evaluation,
    }  # fmt: skip


PUBLISHED |= {
    ("m3", "atari"): m3(
        train={"epsilon": 0.01, "steps": 200, "stop_after_epochs": 500},
        world={"embed_dim": 256, "embeddings": "codebook"},
        retnet={
            "num_layers": 10, "num_heads": 4, "value_dim": 256, "hidden_dim": 1024, "shortest_memory": 4.0,
            "longest_memory": 16.0,
        },
        curiosity=(1.0, 1.0), policy={"fuser": [512], "hidden_dim": 512, "separate_critic": False}, epochs=600,
        blocks=10, world_model={"batch_size": 32, "start_after_epochs": 25, "updates_per_epoch": 200},
        actor_critic={"start_after_epochs": 50, "updates_per_epoch": 80, "horizon": 9, "burn_in": 20},
        evaluation={"every": 20, "episodes": 16, "final_episodes": 100, "final_num_envs": 20},
    ) | {
        "environment.train": ATARI["environment.train"] | {"clip_reward": True},
        "environment.test": ATARI["environment.test"],
        "model.tokenizer": {
            "network": "plain", "vocab_size": 512, "embed_dim": 256, "z_channels": 256, "beta": 1.0,
            "reconstruction": "mse", "quantiser": "nearest", "projections": False, "perceptual_dropout": True,
        },
        "model.tokenizer.plain": {
            "ch": 64, "num_halvings": 3, "num_groups": 8, "decoder_groups": 8, "convolutions": 1, "mirrored": True,
            "decoder_norm": "batch",
        },
        "training.tokenizer": {
            "batch_size": 128, "gradient_accumulation": 1, "max_grad_norm": 10.0, "learning_rate": 1e-4,
            "weight_decay": 0.01, "decay": "all", "start_after_epochs": 5, "stop_after_epochs": None,
            "updates_per_epoch": 200,
        },
    },
    ("m3", "dmc"): m3(
        train={"epsilon": 0.0, "steps": 500, "stop_after_epochs": None},
        world={"embed_dim": 192, "embeddings": "own", "context": 1, "unscored_blocks": 1},
        retnet={
            "num_layers": 10, "num_heads": 3, "value_dim": 192, "hidden_dim": 768, "shortest_memory": 2.0,
            "longest_memory": 2.0,
        },
        curiosity=(1.0, 10.0), policy={"fuser": [384], "hidden_dim": 384, "separate_critic": True}, epochs=1000,
        blocks=20, world_model={"batch_size": 16, "start_after_epochs": 15, "updates_per_epoch": 300},
        actor_critic={
            "start_after_epochs": 20, "updates_per_epoch": 100, "horizon": 20, "burn_in": 19, "critic_warmup_epochs": 5,
        },
        evaluation={"every": 10, "episodes": 32, "final_episodes": 500, "final_num_envs": 20},
    ) | {
        f"environment.{split}": {"frame_skip": 2, "max_episode_steps": None, "clip_reward": False}
        for split in ("train", "test")
    },
    ("m3", "craftax"): m3(
        train={"epsilon": 0.01, "steps": 100, "stop_after_epochs": None},
        world={"embed_dim": 256, "embeddings": "own"},
        retnet={
            "num_layers": 5, "num_heads": 4, "value_dim": 256, "hidden_dim": 1024, "shortest_memory": 8.0,
            "longest_memory": 40.0,
        },
        curiosity=(100.0, 1.0), policy={"fuser": [512, 512], "hidden_dim": 512, "separate_critic": False},
        epochs=10000, blocks=20, world_model={"batch_size": 8, "start_after_epochs": 250, "updates_per_epoch": 100},
        actor_critic={"start_after_epochs": 300, "updates_per_epoch": 50, "horizon": 19, "burn_in": 20},
        evaluation={"every": 200, "episodes": 32, "final_episodes": 104, "final_num_envs": 8}, precision="tf32",
    ),
}  # fmt: skip


def paper(method: str, *overrides: str, family: str = "atari") -> RunConfig:
    return load([f"method={method}", f"task={TASKS[family]}", "scale=paper", *without_weights(method), *overrides])


@pytest.mark.parametrize(("method", "family"), PUBLISHED)
def test_the_paper_scale_has_the_published_values(method: str, family: str) -> None:
    found, published = leaves(to_dict(paper(method, family=family))), leaves_of(PUBLISHED[method, family])
    assert {key: found[key] for key in published} == published


def leaves_of(sections: Sections) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def test_delta_iris_collects_and_imagines_what_the_paper_says() -> None:
    """10 M and 100 k steps; about 64 imagined steps a step on Crafter."""
    for family, steps in (("crafter", 10_000_000), ("atari", 100_000)):
        train = paper("delta_iris", family=family).collection.train
        assert train.steps and train.steps_first_epoch and train.stop_after_epochs
        assert train.steps_first_epoch + train.steps * (train.stop_after_epochs - 1) == steps
    config = paper("delta_iris", family="crafter")
    behaviour = config.training.actor_critic
    imagined = behaviour.updates_per_epoch * behaviour.batch_size * behaviour.horizon
    assert imagined / (config.collection.train.steps or 0) == pytest.approx(64.5)


@pytest.mark.parametrize(("family", "steps"), [("atari", 100_000), ("dmc", 500_000), ("craftax", 1_000_000)])
def test_m3_collects_what_its_benchmarks_are_named_after(family: str, steps: int) -> None:
    """On DeepMind Control steps of the agent, of which each is two of the simulator."""
    config = paper("m3", family=family)
    train = config.collection.train
    assert (train.steps or 0) * (train.stop_after_epochs or config.training.epochs) == steps


@pytest.mark.parametrize("family", ["atari", "dmc", "craftax"])
def test_m3_imagines_to_the_end_of_its_horizon(family: str) -> None:
    """Looks: as many as blocks fit behind the context, and the one that only bootstraps."""
    config = paper("m3", family=family)
    world = config.model.world_model
    assert config.training.actor_critic.horizon == world.max_blocks - world.context + 1


@pytest.mark.parametrize("family", ["dmc", "craftax", "minigrid_symbolic"])
def test_without_pictures_no_perceptual_weights_are_needed(family: str) -> None:
    assert load(["method=m3", f"task={TASKS[family]}"]).scale is Scale.paper


@pytest.mark.parametrize("method", ["iris", "rem", "m3"])
def test_methods_are_published_with_the_perceptual_loss(tmp_path: Path, method: str) -> None:
    (tmp_path / "vgg").touch()
    weights = f"model.tokenizer.perceptual_weights={tmp_path / 'vgg'}"
    config = load([f"method={method}", "task=atari/Pong", weights])
    assert config.scale is Scale.paper and config.model.tokenizer.perceptual.name == "lpips"


@pytest.mark.parametrize("family", ["atari", "minigrid", "minigrid_mixed"])
def test_m3_sees_pictures_with_the_perceptual_loss(family: str) -> None:
    assert "needs model.tokenizer.perceptual_weights=FILE" in error_of("method=m3", f"task={TASKS[family]}")


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
def test_rem_imagines_as_many_blocks_as_it_is_trained_on(scale: str) -> None:
    """The context, then one block more with every step but the last, which predicts no frame."""
    config = load(["method=rem", "task=atari/Pong", f"scale={scale}", "model.tokenizer.perceptual=none"])
    world, horizon = config.model.world_model, config.training.actor_critic.horizon
    assert world.context + horizon - 1 <= config.training.sequence_length
    assert scale != "paper" or world.context + horizon - 1 == config.training.sequence_length == world.max_blocks


def test_64_tokens_drop_a_level() -> None:
    assert load([*PAPER, "variant=64-tokens"]).model.tokenizer.residual.ch_mult == [1, 1, 1, 1]


ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "rem": {
        "no-pop": {"model.decoding": "autoregressive"},
        "4x4-tokenizer": {"model.tokenizer.plain.num_halvings": 4},
        "no-latent-ac": {"model.policy.input": "pixels", "model.policy.action_input": False},
        "separate-embeddings": {"model.world_model.embeddings": "own"},
        "no-action-input": {"model.policy.action_input": False},
    },
    "delta_iris": {
        "no-frame-tokens": {"model.world_model.frame_tokens": False},
        "no-worst-pixel": {"model.tokenizer.worst_pixel_weight": 0.0},
        "1-token": {"model.tokenizer.num_tokens": 1},
        "16-tokens": {"model.tokenizer.num_tokens": 16},
    },
    "m3": {
        "simulus-a": {
            "model.backbone": "transformer",
            "model.tokenizer.quantiser": "fsq",
            "model.tokenizer.perceptual_dropout": False,
            "model.tokenizer.plain.decoder_norm": "group",
            "model.world_model.ends_alignment": "aligned",
            "model.world_model.prediction_token_std": 0.02,
        },
        "no-intrinsic": {"model.world_model.curiosity.members": 0},
        "no-prioritised-replay": {"training.sampling": "segments"},
        "no-hl-gauss": {"model.world_model.rewards": "symlog", "model.policy.values": "regression"},
        "no-extras": {
            "model.world_model.curiosity.members": 0,
            "model.world_model.rewards": "symlog",
            "model.policy.values": "regression",
            "training.sampling": "segments",
        },
        "attention": {"model.backbone": "transformer", "model.world_model.prediction_token_std": 0.02},
        "fsq": {"model.tokenizer.quantiser": "fsq"},
        "uniform-vectors": {"model.tokenizer.vectors.support": "uniform"},
        "aligned": {
            "model.world_model.ends_alignment": "aligned",
            "training.actor_critic.imagination_start": "aligned",
        },
        "legacy-priorities": {"training.priority_lag": 4},
    },
}


@pytest.mark.parametrize("method", ABLATIONS)
def test_all_ablations_are_known(method: str) -> None:
    assert variants(method) == list(ABLATIONS[method])


@pytest.mark.parametrize(("method", "variant"), [(method, name) for method in ABLATIONS for name in ABLATIONS[method]])
def test_an_ablation_differs_in_its_switches_alone(method: str, variant: str) -> None:
    published, ablated = (leaves(to_dict(paper(method, *more))) for more in ((), (f"variant={variant}",)))
    differences = {key: value for key, value in ablated.items() if value != published[key]}
    assert differences == ABLATIONS[method][variant] | {"variant": variant}


@pytest.mark.parametrize("family", ["dmc", "craftax"])
def test_simulus_a_keeps_retention_where_its_authors_do(family: str) -> None:
    config = paper("m3", "variant=simulus-a", family=family)
    assert isinstance(config, TokenRunConfig)
    assert config.model.backbone is Backbone.retnet and config.model.world_model.prediction_token_std is None
    assert config.model.world_model.ends_alignment is EndsAlignment.aligned


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
@pytest.mark.parametrize("method", known_methods())
def test_every_backbone_and_decoding_has_values_for_every_method(method: str, scale: str) -> None:
    config = load([f"method={method}", "task=atari/Pong", f"scale={scale}", *without_weights(method)])
    assert config == validate(config)
    for backbone in Backbone:
        for decoding in DECODINGS[method]:
            model = dataclasses.replace(config.model, backbone=backbone, decoding=decoding)
            validate(dataclasses.replace(config, model=model))
