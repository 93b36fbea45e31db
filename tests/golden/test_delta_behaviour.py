"""Delta-IRIS's scalars, returns, policy, losses and target network against the golden vectors."""

import re
from unittest.mock import Mock

import pytest
import torch

from tests import small
from tests.golden import delta_components
from tests.golden.delta_components import floats
from tests.golden.support import Case, load_case
from tokenworlds.actor_critic import ActorCriticLosses, PolicyState, actor_critic_losses, lambda_returns, until_end
from tokenworlds.actor_critic.actions import DiscreteHead
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.config import (
    Decay,
    DeltaBehaviourTrainingConfig,
    DeltaRunConfig,
    DeltaTrainingConfig,
    Precision,
    Scalar,
)
from tokenworlds.methods import delta as delta_agent
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams
from tokenworlds.world_models import heads as scalars
from tokenworlds.world_models.heads import TwoHotHead

CASES = ["actor_critic_two_hot", "actor_critic_scalar"]
DECAY = 0.995  # of the target; it stands in the reference's code
CPU = torch.device("cpu")


# Functions


def test_symlog_and_its_inverse() -> None:
    case = load_case("delta_iris", "math_functions")
    case.assert_close(symlog(case["input.x"]), "expected.symlog")
    case.assert_close(symexp(case["input.x"].clamp(-8, 8)), "expected.symexp_of_clamped")


def test_two_hot() -> None:
    case = load_case("delta_iris", "math_functions")
    head = TwoHotHead(case.config["num_buckets"], float(case.config["x_min"]), float(case.config["x_max"]))
    case.assert_close(head.weights(case["input.y"]), "expected.two_hot_y", "two_hot")
    case.assert_close(head.weights(symlog(case["input.x"])), "expected.two_hot_symlog_x", "two_hot")
    mean = head.mean(case["input.logits"])
    case.assert_close(mean, "expected.decoded")
    case.assert_close(symlog(mean), "expected.bucket_mean")


def test_the_published_buckets_are_the_default() -> None:
    config, head = load_case("delta_iris", "math_functions").config, scalars.build(Scalar.two_hot)
    assert isinstance(head, TwoHotHead)
    assert (head.width, head.low, head.high) == tuple(config[key] for key in ("num_buckets", "x_min", "x_max"))


def test_mask_after_the_first_end() -> None:
    case = load_case("delta_iris", "math_functions")
    case.assert_close(until_end(case["input.ends"]), "expected.mask_after_first_done")


def test_returns_without_values_are_discounted_sums() -> None:
    case = load_case("delta_iris", "math_functions")
    rewards = case["input.rewards"]
    values = torch.zeros(len(rewards), rewards.shape[1] + 1)
    returns = lambda_returns(rewards, values, torch.zeros_like(rewards), 0.9, 1.0)
    case.assert_close(returns, "expected.discounted_returns_0.9")


def test_lambda_returns() -> None:
    case = load_case("delta_iris", "lambda_returns")
    for index, settings in case.config.items():
        names = ("rewards", "values", "value_bootstrap", "ends")
        rewards, values, bootstrap, ends = (case[f"input.{index}.{name}"] for name in names)
        values = torch.cat([values, bootstrap.unsqueeze(1)], dim=1)
        case.assert_close(lambda_returns(rewards, values, ends, **settings), f"expected.{index}.lambda_returns")


def assert_losses(case: Case, losses: ActorCriticLosses) -> None:
    for name, value in losses.named().items():
        case.assert_close(value, f"expected.loss_{name}")
    case.assert_close(losses.total, "expected.loss_total")
    case.assert_close(losses.measured["policy_entropy"], "expected.policy_entropy")


@pytest.mark.parametrize("name", ["actor_critic_two_hot_losses", "actor_critic_scalar_losses"])
def test_losses_of_a_given_trajectory(name: str) -> None:
    case = load_case("delta_iris", name)
    head = scalars.build(kind_of(case))
    logits = case["input.logits_actions"].requires_grad_()
    values = case["input.logits_values"].requires_grad_()
    judged = torch.cat([case["input.target_values"], case["input.value_bootstrap"].unsqueeze(1)], dim=1)
    rewards, ends = case["input.rewards"], case["input.ends"]
    returns = lambda_returns(rewards, judged, ends, case.config["gamma"], case.config["lambda_"])
    losses = actor_critic_losses(
        logits,
        values.view(*rewards.shape, head.width),
        case["input.actions"],
        returns,
        judged[:, :-1],
        head,
        DiscreteHead(logits.shape[-1]),
        entropy_weight=case.config["entropy_weight"],
        mask=until_end(ends),
    )
    losses.total.backward()
    assert_losses(case, losses)
    case.assert_close(logits.grad, "grad.logits_actions", "grad")
    case.assert_close(values.grad, "grad.logits_values", "grad")


# The whole of behaviour


def kind_of(case: Case) -> Scalar:
    return Scalar.two_hot if case.config["two_hot_rets"] else Scalar.regression


def agent_of(case: Case) -> DeltaAgent:
    """Tokenizer and world model are those of the cases that this one names."""
    tokenizer, world_model = (
        load_case("delta_iris", name) for name in re.findall(r"(\w+)\.safetensors", case.json["params"])
    )
    agent = delta_components.agent(tokenizer, world_model, case)
    target = case.group("param.actor_critic.target_model.")  # the agent's own is a copy of the policy at first
    delta_components.load(agent.target, "actor_critic.target_model", target)
    return agent


