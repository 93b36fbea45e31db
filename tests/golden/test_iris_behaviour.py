"""IRIS's policy, returns, losses and imagination against the golden vectors."""

from collections.abc import Iterator

import pytest
import torch

from tests import small
from tests.golden import iris_components
from tests.golden.support import Case, load_case
from tokenworlds.actor_critic import actor_critic_losses, lambda_returns
from tokenworlds.actor_critic.actions import DiscreteHead
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.config import Scalar
from tokenworlds.world_models import heads as scalars

DTYPES = {"float32": "expected", "float64": "expected64"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_lambda_returns(dtype: str) -> None:
    case = load_case("iris", "lambda_returns")
    kind = getattr(torch, dtype)
    for index, (_, _, gamma, lambda_) in enumerate(case.config["cases"]):
        rewards, values, ends = (case[f"input.{index}.{name}"] for name in ("rewards", "values", "ends"))
        rewards, values = rewards.to(kind), values.to(kind)
        returns = lambda_returns(rewards[:, :-1], values, ends[:, :-1], gamma, lambda_)
        case.assert_close(torch.cat([returns, values[:, -1:]], dim=1), f"{DTYPES[dtype]}.{index}.returns")


@pytest.mark.parametrize("dtype", DTYPES)
def test_policy(dtype: str) -> None:
    case = load_case("iris", "actor_critic")
    kind, group = getattr(torch, dtype), DTYPES[dtype]
    policy = iris_components.policy(case.config, case.group("param.")).to(kind)
    past, mask = iris_components.floats(case["input.burnin_observations"], kind), case["input.mask_padding"].bool()
    actions = torch.zeros(case["input.observations"].shape[:2], dtype=torch.int64)  # not looked at
    state = policy.burn_in(past, actions[:, :1].expand(mask.shape), mask)
    case.assert_close(state.hidden, f"{group}.burnin.hx")
    case.assert_close(state.cell, f"{group}.burnin.cx")
    frames = iris_components.floats(case["input.observations"], kind)
    logits, outputs, last = policy.unroll(frames, actions, state)
    case.assert_close(logits, f"{group}.seq.logits_actions")
    case.assert_close(policy.values.mean(outputs), f"{group}.seq.values")
    case.assert_close(last.hidden, f"{group}.seq.hx")
    case.assert_close(last.cell, f"{group}.seq.cx")
    for t in range(frames.shape[1]):  # one step at a time is the same function
        step_logits, _, state = policy(frames[:, t], state)
        torch.testing.assert_close(step_logits, logits[:, t])


@pytest.fixture
def default_dtype(dtype: str) -> Iterator[torch.dtype]:
    """The losses' float64 vectors were made with float64 as the default, so that their discounts are not rounded to
    float32 (those of ``lambda_returns`` were not)."""
    kind: torch.dtype = getattr(torch, dtype)
    torch.set_default_dtype(kind)
    yield kind
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_gradients(dtype: str, default_dtype: torch.dtype) -> None:
    case = load_case("iris", "actor_critic_losses")
    kind, group = default_dtype, DTYPES[dtype]
    logits = case["input.logits_actions"].to(kind).requires_grad_()
    values = case["input.values"].to(kind).requires_grad_()
    rewards, ends = case["input.rewards"][:, :-1].to(kind), case["input.ends"][:, :-1]
    returns = lambda_returns(rewards, values.detach(), ends, case.config["gamma"], case.config["lambda_"])
    losses = actor_critic_losses(
        logits[:, :-1],
        values[:, :-1].unsqueeze(-1),
        case["input.actions"][:, :-1],
        returns,
        values[:, :-1].detach(),
        scalars.build(Scalar.regression),
        DiscreteHead(logits.shape[-1]),
        entropy_weight=case.config["entropy_weight"],
    )
    losses.total.backward()
    for name, value in losses.named().items():
        case.assert_close(value, f"{group}.loss_{name}", dtype)
    case.assert_close(losses.total, f"{group}.total", dtype)
    gradients = "grad" if dtype == "float32" else "grad64"
    case.assert_close(logits.grad, f"{gradients}.logits_actions")
    case.assert_close(values.grad, f"{gradients}.values")


def agent_of(case: Case) -> TokenAgent:
    tokenizer = load_case("iris", "tokenizer_a")
    parameters = {key: value for key, value in tokenizer.group("param.").items() if not key.startswith("lpips.")}
    part = iris_components.tokenizer(tokenizer.config | {"lpips_widths": None}, parameters)
    sizes = {key.removeprefix("world_model."): value for key, value in case.config.items()}
    world_model = iris_components.world_model(sizes, case.group("param.world_model."))
    policy = iris_components.policy(case.config, case.group("param.actor_critic."))
    return TokenAgent(iris_components.observation_tokenizer(part), world_model, policy).eval()


@pytest.mark.parametrize("name", ["imagine", "imagine_refill"])
def test_imagination(name: str) -> None:
    case = load_case("iris", name)
    agent = agent_of(case)
    frames, mask = case["input.observations"], case["input.mask_padding"].bool()
    tokens = agent.encode({"image": frames.flatten(0, 1)})
    seen, tokens = agent.policy_input(tokens).unflatten(0, mask.shape), tokens.unflatten(0, mask.shape)
    case.assert_close(tokens[:, -1], "expected.initial_obs_tokens")
    actions = torch.zeros(mask.shape, dtype=torch.int64)  # not looked at
    state = agent.policy.burn_in(seen[:, :-1], actions[:, :-1], mask[:, :-1])
    uniforms = (case[f"input.{key}"] for key in ("u_reward", "u_end", "u_obs"))
    noise = ImaginationNoise(case["input.u_action"].unsqueeze(1), *uniforms)
    start = TokenContext(tokens[:, -1:], actions[:, :0])
    with small.observed_tokens(agent) as looked:
        trajectory = imagine(agent, start, state, noise, to_the_end=True)
    case.assert_close(trajectory.actions, "expected.actions")
    case.assert_close(torch.stack(looked[1:], dim=1), "expected.imagined_obs_tokens")
    case.assert_close(trajectory.rewards, "expected.rewards")
    assert torch.equal(trajectory.terminations, case["expected.ends"].long())
    difference = (trajectory.observations * 255).to(torch.uint8).int() - case["expected.observations_u8"].int()
    assert difference.abs().max() <= 1
    logits, outputs, _ = agent.policy.unroll(
        trajectory.observations, trajectory.actions, state
    )  # how training gets them: after the rollout, with gradients
    case.assert_close(logits, "expected.logits_actions")
    case.assert_close(agent.policy.values.mean(outputs), "expected.values")
    assert logits.requires_grad and not trajectory.observations.requires_grad
