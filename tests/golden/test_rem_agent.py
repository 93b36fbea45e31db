"""Whole REM agents: imagination from pixels with every draw replaced by the likeliest value, and a checkpoint in the
published layout."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.golden import rem_components
from tests.golden.support import Case, load_case, load_json, load_tensors
from tokenworlds import config, methods
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.checkpoints import layout, rem
from tokenworlds.config import RunConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.world_models.base import StepNoise


def agent_of(state: dict[str, Tensor], settings: dict[str, Any], frames: Tensor) -> tuple[TokenAgent, RunConfig]:
    """An agent that sees such frames, with the configuration that the shapes show, and what they do not show."""
    world, groups = settings["world_model"], settings["tokenizer"]["norm_num_groups"]
    built = config.load(
        [
            "method=rem",
            "task=atari/Breakout",
            "scale=paper",
            *layout.overrides(rem.infer_model(state)),
            f"model.tokenizer.conv.num_groups={groups}",
            f"model.tokenizer.conv.decoder_groups={groups}",
            f"model.world_model.max_blocks={world['max_blocks']}",
            f"training.sequence_length={world['max_blocks']}",
            f"model.world_model.context={world['context_length']}",
        ]
    )
    count = state["actor_critic.actor_linear.weight"].shape[0]
    spec = EnvironmentSpec({"image": ImageSpec(*frames.shape[-2:])}, DiscreteActions(count))
    agent = methods.get("rem").build_agent(built, spec)
    agent.load_state_dict(rem.from_reference(state, built.model))
    return agent, built


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every draw is the likeliest value; the logits are kept in order."""
    return rem_components.choose_draws(monkeypatch, lambda logits, _: logits.argmax(dim=-1))


def floating(case: Case, key: str) -> Tensor:
    frames = case[key]
    return frames / 255 if frames.dtype == torch.uint8 else frames


@pytest.mark.usefixtures("greedy")
@pytest.mark.parametrize("name", ["imagination_greedy", "imagination_greedy_nopop"])
@torch.no_grad()
def test_imagination_from_pixels(name: str) -> None:
    case = load_case("rem", name)
    agent, built = agent_of(case.group("param."), case.config, case["in.observations"])
    context = built.model.world_model.context
    steps = case.config["horizon"] - case.config["world_model"]["context_length"] + 1
    frames, taken, mask = floating(case, "in.observations"), case["in.actions"], case["in.mask_padding"]
    tokens = agent.encode({"image": frames.flatten(0, 1)})
    seen = agent.policy_input(tokens).unflatten(0, mask.shape)
    tokens = tokens.unflatten(0, mask.shape)
    state = agent.policy.burn_in(seen[:, :-1], taken[:, :-1], mask[:, :-1])
    noise = ImaginationNoise.sample(steps, tokens.shape[-1], len(tokens), torch.Generator())
    start = TokenContext(tokens[:, -context:], taken[:, -context:-1])
    with small.observed_tokens(agent) as looked:
        trajectory = imagine(agent, start, state, noise, to_the_end=True)
    case.assert_close(torch.stack(looked, dim=1), "out.tokens")
    case.assert_close(trajectory.actions, "out.actions")
    case.assert_close(trajectory.rewards, "out.rewards", "float")
    case.assert_close(trajectory.terminations, "out.ends")
    logits, outputs, _ = agent.policy.unroll(trajectory.observations, trajectory.actions, state)
    case.assert_close(logits, "out.logits_actions", "float")
    case.assert_close(agent.policy.values.mean(outputs), "out.values", "float")


@torch.no_grad()
def test_reference_agent_is_imported(greedy: list[Tensor]) -> None:
    case = Case("reference_agent", load_json("rem", "reference_agent"), load_tensors("rem", "reference_agent_expected"))
    agent, _ = agent_of(load_tensors("rem", "reference_agent"), case.config, case["in.frames"])
    policy = agent.policy
    frames, taken = floating(case, "in.frames"), case["in.actions"]
    tokens = agent.encode({"image": frames})
    case.assert_close(tokens, "out.tokens")
    case.assert_close(agent.decode(tokens)["image"], "out.reconstructions", "float")
    seen = agent.policy_input(tokens).unsqueeze(0)
    logits, outputs, last = policy.unroll(seen, taken.unsqueeze(0), policy.initial_state(1))
    case.assert_close(logits.squeeze(0), "out.logits_actions", "float")
    case.assert_close(policy.values.mean(outputs).squeeze(0), "out.values", "float")
    case.assert_close(torch.cat([last.hidden, last.cell]), "out.controller_state", "float")
    state, chosen = policy.initial_state(1), []
    for frame in agent.policy_input(tokens):
        step_logits, _, state = policy(frame.unsqueeze(0), state)
        chosen.append(step_logits.argmax(dim=-1))
        state = policy.observe_action(chosen[-1], state)
    case.assert_close(torch.cat(chosen), "out.greedy_actions")
    noise = StepNoise(torch.zeros(1), torch.zeros(1), torch.zeros(tokens.shape[1], 1))
    world = agent.world_model.start(tokens.unsqueeze(0), taken[:1].unsqueeze(0))
    world, _, _ = agent.world_model.step(world, taken[1:], noise)
    observation, reward, end = (logits.squeeze(0) for logits in greedy)
    case.assert_close(reward, "out.logits_reward", "float")
    case.assert_close(end, "out.logits_end", "float")
    case.assert_close(observation, "out.logits_next_obs", "float")
    case.assert_close(world.tokens.squeeze(0), "out.argmax_next_tokens")
    case.assert_close(agent.decode(world.tokens)["image"].squeeze(0), "out.argmax_next_frame", "float")
    case.assert_close(rem_components.states(world.backbone).squeeze(1), "out.wm_states", "float")
