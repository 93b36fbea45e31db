"""Our modules with the parameters of a golden case, loaded by the code that imports published checkpoints."""

from typing import Any

import torch
from torch import Tensor, nn

from tokenworlds import backbones, world_models
from tokenworlds.actor_critic import PixelEncoder, Policy
from tokenworlds.checkpoints import iris
from tokenworlds.config import (
    Attention,
    Backbone,
    Decoding,
    Embeddings,
    ImageTokenizerConfig,
    Initialisation,
    Perceptual,
    Reconstruction,
    Recurrence,
    ResNetConfig,
    Scalar,
    TokenizerNetwork,
    TokenWorldModelConfig,
    TransformerConfig,
)
from tokenworlds.envs import DiscreteActions
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models.token import TokenWorldModel


def load(module: nn.Module, component: str, parameters: dict[str, Tensor], prefix: str) -> None:
    """Load reference parameters of one component (``tokenizer``, ``world_model``, ``actor_critic``); every tensor must
    find its place."""
    renamed = iris.from_reference({f"{component}.{key}": value for key, value in parameters.items()})
    module.load_state_dict({key.removeprefix(prefix): value for key, value in renamed.items()})


def tokenizer(config: dict[str, Any], parameters: dict[str, Tensor]) -> ImageTokenizer:
    network = ("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "dropout")
    ours = ImageTokenizerConfig(
        network=TokenizerNetwork.resnet,
        vocab_size=config["vocab_size"],
        embed_dim=config["embed_dim"],
        z_channels=config["z_channels"],
        beta=1.0,
        reconstruction=Reconstruction.l1,
        perceptual=Perceptual.none,
        resnet=ResNetConfig(**{key: config[key] for key in network}),
    )
    widths = config.get("lpips_widths")
    module = ImageTokenizer(ours, config["resolution"], config["in_channels"], LPIPS(tuple(widths)) if widths else None)
    load(module, "tokenizer", parameters, "tokenizer.parts.image.")
    return module.eval()


def transformer_config(config: dict[str, Any]) -> TransformerConfig:
    return TransformerConfig(
        num_layers=config["num_layers"],
        num_heads=config["num_heads"],
        attention=Attention[config["attention"]],
        embed_dropout=config["embed_pdrop"],
        residual_dropout=config["resid_pdrop"],
        attention_dropout=config["attn_pdrop"],
    )


def world_model(config: dict[str, Any], parameters: dict[str, Tensor]) -> TokenWorldModel:
    ours = TokenWorldModelConfig(
        max_blocks=config["max_blocks"],
        embed_dim=config["embed_dim"],
        rewards=Scalar.sign,
        context=1,
        unscored_blocks=0,
        embeddings=Embeddings.own,
        initialisation=Initialisation.gpt,
        transformer=transformer_config(config),
    )
    layout = TokenLayout((ModalityTokens("image", config["tokens_per_block"] - 1, (config["obs_vocab_size"],)),))
    backbone = backbones.build(Backbone.transformer, ours, layout.block_size)
    actions = DiscreteActions(config["act_vocab_size"])
    module = world_models.build(Decoding.autoregressive, ours, backbone, layout, actions)
    load(module, "world_model", parameters, "world_model.")
    return module


def policy(config: dict[str, Any], parameters: dict[str, Tensor]) -> Policy:
    module = Policy(PixelEncoder(), Recurrence.lstm, config["lstm_dim"], DiscreteActions(config["act_vocab_size"]))
    load(module, "actor_critic", parameters, "policy.")
    return module


def logits(model: TokenWorldModel, outputs: Tensor) -> dict[str, Tensor]:
    """Of each head at the positions that it reads: a token predicts the next one of its observation, an action the
    first of the next observation, the reward and the end."""
    k = model.layout.num_tokens
    place = torch.arange(outputs.shape[1]) % model.layout.block_size
    return {
        "observations": model.head_observation["image"](outputs[:, place != k - 1]),
        "rewards": model.head_reward(outputs[:, place == k]),
        "ends": model.head_end(outputs[:, place == k]),
    }


def observation_tokenizer(part: ImageTokenizer) -> ObservationTokenizer:
    return ObservationTokenizer({"image": part}).eval()


def reference_gradients(module: nn.Module, component: str, prefix: str) -> dict[str, Tensor]:
    """Our gradients by parameter name with query, key and value apart, to be compared with renamed reference ones."""
    gradients = {
        f"{prefix}{name}": parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None
    }
    return iris.split_attention(gradients)


def renamed(component: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reference tensors (gradients, updated parameters) under our names, query, key and value apart."""
    return iris.split_attention(iris.from_reference({f"{component}.{key}": value for key, value in tensors.items()}))


def floats(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return frames.to(dtype) / 255


def our_name(component: str, key: str) -> str:
    """Our name of one reference parameter; the parts of the fused attention projection keep theirs."""
    if ".attn." in key and "proj" not in key:
        return f"{component}.backbone." + key.removeprefix("transformer.").replace("attn", "attention")
    return next(iter(iris.from_reference({f"{component}.{key}": torch.zeros(())})))
