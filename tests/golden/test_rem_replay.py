"""REM's enumeration of segments against the golden vectors."""

import torch

from tests import small
from tests.golden.support import Case, load_case
from tokenworlds.replay import ReplayBuffer, SegmentSampler


def buffer_of(case: Case) -> ReplayBuffer:
    """The action at step s of episode e is 100 e + s."""
    buffer = ReplayBuffer(small.picture_spec(1, 1, 1), 1, small.CPU)
    for episode, length in enumerate(case["in.episode_lengths"].tolist()):
        ends = torch.zeros(length)
        frames = torch.zeros(length, 1, 1, 1, dtype=torch.uint8)
        buffer.extend({"image": frames}, 100 * episode + torch.arange(length), torch.zeros(length), ends, close=True)
    return buffer


def test_enumeration_of_all_segments() -> None:
    case = load_case("rem", "segments")
    buffer = buffer_of(case)
    for settings in case.config["cases"]:
        context, length, padding = (settings[key] for key in ("context_length", "sequence_length", "padding"))
        anchor = "start" if padding == "right" else "end"
        sampler = SegmentSampler(buffer, 4, length, small.generator(), anchor=anchor, context=context)
        sampler.refresh(1)
        key = f"out.ctx{context}_len{length}_{padding}"
        segments = buffer.read(sampler.rows_of(torch.arange(len(case[f"{key}.actions"]))))
        case.assert_close(segments.actions, f"{key}.actions")
        case.assert_close(segments.mask, f"{key}.mask")
        one_pass = torch.cat([sampler.sample().actions for _ in range(-(-len(segments.mask) // 4))])
        assert sorted(one_pass.tolist()) == sorted(segments.actions.tolist())
