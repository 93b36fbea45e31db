"""Trunks with the weights of other models agree with the reference library, and what does not fit is refused."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from tests import small
from tokenworlds import backbones
from tokenworlds.backbones import trunk
from tokenworlds.backbones.pretrained import trunk_of
from tokenworlds.config import Attention, Backbone, LlamaConfig, Norm, TransformerConfig
from tokenworlds.config.trunk import STAND_INS, Activation, TrunkConfig, TrunkInit, require_weights, weights_file
from tokenworlds.errors import UserError

LAYERS, HEADS, WIDTH, TOKENS = 2, 2, 8, 12
TRANSFORMER = TransformerConfig(LAYERS, HEADS, Attention.causal, 0.0, 0.0, 0.0)
LLAMA = LlamaConfig(LAYERS, num_heads=4, num_kv_heads=2, hidden_dim=12, rope_base=1e5, norm_epsilon=1e-5)


def build(config: TrunkConfig, name: Backbone = Backbone.transformer, **sections: Any) -> Any:
    settings = {"transformer": TRANSFORMER, "llama": LLAMA} | sections
    model = small.world_model_config(max_blocks=4, embed_dim=WIDTH, trunk=config, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = backbones.build(name, model, TOKENS // 4)
        backbone.initialise()
    return backbone.eval()


def loaded(config: TrunkConfig, name: Backbone = Backbone.transformer, **sections: Any) -> Any:
    backbone = build(config, name, **sections)
    trunk.load(backbone, config)
    return backbone


def embeddings(width: int = WIDTH) -> Tensor:
    return torch.randn(2, TOKENS, width, generator=small.generator())


def gpt2(**changes: Any) -> Any:
    """The reference library's, with weights that all matter."""
    sizes = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": 5, "n_positions": TOKENS}
    return small.spread(transformers.GPT2Model(transformers.GPT2Config(**sizes, **changes))).eval()


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With separate queries, keys and values."""
    found = {}
    for name, value in tensors.items():
        if ".attn.c_attn." in name:
            parts = zip("qkv", value.chunk(3, dim=-1))
            found |= {name.replace("c_attn", f"{letter}_proj"): part.contiguous() for letter, part in parts}
        else:
            found[name] = value
    return found


def gpt2_file(folder: Path, *, prefix: str = "", suffix: str = "safetensors", is_fused: bool = True) -> Path:
    """A file of GPT-2 with what real ones hold besides: masks, and the head of the language model."""
    tensors: dict[str, Tensor] = dict(gpt2().state_dict())
    tensors |= {f"h.{i}.attn.{kind}": torch.zeros(1) for i in range(LAYERS) for kind in ("bias", "masked_bias")}
    tensors = tensors if is_fused else apart(tensors)
    named = {f"{prefix}{name}": value for name, value in tensors.items()} | {"lm_head.weight": torch.zeros(5, WIDTH)}
    return written(named, folder / f"gpt2.{suffix}")


def written(tensors: Mapping[str, Tensor], file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    else:
        torch.save(dict(tensors), file)
    return file


def from_gpt2(file: Path, **changes: Any) -> TrunkConfig:
    return TrunkConfig(TrunkInit.gpt2, str(file), **changes)


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "split"])
@pytest.mark.parametrize("prefix", ["", "transformer."], ids=["plain", "prefixed"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@torch.no_grad()
def test_gpt2_has_the_hidden_states_of_the_reference_library(
    tmp_path: Path, suffix: str, prefix: str, is_fused: bool
) -> None:
    reference = gpt2()
    backbone = loaded(from_gpt2(gpt2_file(tmp_path, prefix=prefix, suffix=suffix, is_fused=is_fused)))
    backbone.positions.weight.copy_(reference.wpe.weight)  # not loaded: the world model has positions of its own
    expected = reference(inputs_embeds=embeddings()).last_hidden_state
    torch.testing.assert_close(backbone.parallel(embeddings()), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_approximation_of_gelu_is_a_choice(tmp_path: Path) -> None:
    file = gpt2_file(tmp_path)
    given, tanh, exact = (
        loaded(from_gpt2(file, activation=chosen)).parallel(embeddings())
        for chosen in (None, Activation.gelu_tanh, Activation.gelu)
    )
    assert torch.equal(given, tanh) and 1e-6 < (tanh - exact).abs().max() < 1e-2


@torch.no_grad()
def test_a_deeper_file_gives_its_first_layers_where_that_is_asked_for(tmp_path: Path) -> None:
    file, shallow = gpt2_file(tmp_path), {"transformer": replace(TRANSFORMER, num_layers=1)}
    backbone = loaded(from_gpt2(file, first_layers=True), **shallow)
    both = loaded(from_gpt2(file)).state_dict()
    assert all(torch.equal(value, both[name]) for name, value in trunk_of(backbone.state_dict()).items())
    with pytest.raises(UserError, match=r"blocks\.1\.attention\.projection\.bias has 8, here none, and 11 more"):
        loaded(from_gpt2(file), **shallow)


FAULTS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "left over": ({"h.0.crossattention.c_attn.weight": torch.zeros(2, 2)}, "crossattention.c_attn.weight has 2x2"),
    "missing": ({"h.1.ln_2.bias": None}, "blocks.1.norm2.bias has none, here 8"),
    "missing at the end": ({"ln_f.weight": None}, "norm.weight has none, here 8"),
    "another shape": ({"h.0.mlp.c_fc.weight": torch.zeros(8, 16)}, "blocks.0.mlp.0.weight has 16x8, here 32x8"),
    "not finite": ({"h.0.ln_1.bias": torch.full((8,), float("nan"))}, "NaN or infinite values in blocks.0.norm1.bias"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    changes, sentence = FAULTS[fault]
    tensors = {name: value for name, value in (dict(gpt2().state_dict()) | changes).items() if value is not None}
    with pytest.raises(UserError, match=sentence) as refused:
        loaded(from_gpt2(written(tensors, tmp_path / "gpt2.bin")))
    assert len(str(refused.value)) <= 300 and "\n" not in str(refused.value)


def test_another_file_than_the_one_that_the_configuration_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the digest is 0123456789ab, but this file has"):
        loaded(from_gpt2(gpt2_file(tmp_path), digest="0123456789ab"))


@pytest.mark.parametrize("init", [kind for kind in TrunkInit if kind is not TrunkInit.scratch], ids=lambda i: i.name)
def test_missing_weights_say_where_they_are_to_be_had(init: TrunkInit) -> None:
    for place in ("somewhere/model.file", "package:no_such_package/model.gguf"):
        with pytest.raises(UserError, match=f"nothing at {place}.*or give another path") as refused:
            require_weights(TrunkConfig(init, place))
        assert len(str(refused.value)) <= 300
    with pytest.raises(UserError, match=r"python -m pipeline\.stand_ins makes it"):
        require_weights(TrunkConfig(init, f"{STAND_INS}/no/model.file"))


def test_files_of_packages_and_runs_are_found(tmp_path: Path) -> None:
    assert weights_file("package:tokenworlds/losses.py").is_file()
    assert weights_file(str(tmp_path)) == tmp_path / "agent.safetensors"


# Other kinds of weights


def llama() -> Any:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        **sizes, intermediate_size=12, vocab_size=5, rms_norm_eps=1e-5, rope_parameters={"rope_theta": 1e5},
        max_position_embeddings=TOKENS,
    )  # fmt: skip
    return small.spread(transformers.LlamaModel(config)).eval()


def llama_file(folder: Path, base: float | None = 1e5, kind: str = "llama", scaling: float | None = None) -> Path:
    """In GGUF, as its converter writes it: rows of queries and keys in pairs of channels that are rotated together."""
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    writer = gguf.GGUFWriter(folder / "llama.gguf", kind)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    if base is not None:
        writer.add_rope_freq_base(base)
    if scaling is not None:
        writer.add_rope_scaling_factor(scaling)
    for name, value in llama().state_dict().items():
        array = value.numpy()
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            part = rest.removesuffix(".weight")
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = 4 if "q_proj" in part else 2
                array = array.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(array.shape)
            name = f"blk.{layer}.{names[part]}.weight"
        name = name.replace("embed_tokens.", "token_embd.") if "embed" in name else re.sub("^norm", "output_norm", name)
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "llama.gguf"


@torch.no_grad()
def test_a_llama_has_the_hidden_states_of_the_reference_library(tmp_path: Path) -> None:
    backbone = loaded(TrunkConfig(TrunkInit.llama, str(llama_file(tmp_path))), Backbone.llama)
    expected = llama()(inputs_embeds=embeddings()).last_hidden_state
    torch.testing.assert_close(backbone.parallel(embeddings()), expected, rtol=1e-5, atol=1e-5)


def test_a_llama_with_other_rotations_is_refused(tmp_path: Path) -> None:
    config = TrunkConfig(TrunkInit.llama, str(llama_file(tmp_path, base=1e4)))
    with pytest.raises(UserError, match=r"llama\.rope\.freq_base 10000.0, here it is 100000.0: give .*llama.rope_base"):
        loaded(config, Backbone.llama)
    others: dict[str, dict[str, Any]] = {
        "freq_base 10000.0, here it is 100000.0": {"base": None},  # which is that of the format
        "stretches its rotations": {"scaling": 4.0},
        "holds a model of the kind gpt2, not llama": {"kind": "gpt2"},
    }
    for said, changes in others.items():
        llama_file(tmp_path, **changes)
        with pytest.raises(UserError, match=said):
            loaded(config, Backbone.llama)
    (tmp_path / "llama.gguf").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no GGUF file"):
        loaded(config, Backbone.llama)


@torch.no_grad()
def test_a_bert_under_the_causal_mask_has_the_hidden_states_of_the_reference_library(tmp_path: Path) -> None:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": 5}
    settings = transformers.BertConfig(**sizes, intermediate_size=4 * WIDTH)
    reference = small.spread(transformers.BertModel(settings)).eval()
    file = written(reference.state_dict(), tmp_path / "bert.safetensors")
    config = TrunkConfig(TrunkInit.bert, str(file))
    backbone = loaded(config, transformer=replace(TRANSFORMER, norm=Norm.post))
    backbone.positions.weight.zero_()
    torch.testing.assert_close(
        backbone.parallel(embeddings()), causal_bert(reference, embeddings()), rtol=1e-5, atol=1e-5
    )


def causal_bert(reference: Any, x: Tensor) -> Tensor:
    """Outputs of its layers alone, every token attending to those before it."""
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)[None, None]
    return reference.encoder(x, attention_mask=mask).last_hidden_state


@torch.no_grad()
def test_the_trunk_of_a_run_leaves_positions_and_all_else_fresh(tmp_path: Path) -> None:
    source = small.spread(small.agent(max_blocks=3, embed_dim=WIDTH))
    file = written(source.state_dict(), tmp_path / "agent.safetensors")
    config = TrunkConfig(TrunkInit.run, str(tmp_path))
    fresh, found = build(config).state_dict(), loaded(config).state_dict()
    for name, value in found.items():
        expected = source.state_dict()[f"world_model.backbone.{name}"] if name in trunk_of(found) else fresh[name]
        assert torch.equal(value, expected), name
    assert file == weights_file(str(config.weights)) and "positions.weight" not in trunk_of(found)
