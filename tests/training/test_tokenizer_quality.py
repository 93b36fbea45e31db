"""Measures of tokenizers: by hand where the reconstruction is known, and for every method."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import small
from tests.methods.support import configure
from tokenworlds.agents.base import Agent
from tokenworlds.agents.token import TokenAgent
from tokenworlds.replay import ReplayBuffer
from tokenworlds.training import tokenizer_quality
from tokenworlds.training.tokenizer_quality import ROUNDING, discounted, measure, perplexity, spread
from tokenworlds.training.world_model_quality import Row

AGENTS: dict[str, Callable[[], Agent]] = {
    "iris": small.agent, "rem": small.rem_agent, "delta_iris": small.delta_agent, "m3": small.m3_agent,
}  # fmt: skip
ERRORS = {"l1", "psnr", "ssim", "l1_changed"}
CODES = {"codebook_perplexity", "codes_used"}
PROBES = {f"probe_{kind}_{of}" for kind in ("reward_f1", "return_r2") for of in ("latents", "tokens")}


def measured(method: str, agent: Agent, buffer: ReplayBuffer, episodes: int = 99) -> dict[str, Row]:
    rows = measure(configure(method), agent, buffer, episodes)
    assert all((row["group"], row["part"]) == ("tokenizer", "image") for row in rows)
    assert len({row["measure"] for row in rows}) == len(rows)
    return {row["measure"]: row for row in rows}


@pytest.mark.parametrize("method", AGENTS)
def test_every_method_has_the_same_names_and_nothing_is_drawn_or_changed(method: str) -> None:
    agent = AGENTS[method]()
    before, random = {name: value.clone() for name, value in agent.state_dict().items()}, torch.random.get_rng_state()
    buffer = small.buffer([20, 15], spec=small.spec_of(agent))
    found = measured(method, agent, buffer)
    assert found.keys() == ERRORS | CODES | PROBES and found == measured(method, agent, buffer)
    assert found["l1"]["count"] == 33  # all steps but the first of an episode
    assert found["codebook_perplexity"]["value"] >= 1 and 0 < found["codes_used"]["value"] <= 1
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())


def shades(values: list[list[int]], dot: int) -> ReplayBuffer:
    """Plain episodes of these shades, with one pixel that is ``dot`` brighter at every other step; no rewards."""
    buffer = ReplayBuffer(small.picture_spec(), 100, small.CPU)
    for some in values:
        frames = torch.tensor(some, dtype=torch.uint8)[:, None, None, None].repeat(
            1, 3, small.RESOLUTION, small.RESOLUTION
        )
        frames[1::2, 0, 3, 4] += dot
        zeros = torch.zeros(len(some))
        buffer.extend({"image": frames}, zeros.long(), zeros, zeros.bool(), close=True)
    return buffer


def test_errors_are_those_of_a_known_reconstruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that shows everything 0.1 too bright, and the dot not at all."""
    agent = small.agent()
    monkeypatch.setattr(agent.tokenizer.image, "decode", lambda tokens: torch.full((len(tokens), 3, 16, 16), 0.3))
    found = measured("iris", agent, shades([[51] * 5, [51] * 5], 102))
    plain, pixels = 0.1, 3 * 16 * 16
    assert found["l1"]["value"] == pytest.approx((plain * (pixels - 0.5) + 0.5 * 0.3) / pixels)
    mse = (plain**2 * (pixels - 0.5) + 0.5 * 0.3**2) / pixels
    assert found["psnr"]["value"] == pytest.approx(-10 * math.log10(mse), rel=1e-5)
    # the dot appears and disappears: in half of the changed pictures one of three values is wrong by 0.3
    assert found["l1_changed"]["value"] == pytest.approx((0.3 + 0.1 * 5) / 6)
    assert found["l1_changed"]["count"] == 8 * 3
    assert "probe_return_r2_latents" not in found and "probe_reward_f1_tokens" not in found  # all alike


