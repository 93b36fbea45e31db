"""Published M3 and Simulus checkpoints: their key layout, renamed to ours, and the configuration read off their shapes.

Tables that follow from the configuration (angles, levels of finite scalar quantisation), moving averages of a codebook,
and parameters that the published agents hold but do not use are left out.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tokenworlds.backbones.retnet import by_head
from tokenworlds.checkpoints.layout import indices, perceptual, rename
from tokenworlds.config import Embeddings, TokenModelConfig

THEIRS, OURS = r"tokenizer\.tokenizers\.image\.", "tokenizer.parts.image."
ENCODER, DECODER = rf"{THEIRS}encoder\.cnn\.", rf"{THEIRS}decoder\.cnn\."
RETENTION, ATTENTION = (rf"world_model\._model\.layers\.(\d+)\.{part}\." for part in ("retention", "self_attn"))
LAYER = r"world_model\._model\.layers\.(\d+)\."
EMBEDDINGS = r"world_model\.obs_embeddings\."


def _networks() -> tuple[tuple[str, str], ...]:
    """The policy's network and, where the values have one, theirs."""
    result: list[tuple[str, str]] = []
    for encoders, cell, ours in (("obs", "actor", "policy."), ("critic", "critic", "policy.critic_network.")):
        modality, actions = rf"actor_critic\.{encoders}_encoders\.(\w+?)\.", rf"actor_critic\.{cell}_action"
        encoder, tables = rf"{ours}encoder.encoders.\1.", r"embeddings\.embeddings\.embeddings\."
        result += [
            (rf"{modality}model\.(\d+)\.0\.", rf"{encoder}convolutions.\2."),
            (rf"{modality}{tables}(\d+)\.", rf"{encoder}embedding.tables.\2."),
            (rf"{modality}embeddings\.", rf"{encoder}embedding.tables.0."),
            (rf"actor_critic\.{encoders}_latent_fuser\.", f"{ours}encoder.fuser."),
            (rf"actor_critic\.{cell}\.lstm\.(\w+)_l0", rf"{ours}recurrence.\1"),
            (rf"{actions}s_embeddings\.embeddings\.(\d+)\.", rf"{ours}embed_action.tables.\1."),
            (rf"{actions}(s_embeddings|_projection)\.", f"{ours}embed_action."),
        ]
    return tuple(result)