def config_of(case: Case) -> DeltaBehaviourTrainingConfig:
    return DeltaBehaviourTrainingConfig(
        batch_size=len(case["input.actions"]),
        gradient_accumulation=1,
        max_grad_norm=10.0,
        learning_rate=1e-4,
        weight_decay=0.0,
        decay=Decay.linear,
        start_after_epochs=0,
        stop_after_epochs=None,
        updates_per_epoch=1,
        horizon=case.config["imagination_horizon"],
        burn_in=case.config["burn_in_length"],
        gamma=case.config["gamma"],
        lambda_=case.config["lambda_"],
        entropy_weight=case.config["entropy_weight"],
        target_decay=DECAY,
        stop_at_end=True,
    )


def noise_of(case: Case) -> ImaginationNoise:
    """The look behind the horizon, which only bootstraps, may draw what it likes; where rewards are not drawn, no
    uniforms are prescribed for them."""
    ends = case["input.u_end"]
    rewards = case["input.u_reward"] if "input.u_reward" in case.tensors else torch.zeros_like(ends)
    given = (case["input.u_action"].unsqueeze(1), rewards, ends, case["input.u_latent"])
    return ImaginationNoise(*(torch.cat([some, torch.full_like(some[:1], 0.5)]) for some in given))


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_acting(name: str) -> None:
    case = load_case("delta_iris", name)
    policy, frames = delta_components.policy(case), case["input.observations"]
    agent = agent_of(case)
    state, actions, values = policy.initial_state(len(frames)), [], []
    for t in range(case["expected.values_online"].shape[1]):
        logits, outputs, state = policy(agent.observe({"image": frames[:, t]}), state)
        actions.append(logits.argmax(dim=-1))
        values.append(policy.values.mean(outputs))
    case.assert_close(torch.stack(actions, dim=1), "expected.greedy_actions")
    case.assert_close(torch.stack(values, dim=1), "expected.values_online")
    case.assert_close(state.hidden, "expected.hx")
    case.assert_close(state.cell, "expected.cx")


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_imagined_trajectory(name: str) -> None:
    """What the policy does, what it says and what the target says of it."""
    case = load_case("delta_iris", name)
    agent, config = agent_of(case), config_of(case)
    trajectory, states = rollout(case, agent)
    case.assert_close(trajectory.actions[:, :-1], "expected.actions")
    case.assert_close(trajectory.rewards, "expected.rewards")
    case.assert_close(trajectory.terminations, "expected.ends")
    logits, outputs, _ = agent.policy.unroll(trajectory.observations, trajectory.actions, states[0])
    case.assert_close(logits[:, :-1], "expected.logits_actions")
    case.assert_close(outputs[:, :-1].reshape(case["expected.logits_values"].shape), "expected.logits_values")
    _, outputs, _ = agent.target.unroll(trajectory.observations, trajectory.actions, states[1])
    values = agent.target.values.mean(outputs)
    case.assert_close(values[:, :-1], "expected.target_values")
    case.assert_close(values[:, -1], "expected.value_bootstrap")
    returns = lambda_returns(trajectory.rewards, values, trajectory.terminations, config.gamma, config.lambda_)
    case.assert_close(returns, "expected.lambda_returns")
    case.assert_close(until_end(trajectory.terminations), "expected.mask")


def rollout(case: Case, agent: DeltaAgent) -> tuple[Trajectory, tuple[PolicyState, ...]]:
    frames, actions = floats(case), case["input.actions"][:, :-1]
    everything = torch.ones_like(actions, dtype=torch.bool)  # padding is taken in
    states = tuple(some.burn_in(frames[:, :-1], actions, everything) for some in (agent.policy, agent.target))
    context = DeltaContext(frames, actions, agent.tokens(frames, actions))
    return imagine(agent, context, states[0], noise_of(case)), states


class Given:
    """A sampler that always draws one batch."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments

    def sample(self, *, with_observations: bool = True) -> Segments:
        return self._segments


@pytest.mark.parametrize("name", CASES)
def test_training_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method's own component trainer, with the segments and uniforms of the case."""
    case = load_case("delta_iris", name)
    agent, config = agent_of(case), config_of(case)
    frames, actions, mask = case["input.observations"], case["input.actions"], case["input.mask_padding"].bool()
    rows = torch.zeros_like(actions)
    ends = case["input.ends"].to(torch.uint8)
    segments = Segments({"image": frames}, actions, case["input.rewards"], ends, mask, rows)
    monkeypatch.setattr(delta_agent, "LeastUsedSampler", lambda *_, **__: Given(segments))
    monkeypatch.setattr(ImaginationNoise, "sample", lambda *_: noise_of(case))
    buffer = ReplayBuffer(small.picture_spec(*frames.shape[2:]), 1, CPU)
    run = DeltaRunConfig(
        training=DeltaTrainingConfig(precision=Precision.float32, actor_critic=config, sampling_exponent=0.0)
    )
    trainer = delta_agent.Learner(run, agent, buffer, RandomStreams(0, CPU)).actor_critic(Mock(updates=0))
    losses = trainer.losses()
    losses.total.backward()
    assert_losses(case, losses)
    delta_components.assert_gradients(case, agent.policy, "actor_critic.model")
    assert all(p.grad is None for part in (agent.target, agent.world_model, agent.tokenizer) for p in part.parameters())
    followed = delta_components.renamed("actor_critic.target_model", case.group("expected.target_after."))
    torch.testing.assert_close(dict(agent.target.state_dict()), followed, **case.json["tolerances"]["float32"])
