"""What parallel observation prediction keeps for the gradient, and its time, against the plain parallel form, which has
one score for every pair of the T (2 K + 1) tokens of both streams. Both are ours and have the same layers and outputs.

    python -m benchmarks.memory [--batch N] [--blocks T] [--tokens K] [--layers N] [--dropout P] [--repetitions N]
                                [--threads N] [--device cuda]

Activations are the distinct memory of all tensors saved for the backward pass, parameters and inputs aside. They are
linear in the batch. Sizes are REM's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.timing import command_line, compare, machine, parse
from tokenworlds.backbones.retnet import RetNetBackbone, run_layers
from tokenworlds.config import RetNetConfig
from tokenworlds.ops import precision

PUBLISHED_BATCH = 64
GIB = 2**30
Form = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def parallel_form(backbone: RetNetBackbone, x: Tensor, query_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """As ``parallel_and_query``, by a masked product of scores and decays."""
    n, k, blocks, dtype = (
        backbone.block_size,
        query_tokens.shape[2],
        query_tokens.shape[1],
        backbone.tables.decays.dtype,
    )
    row = torch.arange(blocks * (n + k), device=x.device)
    block, is_query = row // (n + k), row % (n + k) >= n
    position = block * n + row % (n + k) - n * is_query
    own = torch.where(is_query, block[:, None] == block, block[:, None] > block)  # what a query token may read
    seen = (position[:, None] >= position) & torch.where(is_query[:, None], own, ~is_query)
    distance = (position[:, None] - position).clamp(min=0)
    decays = torch.where(seen, backbone.tables.decays[:, distance], 0)
    scales = torch.tensor([1.0, (2 * backbone.tables.rotations.shape[1]) ** -0.5], dtype=dtype, device=x.device)
    turns = torch.view_as_complex(backbone.tables.rotations[position]).unsqueeze(1) * scales[:, None]
    rotation = turns.expand(backbone.config.num_heads, -1, -1, -1)

    def mix(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = (q @ k.mT).unflatten(0, (-1, len(decays))) * decays
        return weights.flatten(0, 1) @ v, v[:, :0]

    h = torch.cat([x.unflatten(1, (-1, n)), query_tokens], dim=2).flatten(1, 2)
    h, _ = run_layers(h, backbone.tensors(), rotation, [mix] * len(backbone.layers), (n - 1, n + k))
    return h.unflatten(1, (-1, 1 + k))[:, :, 0], h.unflatten(1, (-1, 1 + k))[:, :, 1:]


def joined(form: Form, x: Tensor, query_tokens: Tensor) -> Tensor:
    last, predictions = form(x, query_tokens)
    return torch.cat([last, predictions.flatten(1, 2)], dim=1)


def update(work: Callable[[], Tensor]) -> None:
    work().sum().backward()


def saved_bytes(module: nn.Module, work: Callable[[], Tensor]) -> int:
    """Bytes that the graph of ``work`` keeps, each storage counted once, without the module's parameters and
    buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = work()
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> int:
    parser = command_line(".memory", __doc__, 3, device=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=64, help="of an observation; a block has one more, the action")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.1)
    options = parse(parser)
    device = options.device
    precision.enable_tf32(False)  # as the method's params.yaml says
    block_size, width = options.tokens + 1, 256
    config = RetNetConfig(options.layers, 4, width, 4 * width, options.dropout)
    backbone = RetNetBackbone(config, width, options.blocks * block_size, block_size).to(device)
    backbone.initialise()
    backbone.repeat_first_layer()
    generator = torch.Generator(device).manual_seed(0)
    shape = (options.batch, options.blocks)
    x = torch.randn(shape[0], shape[1] * block_size, width, generator=generator, device=device)
    query_tokens = torch.randn(*shape, options.tokens, width, generator=generator, device=device)
    print(machine(device))
    print(f"{'form':<10} {'MiB a sample':>14} {f'GiB at B = {PUBLISHED_BATCH}':>14} {'seconds an update':>18}")
    forms: dict[str, Form] = {"chunked": backbone.parallel_and_query, "plain": partial(parallel_form, backbone)}
    for name, form in forms.items():
        work = partial(joined, form, x, query_tokens)
        size = saved_bytes(backbone, work) / options.batch
        cost = f"{'-':>18}"
        if options.repetitions:
            (seconds,) = compare([partial(update, work)], options.repetitions, device)
            cost = f"{seconds:18.3f}"
        print(f"{name:<10} {size / 2**20:14.1f} {size * PUBLISHED_BATCH / GIB:14.2f} {cost}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
