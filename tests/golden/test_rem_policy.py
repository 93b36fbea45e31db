"""REM's controllers (here: policies) against the golden vectors: acting, burn-in, losses along a trajectory."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.golden import rem_components
from tests.golden.support import Case, load_case
from tokenworlds import world_models
from tokenworlds.actor_critic import Policy, PolicyState, lambda_returns, trajectory_losses
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.backbones import Backbone
from tokenworlds.config import BehaviourTrainingConfig, Decoding
from tokenworlds.envs import DiscreteActions
from tokenworlds.world_models.base import StepNoise

CASES = ["controller_latent_lstm", "controller_latent_gru", "controller_latent_no_action", "controller_pixels"]


def test_acting() -> None:
    """Frame, heads, action; frame, heads, action."""
    case = load_case("rem", "controller_acting")
    policy, codes, actions = rem_components.policy(case), case["in.codes"], case["in.actions"]
    state, steps, states = policy.initial_state(len(codes)), [], []
    for t in range(codes.shape[1]):
        logits, outputs, state = policy(codes[:, t], state)
        state = policy.observe_action(actions[:, t], state)
        steps.append((logits, policy.values.mean(outputs)))
        states.append(torch.stack([state.hidden, state.cell]))
    logits, values = (torch.stack(parts, dim=1) for parts in zip(*steps))
    case.assert_close(logits, "out.logits_actions")
    case.assert_close(values, "out.values")
    case.assert_close(torch.stack(states, dim=1), "out.states")
    unrolled = policy.unroll(codes, actions, policy.initial_state(len(codes)))
    case.assert_close(unrolled[0], "out.logits_actions")
    case.assert_close(policy.values.mean(unrolled[1]), "out.values")


def test_burn_in_takes_the_action_of_every_kth_frame() -> None:
    case = load_case("rem", "controller_burnin_action")
    policy, codes = rem_components.policy(case), case["in.codes"]
    state = policy.burn_in(codes, case["in.actions"], case["in.mask_padding"])
    case.assert_close(state.hidden, "out.hx")
    case.assert_close(state.cell, "out.cx")
    logits, outputs, _ = policy(codes[:, -1], state)
    case.assert_close(logits, "out.logits_actions")
    case.assert_close(policy.values.mean(outputs), "out.values")


def burn_in_gradient() -> Case:
    """The case in the words of the others."""
    found = load_case("rem_burnin_gradient", "controller_burnin_gradient")
    config = {"hidden": found.config["latent_dim"], "token_embed_dim": found.config["embed_dim"]}
    config |= {"tokens_per_obs": found.config["tokens"], "num_actions": found.config["num_actions"]}
    stated = {"config": config, "tolerances": {"float": found.json["tolerance"]["default"]}}
    tensors = {key.replace("out.grad.", "grad.").replace("actor_critic.", ""): x for key, x in found.tensors.items()}
    return Case(found.name, stated, tensors)


def test_gradient_of_the_action_in_the_burn_in() -> None:
    """The step on the action learns, as if the next frame followed it at once: the frames between carry none."""
    case = burn_in_gradient()
    policy = rem_components.policy(case)
    state = policy.burn_in(case["in.codes"], case["in.actions"], case["in.mask"])
    logits, outputs, _ = policy(case["in.next_codes"], state)
    values = policy.values.mean(outputs)
    case.assert_close(logits.view_as(case["out.logits"]), "out.logits")
    case.assert_close(values.view_as(case["out.values"]), "out.values")
    loss = logits.log_softmax(dim=-1)[..., 0].mean() + values.square().mean()
    loss.backward()
    case.assert_close(loss, "out.loss")
    assert_gradients(case, policy)


def assert_gradients(case: Case, policy: Policy) -> None:
    """All that the case states, and no others."""
    gradients = rem_components.gradients(policy, "policy.")
    expected = rem_components.renamed("actor_critic", case.group("grad."), rem_components.policy_model(case))
    rtol, atol = case.tolerance("out.values")
    torch.testing.assert_close(gradients, expected, rtol=rtol, atol=atol)


def seen(case: Case) -> tuple[Tensor, Tensor]:
    """What the policy sees of the burn-in, and of the trajectory that starts at the last real frame."""
    tokens = torch.cat([case["in.tokens_real"], case["in.imagined_tokens"]], dim=1)
    if "in.codebook" in case.tensors:
        frames = rem_components.codes(tokens, case["in.codebook"])
    else:
        parameters = case.group("param.tokenizer.")
        config = {
            "vocab_size": parameters["embedding.weight"].shape[0],
            "embed_dim": parameters["embedding.weight"].shape[1],
            "out_channels": parameters["post_quant_conv.weight"].shape[0],
            "out_channels_1st_layer": parameters["encoder.in_conv.weight"].shape[0],
            "num_downsample_steps": len({key.split(".")[2] for key in parameters if key.startswith("encoder.blocks.")}),
        }
        tokenizer = rem_components.tokenizer(config, parameters)
        with torch.no_grad():
            frames = tokenizer.decode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    burn_in = case.config["burn_in"]
    return frames[:, :burn_in], frames[:, burn_in:]


def start(case: Case, policy: Policy, past: Tensor) -> PolicyState:
    """The state that the trajectory of the case starts from."""
    return policy.burn_in(past, case["in.actions_real"][:, :-1], case["in.mask_padding"][:, :-1])


@pytest.mark.parametrize("name", CASES)
def test_trajectory_losses_and_gradients(name: str) -> None:
    case = load_case("rem", name)
    policy = rem_components.policy(case)
    past, frames = seen(case)
    state = start(case, policy, past)
    rewards, ends = case["in.imagined_rewards"][:, :-1], case["in.imagined_ends"][:, :-1].long()
    trajectory = Trajectory(frames, case["in.imagined_actions"], rewards, ends)
    logits, outputs, _ = policy.unroll(frames, trajectory.actions, state)
    values = policy.values.mean(outputs)
    case.assert_close(logits, "out.logits_actions")
    case.assert_close(values, "out.values")
    config = BehaviourTrainingConfig(**{key: case.config[key] for key in ("gamma", "lambda_", "entropy_weight")})
    returns = lambda_returns(rewards, values, ends, config.gamma, config.lambda_)
    case.assert_close(torch.cat([returns, values[:, -1:]], dim=1), "out.lambda_returns")
    losses = trajectory_losses(policy, trajectory, state, config)
    losses.total.backward()
    case.assert_close(losses.total, "out.loss_total")
    for loss, value in losses.named().items():
        case.assert_close(value, f"out.loss_{loss}")
    assert_gradients(case, policy)


def test_lambda_returns() -> None:
    case = load_case("rem", "lambda_returns")
    rewards, values, ends = (case[f"in.{key}"] for key in ("rewards", "values", "ends"))
    for index, (gamma, lambda_) in enumerate(case.config["gamma_lambda"]):
        returns = lambda_returns(rewards[:, :-1], values, ends[:, :-1], gamma, lambda_)
        case.assert_close(torch.cat([returns, values[:, -1:]], dim=1), f"out.returns_{index}")


class Recorder(Backbone[Any]):
    """A backbone that notes what it reads."""

    def __init__(self, block_size: int) -> None:
        super().__init__(embed_dim=1, max_tokens=100 * block_size, block_size=block_size)
        self.read: list[Tensor] = []

    def initialise(self) -> None:
        pass

    def init_state(self, batch: int) -> None:
        return None

    def parallel(self, x: Tensor) -> Tensor:
        return x

    def step(self, state: None, x: Tensor) -> tuple[Tensor, None]:
        self.read.append(x)
        return x, None

    def branch(self, state: None, x: Tensor, suffix: Tensor) -> tuple[Tensor, Tensor, None]:
        """Prediction tokens are not noted."""
        return self.step(state, x)[0][:, -1], suffix, None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decoding", small.TOKENWISE)
@torch.no_grad()
def test_context_handed_to_the_world_model(name: str, decoding: Decoding) -> None:
    """The last frames and the actions between them; embeddings are the ids, actions behind the vocabulary."""
    case = load_case("rem", name)
    size, count, actions = (case.config[key] for key in ("vocab_size", "tokens_per_obs", "num_actions"))
    context, recorder = case.config["context_length"], Recorder(count + 1)
    layout = small.layout_of(image=(count, size))
    model = world_models.build(
        decoding, small.world_model_config(embed_dim=1), recorder, layout, DiscreteActions(actions)
    )
    model.embed_observation["image"].weight.copy_(torch.arange(size).unsqueeze(1))
    model.embed_action.weight.copy_(size + torch.arange(actions).unsqueeze(1))
    state = model.start(case["in.tokens_real"][:, -context:], case["in.actions_real"][:, -context:-1])
    zeros = torch.zeros(len(case["in.tokens_real"]))
    noise = StepNoise(zeros, zeros, zeros.expand(count, -1))
    model.step(state, case["in.imagined_actions"][:, 0], noise, predict_observation=False)
    read = torch.cat(recorder.read, dim=1).squeeze(-1).long()
    case.assert_close(read[:, :-1], "out.context_tokens")
    assert torch.equal(read[:, -1], size + case["in.imagined_actions"][:, 0])
