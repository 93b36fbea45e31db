"""Published Delta-IRIS checkpoints: their key layout, renamed to ours, and the configuration read off their shapes.

Attention masks and the positions that heads read are buffers that follow from the configuration and are left out.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tokenworlds.checkpoints.layout import indices, rename

BLOCK = r"world_model\.transformer\.blocks\.(\d+)\."
RENAMED = (
    (r"tokenizer\.encoder_act_emb\.", "tokenizer.encoder_action."),
    (r"tokenizer\.decoder_act_emb\.", "tokenizer.decoder_action."),
    (r"tokenizer\.quantizer\.num_codebook_updates", "tokenizer.quantiser.updates"),
    (r"tokenizer\.quantizer\.codewords_freqs", "tokenizer.quantiser.frequencies"),
    (r"tokenizer\.quantizer\.pre_quant_proj\.", "tokenizer.quantiser.project_in."),
    (r"tokenizer\.quantizer\.post_quant_proj\.", "tokenizer.quantiser.project_out."),
    (r"tokenizer\.quantizer\.", "tokenizer.quantiser."),
    (r"tokenizer\.frame_cnn\.encoder\.", "tokenizer.frame_encoder.layers."),
    (r"tokenizer\.(encoder|decoder)\.\1\.", r"tokenizer.\1.layers."),
    (rf"{BLOCK}sa\.ln\.", r"world_model.backbone.blocks.\1.norm1."),
    (rf"{BLOCK}mlp\.ln\.", r"world_model.backbone.blocks.\1.norm2."),
    (rf"{BLOCK}sa\.attention\.proj\.", r"world_model.backbone.blocks.\1.attention.projection."),
    (rf"{BLOCK}mlp\.mlp\.", r"world_model.backbone.blocks.\1.mlp."),
    (r"world_model\.transformer\.ln\.", "world_model.backbone.norm."),
    (r"world_model\.transformer\.pos_emb\.", "world_model.backbone.positions."),
    (r"world_model\.frame_cnn\.0\.encoder\.", "world_model.frame_encoder.layers."),
    (r"world_model\.frame_cnn\.2\.", "world_model.frame_norm."),
    (r"world_model\.act_emb\.", "world_model.embed_action."),
    (r"world_model\.latents_emb\.", "world_model.embed_delta."),
    (r"world_model\.head_latents\.head_module\.", "world_model.head_delta."),
    (r"world_model\.head_(reward|end)s\.head_module\.", r"world_model.head_\1."),
    *(
        (rf"actor_critic\.{network}\.{part}\.", f"{ours}.{name}.")
        for network, ours in (("model", "policy"), ("target_model", "target"))
        for part, name in (
            (r"cnn\.0\.encoder", "encoder.layers"),
            ("lstm", "recurrence"),
            ("actor_linear", "actor"),
            ("critic_linear", "critic"),
        )
    ),
)
RENAMED_RESIDUAL = {"f.0": "norm1", "f.2": "conv1", "f.3": "norm2", "f.5": "conv2", "skip_projection": "nin_shortcut"}
RESIDUAL = re.compile(r"(?<=\.)(f\.[0235]|skip_projection)(?=\.(?:weight|bias)$)")
BUFFERS = re.compile(rf"{BLOCK}sa\.mask|world_model\.head_\w+\.indices")
PART = re.compile(rf"{BLOCK}sa\.(query|key|value)\.(weight|bias)")


def from_reference(state: dict[str, Tensor], model: object = None, num_tokens: int = 0) -> dict[str, Tensor]:
    """Rename the tensors; configuration and number of tokens are not needed."""
    result = {}
    for key, value in state.items():
        if BUFFERS.fullmatch(key):
            continue
        if match := PART.fullmatch(key):
            if match[2] == "query":
                parts = [state[key.replace("sa.query", f"sa.{part}")] for part in ("query", "key", "value")]
                fused = f"world_model.backbone.blocks.{match[1]}.attention.query_key_value.{match[3]}"
                result[fused] = torch.cat(parts)
        else:
            result[RESIDUAL.sub(lambda match: RENAMED_RESIDUAL[match[0]], rename(key, RENAMED))] = value
    return result


def infer_model(state: dict[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
    """The ``model`` section that fits; the number of heads, which shapes do not show, defaults to that of the published
    model of this width: 8 of Crafter's (512), 4 of Atari's (256)."""
    vocab_size, embed_dim = state["tokenizer.quantizer.codebook"].shape
    encoder = _stack(state, "tokenizer.encoder.encoder.")
    resolution = round(state["tokenizer.encoder_act_emb.weight"].shape[1] ** 0.5)
    places = (resolution // 2 ** sum(encoder["halve"])) ** 2  # of the latent map
    num_tokens = places * encoder["latent_dim"] // state["tokenizer.quantizer.pre_quant_proj.weight"].shape[1]
    max_tokens, width = state["world_model.transformer.pos_emb.weight"].shape
    return {
        "tokenizer": {
            "num_tokens": num_tokens,
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "action_channels": state["tokenizer.decoder_act_emb.weight"].shape[1] // places,
            "encoder": encoder,
            "frame_encoder": _stack(state, "tokenizer.frame_cnn.encoder."),
            "decoder": _stack(state, "tokenizer.decoder.decoder.", is_decoder=True),
        },
        "world_model": {
            "embed_dim": width,
            "max_blocks": max_tokens // (num_tokens + 2),
            "rewards": "two_hot" if len(state["world_model.head_rewards.head_module.2.bias"]) > 3 else "sign",
            "frame_encoder": _stack(state, "world_model.frame_cnn.0.encoder."),
            "transformer": {
                "num_layers": len(indices(state, BLOCK)),
                "num_heads": num_heads or (8 if width >= 512 else 4),
            },
        },
        "policy": {
            "hidden_dim": state["actor_critic.model.lstm.weight_hh"].shape[1],
            "values": "two_hot" if len(state["actor_critic.model.critic_linear.bias"]) > 1 else "regression",
            "frame_encoder": _stack(state, "actor_critic.model.cnn.0.encoder."),
        },
    }


def _stack(state: dict[str, Tensor], prefix: str, *, is_decoder: bool = False) -> dict[str, Any]:
    """Channels and levels of a convolutional stack; a decoder's levels are read from its end."""
    first, *levels, _, last = indices(state, rf"{re.escape(prefix)}(\d+)\.")
    latent_dim, last_width = state[f"{prefix}{last}.weight"].shape[:2]
    channels = last_width if is_decoder else len(state[f"{prefix}{first}.bias"])
    multipliers: list[int] = []
    halve: list[int] = []
    for layer in reversed(levels) if is_decoder else levels:
        if f"{prefix}{layer}.conv.weight" in state:
            halve[-1] = 1
        else:
            width = state[f"{prefix}{layer}.f.2.weight"].shape[1 if is_decoder else 0]
            multipliers.append(width // channels)
            halve.append(0)
    stack = {"channels": channels, "multipliers": multipliers, "halve": halve}
    return stack if is_decoder else stack | {"latent_dim": latent_dim}
