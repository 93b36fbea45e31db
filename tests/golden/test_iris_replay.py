"""IRIS's episodes and segments against the golden vectors."""

import torch

from tests import small
from tests.golden.support import Case, assert_segment, load_case
from tokenworlds.replay import ReplayBuffer


def buffer_of(case: Case, ends: torch.Tensor) -> ReplayBuffer:
    """The case's episode between two others, so that reading beyond it would show."""
    observations, actions, rewards = (case[f"input.{name}"] for name in ("observations", "actions", "rewards"))
    buffer = ReplayBuffer(small.picture_spec(*observations.shape[1:]), 4, small.CPU)
    noise = torch.full_like(observations[:2], 77)
    other = ({"image": noise}, torch.tensor([3, 3]), torch.tensor([5.0, 5.0]), torch.tensor([0, 1]))
    buffer.extend(*other)
    buffer.extend({"image": observations}, actions, rewards, ends, close=True)
    buffer.extend(*other)
    return buffer


def test_segments_with_padding_on_both_sides() -> None:
    case = load_case("iris", "episode_segments")
    buffer = buffer_of(case, case["input.ends"])
    assert buffer.episode_length(1) == case.config["length"]
    for index, (start, stop) in enumerate(case.config["pairs"]):
        segment = buffer.segments(torch.tensor([1]), torch.tensor([start]), stop - start)
        assert_segment(case, segment, f"expected.{index}")


def test_an_episode_is_cut_after_its_first_end() -> None:
    case = load_case("iris", "episode_segments")
    buffer = buffer_of(case, case["input.trunc.ends"])
    assert buffer.episode_length(1) == int(case["expected.trunc.length"])