RENAMED = (
    (rf"{ENCODER}0\.", f"{OURS}encoder.conv_in."),
    (rf"{ENCODER}1\.(\d+)\.0\.", rf"{OURS}encoder.down.\1.norm."),
    (rf"{ENCODER}1\.(\d+)\.2\.conv\.", rf"{OURS}encoder.down.\1.conv1."),
    (rf"{ENCODER}2\.0\.", f"{OURS}encoder.norm_out."),
    (rf"{ENCODER}2\.2\.", f"{OURS}encoder.conv_out."),
    (rf"{DECODER}0\.0\.", f"{OURS}decoder.norm_in."),
    (rf"{DECODER}0\.1\.", f"{OURS}decoder.conv_in."),
    (rf"{DECODER}1\.(\d+)\.0\.", rf"{OURS}decoder.up.\1.norm."),
    (rf"{DECODER}1\.(\d+)\.2\.conv\.", rf"{OURS}decoder.up.\1.conv1."),
    (rf"{DECODER}2\.0\.", f"{OURS}decoder.norm_out."),
    (rf"{DECODER}2\.2\.", f"{OURS}decoder.conv_out."),
    (rf"{THEIRS}pre_quant_conv\.", f"{OURS}embedding.project_in."),
    (rf"{THEIRS}post_quant_conv\.", f"{OURS}embedding.project_out."),
    (THEIRS, OURS),
    (rf"{RETENTION}g_proj\.", r"world_model.backbone.layers.\1.gate."),
    (rf"{RETENTION}out_proj\.", r"world_model.backbone.layers.\1.out."),
    (rf"{LAYER}linear1\.", r"world_model.backbone.layers.\1.up."),
    (rf"{LAYER}linear2\.", r"world_model.backbone.layers.\1.down."),
    (rf"{ATTENTION}out_proj\.", r"world_model.backbone.blocks.\1.attention.projection."),
    (rf"{LAYER}ff\.", r"world_model.backbone.blocks.\1.mlp."),
    (r"world_model\._model\.pred_tokens", "world_model.prediction_tokens.weight"),
    (rf"{EMBEDDINGS}(\w+)\.embeddings\.embeddings\.(\d+)\.", r"world_model.embed_observation.\1.tables.\2."),
    (EMBEDDINGS, "world_model.embed_observation."),
    (r"world_model\.obs_emb_map\.", "world_model.embed_observation.image.project."),
    (r"world_model\.action_encoder\.embedding\.embeddings\.(\d+)\.", r"world_model.embed_action.tables.\1."),
    (r"world_model\.action_encoder\.(embedding|action_projection)\.", "world_model.embed_action."),
    (r"world_model\.head_observations\.", "world_model.head_observation."),
    (r"world_model\.head_rewards\.model\.", "world_model.head_reward."),
    (r"world_model\.head_rewards\.head\.linear\.", "world_model.head_reward.2."),
    (r"world_model\.head_ends\.", "world_model.head_end."),
    *_networks(),
    (r"actor_critic\.critic_v_head\.linear\.", "policy.critic."),
    (r"actor_critic\.actor_linear\.(0\.)?", "policy.actor."),
)
PROJECTION = re.compile(rf"{THEIRS}(pre|post)_quant_conv\.weight")
QUERY = re.compile(rf"{LAYER}(retention|self_attn)\.q_proj\.(weight|bias)")
MEMBER = re.compile(r"world_model\.curiosity_head\.(\w+)\.ensemble\.0\.([013])\.(weight|bias)")
STACKED = {"0": "{}1", "1": "norm_{}", "3": "{}2"}
UNUSED = re.compile(
    rf"{THEIRS}((lpips|fsq)\.|_ema_)|.*\.thetas|.*rotary_emb\.|world_model\._model\.(embed|obs_head)\.|.*\.meta_model\.|"
    rf"{LAYER}(retention|self_attn)\.[kv]_proj\.|world_model\.curiosity_head\.\w+\.ensemble\.[1-9]"
)
CONTINUOUS = "world_model.action_encoder.action_projection."
PREDICTIONS = "world_model.placeholder_embeddings.weight"


def from_reference(state: dict[str, Tensor], model: TokenModelConfig, num_tokens: int) -> dict[str, Tensor]:
    """Rename the tensors of an agent with this configuration."""
    result = perceptual({re.sub(f"^{THEIRS}", "tokenizer.", key): value for key, value in state.items()})
    for key, value in state.items():
        if UNUSED.match(key) or _is_idle(key, state, model):
            continue
        if match := QUERY.fullmatch(key):
            parts = [state[p] for kind in "qkv" if (p := key.replace("q_proj", f"{kind}_proj")) in state]
            places = {"retention": f"layers.{match[1]}", "self_attn": f"blocks.{match[1]}.attention"}
            groups = model.world_model.retnet.num_heads if match[2] == "retention" else 1  # attention: not by head
            result[f"world_model.backbone.{places[match[2]]}.query_key_value.{match[3]}"] = by_head(parts, groups)
        elif match := MEMBER.fullmatch(key):
            pattern = re.compile(re.escape(key).replace(r"ensemble\.0", r"ensemble\.(\d+)"))
            members = {int(found[1]): value for name, value in state.items() if (found := pattern.fullmatch(name))}
            name = STACKED[match[2]].format(match[3])
            result[f"world_model.ensemble.{match[1]}.{name}"] = torch.stack([members[m] for m in sorted(members)])
        elif key == PREDICTIONS:  # the last rows, at the actions, predict nothing
            result["world_model.prediction_tokens.weight"] = value[:num_tokens]
        elif key == "world_model.action_encoder.embedding.weight" and any(k.startswith(CONTINUOUS) for k in state):
            result["world_model.embed_action.table.weight"] = value
        elif match := re.match(rf"{LAYER}(norm[12])\.", key):
            kind = "layers" if any(re.match(RETENTION, name) for name in state) else "blocks"
            result[f"world_model.backbone.{kind}.{match[1]}.{match[2]}.{key[match.end() :]}"] = value
        else:  # published projections are convolutions of one pixel
            result[rename(key, RENAMED)] = value.flatten(1) if PROJECTION.fullmatch(key) else value
    return result


