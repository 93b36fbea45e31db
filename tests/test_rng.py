"""Named random streams."""

import torch

from tests import small
from tokenworlds.rng import RandomStreams, derive_seed


def test_a_seed_follows_from_run_seed_and_name() -> None:
    assert derive_seed(0, "replay") == derive_seed(0, "replay")
    seeds = {derive_seed(seed, name) for seed in range(50) for name in ("a", "b", "a/b", "")}
    assert len(seeds) == 200 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "2/a") != derive_seed(12, "a")


def test_seeds_are_the_same_on_every_machine() -> None:
    """A published run could not be repeated if this number changed."""
    assert derive_seed(0, "imagination") == 394022383726294424


def test_streams_are_independent_of_each_other_and_of_the_order_of_their_first_use() -> None:
    first, second = RandomStreams(3, small.CPU), RandomStreams(3, small.CPU)
    a, b = torch.rand(4, generator=first.torch("a")), torch.rand(4, generator=first.torch("b"))
    assert torch.equal(torch.rand(4, generator=second.torch("b")), b)
    assert torch.equal(torch.rand(4, generator=second.torch("a")), a)
    assert not torch.equal(a, b)
    assert not torch.equal(torch.rand(4, generator=RandomStreams(4, small.CPU).torch("a")), a)


def test_saved_streams_continue_where_they_stood() -> None:
    streams = RandomStreams(0, small.CPU)
    with torch.random.fork_rng():
        streams.seed_global()
        torch.rand(3, generator=streams.torch("used"))
        streams.numpy("used").random(5)
        tensors, text = streams.state()
        expected = [torch.rand(2, generator=streams.torch("used")), torch.rand(2)], streams.numpy("used").random(2)
        fresh = torch.rand(2, generator=streams.torch("later"))

        torch.manual_seed(99)
        resumed = RandomStreams(0, small.CPU)
        torch.rand(7, generator=resumed.torch("used"))  # has been used before loading, too
        resumed.load_state({key: value.clone() for key, value in tensors.items()}, text)
        assert torch.equal(torch.rand(2, generator=resumed.torch("used")), expected[0][0])
        assert torch.equal(torch.rand(2), expected[0][1])
        assert (resumed.numpy("used").random(2) == expected[1]).all()
        assert torch.equal(torch.rand(2, generator=resumed.torch("later")), fresh)


def test_seeding_the_global_generator_depends_on_the_seed() -> None:
    draws = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            RandomStreams(seed, small.CPU).seed_global()
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
