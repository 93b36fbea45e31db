"""Our modules with the parameters of a golden case of Delta-IRIS, loaded by the code that imports published
checkpoints.

A component is named as in a published agent: ``tokenizer``, ``tokenizer.quantizer``, ``tokenizer.encoder``,
``world_model``, ``world_model.transformer``, ``actor_critic.model``, ``actor_critic.target_model``. The keys of its
tensors may begin with that name or leave it out, as they do in the cases.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.iris_components import transformer_config
from tests.golden.support import Case
from tokenworlds.actor_critic import Policy, build_frame_policy
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.checkpoints import delta_iris
from tokenworlds.checkpoints.iris import split_attention
from tokenworlds.config import (
    Backbone,
    DeltaPolicyConfig,
    DeltaTokenizerConfig,
    DeltaWorldModelConfig,
    EncoderConfig,
    LossWeights,
    Recurrence,
    Scalar,
    StackConfig,
)
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.world_models.delta import DeltaWorldModel

OURS = {
    "tokenizer": "tokenizer",
    "tokenizer.quantizer": "tokenizer.quantiser",
    "tokenizer.encoder": "tokenizer.encoder",
    "tokenizer.decoder": "tokenizer.decoder",
    "tokenizer.frame_cnn": "tokenizer.frame_encoder",
    "world_model": "world_model",
    "world_model.transformer": "world_model.backbone",
    "actor_critic.model": "policy",
    "actor_critic.target_model": "target",
}


# Names


def full_key(component: str, key: str) -> str:
    """The key in a published agent."""
    return key if key.startswith(f"{component}.") else f"{component}.{key}"


def renamed(component: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reference tensors of one component under the names that they have in our module of it."""
    ours = delta_iris.from_reference({full_key(component, key): value for key, value in tensors.items()})
    return {key.removeprefix(f"{OURS[component]}."): value for key, value in ours.items()}


def load(module: nn.Module, component: str, parameters: dict[str, Tensor]) -> None:
    """Load reference parameters of one component; every tensor must find its place."""
    module.load_state_dict(renamed(component, parameters))


