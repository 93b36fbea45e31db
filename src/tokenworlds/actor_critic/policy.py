"""Policy and value: an encoder of the observation, a recurrent cell, two linear heads.

The policy observes pixels (IRIS appendix A.3, Delta-IRIS), the code vectors of tokens (REM section 3), or the tokens of
all modalities (M3): ``encoders``, ``token_policy``. It is a pure function of (policy input, recurrent state): nothing
is kept on the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tokenworlds.actor_critic.actions import action_embedding, action_head
from tokenworlds.actor_critic.encoders import Encoder, FlatEncoder
from tokenworlds.config import DeltaPolicyConfig, Recurrence, Scalar
from tokenworlds.envs.spec import ActionSpec, EnvironmentSpec
from tokenworlds.ops.categorical import sampler_at
from tokenworlds.world_models import heads

CELLS = {Recurrence.lstm: nn.LSTMCell, Recurrence.gru: nn.GRUCell}


@dataclass
class PolicyState:
    """The recurrent state; a GRU has no cell, its width is 0. Where the critic has a network of its own, its state
    follows that of the actor in the last dimension."""

    hidden: Float[Tensor, "B D"]
    cell: Float[Tensor, "B C"]

    def where(self, mask: Bool[Tensor, "B"], other: PolicyState) -> PolicyState:
        """This state in the rows where ``mask`` is true, ``other`` elsewhere."""
        mask = mask.unsqueeze(-1)
        return PolicyState(torch.where(mask, self.hidden, other.hidden), torch.where(mask, self.cell, other.cell))

    def straight_through(self, other: PolicyState) -> PolicyState:
        """The values of this state with the gradient of ``other``, if it carries one."""
        if not other.hidden.requires_grad:
            return self
        pairs = (self.hidden, other.hidden), (self.cell, other.cell)
        return PolicyState(*(own + (given - given.detach()) for own, given in pairs))

    def split(self, count: int) -> list[PolicyState]:
        """The states of ``count`` networks."""
        return [PolicyState(*own) for own in zip(self.hidden.chunk(count, dim=1), self.cell.chunk(count, dim=1))]

    @classmethod
    def join(cls, parts: list[PolicyState]) -> PolicyState:
        """The states of several networks side by side."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([own.hidden for own in parts], dim=1), torch.cat([own.cell for own in parts], dim=1))


