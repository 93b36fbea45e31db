"""Hot paths must not wait for the device; what would is seen on a CPU, too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _Operations(TorchDispatchMode):
    """Refuses operations whose result the host reads, whose shape depends on data, or which bring values from the
    host."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default", "repeat_interleave")
    FROM_HOST = ("lift_fresh",)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in (*self.WAITING, *self.FROM_HOST)), func
        if "index" in str(func):
            indices = [i for arg in args if isinstance(arg, list | tuple) for i in arg if isinstance(i, torch.Tensor)]
            assert all(i.dtype is not torch.bool for i in indices), "a boolean mask"
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Refuses methods that copy a tensor to the host."""

    COPYING = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.COPYING, func
        return func(*args, **(kwargs or {}))


@contextmanager
def without_synchronisation() -> Iterator[None]:
    """Fails at anything inside that has to wait for the device."""
    with _Operations(), _Methods():
        yield