def published(component: str, ours: dict[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    """Tensors of our module of a component (gradients, parameters) by the reference's ``keys``, in full; all of them
    must be asked for."""
    found = split_attention({f"{OURS[component]}.{name}": value for name, value in ours.items()})
    names = {full_key(component, key): _our_name(full_key(component, key)) for key in keys}
    assert found.keys() == set(names.values())
    return {key: found[name] for key, name in names.items()}


def _our_name(key: str) -> str:
    """Query, key and value stay apart."""
    if match := delta_iris.PART.fullmatch(key):
        return f"world_model.backbone.blocks.{match[1]}.attention.{match[2]}.{match[3]}"
    return next(iter(delta_iris.from_reference({key: torch.empty(0)})))


def assert_gradients(case: Case, module: nn.Module, component: str, group: str = "grad.") -> None:
    """Of every parameter, within the case's tolerance; those that vanish in exact arithmetic must stay small."""
    expected = {full_key(component, key): value for key, value in case.group(group).items()}
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    vanishing = {f"{component.split('.')[0]}.{key}" for key in case.json.get("zero_gradients", [])}
    assert vanishing <= expected.keys()
    rtol, atol = (case.json["tolerances"]["grad"][key] for key in ("rtol", "atol"))
    found = published(component, gradients, list(expected))
    for key in vanishing:
        small = max(10 * case.json["zero_gradients_float32_noise"], atol)
        assert found.pop(key).abs().max() <= small, f"{case.name} {key} does not vanish"
        del expected[key]
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, check_dtype=False)


# Modules


def stack(config: dict[str, Any]) -> StackConfig:
    return StackConfig(config["num_channels"], list(config["mult"]), list(config["down"]))


def encoder(config: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(config["num_channels"], list(config["mult"]), list(config["down"]), config["latent_dim"])


def tokenizer(case: Case) -> DeltaTokenizer:
    """In evaluation mode."""
    config = case.config
    ours = DeltaTokenizerConfig(
        num_tokens=config["num_tokens"],
        vocab_size=config["codebook_size"],
        embed_dim=config["codebook_dim"],
        action_channels=config["decoder_act_channels"],
        revival_updates=config["max_codebook_updates_with_revival"],
        l1_weight=0.1,  # the weights stand in the reference's code
        l2_weight=1.0,
        worst_pixel_weight=0.01,
        commitment_weight=0.02,
        encoder=encoder(config["encoder_config"]),
        frame_encoder=encoder(config["frame_cnn_config"]),
        decoder=stack(config["decoder_config"]),
    )
    module = DeltaTokenizer(ours, config["image_size"], config["image_channels"], config["num_actions"])
    load(module, "tokenizer", case.group("param."))
    return module.eval()


def world_model(case: Case) -> DeltaWorldModel:
    """In evaluation mode."""
    config, transformer = case.config, case.config["transformer_config"]
    ours = DeltaWorldModelConfig(
        max_blocks=transformer["max_blocks"],
        embed_dim=transformer["embed_dim"],
        rewards=Scalar.two_hot if config["two_hot_rews"] else Scalar.sign,
        transformer=transformer_config(transformer),
        frame_tokens=True,
        frame_encoder=encoder(config["frame_cnn_config"]),
        weights=LossWeights(config["latents_weight"], config["rewards_weight"], config["ends_weight"]),
    )
    module = DeltaWorldModel(
        ours,
        Backbone.transformer,
        ImageSpec(config["image_size"], config["image_size"], config["image_channels"]),
        num_tokens=transformer["tokens_per_block"] - 2,
        vocab_size=config["latent_vocab_size"],
        num_actions=config["num_actions"],
    )
    load(module, "world_model", case.group("param."))
    return module.eval()


def policy(case: Case, network: str = "model") -> Policy:
    """The policy of a case, or its target (``target_model``)."""
    config = case.config
    stacked = config["frame_encoder_config"]
    grid = round((config["lstm_input_dim"] / stacked["latent_dim"]) ** 0.5)
    resolution = grid * 2 ** sum(stacked["down"])
    ours = DeltaPolicyConfig(
        recurrence=Recurrence.lstm,
        hidden_dim=config["lstm_dim"],
        values=Scalar.two_hot if config["two_hot_rets"] else Scalar.regression,
        frame_encoder=encoder(stacked),
    )
    image = ImageSpec(resolution, resolution, stacked["image_channels"])
    spec = EnvironmentSpec({"image": image}, DiscreteActions(config["num_actions"]))
    module = build_frame_policy(ours, spec)
    load(module, f"actor_critic.{network}", case.group(f"param.actor_critic.{network}."))
    return module


def agent(tokenizer_case: Case, world_model_case: Case, policy_case: Case) -> DeltaAgent:
    """In evaluation mode."""
    policies = (policy(policy_case, network) for network in ("model", "target_model"))
    return DeltaAgent(tokenizer(tokenizer_case), world_model(world_model_case), *policies).eval()


def floats(case: Case, key: str = "input.observations", dtype: torch.dtype = torch.float32) -> Tensor:
    """Frames in [0, 1]."""
    return case[key].to(dtype) / 255


def recorded(module: nn.Module) -> list[Tensor]:
    """What the module puts out from now on."""
    outputs: list[Tensor] = []
    module.register_forward_hook(lambda _, __, output: outputs.append(output))
    return outputs


def assert_same_pictures(case: Case, found: Tensor, expected: Tensor, decoded: Tensor) -> None:
    """Of 8 bits, in [0, 1]. What the decoder put out is within the case's tolerance of values that round to them: one
    value of imagination_sign_flush is 39.50023 levels in float64, and 39 in the vectors."""
    unrounded = decoded.clamp(0, 1)
    nearest = unrounded.clamp(expected - 0.5 / 255, expected + 0.5 / 255)
    rtol, atol = (case.json["tolerances"]["float32"][key] for key in ("rtol", "atol"))
    torch.testing.assert_close(unrounded, nearest, rtol=rtol, atol=atol)
    assert torch.equal(found, (255 * unrounded).round() / 255)


def logits(model: DeltaWorldModel, outputs: Tensor, start: int = 0) -> dict[str, Tensor]:
    """Of each head at the positions that it reads in a piece of a sequence that begins at ``start``."""
    place = torch.arange(start, start + outputs.shape[1]) % model.block_size
    at_action = place == model.block_size - model.num_tokens - 1
    return {
        "latents": model.head_delta(outputs[:, (place > 0) & (place < model.block_size - 1)]),
        "rewards": model.head_reward(outputs[:, at_action]),
        "ends": model.head_end(outputs[:, at_action]),
    }
