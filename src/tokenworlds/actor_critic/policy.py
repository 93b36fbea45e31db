"""Policy and value: an encoder of what is seen, a recurrent cell, two linear heads.

What is seen of an observation are pixels (IRIS appendix A.3, Delta-IRIS), the code vectors of its tokens (REM section
3), or the tokens of all its modalities (M3): ``encoders``. The policy is a pure function of (what is seen, recurrent
state): nothing is kept on the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tokenworlds.actor_critic.actions import action_embedding, action_head
from tokenworlds.actor_critic.encoders import CodeEncoder, Encoder, FlatEncoder, PixelEncoder, SymbolEncoder
from tokenworlds.config import (
    BurnInActions,
    DeltaPolicyConfig,
    PolicyInput,
    Recurrence,
    Scalar,
    TokenPolicyConfig,
)
from tokenworlds.envs.spec import ActionSpec, EnvironmentSpec
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models import heads as scalars

CELLS = {Recurrence.lstm: nn.LSTMCell, Recurrence.gru: nn.GRUCell}


@dataclass
class PolicyState:
    """The recurrent state; a GRU has no cell, its width is 0. Where the values have a network of their own, its state
    stands behind that of the actor's, in the last dimension."""

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
        """Those of ``count`` networks."""
        return [PolicyState(*own) for own in zip(self.hidden.chunk(count, dim=1), self.cell.chunk(count, dim=1))]

    @classmethod
    def join(cls, parts: list[PolicyState]) -> PolicyState:
        """Side by side."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([own.hidden for own in parts], dim=1), torch.cat([own.cell for own in parts], dim=1))


class Network(nn.Module):
    """An encoder and a recurrent cell, which may take embedded actions, too."""

    def __init__(self, encoder: Encoder, recurrence: Recurrence, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.recurrence = CELLS[recurrence](encoder.width, hidden)
        self.embed_action: nn.Module | None = None

    def advance(self, features: Float[Tensor, "B F"], state: PolicyState) -> PolicyState:
        """One recurrent step."""
        if isinstance(self.recurrence, nn.LSTMCell):
            return PolicyState(*self.recurrence(features, (state.hidden, state.cell)))
        return PolicyState(self.recurrence(features, state.hidden), state.cell)

    def take(self, actions: Shaped[Tensor, "B *action"], state: PolicyState) -> PolicyState:
        """The state after actions; the same state where they are no input."""
        return state if self.embed_action is None else self.advance(self.embed_action(actions), state)

    def warm_up(
        self,
        seen: Shaped[Tensor, "B T *seen"],
        actions: Shaped[Tensor, "B T *action"],
        mask: Bool[Tensor, "B T"],
        every: int | None,
        state: PolicyState,
    ) -> PolicyState:
        """The state after the steps where ``mask`` is true; with the actions of every so many of them.

        Only the steps on actions carry a gradient. It skips the frames: the steps on them change the values of the
        state, not its gradient.
        """
        with torch.no_grad():
            frames = self._features(seen)
        for t, features in enumerate(frames):
            with torch.no_grad():
                after = self.advance(features, state)
            after = after.straight_through(state)
            if every is not None and (t + 1) % every == 0:
                after = self.take(actions[:, t], after)
            state = after.where(mask[:, t], state)
        return state

    def go_along(
        self, seen: Shaped[Tensor, "B T *seen"], actions: Shaped[Tensor, "B T *action"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T D"], PolicyState]:
        """What the cell puts out at each look, and the state after the last action."""
        looks = []
        for t, features in enumerate(self._features(seen)):
            state = self.advance(features, state)
            looks.append(state.hidden)
            state = self.take(actions[:, t], state)
        return torch.stack(looks, dim=1), state

    def _features(self, seen: Shaped[Tensor, "B T *seen"]) -> tuple[Float[Tensor, "B F"], ...]:
        """Those of each step, from all frames in one batch."""
        features: Tensor = self.encoder(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        return features.unbind(dim=1)


class Policy(Network):
    """What is seen of an observation to the outputs that ``actions`` reads, (B, A), and what the critic says of the
    value, (B, W): the value itself is ``values.mean`` of it.

    With ``action_input`` the policy also takes each action that it has chosen: one more recurrent step, on an embedding
    of the action (``remember``). In burn-in it takes the action of frame i where i + 1 is a multiple of
    ``burn_in_every``; None: of no frame. These steps learn if ``burn_in_learns``. With ``critic_encoder`` the values
    have a network of their own.
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
        self.values = scalars.build(values, width=value_bins)
        self.critic = nn.Linear(hidden, self.values.width)
        scalars.initialise_bias(self.critic, self.values)
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

    def remember(self, actions: Shaped[Tensor, "B *action"], state: PolicyState) -> PolicyState:
        """The state after the chosen actions; the same state where the policy does not take actions."""
        return self._of_each(lambda network, own: network.take(actions, own), state)

    def read_out(self, state: PolicyState) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B W"]]:
        parts = state.split(len(self.networks))
        return self.actor(parts[0].hidden), self.critic(parts[-1].hidden)

    def forward(
        self, seen: Shaped[Tensor, "B *seen"], state: PolicyState
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B W"], PolicyState]:
        state = self._of_each(lambda network, own: network.advance(network.encoder(seen), own), state)
        return (*self.read_out(state), state)

    def acting(self, state: PolicyState) -> PolicyState:
        """The actor's own part of the state, which suffices for ``decide`` and ``take``: a critic's network goes along
        a trajectory when its values are asked for."""
        return state.split(len(self.networks))[0]

    def decide(self, seen: Shaped[Tensor, "B *seen"], state: PolicyState) -> tuple[Float[Tensor, "B A"], PolicyState]:
        """``forward`` of the actor alone."""
        state = self.advance(self.encoder(seen), state)
        return self.actor(state.hidden), state

    def burn_in(
        self, seen: Shaped[Tensor, "B T *seen"], actions: Shaped[Tensor, "B T *action"], mask: Bool[Tensor, "B T"]
    ) -> PolicyState:
        """The state after the steps where ``mask`` is true, from zero; other steps leave a row's state as it is.

        With ``burn_in_learns`` the state carries the gradient of the actions that the burn-in takes (``warm_up``).
        """
        state, every = self.initial_state(len(seen)), self.burn_in_every
        if seen.shape[1] == 0:
            return state
        with torch.set_grad_enabled(self.burn_in_learns and torch.is_grad_enabled()):
            return self._of_each(lambda network, own: network.warm_up(seen, actions, mask, every, own), state)

    def unroll(
        self, seen: Shaped[Tensor, "B T *seen"], actions: Shaped[Tensor, "B T *action"], state: PolicyState
    ) -> tuple[Float[Tensor, "B T A"], Float[Tensor, "B T W"], PolicyState]:
        """The actor's and the critic's outputs along a trajectory, and the state after its last action."""
        parts = zip(self.networks, state.split(len(self.networks)))
        looks, states = zip(*(network.go_along(seen, actions, own) for network, own in parts))
        return self.actor(looks[0]), self.critic(looks[-1]), PolicyState.join(list(states))

    def _of_each(self, change: Callable[[Network, PolicyState], PolicyState], state: PolicyState) -> PolicyState:
        """The state that every network makes of its own."""
        if self.critic_network is None:
            return change(self, state)
        return PolicyState.join([change(network, own) for network, own in zip(self.networks, state.split(2))])


def build_policy(
    config: TokenPolicyConfig,
    spec: EnvironmentSpec,
    tokenizer: ObservationTokenizer,
    levels: int = 51,
    burn_in_actions: BurnInActions = BurnInActions.every,
) -> Policy:
    """The configured policy over what ``tokenizer`` makes of observations.

    Raises:
        UserError: the observations are not one picture, which pixels and codes need.
    """
    every = {
        BurnInActions.published: tokenizer.layout.num_tokens,
        BurnInActions.detached: tokenizer.layout.num_tokens,
        BurnInActions.every: 1,
        BurnInActions.never: None,
    }
    return Policy(
        _token_encoder(config, spec, tokenizer),
        config.recurrence,
        config.hidden_dim,
        spec.actions,
        config.action_input,
        every[burn_in_actions],
        config.values,
        zero_critic=config.values is Scalar.two_hot,
        value_bins=config.value_bins,
        levels=levels,
        critic_encoder=_token_encoder(config, spec, tokenizer) if config.separate_critic else None,
        burn_in_learns=burn_in_actions is BurnInActions.published,
    )


def _token_encoder(config: TokenPolicyConfig, spec: EnvironmentSpec, tokenizer: ObservationTokenizer) -> Encoder:
    if config.input is PolicyInput.tokens:
        return SymbolEncoder(config, spec, tokenizer)
    image = spec.image
    if config.input is PolicyInput.pixels:
        return PixelEncoder(image.height, image.channels)
    return CodeEncoder(tokenizer.image.embed_dim, tokenizer.image.grid, config.hidden_dim)


def build_frame_policy(config: DeltaPolicyConfig, spec: EnvironmentSpec) -> Policy:
    """The configured policy over pictures themselves."""
    encoder = FlatEncoder(config.frame_encoder, spec.image.height, spec.image.channels)
    return Policy(encoder, config.recurrence, config.hidden_dim, spec.actions, values=config.values, zero_critic=True)
