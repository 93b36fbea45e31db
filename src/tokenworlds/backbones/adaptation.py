"""What is added to a trunk, and which of it is trained."""

from collections.abc import Iterable

from torch import nn

from tokenworlds.backbones.transformer import TransformerBackbone
from tokenworlds.config import Norm
from tokenworlds.config.trunk import Activation, TrunkConfig


def adapt(backbone: TransformerBackbone, config: TrunkConfig) -> None:
    """Choose the activation, add projections and low-rank additions, and freeze. Embeddings, positions, projections and
    additions are always trained: they are new."""
    if backbone.config.norm is Norm.post and isinstance(backbone.positions, nn.Embedding):
        nn.init.normal_(backbone.positions.weight, std=0.02)  # this form is not initialised otherwise
    if config.chosen_activation is Activation.gelu_tanh:
        for module in backbone.modules():
            if isinstance(module, nn.GELU):
                module.approximate = "tanh"
    if config.pre_proj:
        backbone.pre_proj = _projection(backbone.embed_dim)
    if config.post_proj:
        backbone.post_proj = _projection(backbone.embed_dim)
    if config.lora_rank:
        from tokenworlds.backbones import lora

        for block in backbone.blocks:
            lora.add_to(block.attention, config)  # type: ignore[arg-type]
    freeze(backbone, config)


def freeze(backbone: TransformerBackbone, config: TrunkConfig) -> None:
    """Take what is not trained out of the optimiser: ``attn_mlp`` the linear layers of attention and MLP (Lu et al.
    2021), ``attn_mlp_but_last:K`` these but for the last K layers, ``all_but_adapters`` the norms of the trunk, too."""
    if config.freeze == "none":
        return
    count = len(backbone.blocks) - config.trained_layers
    parts: Iterable[nn.Module] = [part for b in backbone.blocks[:count] for part in (b.attention, b.mlp)]  # type: ignore[misc]
    if config.freeze == "all_but_adapters":
        parts = (backbone.blocks, backbone.norm)
    for part in parts:
        for name, parameter in part.named_parameters():
            parameter.requires_grad_("lora_" in name)


def _projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU())
