"""What follows an attempt."""

from collections.abc import Sequence

import pytest

from pipeline.launch.verdicts import End, Next, judge
from tokenworlds import cli

LOST = End(None, "no sign of life")


def end(status: int | None, has_progressed: bool = False, gpu_share: float = 0.5) -> End:
    return End(status, "", has_progressed, gpu_share)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Next.COLLECT),
        (cli.STATUS_BUG, Next.FAIL),
        (cli.STATUS_ERROR, Next.FAIL),
        (cli.STATUS_MEMORY, Next.AGAIN),
        (cli.STATUS_BUSY, Next.LATER),
        (127, Next.FAIL),  # no such command
        (128 + 14, Next.AGAIN),  # an environment's process hung
        (cli.STATUS_INTERRUPTED, Next.AGAIN),
        (cli.STATUS_TERMINATED, Next.AGAIN),
        (137, Next.AGAIN),
        (-9, Next.AGAIN),
        (-11, Next.AGAIN),
        (None, Next.AGAIN),
    ],
)
def test_exit_status_decides(status: int | None, expected: Next) -> None:
    assert judge([end(status)], retries=3).next is expected


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([LOST] * 2, Next.AGAIN),
        ([LOST] * 3, Next.FAIL),
        ([end(143), end(-9), LOST], Next.FAIL),
        ([LOST, LOST, end(143, has_progressed=True)], Next.AGAIN),  # got further
        ([end(143, has_progressed=True)] * 50, Next.AGAIN),  # preempted for days
        ([LOST, LOST, end(143, has_progressed=True), LOST, LOST], Next.AGAIN),
        ([LOST, LOST, end(143, has_progressed=True), LOST, LOST, LOST], Next.FAIL),
        ([LOST, LOST, end(cli.STATUS_BUSY), LOST], Next.FAIL),  # waiting for another trainer is no progress
        ([end(cli.STATUS_BUSY)] * 50, Next.LATER),
    ],
)
def test_interrupted_attempts_without_a_new_epoch_are_counted(ends: Sequence[End], expected: Next) -> None:
    assert judge(ends, retries=3).next is expected


@pytest.mark.parametrize(
    ("shares", "expected", "whole_gpu"),
    [
        ([0.5], Next.AGAIN, True),
        ([0.5, 1.0], Next.FAIL, False),
        ([1.0], Next.FAIL, False),
        ([0.0], Next.AGAIN, False),  # of the host: once more
        ([0.0, 0.0], Next.FAIL, False),
    ],
)
def test_memory_is_tried_once_more_with_a_whole_gpu(shares: list[float], expected: Next, whole_gpu: bool) -> None:
    verdict = judge([end(cli.STATUS_MEMORY, gpu_share=share) for share in shares], retries=3)
    assert (verdict.next, verdict.whole_gpu) == (expected, whole_gpu)


def test_a_run_keeps_the_gpu_that_it_has_got_for_its_memory() -> None:
    assert judge([end(cli.STATUS_MEMORY), end(143, gpu_share=1.0)], retries=3).whole_gpu
    assert not judge([end(cli.STATUS_MEMORY, gpu_share=0.0), end(143, gpu_share=0.0)], retries=3).whole_gpu


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (End(2, "error: training has diverged."), "training has diverged."),
        (End(1, ""), "exit status 1"),
        (End(-9, "epoch 3"), "ended by SIGKILL (is the memory exhausted?)"),
        (End(137, "epoch 3"), "ended by SIGKILL (is the memory exhausted?)"),
        (End(143, "terminated"), "ended by SIGTERM"),
        (End(142, "error: environment worker 1 hung."), "environment worker 1 hung."),
        (LOST, "lost (no sign of life)"),
    ],
)
def test_the_reason_is_told(ended: End, text: str) -> None:
    assert str(ended) == text
