"""The retentive network against golden vectors: its layer and its stack, in every form in which they run."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden import rem_components
from tests.golden.rem_components import assert_close
from tests.golden.support import Case, load_case
from tokenworlds.backbones.retnet import Retain, RetNetBackbone, RetNetState, multi_scale_retention
from tokenworlds.config import RetNetConfig, TokenModelConfig, TokenWorldModelConfig
from tokenworlds.ops.retention import retain


def backbone(case: Case, parameters: dict[str, Tensor], max_tokens: int, block_size: int) -> RetNetBackbone:
    """Of as many layers as there are parameters for, in the number format of the case."""
    config, layers = case.config, len({key.split(".")[1] for key in parameters})
    hidden_dim = config.get("dim_feedforward", 4)
    sizes = RetNetConfig(layers, config["num_heads"], config["embed_dim"], hidden_dim, 0.1)
    module = RetNetBackbone(sizes, config["embed_dim"], max_tokens, block_size).to(case["in.x"].dtype)
    model = TokenModelConfig(world_model=TokenWorldModelConfig(retnet=sizes))
    ours = rem_components.renamed("world_model._model", parameters, model)
    given = {key.removeprefix("world_model.backbone."): value for key, value in ours.items()}
    module.load_state_dict(module.state_dict() | given)  # a name that the module lacks is an error
    return module.eval()


class Layer:
    """One retention layer over chunks of a sequence, inside a stack that supplies the tables."""

    def __init__(self, case: Case) -> None:
        config = case.config
        self.block_size = config["block_len"]
        longest = max(case["in.x"].shape[1], config["start_index"] + config["num_blocks"] * self.block_size)
        parameters = {f"layers.0.retention.{key}": value for key, value in case.group("param.").items()}
        self.stack = backbone(case, parameters, longest, self.block_size)
        self.parts = self.stack.layers[0].tensors()

    def __call__(
        self, x: Tensor, before: Tensor | None = None, start: int = 0, size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs and the state after them; tokens in chunks of ``size``."""
        chunks = self.stack._chunks(start, x.shape[1], size)
        padded = F.pad(x, (0, 0, 0, chunks.count * chunks.size - x.shape[1]))
        out, state = self.retain(padded, chunks.rotation, partial(retain, chunks=chunks, before=before))
        return out[:, : x.shape[1]], state

    def retain(self, x: Tensor, rotation: Tensor, mix: Retain) -> tuple[Tensor, Tensor]:
        out, state = multi_scale_retention(x.flatten(0, 1), self.parts, rotation, mix)
        return out.view_as(x), state

    def in_steps(
        self, x: Tensor, lengths: list[int], before: Tensor | None = None, start: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs, and the state after every step."""
        outputs, states, state = [], [], before
        for part in x.split(lengths, dim=1):
            out, state = self(part, state, start)
            start += part.shape[1]
            outputs.append(out)
            states.append(state)
        return torch.cat(outputs, dim=1), states


layers = pytest.mark.parametrize("name", ["retention_layer", "retention_layer_f64"])
stacks = pytest.mark.parametrize("name", ["retnet_stack", "retnet_stack_f64"])


@layers
def test_decays(name: str) -> None:
    case = load_case("rem", name)
    assert_close(case, Layer(case).stack.tables.decays[:, 1], "const.gammas")


@layers
@torch.no_grad()
def test_layer_in_parallel(name: str) -> None:
    case = load_case("rem", name)
    layer, x = Layer(case), case["in.x"]
    assert_close(case, layer(x)[0], "out.parallel")


@layers
@pytest.mark.parametrize("form", ["recurrent", "chunkwise"])
@torch.no_grad()
def test_layer_in_steps(name: str, form: str) -> None:
    """Token by token, chunk by chunk."""
    case = load_case("rem", name)
    x = case["in.x"]
    outputs, states = Layer(case).in_steps(x, [1] * x.shape[1] if form == "recurrent" else case.config["splits"])
    assert_close(case, outputs, f"out.{form}")
    assert_close(case, torch.stack(states, dim=1), f"out.{form}_states")


@layers
@pytest.mark.parametrize("has_state", [False, True])
@torch.no_grad()
def test_layer_over_blocks_with_the_state_after_every_block(name: str, has_state: bool) -> None:
    case = load_case("rem", name)
    layer, suffix = Layer(case), "prev" if has_state else "noprev"
    before, start = (case["in.prev_state"], case.config["start_index"]) if has_state else (None, 0)
    x, size = case["in.x_blocks"], layer.block_size
    outputs, last = layer(x, before, start, size)
    assert_close(case, outputs, f"out.blocks_{suffix}")
    in_steps, states = layer.in_steps(x, [size] * case.config["num_blocks"], before, start)
    assert_close(case, in_steps, f"out.blocks_{suffix}")
    assert_close(case, torch.stack(states), f"out.block_states_{suffix}")
    torch.testing.assert_close(last, states[-1])


@layers
@torch.no_grad()
def test_layer_from_the_states_before_the_blocks(name: str) -> None:
    """One pass, as in training: behind every block of x the tokens of u, which read the state before the block."""
    case = load_case("rem", name)
    layer = Layer(case)
    size, before = layer.block_size, case["in.prev_state"]
    x, u = (case[key].unflatten(1, (-1, size)) for key in ("in.x_blocks", "in.u_blocks"))
    chunks = layer.stack._chunks(case.config["start_index"], x.shape[1] * size, size)
    rotation = chunks.rotation.unflatten(1, (-1, size)).repeat(1, 1, 2, 1, 1).flatten(1, 2)
    rows = torch.cat([x, u], dim=2).flatten(1, 2)
    out, last = layer.retain(rows, rotation, partial(retain, chunks=chunks, before=before))
    real, branches = out.unflatten(1, (-1, 2 * size)).split(size, dim=2)
    assert_close(case, real.flatten(1, 2), "out.blocks_prev")
    assert_close(case, branches.flatten(1, 2), "out.u_from_states")
    torch.testing.assert_close(last, case["out.block_states_prev"][-1])


def stack_of(case: Case) -> RetNetBackbone:
    return backbone(case, case.group("param."), case["in.x"].shape[1], block_size=case.config["splits"][0])


def read(stack: RetNetBackbone, x: Tensor, lengths: list[int]) -> tuple[Tensor, list[RetNetState]]:
    outputs, states, state = [], [], stack.init_state(len(x))
    for part in x.split(lengths, dim=1):
        out, state = stack.step(state, part)
        outputs.append(out)
        states.append(state)
    return torch.cat(outputs, dim=1), states


@stacks
@torch.no_grad()
def test_stack_in_parallel(name: str) -> None:
    case = load_case("rem", name)
    assert_close(case, stack_of(case).parallel(case["in.x"]), "out.parallel")


@stacks
@torch.no_grad()
def test_stack_token_by_token(name: str) -> None:
    case = load_case("rem", name)
    x = case["in.x"]
    outputs, states = read(stack_of(case), x, [1] * x.shape[1])
    assert_close(case, outputs, "out.recurrent")
    assert_close(case, rem_components.states(states[-1]), "out.recurrent_last_states")


@stacks
@torch.no_grad()
def test_stack_chunk_by_chunk(name: str) -> None:
    case = load_case("rem", name)
    outputs, states = read(stack_of(case), case["in.x"], case.config["splits"])
    assert_close(case, outputs, "out.chunkwise")
    for state in states:
        assert_close(case, rem_components.states(state), f"out.chunk_states_after_{state.length}")
