"""torch's ``meta`` device in the place of a GPU: operations have shapes but no values, and none may mix tensors of host
and device or be read by the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.fx.experimental import _config

from tokenworlds.rng import RandomStreams

META = torch.device("meta")


class Generator(torch.Generator):
    """A generator of the host in the place of one of the device."""

    device = META


@contextmanager
def like_a_gpu() -> Iterator[None]:
    """Stand-ins for what ``meta`` lacks and a GPU has: generators, autocast, fused optimisers, and the number of
    elements that a mask selects."""

    def unfused(kind: Any, *args: Any, fused: bool, **settings: Any) -> Any:
        return kind(*args, **settings)

    with ExitStack() as stack:
        stack.enter_context(patch.object(RandomStreams, "torch", lambda *_: Generator()))
        stack.enter_context(patch.object(torch, "autocast", lambda *_, **__: nullcontext()))
        stack.enter_context(patch.object(torch, "is_autocast_enabled", lambda *_: False))
        for kind in (torch.optim.Adam, torch.optim.AdamW):
            stack.enter_context(patch.object(torch.optim, kind.__name__, partial(unfused, kind)))
        stack.enter_context(_config.patch(meta_nonzero_assume_all_nonzero=True))  # type: ignore[attr-defined]
        yield
