"""The configuration's layers, its errors, and the published values."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tokenworlds.config import Backbone, Decoding, RunConfig, Scale, known_methods, load, project_root, to_dict
from tokenworlds.errors import UserError

Sections = dict[str, dict[str, Any]]  # section -> key -> value

PROJECT = Path(__file__).resolve().parents[1]
PONG = ("method=iris", "task=atari/Pong")
SMOKE = (*PONG, "scale=smoke")
PAPER = (*PONG, "scale=paper", "model.tokenizer.perceptual=none")
REM = ("method=rem", "task=atari/Pong", "scale=smoke")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files, in which the test stands."""
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(path: Path, **values: Any) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.merge(yaml.safe_load(path.read_text()), values)))


def error_of(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


# Layers


def test_layers_go_on_top_of_each_other_in_order(project: Path) -> None:
    """method < scale < task < variant < root params.yaml < command line."""
    params = project / "pipeline" / "iris" / "params.yaml"
    key = "training.tokenizer.learning_rate"

    def learning_rate(*overrides: str) -> float:
        return load([*SMOKE, *overrides]).training.tokenizer.learning_rate

    def layer(value: float) -> dict[str, Any]:
        return {"training": {"tokenizer": {"learning_rate": value}}}

    change(params, **layer(0.1))
    assert learning_rate() == 0.1
    change(params, scales={"smoke": layer(0.2)})
    assert learning_rate() == 0.2
    change(params, tasks={"atari/Pong": layer(0.3)})
    assert learning_rate() == 0.3
    change(params, variants={"tried": layer(0.4)})
    assert learning_rate() == 0.3
    assert learning_rate("variant=tried") == 0.4
    assert learning_rate("variant=tried", f"{key}=0.5") == 0.5


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
    change(project / "params.yaml", model={"backbone": "gru", "decoding": "autoregressive"})
    model = load([f"method={method}", "task=atari/Pong", "scale=smoke"]).model
    assert model.backbone is Backbone.gru and model.decoding is Decoding.autoregressive


def test_the_committed_root_switches_choose_nothing() -> None:
    assert yaml.safe_load((PROJECT / "params.yaml").read_text()) == {"model": {"backbone": None, "decoding": None}}


def test_an_unknown_backbone_in_the_root_switches_lists_the_known_ones(project: Path) -> None:
    change(project / "params.yaml", model={"backbone": "retnett"})
    message = error_of(*SMOKE)
    assert "model.backbone" in message and "'retnett'" in message
    assert all(backbone.name in message for backbone in Backbone)


def test_an_unknown_root_switch_is_an_error(project: Path) -> None:
    change(project / "params.yaml", model={"backbon": "transformer"})
    assert "did you mean backbone?" in error_of(*SMOKE)


def test_task_overrides_concern_their_task_only() -> None:
    assert load(["method=iris", "task=atari/Freeway", "scale=smoke"]).collection.train.temperature == 0.01
    assert load([*SMOKE]).collection.train.temperature == 1.0


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
        ("model.world_model.num_layers=3", "model.world_model.num_layers: .*known: .*transformer"),
        ("model.decoding=popp", r"model.decoding: Invalid value 'popp', expected one of \[autoregressive, pop\]"),
        ("model.policy.input=pixel", "model.policy.input: Invalid value 'pixel'"),
        ("training.tokenizer=3", "training.tokenizer: .*int is not"),
        ("training=[1]", "training: "),
        ("runtime.deterministic=perhaps", "runtime.deterministic: Value 'perhaps'"),
        ("scale=tiny", r"scale: Invalid value 'tiny', expected one of \[smoke, small, paper\]"),
        ("model.backbone=mambaa", "model.backbone: Invalid value 'mambaa', expected one of .*transformer"),
        ("training.precision=fp8", "training.precision: Invalid value 'fp8'"),
        ("variant=63-tokens", "unknown variant '63-tokens' of iris: did you mean 64-tokens"),
        ("variant=no-pop", "unknown variant 'no-pop' of iris"),
        ("method=irsi", "unknown method 'irsi': did you mean iris"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_full_key(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*SMOKE, override])
    error_of(*SMOKE, override)


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
        ("environment.train.size=40", r"environment.train.size \(40\) cannot be halved 4 times"),
        ("model.tokenizer.residual.ch_mult=[1,1,1,1,1,1,1]", "cannot be halved 6 times to 2 pixels or more"),
        ("environment.test.size=32", "environment.train.size and environment.test.size differ"),
        ("collection.train.num_envs=2", "collection.train.num_envs must be 1"),
        ("collection.train.steps=null", "collection.train.steps is not set"),
        ("collection.test.episodes=null", "collection.test.episodes is not set"),
        ("model.world_model.max_blocks=1", "model.world_model.max_blocks must be at least 2, not 1"),
        ("training.actor_critic.horizon=1", "training.actor_critic.horizon must be at least 2, not 1"),
        ("training.actor_critic.burn_in=-1", "training.actor_critic.burn_in must be at least 0, not -1"),
        ("training.epochs=0", "training.epochs must be at least 1, not 0"),
        ("training.tokenizer.updates_per_epoch=0", "training.tokenizer.updates_per_epoch must be at least 1, not 0"),
        ("training.world_model.gradient_accumulation=0", "gradient_accumulation must be at least 1, not 0"),
        ("evaluation.every=0", "evaluation.every must be at least 1, not 0"),
        ("evaluation.final_episodes=0", "evaluation.final_episodes must be at least 1, not 0"),
        ("collection.train.stop_after_epochs=0", "collection.train.stop_after_epochs must be at least 1, not 0"),
        ("runtime.checkpoint_every=0", "runtime.checkpoint_every must be at least 1, not 0"),
        ("environment.train.frame_skip=1", "environment.frame_skip must be at least 2"),
        ("model.tokenizer.perceptual=lpips", "needs model.tokenizer.perceptual_weights=FILE"),
    ],
)
def test_an_impossible_combination_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*SMOKE, override])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.world_model.retnet.num_heads=3", r"embed_dim \(32\) must be a multiple of .*retnet.num_heads \(3\)"),
        ("model.world_model.retnet.value_dim=33", r"value_dim \(33\) must be a multiple of .*retnet.num_heads \(2\)"),
        ("model.world_model.retnet.num_heads=32", "must be a multiple of twice .*heads need even widths"),
        ("model.world_model.embed_dim=64", "embeddings=codebook needs .*embed_dim .64. equal to .*embed_dim .32."),
        ("model.tokenizer.embed_dim=64", "embeddings=codebook needs .*embed_dim .32. equal to .*embed_dim .64."),
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
        ("environment.train.size=36", r"environment.train.size \(36\) cannot be halved 3 times"),
    ],
)
def test_an_impossible_combination_of_rem_is_refused(override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load([*REM, override])


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
    assert error_of(*SMOKE).startswith("configuration: model.policy: ")


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


def test_the_hash_changes_with_everything_but_how_and_where_a_run_is_executed() -> None:
    config = load([*SMOKE])
    for key, value in leaves(to_dict(config)).items():
        other = changed(config, key, another(value))
        is_irrelevant = key == "out" or (key.startswith("runtime.") and key != "runtime.deterministic")
        assert (other.hash() == config.hash()) == is_irrelevant, key


def test_the_hash_is_that_of_the_values_however_they_were_given() -> None:
    assert load([*SMOKE]).hash() == load([*SMOKE, "training.tokenizer.batch_size=8", "runtime.threads=2"]).hash()
    assert len(load([*SMOKE]).hash()) == 12


def test_a_configuration_survives_being_written_and_read() -> None:
    config = load([*PAPER, "variant=block-causal"])
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
                    family = group.split("_")[0]
                    overrides = [f"method={method}", f"task={family}/{task}", f"scale={content['scale']}", *chosen]
                    load([*overrides, "model.tokenizer.perceptual=none"])


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
@pytest.mark.parametrize("method", known_methods())
def test_every_variant_loads_at_every_scale(method: str, scale: str) -> None:
    params = yaml.safe_load((PROJECT / "pipeline" / method / "params.yaml").read_text())
    assert params["variants"]
    for variant in params["variants"]:
        overrides = [f"method={method}", "task=atari/Pong", f"scale={scale}", f"variant={variant}"]
        assert load([*overrides, "model.tokenizer.perceptual=none"]).variant == variant


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

PUBLISHED: dict[str, Sections] = {
    "iris": ATARI | {
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
    "rem": ATARI | {
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


def paper(method: str, *overrides: str) -> RunConfig:
    return load([f"method={method}", "task=atari/Pong", "scale=paper", "model.tokenizer.perceptual=none", *overrides])


@pytest.mark.parametrize(
    ("method", "section"), [(method, section) for method in PUBLISHED for section in PUBLISHED[method]]
)
def test_the_paper_scale_has_the_published_values(method: str, section: str) -> None:
    found = leaves(to_dict(paper(method)))
    for key, value in PUBLISHED[method][section].items():
        assert found[f"{section}.{key}"] == value, key


@pytest.mark.parametrize("method", PUBLISHED)
def test_methods_are_published_with_the_perceptual_loss(tmp_path: Path, method: str) -> None:
    (tmp_path / "vgg").touch()
    weights = f"model.tokenizer.perceptual_weights={tmp_path / 'vgg'}"
    config = load([f"method={method}", "task=atari/Pong", weights])
    assert config.scale is Scale.paper and config.model.tokenizer.perceptual.name == "lpips"


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
def test_rem_imagines_as_many_blocks_as_it_is_trained_on(scale: str) -> None:
    """The context, then one block more with every step but the last, which predicts no frame."""
    config = load(["method=rem", "task=atari/Pong", f"scale={scale}", "model.tokenizer.perceptual=none"])
    world, horizon = config.model.world_model, config.training.actor_critic.horizon
    assert world.context + horizon - 1 <= config.training.sequence_length
    assert scale != "paper" or world.context + horizon - 1 == config.training.sequence_length == world.max_blocks


def test_64_tokens_drop_a_level() -> None:
    assert load([*PAPER, "variant=64-tokens"]).model.tokenizer.residual.ch_mult == [1, 1, 1, 1]


ABLATIONS: dict[str, dict[str, Any]] = {
    "no-pop": {"model.decoding": "autoregressive"},
    "4x4-tokenizer": {"model.tokenizer.plain.num_halvings": 4},
    "no-latent-ac": {"model.policy.input": "pixels", "model.policy.action_input": False},
    "separate-embeddings": {"model.world_model.embeddings": "own"},
    "no-action-input": {"model.policy.action_input": False},
}


def test_all_ablations_of_rem_are_known() -> None:
    assert set(yaml.safe_load((PROJECT / "pipeline" / "rem" / "params.yaml").read_text())["variants"]) == set(ABLATIONS)


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_of_rem_differs_in_its_switch_alone(variant: str) -> None:
    published, ablated = (leaves(to_dict(paper("rem", *more))) for more in ((), (f"variant={variant}",)))
    differences = {key: value for key, value in ablated.items() if value != published[key]}
    assert differences == ABLATIONS[variant] | {"variant": variant}


@pytest.mark.parametrize("scale", [scale.name for scale in Scale])
@pytest.mark.parametrize("decoding", [decoding.name for decoding in Decoding])
@pytest.mark.parametrize("backbone", [backbone.name for backbone in Backbone])
@pytest.mark.parametrize("method", known_methods())
def test_every_backbone_and_decoding_has_values_for_every_method(
    method: str, backbone: str, decoding: str, scale: str
) -> None:
    switches = [f"model.backbone={backbone}", f"model.decoding={decoding}", "model.tokenizer.perceptual=none"]
    model = load([f"method={method}", "task=atari/Pong", f"scale={scale}", *switches]).model
    assert (model.backbone.name, model.decoding.name) == (backbone, decoding)
