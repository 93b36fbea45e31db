"""Published IRIS checkpoints: their key layout, renamed to ours and back, and the configuration read off their shapes.

Attention masks and head indices are buffers that follow from the configuration and are left out.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tokenworlds.checkpoints.layout import PERCEPTUAL, indices, perceptual, rename

RENAMED = (
    (r"tokenizer\.", "tokenizer.parts.image."),
    (r"world_model\.transformer\.blocks\.(\d+)\.ln([12])\.", r"world_model.backbone.blocks.\1.norm\2."),
    (r"world_model\.transformer\.blocks\.(\d+)\.attn\.proj\.", r"world_model.backbone.blocks.\1.attention.projection."),
    (r"world_model\.transformer\.blocks\.(\d+)\.mlp\.", r"world_model.backbone.blocks.\1.mlp."),
    (r"world_model\.transformer\.ln_f\.", "world_model.backbone.norm."),
    (r"world_model\.pos_emb\.", "world_model.backbone.positions."),
    (r"world_model\.embedder\.embedding_tables\.0\.", "world_model.embed_action."),
    (r"world_model\.embedder\.embedding_tables\.1\.", "world_model.embed_observation.image."),
    (r"world_model\.head_observations\.head_module\.", "world_model.head_observation.image."),
    (r"world_model\.head_(reward|end)s\.head_module\.", r"world_model.head_\1."),
    (r"actor_critic\.lstm\.", "policy.recurrence."),
    (r"actor_critic\.(actor|critic)_linear\.", r"policy.\1."),
)
BUFFERS = re.compile(r"world_model\.(transformer\.blocks\.\d+\.attn\.mask|head_\w+\.indices)")
PART = re.compile(r"world_model\.transformer\.blocks\.(\d+)\.attn\.(query|key|value)\.(weight|bias)")
FUSED = re.compile(r"world_model\.backbone\.blocks\.(\d+)\.attention\.query_key_value\.(weight|bias)")


def from_reference(state: dict[str, Tensor], model: object = None, num_tokens: int = 0) -> dict[str, Tensor]:
    """Rename the tensors; configuration and number of tokens are not needed."""
    result = perceptual(state)
    for key, value in state.items():
        if key.startswith(PERCEPTUAL) or BUFFERS.fullmatch(key):
            continue
        if match := PART.fullmatch(key):
            if match[2] == "query":
                parts = [state[key.replace("attn.query", f"attn.{part}")] for part in ("query", "key", "value")]
                fused = f"world_model.backbone.blocks.{match[1]}.attention.query_key_value.{match[3]}"
                result[fused] = torch.cat(parts)
        elif match := re.match(r"actor_critic\.conv(\d)\.", key):
            result[f"policy.encoder.convolutions.{int(match[1]) - 1}.{key[match.end() :]}"] = value
        else:
            result[rename(key, RENAMED)] = value
    return result


def split_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of the fusion of query, key and value alone: our tensors with three entries instead of one."""
    result: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if FUSED.fullmatch(key):
            for name, part in zip(("query", "key", "value"), value.chunk(3)):
                result[key.replace("query_key_value", name)] = part
        else:
            result[key] = value
    return result


def infer_model(state: dict[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
    """The ``model`` section that fits; the number of heads, 4 as published, cannot be read off shapes."""
    levels = indices(state, r"tokenizer\.encoder\.down\.(\d+)\.")
    ch = state["tokenizer.encoder.conv_in.weight"].shape[0]
    widths = [state[f"tokenizer.encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in levels]
    attention = [64 // 2**level for level in levels if f"tokenizer.encoder.down.{level}.attn.0.q.weight" in state]
    vocab_size, embed_dim = state["tokenizer.embedding.weight"].shape
    tokens = (64 // 2 ** levels[-1]) ** 2
    max_tokens, width = state["world_model.pos_emb.weight"].shape
    return {
        "tokenizer": {
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "z_channels": state["tokenizer.pre_quant_conv.weight"].shape[1],
            "perceptual": "none",
            "residual": {
                "ch": ch,
                "ch_mult": [w // ch for w in widths],
                "num_res_blocks": len(indices(state, r"tokenizer\.encoder\.down\.0\.block\.(\d+)\.")),
                "attn_resolutions": sorted(attention),
            },
        },
        "world_model": {
            "embed_dim": width,
            "max_blocks": max_tokens // (tokens + 1),
            "transformer": {
                "num_layers": len(indices(state, r"world_model\.transformer\.blocks\.(\d+)\.")),
                "num_heads": num_heads or 4,
            },
        },
        "policy": {"hidden_dim": state["actor_critic.lstm.weight_hh"].shape[1]},
    }
