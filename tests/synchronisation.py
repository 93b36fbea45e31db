"""Hot paths must not wait for the device; what would is seen on a CPU, too."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class WithoutSynchronisation(TorchDispatchMode):
    """Fails at operations that have to wait for the device: those whose result the host reads, or whose shape depends
    on data."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.WAITING), func
        if "index" in str(func):
            indices = [i for arg in args if isinstance(arg, list | tuple) for i in arg if isinstance(i, torch.Tensor)]
            assert all(i.dtype is not torch.bool for i in indices), "a boolean mask"
        return func(*args, **(kwargs or {}))
