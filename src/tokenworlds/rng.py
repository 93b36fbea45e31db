"""Explicit random streams: one per consumer, derived from the run seed by name, saved and continued across a resume."""

import hashlib
import json

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the consumer ``name``; streams of different names are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


class RandomStreams:
    """Named generators of one run. A stream is created on first use and continues across a resume."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self._torch: dict[str, torch.Generator] = {}
        self._numpy: dict[str, np.random.Generator] = {}

    def torch(self, name: str) -> torch.Generator:
        """A generator on the training device."""
        if name not in self._torch:
            self._torch[name] = torch.Generator(self.device).manual_seed(derive_seed(self.seed, name))
        return self._torch[name]

    def numpy(self, name: str) -> np.random.Generator:
        """A generator on the host (environments)."""
        if name not in self._numpy:
            self._numpy[name] = np.random.default_rng(derive_seed(self.seed, name))
        return self._numpy[name]

    def seed_global(self) -> None:
        """Seed torch's global generator, which dropout draws from. Only the entry point calls this."""
        torch.manual_seed(derive_seed(self.seed, "torch"))

    def state(self) -> tuple[dict[str, Tensor], str]:
        """Generator states as tensors, and the numpy ones as JSON."""
        tensors = {f"torch.{name}": generator.get_state() for name, generator in self._torch.items()}
        tensors["global.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["global.cuda"] = torch.cuda.get_rng_state(self.device)
        states = {name: generator.bit_generator.state for name, generator in self._numpy.items()}
        return tensors, json.dumps(states)

    def load_state(self, tensors: dict[str, Tensor], numpy_states: str) -> None:
        for key, value in tensors.items():
            if key.startswith("torch."):
                self.torch(key.removeprefix("torch.")).set_state(value.cpu())
        torch.set_rng_state(tensors["global.cpu"].cpu())
        if "global.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["global.cuda"].cpu(), self.device)
        for name, state in json.loads(numpy_states).items():
            self.numpy(name).bit_generator.state = state
