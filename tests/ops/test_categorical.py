"""Inverse-CDF samples of categorical distributions from prescribed uniforms."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tokenworlds.ops.categorical import sample_categorical


def test_a_sample_is_the_interval_of_the_cumulated_probabilities_that_holds_the_uniform() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    uniforms = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.999], dtype=torch.float64)
    assert sample_categorical(logits.expand(6, 3), uniforms).tolist() == [0, 0, 1, 1, 2, 2]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 600), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_samples_are_classes_of_positive_probability(seed: int, classes: int, dtype: torch.dtype) -> None:
    draws = small.generator(seed)
    logits = (torch.randn(20, classes, generator=draws) * 5).to(dtype)
    logits[:, 0] = -torch.inf if classes > 1 else 0.0
    uniforms = torch.rand(20, generator=draws)
    uniforms[0] = 0.0  # ties with the sum below the first class that can be sampled
    samples = sample_categorical(logits, uniforms)
    assert samples.min() >= (1 if classes > 1 else 0) and samples.max() < classes


def test_extreme_uniforms_stay_in_range() -> None:
    logits = torch.randn(4, 512, generator=small.generator())
    almost_one = torch.full((4,), 1.0).nextafter(torch.zeros(4))
    assert sample_categorical(logits, almost_one).max() < 512
    assert not sample_categorical(logits, torch.zeros(4)).any()
