"""M3's segments and priorities against the golden vectors."""

import torch
from torch import Tensor

from tests import small
from tests.golden.support import Case, load_case
from tokenworlds.replay import PrioritisedSampler, ReplayBuffer, SegmentSampler


def extend(buffer: ReplayBuffer, actions: Tensor, *, has_final: bool) -> None:
    """An episode with these actions; it ends at its last step."""
    frames = torch.zeros(len(actions) + 1, 1, 1, 1, dtype=torch.uint8)
    ends = torch.arange(len(actions)) == len(actions) - 1
    final = {"image": frames[-1]} if has_final else None
    buffer.extend({"image": frames[:-1]}, actions, torch.zeros(len(actions)), ends, final=final)


def test_segments_of_episodes_with_their_final_observations() -> None:
    """The case's actions tell its entries apart: 100 e + n for entry n of episode e, the final observation included."""
    case = load_case("m3", "segments")
    buffer = ReplayBuffer(small.picture_spec(1, 1, 1), 1, small.CPU)
    for index, length in enumerate(case["in.lengths"].tolist()):
        extend(buffer, torch.full((length - 1,), index), has_final=True)
    assert buffer.lengths.tolist() == case["in.lengths"].tolist()
    keys = [key.removesuffix(".mask") for key in case.tensors if key.endswith(".mask")]
    assert keys
    for key in keys:
        padding, context, length = key.removeprefix("out.").split("_")
        sampler = SegmentSampler(
            buffer,
            4,
            int(length.removeprefix("l")),
            small.generator(),
            anchor="start" if padding == "right" else "end",
            context=int(context.removeprefix("c")),
        )
        sampler.refresh(1)
        is_allowed = (case[f"{key}.actions"] != -1).all(dim=1)
        found = sampler.buffer.read(sampler.rows_of(torch.arange(len(is_allowed))))
        assert is_allowed.any() and int(sampler._stops[-1]) == len(is_allowed)
        episodes, offsets = buffer.locate(found.rows.flatten())
        entries = torch.where(found.mask, (100 * episodes + offsets).view_as(found.rows), 0)
        assert torch.equal(entries[is_allowed], case[f"{key}.actions"][is_allowed])
        assert torch.equal(found.mask[is_allowed], case[f"{key}.mask"][is_allowed])


def sampler_of(case: Case) -> tuple[PrioritisedSampler, ReplayBuffer]:
    """Items are frames of one episode after another."""
    settings = case.config
    buffer = ReplayBuffer(small.picture_spec(1, 1, 1), 1, small.CPU)
    extend(buffer, torch.zeros(settings["initial_items"], dtype=torch.int64), has_final=False)
    sampler = PrioritisedSampler(
        buffer, settings["batch"], 1, small.generator(), uniform_fraction=settings["uniform_fraction"], lag=0
    )
    sampler.refresh(1)
    return sampler, buffer


def test_priorities() -> None:
    case = load_case("m3", "replay_priorities")
    sampler, buffer = sampler_of(case)
    assert sampler._by_priority == case.config["prioritized_count"]
    case.assert_close(sampler.priorities().softmax(0), "out.probs0")
    for number, (items, losses) in enumerate(zip(case["in.samples"], case["in.losses"])):
        if number == case.config["items_added_before_round"]:
            extend(buffer, torch.zeros(case.config["added"], dtype=torch.int64), has_final=False)
            sampler.refresh(number + 1)
        sampler._latest = 1 + items
        sampler.update_priorities(losses)
        case.assert_close(sampler.priorities().softmax(0), f"out.probs{number + 1}")
        torch.testing.assert_close(sampler._tree.total, sampler.priorities().logsumexp(0))
    case.assert_close(sampler.priorities(), "out.final_priorities")
