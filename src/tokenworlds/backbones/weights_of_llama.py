"""The trunk of a Llama-type model in a GGUF file, with its numbers converted to float32. Embeddings, the head of the
language model and the tokenizer are not used.

Such files store the rows of queries and keys with the two channels of a rotation next to each other; here channels i
and i + width/2 of a head are rotated together.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenworlds.backbones import pretrained
from tokenworlds.backbones.adaptation import adapt as adapt
from tokenworlds.backbones.llama import LlamaBackbone
from tokenworlds.config.backbones import LlamaConfig
from tokenworlds.config.trunk import TrunkConfig, weights_file
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened

PARTS = {
    "attn_norm": "norm1",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.projection",
    "ffn_norm": "norm2",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
}
IGNORED = r"(token_embd|output)\.weight"
SETTINGS = {  # key of the file -> setting that has to have its value
    "llama.attention.head_count": "num_heads",
    "llama.attention.head_count_kv": "num_kv_heads",
    "llama.attention.layer_norm_rms_epsilon": "norm_epsilon",
    "llama.rope.freq_base": "rope_base",
}
SCALING = ("llama.rope.scaling.factor", "llama.rope.scale_linear")
"""Keys of rotations that are stretched for longer texts, which are not built."""


def load(backbone: LlamaBackbone, config: TrunkConfig) -> dict[str, Any]:
    """Overwrite the trunk with the file that is configured."""
    file = weights_file(str(config.weights))
    return pretrained.load(backbone, config, trunk_tensors(read(file, backbone.llama), backbone.llama))


def read(file: Path, config: LlamaConfig) -> dict[str, Tensor]:
    """The tensors of a GGUF file by its own names, as (out, in) and in float32.

    Raises:
        UserError: the package ``gguf`` is missing, or the file is damaged, of another kind of model, or of one with
            other numbers of heads, another epsilon or another base of rotations.
    """
    try:
        import gguf
    except ImportError as error:
        raise UserError(f"{pretrained.SUBJECT}GGUF files are read by the package gguf; install it.") from error
    try:
        reader = gguf.GGUFReader(file)
        known = ("general.architecture", *SETTINGS, *SCALING)
        fields = {name: reader.fields[name].contents() for name in known if name in reader.fields}
        tensors = {
            tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
            for tensor in reader.tensors
        }
    except Exception as error:  # a damaged file fails in any way
        reason = brief(error, 60)
        raise UserError(f"{pretrained.SUBJECT}{shortened(file, 80)} is no GGUF file ({reason}); fetch it.") from error
    _refuse_others(f"{pretrained.SUBJECT}{shortened(file, 60)}", fields, config)
    return tensors


def _refuse_others(subject: str, fields: dict[str, Any], config: LlamaConfig) -> None:
    """Refuse models of another kind, and those that rotate or divide heads in another way. Where a file leaves a number
    out, the format has one."""
    if (kind := fields.get("general.architecture")) != "llama":
        raise UserError(f"{subject} holds a model of the kind {brief(kind, 30)}, not llama; give another file.")
    if any(fields.get(key, 1) not in (0, 1) for key in SCALING):
        raise UserError(f"{subject} stretches its rotations (rope scaling), which is not built; give another file.")
    heads = fields.get("llama.attention.head_count")
    fields = {"llama.attention.head_count_kv": heads, "llama.rope.freq_base": 10_000.0} | fields
    for key, name in SETTINGS.items():
        value, found = getattr(config, name), fields.get(key)
        if not (isinstance(found, int | float) and math.isclose(found, value, rel_tol=1e-6)):
            said = f"no {key}" if found is None else f"{key} {found}"
            raise UserError(
                f"{subject} has {said}, here it is {value}: give model.world_model.llama.{name} the value of the file, "
                "or another file."
            )


def trunk_tensors(tensors: dict[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """The tensors under the names of a trunk, with the channels of queries and keys in its order."""
    ours = pretrained.renamed(tensors, r"blk\.(?P<layer>\d+)\.", PARTS, IGNORED)
    for name in ours:
        for part, heads in (("query", config.num_heads), ("key", config.num_kv_heads)):
            if name.endswith(f".attention.{part}.weight"):
                ours[name] = halves_together(ours[name], heads)
    if "output_norm.weight" in ours:
        ours["norm.weight"] = ours.pop("output_norm.weight")
    return ours


def halves_together(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads, pairs, 2) as (heads, 2, pairs)."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
