"""Our modules with the parameters of a golden case of REM, loaded by the code that imports published checkpoints."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from tests import small
from tests.golden.support import Case, load_json
from tokenworlds import backbones, world_models
from tokenworlds.actor_critic import CodeEncoder, PixelEncoder, Policy, actions
from tokenworlds.backbones.retnet import RetNetState
from tokenworlds.checkpoints import rem
from tokenworlds.config import (
    Backbone,
    ConvConfig,
    Decoding,
    Embeddings,
    ImageTokenizerConfig,
    Initialisation,
    Perceptual,
    Reconstruction,
    Recurrence,
    RetNetConfig,
    Scalar,
    TokenizerNetwork,
    TokenModelConfig,
    TokenPolicyConfig,
    TokenQuirks,
    TokenWorldModelConfig,
)
from tokenworlds.envs import DiscreteActions
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.world_models import heads
from tokenworlds.world_models.base import ImaginationMode, WorldModel
from tokenworlds.world_models.parallel import ParallelWorldModel
from tokenworlds.world_models.token import TokenWorldModel


def assert_close(case: Case, actual: Tensor, key: str) -> None:
    """To 1e-12 in double precision, else to the case's tolerance."""
    expected = case[key]
    rtol, atol = (1e-12, 1e-13) if expected.dtype == torch.float64 else case.tolerance(key)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda text: f"{case.name} {key}: {text}")


def renamed(
    component: str, tensors: dict[str, Tensor], model: TokenModelConfig, is_prediction_shared: bool = False
) -> dict[str, Tensor]:
    """Reference tensors of one component (``tokenizer``, ``world_model``, ``actor_critic``) under our names."""
    given = {f"{component}.{key}": value for key, value in tensors.items()}
    return rem.from_reference(given, model, quirks=TokenQuirks(shared_prediction_token=is_prediction_shared))


def load(
    module: nn.Module, component: str, parameters: dict[str, Tensor], prefix: str, model: TokenModelConfig
) -> None:
    """Load reference parameters of one component; every tensor must find its place."""
    is_shared = isinstance(module, ParallelWorldModel) and len(module.prediction_tokens.weight) == 1
    ours = renamed(component, parameters, model, is_shared)
    module.load_state_dict({key.removeprefix(prefix): value for key, value in ours.items()})


