"""The transformer of Simulus-A against golden vectors: a pass over all blocks with their prediction tokens, and block
by block with a cache."""

import pytest
import torch
from torch import Tensor

from tests.golden.support import Case, load_case
from tokenworlds.backbones.transformer import TransformerBackbone, waves
from tokenworlds.config import Attention, Norm, Positions, SuffixAttention, TransformerConfig

RENAMED = {
    "self_attn.out_proj": "attention.projection",
    "ff.0": "mlp.0",
    "ff.2": "mlp.2",
    "norm1": "norm1",
    "norm2": "norm2",
}

every_case = pytest.mark.parametrize(
    "name",
    [
        f"simulus_pop_attention_{positions}_{mask}"
        for positions in ("rotary", "sinusoidal")
        for mask in ("causal", "full")
    ],
)


def parameters(case: Case, layers: int) -> dict[str, Tensor]:
    """Under our names, queries, keys and values as one matrix."""
    theirs, ours = case.group("param."), {}
    for layer in range(layers):
        maps = [theirs.pop(f"layers.{layer}.self_attn.{name}_proj.weight") for name in ("q", "k", "v")]
        ours[f"blocks.{layer}.attention.query_key_value.weight"] = torch.cat(maps)
        for old, new in RENAMED.items():
            for kind in ("weight", "bias"):
                if f"layers.{layer}.{old}.{kind}" in theirs:
                    ours[f"blocks.{layer}.{new}.{kind}"] = theirs.pop(f"layers.{layer}.{old}.{kind}")
    assert set(theirs) <= {"pred_tokens", "embed.weight", "obs_head.weight", "rotary_emb.inv_freq"}
    return ours


def backbone_of(case: Case) -> TransformerBackbone:
    """With room for one block more than are given: its prediction tokens stand behind the last."""
    config = case.config
    ours = TransformerConfig(
        num_layers=config["num_layers"],
        num_heads=config["num_heads"],
        attention=Attention.causal,
        embed_dropout=0.0,
        residual_dropout=0.0,
        attention_dropout=0.0,
        positions=Positions[config["pos_enc"]],
        norm=Norm.post,
        attention_bias=False,
        suffix_attention=SuffixAttention[config["pred_self_mask"]],
    )
    block = config["n_obs"] + config["n_act"]
    backbone = TransformerBackbone(ours, config["embed_dim"], (config["blocks"] + 1) * block, block)
    backbone.load_state_dict(parameters(case, config["num_layers"]))
    return backbone.eval()


def assert_last_of_blocks(case: Case, last: Tensor) -> None:
    """Outputs at the last token of every block, as the reference has them."""
    block = case["out.context"].shape[1] // case.config["blocks"]
    rtol, atol = case.tolerance("out.context")
    torch.testing.assert_close(last, case["out.context"][:, block - 1 :: block], rtol=rtol, atol=atol)


@every_case
@torch.no_grad()
def test_all_blocks_in_one_pass(name: str) -> None:
    case = load_case("m3", name)
    backbone, x, tokens = backbone_of(case), case["in.x"], case["param.pred_tokens"]
    last, predictions = backbone.parallel_and_query(x, tokens.expand(len(x), case.config["blocks"], -1, -1))
    case.assert_close(backbone.parallel(x), "out.context")
    case.assert_close(predictions, "out.pred")
    assert_last_of_blocks(case, last)


@every_case
@torch.no_grad()
def test_block_by_block(name: str) -> None:
    case = load_case("m3", name)
    backbone, x = backbone_of(case), case["in.x"]
    query_tokens = case["param.pred_tokens"].expand(len(x), -1, -1)
    state, last, predictions = backbone.init_state(len(x)), [], []
    for block in x.split(backbone.block_size, dim=1):
        out, predicted, state = backbone.step_and_query(state, block, query_tokens)
        last.append(out)
        predictions.append(predicted)
    case.assert_close(torch.stack(predictions, dim=1), "out.step_pred")
    assert_last_of_blocks(case, torch.stack(last, dim=1))


@every_case
@torch.no_grad()
def test_token_by_token(name: str) -> None:
    case = load_case("m3", name)
    backbone, x = backbone_of(case), case["in.x"]
    state, outputs = backbone.init_state(len(x)), []
    for token in x.split(1, dim=1):
        out, state = backbone.step(state, token)
        outputs.append(out)
    case.assert_close(torch.cat(outputs, dim=1), "out.context")


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_frequencies_of_rotation(mask: str) -> None:
    case = load_case("m3", f"simulus_pop_attention_rotary_{mask}")
    expected = case["param.rotary_emb.inv_freq"]
    cosine, sine = waves(2, 2 * len(expected))[1].unbind(-1)
    case.assert_close(torch.atan2(sine, cosine), "param.rotary_emb.inv_freq")
