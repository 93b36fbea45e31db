"""The trunk of GPT-2 (Radford et al. 2019), whose matrices are stored input-major. Its embeddings and the head of its
language model are not used, nor are the masks in old files."""

from typing import Any

from torch import Tensor

from tokenworlds.backbones import pretrained
from tokenworlds.backbones.adaptation import adapt as adapt
from tokenworlds.backbones.transformer import TransformerBackbone
from tokenworlds.config.trunk import TrunkConfig, weights_file

PARTS = {
    "ln_1": "norm1",
    "attn.c_attn": "attention.query_key_value",
    "attn.q_proj": "attention.query",
    "attn.k_proj": "attention.key",
    "attn.v_proj": "attention.value",
    "attn.c_proj": "attention.projection",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
}
IGNORED = r"(transformer\.)?(wte\.weight|wpe\.weight|h\.\d+\.attn\.(masked_)?bias)|lm_head\.(weight|bias)"


def load(backbone: TransformerBackbone, config: TrunkConfig) -> dict[str, Any]:
    """Overwrite the trunk with the file that is configured."""
    return pretrained.load(backbone, config, trunk_tensors(pretrained.read(weights_file(str(config.weights)))))


def trunk_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file, with or without the prefix ``transformer.``, queries, keys and values together or apart."""
    ours = pretrained.renamed(tensors, r"(transformer\.)?h\.(?P<layer>\d+)\.", PARTS, IGNORED)
    for name in ("ln_f.weight", "ln_f.bias"):
        for full in (name, f"transformer.{name}"):
            if full in ours:
                ours[name.replace("ln_f", "norm")] = ours.pop(full)
    return pretrained.joined({name: value.T if value.dim() == 2 else value for name, value in ours.items()})
