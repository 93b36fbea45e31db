"""An agent: tokenizer, world model and policy, and how they act together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic import Policy, PolicyState
from tokenworlds.config import PolicyInput
from tokenworlds.rng import sample_categorical
from tokenworlds.tokenizers import ObservationTokenizer
from tokenworlds.world_models import TokenWorldModel


class Agent(nn.Module):
    """The policy looks at what the tokens hold of a frame, when acting as well as in imagination, so that both look
    alike: at the decoded frame (IRIS section 2.3) or at the code vectors (REM section 3.3)."""

    def __init__(
        self,
        tokenizer: ObservationTokenizer,
        world_model: TokenWorldModel,
        policy: Policy,
        policy_input: PolicyInput = PolicyInput.pixels,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.world_model = world_model
        self.policy = policy
        self.policy_input = policy_input

    def decode(self, tokens: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        """The decoded images, clamped to [0, 1]; in chunks, which a CPU's caches like."""
        chunks = tokens.split(perception_chunk(tokens.device))
        return torch.cat([self.tokenizer.decode(some)["image"] for some in chunks])

    @torch.no_grad()
    def see(self, tokens: Int[Tensor, "N K"]) -> Float[Tensor, "N *seen"]:
        """What the policy sees of these tokens: images (C, Y, X) or codes (E, h, w)."""
        if self.policy_input is PolicyInput.pixels:
            return self.decode(tokens)
        return self.tokenizer.part("image").codes(tokens)

    @torch.no_grad()
    def encode(self, observations: dict[str, Tensor]) -> Int[Tensor, "N K"]:
        """Tokens of stored observations; in chunks."""
        count, chunk = len(next(iter(observations.values()))), perception_chunk(self.policy.actor.weight.device)
        parts = [
            self.tokenizer.encode({name: values[start : start + chunk] for name, values in observations.items()})
            for start in range(0, count, chunk)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def act(
        self, observations: dict[str, Tensor], state: PolicyState, uniforms: Float[Tensor, "B"], temperature: float
    ) -> tuple[Int[Tensor, "B"], PolicyState]:
        """Actions sampled from softmax(logits / temperature) for a batch of environments, and the policy's next
        state."""
        logits, _, state = self.policy(self.see(self.encode(observations)), state)
        actions = sample_categorical(logits / temperature, uniforms)
        return actions, self.policy.remember(actions, state)


def perception_chunk(device: torch.device) -> int:
    """Frames encoded and decoded at once: few on a CPU, where larger batches fall out of the caches (measured:
    benchmarks/), many on a GPU."""
    return 4 if device.type == "cpu" else 512