def _is_idle(key: str, state: dict[str, Tensor], model: TokenModelConfig) -> bool:
    """Whether the published agent holds this parameter but, with this configuration, does not use it."""
    world = model.world_model
    if key.startswith("world_model.obs_emb_map."):
        return world.embeddings is Embeddings.own or model.tokenizer.embed_dim == world.embed_dim
    if key.startswith(CONTINUOUS):
        return world.tokenized_actions
    return False


def infer_model(state: dict[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
    """The ``model`` section that fits; the shapes show the number of heads."""
    first, image = "world_model._model.layers.0.", "tokenizer.tokenizers.image."
    (width,) = state[f"{first}norm1.weight"].shape
    layers = len(indices(state, LAYER))
    world: dict[str, Any] = {"embed_dim": width}
    model: dict[str, Any] = {"world_model": world, "tokenizer": {"perceptual": "none"}}
    if f"{first}retention.thetas" in state:
        heads = width // len(state[f"{first}retention.thetas"])  # one angle a channel of a head
        hidden = state[f"{first}linear1.weight"].shape[0]
        world["retnet"] = {"num_layers": layers, "num_heads": heads, "value_dim": width, "hidden_dim": hidden}
    else:
        heads = width // (2 * len(state["world_model._model.rotary_emb.inv_freq"]))
        world["transformer"] = {"num_layers": layers, "num_heads": heads}
        model["backbone"] = "transformer"
    members = indices(state, r"world_model\.curiosity_head\.\w+\.ensemble\.(\d+)\.")
    world["curiosity"] = {"members": len(members)}
    if f"{image}encoder.cnn.0.weight" in state:
        is_fsq = f"{image}pre_quant_conv.weight" in state
        is_batch = f"{image}decoder.cnn.0.0.running_mean" in state
        embed_dim, ch = (len(state[f"{image}encoder.cnn.{name}.weight"]) for name in ("2.2", "0"))
        model["tokenizer"] |= {
            "embed_dim": embed_dim,
            "z_channels": embed_dim,
            "quantiser": "fsq" if is_fsq else "nearest",
            "plain": {
                "ch": ch,
                "num_halvings": len(indices(state, r"tokenizer\.tokenizers\.image\.encoder\.cnn\.1\.(\d+)\.")),
                "decoder_norm": "batch" if is_batch else "group",
            },
        }
        if not is_fsq:
            model["tokenizer"]["vocab_size"] = len(state[f"{image}embedding.weight"])
        world["embeddings"] = "own" if "world_model.obs_embeddings.image.weight" in state else "codebook"
    fuser = indices(state, r"actor_critic\.obs_latent_fuser\.(\d+)\.")[::2]
    model["policy"] = {
        "fuser": [len(state[f"actor_critic.obs_latent_fuser.{index}.weight"]) for index in fuser],
        "hidden_dim": state["actor_critic.actor.lstm.weight_hh_l0"].shape[1],
        "value_bins": len(state["actor_critic.critic_v_head.linear.weight"]),
        "separate_critic": "actor_critic.critic.lstm.weight_hh_l0" in state,
    }
    tables = [value for key, value in state.items() if re.match(r"actor_critic\.obs_encoders\.token", key)]
    if tables:
        model["policy"]["token_dim"] = tables[0].shape[1]
    return model
