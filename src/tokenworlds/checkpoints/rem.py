"""Published REM checkpoints: their key layout, renamed to ours, and the configuration read off their shapes.

Left out are the angles of the retention layers, which follow from the configuration, and tables that a variant holds
but does not use, as the configuration tells.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from tokenworlds.backbones.retnet import by_head
from tokenworlds.checkpoints.layout import PERCEPTUAL, indices, perceptual, rename
from tokenworlds.config import Embeddings, TokenModelConfig

LAYER = r"world_model\._model\.layers\.(\d+)\."
RENAMED = (
    (r"tokenizer\.(encoder|decoder)\.in_conv\.", r"tokenizer.parts.image.\1.conv_in."),
    (r"tokenizer\.(encoder|decoder)\.out_(?:conv|block)\.0\.", r"tokenizer.parts.image.\1.norm_out."),
    (r"tokenizer\.(encoder|decoder)\.out_(?:conv|block)\.2\.", r"tokenizer.parts.image.\1.conv_out."),
    *(
        (rf"tokenizer\.{network}\.blocks\.(\d+)\.{theirs}\.", rf"tokenizer.parts.image.{network}.{way}.\1.{ours}.")
        for network, way in (("encoder", "down"), ("decoder", "up"))
        for theirs, ours in (("0", "norm"), (r"2\.conv", "conv1"), ("3", "conv2"))
    ),
    (r"tokenizer\.", "tokenizer.parts.image."),
    (rf"{LAYER}norm([12])\.", r"world_model.backbone.layers.\1.norm\2."),
    (rf"{LAYER}retention\.g_proj\.", r"world_model.backbone.layers.\1.gate."),
    (rf"{LAYER}retention\.out_proj\.", r"world_model.backbone.layers.\1.out."),
    (rf"{LAYER}linear1\.", r"world_model.backbone.layers.\1.up."),
    (rf"{LAYER}linear2\.", r"world_model.backbone.layers.\1.down."),
    (r"world_model\.head_observations\.", "world_model.head_observation.image."),
    (r"world_model\.head_(reward|end)s\.", r"world_model.head_\1."),
    (r"actor_critic\.convs\.(\d)\.0\.", r"policy.encoder.convolutions.\1."),
    (r"actor_critic\.dense\.0\.", "policy.encoder.dense."),
    (r"actor_critic\.(rnn|lstm)\.", "policy.recurrence."),
    (r"actor_critic\.(actor|critic)_linear\.", r"policy.\1."),
    (r"actor_critic\.actions_embeddings\.", "policy.embed_action."),
)
PART = re.compile(rf"{LAYER}retention\.([qkv])_proj\.(weight|bias)")
OBSERVATIONS, PREDICTIONS = "world_model.embedding.weight", "world_model.placeholder_embeddings.weight"
ACTION_INPUT = "actor_critic.actions_embeddings.weight"


def from_reference(state: dict[str, Tensor], model: TokenModelConfig, num_tokens: int = 0) -> dict[str, Tensor]:
    """Rename the tensors of an agent with this configuration; the number of tokens is not needed."""
    result = perceptual(state)
    for key, value in state.items():
        if key.startswith(PERCEPTUAL) or key.endswith(".thetas"):
            continue
        if match := PART.fullmatch(key):
            if match[2] == "q":
                parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                fused = f"world_model.backbone.layers.{match[1]}.query_key_value.{match[3]}"
                result[fused] = by_head(parts, model.world_model.retnet.num_heads)
        elif match := re.match(r"actor_critic\.conv(\d)\.", key):  # the policy over pixels
            result[f"policy.encoder.convolutions.{int(match[1]) - 1}.{key[match.end() :]}"] = value
        elif key == OBSERVATIONS:  # codes, actions, and a row for padding
            codes = model.tokenizer.vocab_size
            result["world_model.embed_action.weight"] = value[codes:-1]
            if model.world_model.embeddings is Embeddings.own:
                result["world_model.embed_observation.image.weight"] = value[:codes]
        elif key == PREDICTIONS:  # the last row, at the action, predicts nothing
            used = 1 if model.world_model.shared_prediction_token else -1
            result["world_model.prediction_tokens.weight"] = value[:used]
        elif key != ACTION_INPUT or model.policy.action_input:
            result[rename(key, RENAMED)] = value
    return result


def infer_model(state: dict[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
    """The ``model`` section that fits; the shapes show the number of heads."""
    vocab_size, embed_dim = state["tokenizer.embedding.weight"].shape
    first = "world_model._model.layers.0."
    value_dim, width = state[f"{first}retention.v_proj.weight"].shape
    policy: dict[str, Any] = {"input": "pixels", "action_input": False}
    cell = "actor_critic.lstm"
    if f"{cell}.weight_hh" not in state:
        cell = "actor_critic.rnn"
        gates = state[f"{cell}.weight_hh"].shape[0] // state[f"{cell}.weight_hh"].shape[1]
        policy = {"input": "codes", "recurrence": "lstm" if gates == 4 else "gru"}
        policy |= {} if ACTION_INPUT in state else {"action_input": False}
    return {
        "decoding": "pop" if PREDICTIONS in state else "autoregressive",
        "tokenizer": {
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "z_channels": state["tokenizer.pre_quant_conv.weight"].shape[1],
            "perceptual": "none",
            "plain": {
                "ch": state["tokenizer.encoder.in_conv.weight"].shape[0],
                "num_halvings": len(indices(state, r"tokenizer\.encoder\.blocks\.(\d+)\.")),
            },
        },
        "world_model": {
            "embed_dim": width,
            "retnet": {
                "num_layers": len(indices(state, LAYER)),
                "num_heads": width // len(state[f"{first}retention.thetas"]),  # one angle a channel of a head
                "value_dim": value_dim,
                "hidden_dim": state[f"{first}linear1.weight"].shape[0],
            },
        },
        "policy": policy | {"hidden_dim": state[f"{cell}.weight_hh"].shape[1]},
    }