def gradients(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Our gradients by the names that ``renamed`` gives."""
    return {f"{prefix}{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


# The tokenizer


def tokenizer_model(config: dict[str, Any]) -> TokenModelConfig:
    # the pixel controller's case does not state the groups of its tokenizer: those of the reference agent
    groups = (
        config.get("norm_num_groups") or load_json("rem", "reference_agent")["config"]["tokenizer"]["norm_num_groups"]
    )
    return TokenModelConfig(
        tokenizer=ImageTokenizerConfig(
            network=TokenizerNetwork.conv,
            vocab_size=config["vocab_size"],
            embed_dim=config["embed_dim"],
            z_channels=config["out_channels"],
            beta=1.0,
            reconstruction=Reconstruction.mse,
            perceptual=Perceptual.none,
            conv=ConvConfig(
                config["out_channels_1st_layer"], config["num_downsample_steps"], groups, decoder_groups=groups
            ),
        )
    )


def tokenizer(config: dict[str, Any], parameters: dict[str, Tensor]) -> ImageTokenizer:
    model, widths = tokenizer_model(config), config.get("lpips_channels")
    module = ImageTokenizer(
        model.tokenizer, config.get("resolution", 64), perceptual=LPIPS(tuple(widths)) if widths else None
    )
    load(module, "tokenizer", parameters, "tokenizer.parts.image.", model)
    return module.eval()


# The policy


def policy_model(case: Case) -> TokenModelConfig:
    """Over codes it takes actions unless the case says otherwise."""
    recurrence = case.config.get("rnn", "lstm")
    return TokenModelConfig(
        policy=TokenPolicyConfig(
            recurrence=Recurrence.lstm if recurrence == "iris" else Recurrence[recurrence],
            hidden_dim=case.config["hidden"],
            values=Scalar.regression,
            action_input=case.config.get("include_action_inputs", True),
        )
    )


def policy(case: Case) -> Policy:
    """The controller of a case; where it has convolutions over pixels, one over pixels."""
    config, model = case.config, policy_model(case)
    parameters = {key: value for key, value in case.group("param.").items() if not key.startswith("tokenizer.")}
    encoder = (
        PixelEncoder()
        if "conv1.weight" in parameters
        else CodeEncoder(config["token_embed_dim"], round(config["tokens_per_obs"] ** 0.5), config["hidden"])
    )
    settings = model.policy
    module = Policy(
        encoder,
        settings.recurrence,
        settings.hidden_dim,
        DiscreteActions(config["num_actions"]),
        settings.action_input,
        burn_in_every=config["tokens_per_obs"],
        values=settings.values,
        burn_in_learns=True,
    )
    load(module, "actor_critic", parameters, "policy.", model)
    return module


def codes(tokens: Tensor, codebook: Tensor) -> Tensor:
    """Rows of the codebook as pictures (B, T, E, h, w)."""
    return rearrange(codebook[tokens], "b t (h w) e -> b t e h w", h=round(tokens.shape[-1] ** 0.5))


# The world model


def world_model_model(case: Case) -> TokenModelConfig:
    """Embeddings are shared, and frozen with them where there is no parallel prediction, unless the case says
    otherwise."""
    config, parameters = case.config, case.group("param.")
    is_pop, is_shared = "placeholder_embeddings.weight" in parameters, config.get("shared_embeddings", True)
    hidden_dim = parameters["_model.layers.0.linear1.weight"].shape[0]
    return TokenModelConfig(
        decoding=Decoding.pop if is_pop else Decoding.autoregressive,
        tokenizer=ImageTokenizerConfig(vocab_size=config["V"]),
        world_model=TokenWorldModelConfig(
            max_blocks=config["maxb"],
            embed_dim=config["E"],
            rewards=Scalar.sign,
            context=config["ctx"],
            unscored_blocks=config["ctx"],
            embeddings=Embeddings.codebook if is_shared else Embeddings.own,
            initialisation=Initialisation.torch,
            retnet=RetNetConfig(config["nl"], config["H"], config["E"], hidden_dim, 0.1),
        ),
        policy=TokenPolicyConfig(action_input=False),
    )


def world_model(case: Case) -> TokenWorldModel:
    model, parameters = world_model_model(case), case.group("param.")
    codes = parameters.pop("codebook")
    layout = TokenLayout((ModalityTokens("image", case.config["K"], (case.config["V"],)),))
    backbone = backbones.build(Backbone.retnet, model.world_model, layout.block_size)
    spec, coded = DiscreteActions(case.config["A"]), {"image": small.Codes(codes)}
    is_frozen = model.decoding is not Decoding.pop and model.world_model.embeddings is Embeddings.codebook
    shared = bool(case.config.get("shared_prediction_token"))
    quirks = TokenQuirks(frozen_action_embeddings=is_frozen, shared_prediction_token=shared)
    module = world_models.build(model.decoding, model.world_model, backbone, layout, spec, coded, quirks)
    module = module.to(codes.dtype)
    load(module, "world_model", parameters, "world_model.", model)
    return module.eval()


def choose_draws(patch: pytest.MonkeyPatch, choose: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Let ``choose`` decide every draw from logits and uniforms; the logits of all draws from now on."""
    seen: list[Tensor] = []

    def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
        seen.append(logits)
        return choose(logits, uniforms)

    for module in (actions, heads):
        patch.setattr(module, "sample_categorical", draw)
    patch.setattr(WorldModel, "mode", ImaginationMode(draw))
    return seen


def states(state: RetNetState) -> Tensor:
    """(layers, B, H, d, d), keys before values."""
    return torch.stack(state.layers)
