"""Our agents with the parameters of a golden case of M3, loaded by the code that imports published checkpoints."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.support import Case
from tokenworlds.agents.token import TokenAgent
from tokenworlds.checkpoints import m3
from tokenworlds.config import (
    Attention,
    Backbone,
    BurnInActions,
    ConvConfig,
    CuriosityConfig,
    DecoderNorm,
    Decoding,
    Embeddings,
    EndsAlignment,
    Heads,
    ImageTokenizerConfig,
    Initialisation,
    Norm,
    Perceptual,
    PolicyInput,
    Positions,
    Quantiser,
    ReadOut,
    Reconstruction,
    Recurrence,
    RetNetConfig,
    Scalar,
    SuffixAttention,
    TokenizerNetwork,
    TokenModelConfig,
    TokenPolicyConfig,
    TokenQuirks,
    TokenRunConfig,
    TokenWorldModelConfig,
    TransformerConfig,
)
from tokenworlds.envs import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    GridSpec,
    ImageSpec,
    ModalitySpec,
    MultiDiscreteActions,
    TokenSpec,
    VectorSpec,
)
from tokenworlds.methods import token as token_agent
from tokenworlds.ops.symlog import symexp


def environment(config: dict[str, Any]) -> EnvironmentSpec:
    """What the case's agent sees and does."""
    modalities: dict[str, ModalitySpec] = {}
    for name in config["ordered_modalities"]:
        match name:
            case "image":
                modalities[name] = ImageSpec(*config["image"]["input_resolution"])
            case "vector":
                modalities[name] = VectorSpec(config["vector_dim"])
            case "token":
                (vocab_size,) = set(config["token_nvec"])
                modalities[name] = TokenSpec(len(config["token_nvec"]), vocab_size)
            case "token_2d":
                modalities[name] = GridSpec(1, config["token_2d_cells"], tuple(config["token_2d_row_vocab"]))
    return EnvironmentSpec(modalities, actions(config))


def actions(config: dict[str, Any]) -> ActionSpec:
    if "action_dim" in config:
        return ContinuousActions(config["action_dim"])
    if "action_nvec" in config:
        return MultiDiscreteActions(tuple(config["action_nvec"]))
    return DiscreteActions(config["num_actions"])


def tokenizer_config(config: dict[str, Any], *, is_later: bool = False) -> ImageTokenizerConfig:
    """That of a case's image tokenizer, or any other where there are no images; the decoder of the later state of the
    published code has no batch normalisation."""
    image = config.get("image", {})
    groups, levels = image.get("norm_num_groups", 1), image.get("fsq_levels", [])
    return ImageTokenizerConfig(
        network=TokenizerNetwork.conv,
        vocab_size=image.get("vocab_size", 1),
        embed_dim=image.get("embed_dim", 1),
        z_channels=image.get("embed_dim", 1),
        beta=1.0,
        reconstruction=Reconstruction.mse,
        perceptual=Perceptual.none,
        quantiser=Quantiser.fsq if levels else Quantiser.nearest,
        fsq_levels=levels,
        projections=False,
        conv=ConvConfig(
            ch=image.get("out_channels_1st_layer", 1),
            num_halvings=image.get("num_downsample_steps", 0),
            num_groups=groups,
            decoder_groups=groups,
            convolutions=1,
            mirrored=True,
            decoder_norm=DecoderNorm.group if is_later else DecoderNorm.batch,
        ),
    )


