"""An agent: tokenizer, world model and policy, and how they act together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic import PixelPolicy, PolicyState
from tokenworlds.rng import sample_categorical
from tokenworlds.tokenizers import ObservationTokenizer
from tokenworlds.world_models import TokenWorldModel


class Agent(nn.Module):
    """The policy looks at decoded frames, when acting as well as in imagination, so that both look alike (IRIS section
    2.3)."""

    def __init__(self, tokenizer: ObservationTokenizer, world_model: TokenWorldModel, policy: PixelPolicy) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.world_model = world_model
        self.policy = policy

    def decode(self, tokens: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        """What the policy sees of these tokens: the decoded image, clamped to [0, 1]."""
        chunks = tokens.split(perception_chunk(tokens.device))
        return torch.cat([self.tokenizer.decode(some)["image"] for some in chunks])

    @torch.no_grad()
    def perceive(
        self, observations: dict[str, Tensor], chunk: int | None = None
    ) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N C Y X"]]:
        """Tokens of stored observations and what the policy sees of them; in chunks, which a CPU's caches like."""
        count = len(next(iter(observations.values())))
        tokens, seen = [], []
        for start in range(0, count, chunk or max(count, 1)):
            some = self.tokenizer.encode(
                {name: values[start : start + (chunk or count)] for name, values in observations.items()}
            )
            tokens.append(some)
            seen.append(self.decode(some))
        return torch.cat(tokens), torch.cat(seen)

    @torch.no_grad()
    def act(
        self, observations: dict[str, Tensor], state: PolicyState, uniforms: Float[Tensor, "B"], temperature: float
    ) -> tuple[Int[Tensor, "B"], PolicyState]:
        """Actions sampled from softmax(logits / temperature) for a batch of environments, and the policy's next
        state."""
        _, seen = self.perceive(observations)
        logits, _, state = self.policy(seen, state)
        return sample_categorical(logits / temperature, uniforms), state


def perception_chunk(device: torch.device) -> int:
    """Frames encoded and decoded at once: few on a CPU, where larger batches fall out of the caches (measured:
    benchmarks/), many on a GPU."""
    return 4 if device.type == "cpu" else 512
