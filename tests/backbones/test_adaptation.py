"""What is added to a trunk begins as it should, and exactly what is to be trained is in the optimiser."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.methods.support import build, configure, published, snapshot
from tokenworlds.backbones.adaptation import freeze
from tokenworlds.config.trunk import TrunkConfig, TrunkInit
from tokenworlds.errors import UserError

EMBEDDINGS = {768: 657_408, 1024: 876_544, 1280: 1_095_680}  # actions, observations, positions
HEADS = {768: 2_169_349, 1024: 3_678_725, 1280: 5_581_317}
SMALL, TRUNK = 87_882_757, 85_056_000  # of the shape of GPT-2 small
NORMS = 12 * 4 * 768 + 2 * 768
LAST_LAYER = 12 * 768**2 + 13 * 768 - 4 * 768  # without its norms
LORA = 12 * 8 * 32 * 768
LLAMA = 30 * (2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576) + 576
LLAMA_REST = (4 + 512) * 576 + 3 * (576**2 + 576) + 577 * (512 + 3 + 2)  # embeddings (no positions), heads

# Parameters of the world model on a game of four actions, and how many of them are trained
COUNTS: dict[str, tuple[int, int]] = {
    "": (8_447_493, 8_447_493),
    "gpt2-scratch": (SMALL, SMALL),
    "gpt2": (SMALL, SMALL),
    "gpt2-frozen": (SMALL, 2_865_157),
    "gpt2-frozen-but-last": (SMALL, 2_865_157 + LAST_LAYER),
    "gpt2-medium-frozen": (306_866_693, 4_655_621),
    "gpt2-large-frozen": (715_067_397, 6_863_877),
    "gpt2-random-frozen": (SMALL, 2_865_157),
    "gpt2-frozen-projections": (SMALL + 2 * (768**2 + 768), 2_865_157 + 2 * (768**2 + 768)),
    "gpt2-lora": (SMALL + LORA, 2_865_157 - NORMS + LORA),
    "gpt2-frozen-wide-embeddings": (SMALL, 2_865_157),
    "gpt2-random-frozen-wide-embeddings": (SMALL, 2_865_157),
    "smollm2-frozen": (LLAMA + LLAMA_REST, 61 * 576 + LLAMA_REST),
    "pretrained-world-model": (8_447_493, 8_447_493),
    "pretrained-world-model-frozen": (8_447_493, 560_133),
}


def counts(module: nn.Module) -> tuple[int, int]:
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def world_model(variant: str) -> nn.Module:
    """Of the published size, without memory for its weights."""
    chosen = [f"variant={variant}"] if variant else []
    return published("iris", *chosen, task="atari/Breakout", actions=4).world_model


@pytest.mark.parametrize("variant", COUNTS)
def test_variants_have_as_many_weights_and_as_many_trained_ones_as_specified(variant: str) -> None:
    assert counts(world_model(variant)) == COUNTS[variant]


def test_the_frozen_rule_leaves_the_specified_number_in_every_shape() -> None:
    base = world_model("")
    freeze(base.get_submodule("backbone"), TrunkConfig(freeze="attn_mlp"))  # type: ignore[arg-type]
    assert counts(base) == (8_447_493, 560_133)
    assert counts(world_model("gpt2-scratch").get_submodule("backbone"))[0] - 340 * 768 == TRUNK
    for variant, width in {"gpt2": 768, "gpt2-medium-frozen": 1024, "gpt2-large-frozen": 1280}.items():
        model = world_model(variant)
        heads = sum(counts(part)[0] for name, part in model.named_children() if name.startswith("head_"))
        embeddings = sum(counts(part)[0] for name, part in model.named_children() if name.startswith("embed_"))
        assert (embeddings + 340 * width, heads) == (EMBEDDINGS[width], HEADS[width])


def changed(variant: str, *overrides: str) -> dict[str, bool]:
    """One update of a fresh world model: whether each of its parameters has changed."""
    agent, components = build("iris", *overrides, variant=variant)
    component = next(some for some in components if some.name == "world_model")
    component.prepare(1)
    before = snapshot(agent.world_model)
    component.update()
    assert {id(p) for p in agent.world_model.parameters() if p.requires_grad} == {
        id(p) for group in component.optimizer.param_groups for p in group["params"]
    }
    after = dict(agent.world_model.named_parameters())
    return {name: not torch.equal(value, before[name]) for name, value in after.items()}


def layer_of(name: str) -> int | None:
    """The layer of the trunk whose attention or MLP a parameter belongs to."""
    parts = name.split(".")
    return int(parts[2]) if name.startswith("backbone.blocks.") and parts[3] in ("attention", "mlp") else None


FROZEN = {"gpt2-random-frozen": set[int](), "gpt2-frozen-but-last": {2}, "smollm2-frozen": set[int]()}


@pytest.mark.parametrize("variant", FROZEN)
def test_one_update_changes_norms_embeddings_and_heads_but_no_frozen_layer(variant: str) -> None:
    found, trained = changed(variant), FROZEN[variant]
    for name, is_changed in found.items():
        layer = layer_of(name)
        assert is_changed is (layer is None or layer in trained), name
    assert any(layer_of(name) is not None for name in found)


def test_low_rank_additions_alone_are_trained_in_their_trunk() -> None:
    for name, is_changed in changed("gpt2-lora", "training.world_model.learning_rate=0.001").items():
        is_trunk = name.startswith(("backbone.blocks.", "backbone.norm."))
        assert is_changed is (not is_trunk or name.endswith("lora_b")), name  # gradients of A are 0 while B is


def backbone(**changes: Any) -> Any:
    """Always with the same weights, as far as there are."""
    config = TrunkConfig(**changes)
    return small.world_model(small.layout_of(image=(3, 8)), trunk=config).backbone


X = torch.randn(2, 12, 8, generator=small.generator())


def copied(target: nn.Module, source: Mapping[str, Tensor]) -> Any:
    target.load_state_dict(source, strict=False)
    return target


@torch.no_grad()
def test_low_rank_additions_begin_as_nothing_and_then_act_on_their_projections() -> None:
    plain = backbone()
    agent = small.fresh_world_model(small.layout_of(image=(3, 8)), trunk=TrunkConfig(lora_rank=3, lora_alpha=6.0))
    adapted: Any = copied(agent.backbone, plain.state_dict()).eval()
    torch.testing.assert_close(adapted.parallel(X), plain.parallel(X), rtol=1e-6, atol=1e-6)
    attention = adapted.blocks[0].attention
    before = attention.query_key_value(X).chunk(3, dim=-1), attention.projection(X)
    for layer in (attention.query_key_value, attention.projection):
        layer.lora_b.normal_(generator=small.generator())
    after = attention.query_key_value(X).chunk(3, dim=-1), attention.projection(X)
    for part in range(3):
        a, b = attention.query_key_value.lora_a[part], attention.query_key_value.lora_b[part]
        torch.testing.assert_close(after[0][part] - before[0][part], 2 * X @ a.T @ b, rtol=1e-4, atol=1e-5)
    a, b = attention.projection.lora_a[0], attention.projection.lora_b[0]
    torch.testing.assert_close(after[1] - before[1], 2 * X @ a.T @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("targets", "parts"), {"q": [0], "kv": [1, 2], "o": [], "qkvo": [0, 1, 2]}.items())
@torch.no_grad()
def test_low_rank_additions_leave_other_projections_as_they_are(targets: str, parts: list[int]) -> None:
    attention = backbone(lora_rank=2, lora_targets=targets).blocks[0].attention
    joint, plain = attention.query_key_value, nn.Linear(8, 24)
    plain.load_state_dict({name: joint.state_dict()[name] for name in ("weight", "bias")})
    differs = (joint(X) - plain(X)).unflatten(-1, (3, -1)).abs().amax(dim=(0, 1, 3)).gt(1e-6)
    assert differs.nonzero().flatten().tolist() == parts
    assert hasattr(attention.projection, "lora_a") is ("o" in targets)


@torch.no_grad()
def test_projections_stand_before_the_layers_and_after_the_last_norm() -> None:
    both = backbone(pre_proj=True, post_proj=True)
    plain = copied(backbone(), {k: v for k, v in both.state_dict().items() if "proj." not in k or "attention" in k})
    pre, post = both.pre_proj[0], both.post_proj[0]
    shifted = pre(X + both.positions.weight[:12]).relu() - plain.positions.weight[:12]
    torch.testing.assert_close(both.parallel(X), post(plain.parallel(shifted)).relu())
    assert pre.weight.requires_grad and post.weight.requires_grad


def test_new_embeddings_have_the_chosen_spread_and_all_else_the_same_draws() -> None:
    agents = [build("iris", variant=f"gpt2-random-frozen{wide}")[0] for wide in ("", "-wide-embeddings")]
    narrow, wide = (agent.world_model.state_dict() for agent in agents)
    scaled = {name for name in narrow if name.startswith(("embed_", "backbone.positions."))}
    assert len(scaled) == 3
    for name, value in wide.items():
        torch.testing.assert_close(value, narrow[name] * 7 if name in scaled else narrow[name])


def test_new_positions_have_the_chosen_spread_also_where_norms_come_after_the_layers() -> None:
    agent, _ = build("iris", "model.world_model.trunk.embed_init_std=0.1", "model.world_model.transformer.norm=post")
    assert agent.world_model.backbone.positions.weight.std().item() == pytest.approx(0.1, rel=0.1)


REFUSED = {
    "model.world_model.trunk.init=gpt2": "weights=FILE and .*init=KIND go together",
    "model.world_model.trunk.freeze=all_but_adapters": "needs adapters",
    "model.world_model.trunk.freeze='attn_mlp_but_last:2'": "leaves nothing frozen: there are 2 layers",
    "model.world_model.trunk.freeze=everything": "must be none, attn_mlp, attn_mlp_but_last:K or all_but_adapters",
    "model.world_model.trunk.lora_targets=vq": "in this order",
    "model.backbone=retnet +model.world_model.trunk.freeze=attn_mlp": "needs model.backbone=transformer or llama",
}


@pytest.mark.parametrize("given", REFUSED)
def test_settings_of_a_trunk_that_cannot_work_are_refused(given: str) -> None:
    with pytest.raises(UserError, match=REFUSED[given]):
        configure("iris", *given.split())


def test_a_trunk_belongs_to_its_sequence_model() -> None:
    config = TrunkConfig(TrunkInit.llama, "model.gguf")
    with pytest.raises(UserError, match=r"init=llama needs model\.backbone=llama"):
        config.check(2, is_llama=False)
    with pytest.raises(UserError, match=r"are of model\.backbone=transformer"):
        TrunkConfig(lora_rank=1).check(2, is_llama=True)