def model(case: Case) -> TokenModelConfig:
    """The settings of a case."""
    config, width = case.config, case.config["embed_dim"]
    is_attention, is_later = "pos_enc" in config, case.json["method"] != "m3"
    sizes = {"num_layers": config["num_layers"], "num_heads": config["num_heads"]}
    acting = config.get("actor_critic", {})
    fuser = acting.get("obs_mlp_layer_sizes", [8])
    value_dim, hidden_dim = retention_sizes(case)
    return TokenModelConfig(
        backbone=Backbone.transformer if is_attention else Backbone.retnet,
        decoding=Decoding.pop,
        tokenizer=tokenizer_config(config, is_later=is_later),
        world_model=TokenWorldModelConfig(
            max_blocks=config["max_blocks"],
            embed_dim=width,
            rewards=Scalar.hl_gauss,
            context=config["context_length"],
            unscored_blocks=config["context_length"],
            embeddings=Embeddings.codebook if config["shared_embeddings"] else Embeddings.own,
            initialisation=Initialisation.torch,
            heads=Heads.normed,
            read_out=ReadOut.prediction,
            action_levels=config.get("n_action_quant_levels", 2),
            curiosity=CuriosityConfig(
                members(case), acting.get("real_reward_weight", 1.0), acting.get("intrinsic_reward_weight", 1.0)
            ),
            retnet=RetNetConfig(
                **sizes,
                value_dim=value_dim,
                hidden_dim=hidden_dim,
                dropout=0.0,
                shortest_memory=config.get("decay_scale_min_num_blocks", 1),
                longest_memory=config.get("decay_scale_max_num_blocks", 1),
                memory_in_blocks=True,
            ),
            transformer=TransformerConfig(
                **sizes,
                attention=Attention.causal,
                embed_dropout=0.0,
                residual_dropout=0.0,
                attention_dropout=0.0,
                positions=Positions[config["pos_enc"]] if is_attention else Positions.rotary,
                norm=Norm.post,
                attention_bias=False,
                suffix_attention=SuffixAttention[config["pred_self_mask"]] if is_attention else SuffixAttention.causal,
            ),
        ),
        policy=TokenPolicyConfig(
            recurrence=Recurrence.lstm,
            hidden_dim=fuser[-1],
            values=Scalar.hl_gauss,
            input=PolicyInput.tokens,
            action_input=acting.get("include_action_inputs", True),
            fuser=fuser,
            token_dim=acting.get("tokens_embed_dim", 1),
            separate_critic=acting.get("separate_networks", False),
            value_bins=acting.get("num_value_bins", 1) + 1,
        ),
    )


def members(case: Case) -> int:
    """Of the ensemble."""
    found = (re.search(r"curiosity_head\.\w+\.ensemble\.(\d+)\.", key) for key in case.tensors)
    return 1 + max(int(match[1]) for match in found if match)


def retention_sizes(case: Case) -> tuple[int, int]:
    """Widths of values and of the hidden layer; of any, where there is no retention."""
    first = "param.world_model._model.layers.0."
    names = (f"{first}retention.v_proj.weight", f"{first}linear1.weight")
    value_dim, hidden_dim = (len(case[name]) if name in case.tensors else case.config["embed_dim"] for name in names)
    return value_dim, hidden_dim


def agent(case: Case) -> TokenAgent:
    """With the parameters that the case has; those of a component that it lacks stay as they were drawn.

    The later state of the released code reads ends where they are learned."""
    settings = model(case)
    is_later = case.json["method"] != "m3"
    ends = EndsAlignment.aligned if is_later else EndsAlignment.legacy
    quirks = TokenQuirks(burn_in_actions=BurnInActions.never, ends_alignment=ends)
    made = token_agent.build_agent(TokenRunConfig(model=settings, quirks=quirks), environment(case.config))
    ours = m3.from_reference(case.group("param."), settings, made.tokenizer.layout.num_tokens)
    given = {key.partition(".")[0] for key in ours}
    for name, component in made.named_children():
        if name in given:
            prefix = f"{name}."
            component.load_state_dict(
                {key.removeprefix(prefix): value for key, value in ours.items() if key.startswith(prefix)}
            )
    return made.eval()


def observations(case: Case) -> dict[str, Tensor]:
    """As they are stored: the vectors of a case are symlogs already."""
    given = case.group("in.observations.")
    return {name: symexp(values.double()) if name == "vector" else values for name, values in given.items()}


def symbols(case: Case, prefix: str = "out.tokens.") -> Tensor:
    """The case's tokens of all modalities, side by side as we hold them."""
    parts = [case[f"{prefix}{name}"] for name in case.config["ordered_modalities"]]
    steps = 2
    return torch.cat([part.flatten(steps) for part in parts], dim=-1)


def gradients(case: Case, settings: TokenModelConfig, num_tokens: int) -> dict[str, Tensor]:
    """The case's gradients by our names."""
    return m3.from_reference(case.group("grad."), settings, num_tokens)


def assert_gradients(case: Case, component: nn.Module, prefix: str, expected: dict[str, Tensor]) -> None:
    """Of every parameter that has one; within the tolerance of the case."""
    found = {f"{prefix}{name}": p.grad for name, p in component.named_parameters() if p.grad is not None}
    expected = {key: value for key, value in expected.items() if key.startswith(prefix)}
    for key in found.keys() - expected.keys():
        assert not found.pop(key).any(), f"{key} has a gradient, in {case.name} it has none"
    rtol, atol = case.tolerance("out.loss_total")
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