class Network(nn.Module):
    """An encoder and a recurrent cell, whose inputs may include embedded actions."""

    def __init__(self, encoder: Encoder, recurrence: Recurrence, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.recurrence = CELLS[recurrence](encoder.width, hidden)
        self.embed_action: nn.Module | None = None

    def step(self, features: Float[Tensor, "B F"], state: PolicyState) -> PolicyState:
        """One recurrent step."""
        if isinstance(self.recurrence, nn.LSTMCell):
            return PolicyState(*self.recurrence(features, (state.hidden, state.cell)))
        return PolicyState(self.recurrence(features, state.hidden), state.cell)

    def step_action(self, actions: Shaped[Tensor, "B *action"], state: PolicyState) -> PolicyState:
        """The state after actions; the same state where they are no input."""
        return state if self.embed_action is None else self.step(self.embed_action(actions), state)

    def features(self, observations: Shaped[Tensor, "B T *input"]) -> tuple[Float[Tensor, "B F"], ...]:
        """Features of each of the T steps, encoded in one batch."""
        features: Tensor = self.encoder(observations.flatten(0, 1)).unflatten(0, observations.shape[:2])
        return features.unbind(dim=1)

    def step_masked(
        self,
        observations: Shaped[Tensor, "B T *input"],
        actions: Shaped[Tensor, "B T *action"],
        mask: Bool[Tensor, "B T"],
        every: int | None,
        state: PolicyState,
    ) -> PolicyState:
        """The state after the steps where ``mask`` is true; the action of every ``every``-th of them is an input.

        Gradients pass through the steps on actions alone. They skip the observations: the steps on these change the
        values of the state, not its gradient.
        """
        with torch.no_grad():
            features = self.features(observations)
        for t, some in enumerate(features):
            with torch.no_grad():
                after = self.step(some, state)
            after = after.straight_through(state)
            if every is not None and (t + 1) % every == 0:
                after = self.step_action(actions[:, t], after)
            state = after.where(mask[:, t], state)
        return state

    def hidden_states(
        self, observations: Shaped[Tensor, "B T *input"], actions: Shaped[Tensor, "B T *action"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T D"], PolicyState]:
        """Hidden states after each observation, and the state after the last action."""
        hidden = []
        for t, features in enumerate(self.features(observations)):
            state = self.step(features, state)
            hidden.append(state.hidden)
            state = self.step_action(actions[:, t], state)
        return torch.stack(hidden, dim=1), state


class Policy(Network):
    """Actor and critic: a policy input to the outputs that ``actions`` interprets, (B, A), and the outputs that
    ``values`` interprets, (B, W); the value is ``values.mean`` of these.

    With ``action_input`` each chosen action is an input as well: one more recurrent step, on an embedding of the action
    (``observe_action``). In burn-in that is the action of frame i where i + 1 is a multiple of ``burn_in_every``; None:
    of no frame. These steps carry gradients if ``burn_in_learns``. With ``critic_encoder`` the critic has a network of
    its own.
    """

    def __init__(
        self,
        encoder: Encoder,
        recurrence: Recurrence,
        hidden: int,
        actions: ActionSpec,
        action_input: bool = False,
        burn_in_every: int | None = 1,
        values: Scalar = Scalar.regression,
        zero_critic: bool = False,
        *,
        value_bins: int = 129,
        levels: int = 51,
        critic_encoder: Encoder | None = None,
        burn_in_learns: bool = False,
    ) -> None:
        super().__init__(encoder, recurrence, hidden)
        self.actions = action_head(actions, levels)
        self.actor = nn.Linear(hidden, self.actions.width)
        self.values = heads.build(values, width=value_bins)
        self.critic = nn.Linear(hidden, self.values.width)
        heads.initialise_bias(self.critic, self.values)
        if zero_critic:  # every value starts at zero
            nn.init.zeros_(self.critic.weight)
            nn.init.zeros_(self.critic.bias)
        self.critic_network = None if critic_encoder is None else Network(critic_encoder, recurrence, hidden)
        self.burn_in_every, self.burn_in_learns = burn_in_every, burn_in_learns
        if action_input:
            for network in self.networks:
                network.embed_action = action_embedding(actions, network.encoder.width)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The actor's, and the critic's where it has its own."""
        return (self,) if self.critic_network is None else (self, self.critic_network)

    def initial_state(self, batch: int) -> PolicyState:
        hidden = self.actor.weight.new_zeros(batch, len(self.networks) * self.recurrence.hidden_size)
        return PolicyState(hidden, hidden if isinstance(self.recurrence, nn.LSTMCell) else hidden[:, :0])

    def forward(
        self, observations: Shaped[Tensor, "B *input"], state: PolicyState
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B W"], PolicyState]:
        state = self._map(lambda network, own: network.step(network.encoder(observations), own), state)
        parts = state.split(len(self.networks))
        return self.actor(parts[0].hidden), self.critic(parts[-1].hidden), state

    def sample(self, logits: Float[Tensor, "B A"], generator: torch.Generator, temperature: float) -> Tensor:
        """Actions (B, ...) from softmax(logits / temperature), at temperature 0 the most likely ones: B uniforms of the
        generator for each of an action's numbers, also where none is needed."""
        uniforms = torch.rand(self.actions.draws, len(logits), generator=generator, device=generator.device)
        return self.actions.sample(logits, uniforms, sampler_at(temperature))

    def observe_action(self, actions: Shaped[Tensor, "B *action"], state: PolicyState) -> PolicyState:
        """The state after the chosen actions; the same state where actions are no input."""
        return self._map(lambda network, own: network.step_action(actions, own), state)

    def actor_state(self, state: PolicyState) -> PolicyState:
        """The actor's part of the state, which suffices for ``act`` and ``step_action``."""
        return state.split(len(self.networks))[0]

    def act(
        self, observations: Shaped[Tensor, "B *input"], state: PolicyState
    ) -> tuple[Float[Tensor, "B A"], PolicyState]:
        """``forward`` of the actor alone, on its part of the state."""
        state = self.step(self.encoder(observations), state)
        return self.actor(state.hidden), state

    def burn_in(
        self,
        observations: Shaped[Tensor, "B T *input"],
        actions: Shaped[Tensor, "B T *action"],
        mask: Bool[Tensor, "B T"],
    ) -> PolicyState:
        """The state after the steps where ``mask`` is true, from zero; other steps leave a row's state unchanged.

        With ``burn_in_learns`` the state carries the gradient of the actions that are inputs (``step_masked``).
        """
        state, every = self.initial_state(len(observations)), self.burn_in_every
        if observations.shape[1] == 0:
            return state
        with torch.set_grad_enabled(self.burn_in_learns and torch.is_grad_enabled()):
            return self._map(lambda network, own: network.step_masked(observations, actions, mask, every, own), state)

    def unroll(
        self, observations: Shaped[Tensor, "B T *input"], actions: Shaped[Tensor, "B T *action"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T A"], Float[Tensor, "B T W"], PolicyState]:
        """The actor's and the critic's outputs along a trajectory, and the state after its last action."""
        parts = zip(self.networks, state.split(len(self.networks)))
        hidden, states = zip(*(network.hidden_states(observations, actions, own) for network, own in parts))
        return self.actor(hidden[0]), self.critic(hidden[-1]), PolicyState.join(list(states))

    def _map(self, change: Callable[[Network, PolicyState], PolicyState], state: PolicyState) -> PolicyState:
        """``change`` applied to every network and its part of the state."""
        if self.critic_network is None:
            return change(self, state)
        return PolicyState.join([change(network, own) for network, own in zip(self.networks, state.split(2))])


def build_frame_policy(config: DeltaPolicyConfig, spec: EnvironmentSpec) -> Policy:
    """The configured policy over pictures themselves."""
    encoder = FlatEncoder(config.frame_encoder, spec.image.height, spec.image.channels)
    return Policy(encoder, config.recurrence, config.hidden_dim, spec.actions, values=config.values, zero_critic=True)
