"""M3's behaviour against the golden vectors: burn-in, the rollout with every draw prescribed, the actor-critic losses
along it and their gradients, for every mix of modalities and actions."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tests.golden import m3_components
from tests.golden.support import Case, load_case
from tokenworlds.actor_critic import PolicyState, ReturnScale, actions, trajectory_losses
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.config import BehaviourTrainingConfig
from tokenworlds.world_models.base import ImaginationMode, WorldModel

CASES = [
    "imagination_image_discrete",
    "imagination_vector_continuous",
    "imagination_token_grid",
    "imagination_image_vector_multidiscrete",
    "simulus_imagination_attention_image",
]


@dataclass
class Setting:
    case: Case
    agent: TokenAgent

    @property
    def tokens(self) -> Tensor:
        return m3_components.symbols(self.case)

    @property
    def config(self) -> BehaviourTrainingConfig:
        config = self.case.config
        return BehaviourTrainingConfig(
            gamma=config["gamma"], lambda_=config["lambda"], entropy_weight=config["entropy_weight"]
        )

    def burned_in(self) -> PolicyState:
        given = (self.case[f"in.{name}"][:, :-1] for name in ("actions", "mask_padding"))
        return self.agent.policy.burn_in(self.tokens[:, :-1], *given)

    def context(self) -> TokenContext:
        """The world model's, one observation behind the first that the policy looks at."""
        c = self.case.config["context_length"]
        past, actions = self.tokens[:, -1 - c : -1], self.case["in.actions"][:, -1 - c : -2]
        return TokenContext(past, actions, self.tokens[:, -1])

    def noise(self) -> ImaginationNoise:
        """The drawn values themselves, in the places of uniforms."""
        drawn = self.case["sampled.actions"]  # (S, B, 1[, dims])
        chosen = drawn.flatten(2).transpose(1, 2)
        parts = [self.case[f"sampled.tokens.{name}"].flatten(2) for name in self.case.config["ordered_modalities"]]
        ends = self.case["sampled.ends"]
        tokens = torch.cat(parts, dim=2).transpose(1, 2)
        return ImaginationNoise(*(part.float() for part in (chosen, torch.zeros_like(ends), ends, tokens)))

    def imagine(self, *, to_the_end: bool) -> Trajectory:
        return imagine(self.agent, self.context(), self.burned_in(), self.noise(), to_the_end=to_the_end)


def _drawn(logits: Tensor, values: Tensor) -> Tensor:
    return values.long()


@pytest.fixture(params=CASES)
def setting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Every draw is taken from the noise, which holds the drawn values."""
    case = load_case("m3", request.param)
    monkeypatch.setattr(actions, "sample_categorical", _drawn)
    monkeypatch.setattr(WorldModel, "mode", ImaginationMode(_drawn))
    return Setting(case, m3_components.agent(case))


def test_burn_in(setting: Setting) -> None:
    case, state = setting.case, setting.burned_in()
    expected = [case["out.burned_in_actor_state"]]
    if "out.burned_in_critic_state" in case.tensors:
        expected.append(case["out.burned_in_critic_state"])
    hidden, cell = torch.cat(expected, dim=-1)
    rtol, atol = case.tolerance("out.burned_in_actor_state")
    torch.testing.assert_close(state.hidden, hidden, rtol=rtol, atol=atol)
    torch.testing.assert_close(state.cell, cell, rtol=rtol, atol=atol)


def test_rollout(setting: Setting) -> None:
    case, agent = setting.case, setting.agent
    imagined = setting.imagine(to_the_end=True)
    case.assert_close(imagined.actions, "out.actions")
    case.assert_close(imagined.rewards, "out.rewards")
    case.assert_close(imagined.terminations.bool(), "out.ends")
    for name, where in agent.tokenizer.layout.symbols.items():
        codes = agent.tokenizer.part(name).codes(imagined.observations[..., where].flatten(0, 1))
        case.assert_close(codes.unflatten(0, imagined.rewards.shape), f"out.actor_inputs.{name}")


@torch.no_grad()
def test_rewards_by_their_parts(setting: Setting) -> None:
    case, agent, noise = setting.case, setting.agent, setting.noise()
    weights, model = agent.world_model.curiosity, agent.world_model
    for key, chosen in (
        ("out.predicted_rewards", replace(weights, real_weight=1.0, intrinsic_weight=0.0)),
        ("out.intrinsic_rewards", replace(weights, real_weight=0.0, intrinsic_weight=1.0)),
    ):
        model.curiosity = chosen
        state, rewards = agent.start(setting.context()), []
        for t, acted in enumerate(case["out.actions"].unbind(1)):
            state, told, _ = agent.step(state, acted, noise.step(t))
            rewards.append(told)
        case.assert_close(torch.stack(rewards, dim=1), key)


def test_losses(setting: Setting) -> None:
    case, agent, policy = setting.case, setting.agent, setting.agent.policy
    imagined, state = setting.imagine(to_the_end=False), setting.burned_in()
    logits, outputs, _ = policy.unroll(imagined.observations, imagined.actions, state)
    expected = case["out.action_logits"].log_softmax(dim=-1)  # some are published normalised, some are not
    found, (rtol, atol) = logits.view_as(expected).log_softmax(dim=-1), case.tolerance("out.action_logits")
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    case.assert_close(policy.actions.log_probability(logits, imagined.actions), "out.log_probs")
    case.assert_close(policy.actions.entropy(logits), "out.entropy")
    case.assert_close(policy.values.mean(outputs), "out.values")
    scale = ReturnScale(500)
    losses = trajectory_losses(policy, imagined, state, setting.config, scale=scale, entropy_of_last=True)
    for ours, theirs in (("actions", "actor"), ("values", "values"), ("entropy", "entropy")):
        case.assert_close(losses.named()[ours], f"out.loss_{theirs}")
    case.assert_close(losses.total, "out.loss_total")
    case.assert_close(losses.measured["returns_scale"], "out.returns_scale")
    losses.total.backward()
    expected = m3_components.gradients(case, m3_components.model(case), agent.num_tokens)
    m3_components.assert_gradients(case, policy, "policy.", expected)