def test_what_does_not_change_or_err_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small.agent()
    monkeypatch.setattr(agent.tokenizer.image, "decode", lambda tokens: torch.full((len(tokens), 3, 16, 16), 0.2))
    found = measured("iris", agent, shades([[51] * 5], 0))
    assert "l1_changed" not in found and found["psnr"]["value"] == pytest.approx(-10 * math.log10(ROUNDING))
    assert measure(configure("iris"), agent, shades([[51], [51]], 0), 9) == []


def test_agents_without_learned_pictures_have_no_measures() -> None:
    agent = small.m3_agent()
    assert isinstance(agent, TokenAgent)
    del agent.tokenizer.parts["image"]
    assert measure(configure("m3"), agent, small.buffer([9], spec=small.mixed_spec()), 9) == []


@pytest.mark.parametrize(
    ("counts", "expected"), [([5] * 8, 8.0), ([7, 0, 0, 0], 1.0), ([2, 1, 1, 0], math.exp(1.5 * math.log(2)))]
)
def test_perplexity_is_the_number_of_codes_that_are_used_alike(counts: list[int], expected: float) -> None:
    assert perplexity(torch.tensor(counts)) == pytest.approx(expected)


def test_returns_are_discounted_from_each_step_on() -> None:
    found = discounted(torch.tensor([1.0, 0.0, 2.0, -4.0]), 0.5)
    assert found.tolist() == [1 + 0.25 * 2 - 0.125 * 4, 0.5 * 2 - 0.25 * 4, 2 - 0.5 * 4, -4]


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_pictures_are_spread_over_all_places(count: int) -> None:
    places = [(0, step) for step in range(7)]
    found = spread(places, count)
    assert len(found) == min(count, 7) and found == sorted(set(found))
    assert count != 3 or found == [(0, 1), (0, 3), (0, 5)]


@pytest.mark.parametrize("is_right", [True, False])
def test_probes_read_what_codes_show_and_are_tested_on_other_episodes(
    is_right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards that follow from the latents, or from their opposite in the episode that is not fitted."""
    agent, buffer, original = small.agent(), small.buffer([120, 120]), tokenizer_quality._facts

    def facts(given: ReplayBuffer, chosen: Tensor, gamma: float) -> tokenizer_quality._Facts:
        found = original(given, chosen, gamma)
        assert found.is_fitted.tolist() == [index == 0 for index in chosen[:, 0].tolist()]
        frames = buffer.segments(chosen[:, 0], chosen[:, 1], 1).observations["image"].squeeze(1)
        first = agent.tokenizer.image.latents(frames).flatten(1)[:, 0]
        is_high = first > first.median()
        found.signs = torch.where(found.is_fitted | is_right, is_high, ~is_high).long()
        return found

    monkeypatch.setattr(tokenizer_quality, "_facts", facts)
    value = measured("iris", agent, buffer)["probe_reward_f1_latents"]["value"]
    assert value > 0.7 if is_right else value < 0.3


def test_deltas_that_are_no_tokens_have_errors_and_probes_of_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small.delta_agent()
    monkeypatch.setattr(agent, "num_tokens", 0)
    monkeypatch.setattr(agent.tokenizer, "decode", agent.tokenizer.decode_codes)
    found = measured("delta_iris", agent, small.buffer([20, 15], spec=small.spec_of(agent)))
    assert found.keys() == ERRORS | {name for name in PROBES if name.endswith("latents")}


def test_errors_against_pictures_without_noise_are_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small.picture_spec()
    spec = dataclasses.replace(spec, observation={**spec.observation, "clean_image": small.IMAGE})
    buffer = ReplayBuffer(spec, 10, small.CPU)
    noisy, zeros = small.frames(5), torch.zeros(5)
    clean = torch.full_like(noisy, 51)
    buffer.extend({"image": noisy, "clean_image": clean}, zeros.long(), zeros, zeros.bool(), close=True)
    agent = small.agent()
    monkeypatch.setattr(agent.tokenizer.image, "decode", lambda tokens: torch.full((len(tokens), 3, 16, 16), 0.3))
    found = measured("iris", agent, buffer)
    assert found["l1_clean"]["value"] == pytest.approx(0.1) and found["l1"]["value"] > 0.15
    assert found["psnr_clean"]["value"] == pytest.approx(20.0)
