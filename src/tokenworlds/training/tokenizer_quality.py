"""What a trained tokenizer keeps of held-out pictures: errors of reconstructions, what linear probes read out of its
codes, and how many of these it uses (docs/metrics.md defines every measure).

Pictures are spread evenly over the steps of the measured episodes, each with the one before it.

Shapes: N pictures of C x Y x X, K tokens of each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from tokenworlds.agents.base import Agent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import RunConfig
from tokenworlds.envs.noise import CLEAN
from tokenworlds.replay import ReplayBuffer
from tokenworlds.runs.columns import OF_TOKENIZER
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.training import probes
from tokenworlds.training.world_model_quality import Row, observation_errors, perceptual_network, row

PICTURES = 256
BATCH = 32  # pictures at once
ROUNDING = (1 / 255) ** 2 / 12  # mean squared error that rounding to 8 bits makes, below which PSNR tells nothing


class Pictures(ABC):
    """The learned tokenizer of a modality: what it makes of pictures, given those before them and the actions
    between."""

    num_codes: int  # 0: there are no tokens, and latents stand in their place

    @abstractmethod
    def coded(
        self, before: Tensor, actions: Int[Tensor, "N"], pictures: Tensor
    ) -> tuple[Float[Tensor, "N *E"], Shaped[Tensor, "N *K"]]:
        """Latents before quantisation, and the nearest codes."""

    @abstractmethod
    def embedded(self, tokens: Int[Tensor, "N K"]) -> Tensor | None:
        """The vectors that tokens stand for, (N, ...); None where they are not known."""

    @abstractmethod
    def shown(
        self, before: Tensor, actions: Int[Tensor, "N"], tokens: Shaped[Tensor, "N *K"]
    ) -> Float[Tensor, "N C Y X"]:
        """The pictures that are decoded."""


class SinglePictures(Pictures):
    """Of which each is coded by itself."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        self._tokenizer, self.num_codes = tokenizer, tokenizer.vocab_sizes[0]

    def coded(self, before: Tensor, actions: Int[Tensor, "N"], pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self._tokenizer.coded(pictures)

    def embedded(self, tokens: Int[Tensor, "N K"]) -> Tensor | None:
        return self._tokenizer.codes(tokens) if self._tokenizer.embed_dim else None

    def shown(
        self, before: Tensor, actions: Int[Tensor, "N"], tokens: Shaped[Tensor, "N *K"]
    ) -> Float[Tensor, "N C Y X"]:
        return self._tokenizer.decode(tokens)


class ChangingPictures(Pictures):
    """Of which the change from the one before is coded."""

    def __init__(self, tokenizer: DeltaTokenizer) -> None:
        self._tokenizer, self.num_codes = tokenizer, tokenizer.vocab_size

    def coded(self, before: Tensor, actions: Int[Tensor, "N"], pictures: Tensor) -> tuple[Tensor, Tensor]:
        latents = self._tokenizer.latents(before, actions, pictures)
        return latents, self._tokenizer.quantiser.tokens(latents)

    def embedded(self, tokens: Int[Tensor, "N K"]) -> Tensor:
        return self._tokenizer.quantiser.embed(tokens)

    def shown(
        self, before: Tensor, actions: Int[Tensor, "N"], tokens: Shaped[Tensor, "N *K"]
    ) -> Float[Tensor, "N C Y X"]:
        return self._tokenizer.decode(before, actions, tokens)


class ContinuousChanges(ChangingPictures):
    """Which are decoded as they are."""

    def __init__(self, tokenizer: DeltaTokenizer) -> None:
        self._tokenizer, self.num_codes = tokenizer, 0

    def coded(self, before: Tensor, actions: Int[Tensor, "N"], pictures: Tensor) -> tuple[Tensor, Tensor]:
        latents = self._tokenizer.latents(before, actions, pictures)
        return latents, latents


def parts_of(agent: Agent) -> dict[str, Pictures]:
    """The learned tokenizers of an agent by modality; none where nothing of it encodes pictures."""
    if isinstance(agent, TokenAgent):
        return {name: SinglePictures(part) for name, part in agent.tokenizer.coded.items()}
    if isinstance(agent, DeltaAgent):
        return {"image": (ChangingPictures if agent.num_tokens else ContinuousChanges)(agent.tokenizer)}
    return {}


@torch.no_grad()
def measure(config: RunConfig, agent: Agent, buffer: ReplayBuffer, episodes: int) -> list[Row]:
    """Measures of the first ``episodes`` episodes of ``buffer``, of each modality whose tokenizer learns; nothing
    where there are none of two steps."""
    places = [(index, at) for index in range(min(episodes, buffer.num_episodes))
              for at in range(1, buffer.episode_steps(index))]  # fmt: skip
    parts = parts_of(agent)
    if not places or not parts:
        return []
    chosen = torch.tensor(spread(places, PICTURES), device=buffer.device)
    perceptual = perceptual_network(config, buffer.device)
    facts = _facts(buffer, chosen, config.training.actor_critic.gamma)
    return [entry for name, part in parts.items() for entry in _measures(name, part, buffer, chosen, facts, perceptual)]


def spread(places: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most ``count`` of the places, the middles of equal parts."""
    count = min(count, len(places))
    return [places[(2 * index + 1) * len(places) // (2 * count)] for index in range(count)]


@dataclass
class _Facts:
    """What probes predict of each picture, and whether they are fitted to it."""

    signs: Int[Tensor, "N"]  # of the reward of the step that follows
    returns: Float[Tensor, "N"]  # discounted, from there to the end of the episode
    is_fitted: Bool[Tensor, "N"]


def _facts(buffer: ReplayBuffer, chosen: Int[Tensor, "N 2"], gamma: float) -> _Facts:
    """Every other episode is fitted; of a single one the first half."""
    episodes, steps = chosen.cpu().unbind(1)
    rewards = {index: _rewards(buffer, index) for index in episodes.unique().tolist()}
    returns = {index: discounted(values, gamma) for index, values in rewards.items()}
    found = list(zip(episodes.tolist(), steps.tolist()))
    order = {index: place for place, index in enumerate(rewards)}
    is_fitted = [order[index] % 2 == 0 if len(order) > 1 else 2 * place < len(found)
                 for place, (index, _) in enumerate(found)]  # fmt: skip
    return _Facts(
        torch.stack([rewards[index][step] for index, step in found]).sign().long(),
        torch.stack([returns[index][step] for index, step in found]),
        torch.tensor(is_fitted),
    )


def _rewards(buffer: ReplayBuffer, episode: int) -> Float[Tensor, "T"]:
    rows = buffer.episode_rows(episode)[: buffer.episode_steps(episode)]
    return buffer.read(rows.unsqueeze(0), with_observations=False).rewards.squeeze(0).cpu().double()


def discounted(rewards: Float[Tensor, "T"], gamma: float) -> Float[Tensor, "T"]:
    """At every step the sum of the rewards from there to the end, each discounted by its distance."""
    sums = accumulate(reversed(rewards.tolist()), lambda later, reward: reward + gamma * later)
    return torch.tensor([*sums][::-1], dtype=rewards.dtype)


def _measures(
    name: str,
    part: Pictures,
    buffer: ReplayBuffer,
    chosen: Int[Tensor, "N 2"],
    facts: _Facts,
    perceptual: nn.Module | None,
) -> Iterator[Row]:
    """Those of one modality."""
    sums: dict[str, float] = defaultdict(float)
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for some in chosen.split(BATCH):
        segments = buffer.segments(some[:, 0], some[:, 1] - 1, 2)
        (before, pictures), actions = segments.observations[name].unbind(1), segments.actions[:, 0]
        latents, tokens = part.coded(before, actions, pictures)
        shown = part.shown(before, actions, tokens)
        misses = (shown - to_float(pictures)).abs()
        is_changed = (pictures != before).any(dim=1, keepdim=True).expand_as(misses)
        errors = observation_errors({name: shown}, {name: pictures}, perceptual)
        found = {measure: values for (_, measure), values in errors.items()}
        found |= {"l1": misses.mean(dim=(1, 2, 3)), "changed": misses * is_changed, "changes": is_changed}
        if (clean := segments.observations.get(f"{CLEAN}{name}")) is not None:
            beside = (shown - to_float(clean[:, 1])).flatten(1)
            found |= {"l1_clean": beside.abs().mean(dim=1), "mse_clean": beside.square().mean(dim=1)}
        for measure, values in found.items():
            sums[measure] += float(values.double().sum())
        seen["latents"].append(latents.flatten(1).cpu())
        if part.num_codes:
            seen["symbols"].append(tokens.cpu())
            if (vectors := part.embedded(tokens)) is not None:
                seen["tokens"].append(vectors.flatten(1).cpu())
    changed, changes = sums.pop("changed"), int(sums.pop("changes"))
    if changes:
        yield row(OF_TOKENIZER, "l1_changed", changed / changes, changes, name)
    means = {measure: value / len(chosen) for measure, value in sums.items()}
    for measure, value in means.items():
        ratio = -10 * math.log10(max(value, ROUNDING))
        shown_as = (measure.replace("mse", "psnr"), ratio) if measure.startswith("mse") else (measure, value)
        yield row(OF_TOKENIZER, *shown_as, len(chosen), name)
    if part.num_codes:
        yield from _of_codes(name, torch.cat(seen.pop("symbols")), part.num_codes)
    for kind, features in seen.items():
        yield from _of_probes(name, kind, torch.cat(features), facts)


def _of_codes(name: str, tokens: Int[Tensor, "N K"], codes: int) -> Iterator[Row]:
    counts = torch.bincount(tokens.flatten(), minlength=codes)
    yield row(OF_TOKENIZER, "codebook_perplexity", perplexity(counts), tokens.numel(), name)
    yield row(OF_TOKENIZER, "codes_used", int((counts > 0).sum()) / codes, tokens.numel(), name)


def perplexity(counts: Int[Tensor, "V"]) -> float:
    """exp of the entropy of the codes' shares: as many codes, used alike, would have the same entropy."""
    shares = counts.double() / counts.sum()
    return math.exp(float(torch.special.entr(shares).sum()))


def _of_probes(name: str, kind: str, features: Float[Tensor, "N F"], facts: _Facts) -> Iterator[Row]:
    fitted, tested = features[facts.is_fitted], features[~facts.is_fitted]
    for measure, probe, targets in (
        ("probe_reward_f1", probes.told_apart, facts.signs),
        ("probe_return_r2", probes.explained, facts.returns),
    ):
        value = probe(fitted, targets[facts.is_fitted], tested, targets[~facts.is_fitted])
        if value is not None:
            yield row(OF_TOKENIZER, f"{measure}_{kind}", value, len(tested), name)
