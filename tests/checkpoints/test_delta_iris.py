"""Published Delta-IRIS checkpoints: what shapes do not show. Layout: tests/golden; the command: test_import."""

import pytest
import torch

from tests.golden.support import assembled_agent
from tokenworlds.checkpoints import delta_iris


@pytest.mark.parametrize(("width", "given", "heads"), [(256, None, 4), (512, None, 8), (512, 2, 2)])
def test_heads_are_those_of_the_published_model_of_this_width(width: int, given: int | None, heads: int) -> None:
    state = assembled_agent("delta_iris") | {"world_model.transformer.pos_emb.weight": torch.zeros(200, width)}
    assert delta_iris.infer_model(state, given)["world_model"]["transformer"]["num_heads"] == heads


def test_projections_are_fused_in_the_order_query_key_value() -> None:
    prefix = "world_model.transformer.blocks.3.sa."
    state = {f"{prefix}{part}.bias": torch.full((2,), float(i)) for i, part in enumerate(("value", "query", "key"))}
    renamed = delta_iris.from_reference(state)
    (key,) = renamed
    assert key == "world_model.backbone.blocks.3.attention.query_key_value.bias"
    assert renamed[key].tolist() == [1, 1, 2, 2, 0, 0]
