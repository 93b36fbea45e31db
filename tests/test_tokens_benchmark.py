"""The benchmark that says whether tokens show a reward."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import rewards, tokens
from tokenworlds.errors import UserError
from tokenworlds.replay import ReplayBuffer


@pytest.mark.parametrize("is_shown", [True, False])
def test_what_the_tokens_show_is_found(monkeypatch: pytest.MonkeyPatch, is_shown: bool) -> None:
    generator, steps = np.random.default_rng(0), 800
    lamp = generator.random(steps) < 0.3
    shown = generator.integers(0, 30, (steps, 4))
    shown[:, 2] = np.where(lamp & is_shown, 31, shown[:, 2])
    monkeypatch.setattr(tokens, "tokens_of", lambda *_: (torch.from_numpy(shown), 0.5))
    monkeypatch.setattr(tokens, "LEARNED", 150)
    actions, ends = torch.from_numpy(generator.integers(0, 2, steps)), np.arange(steps) % 50 == 49
    played = torch.zeros(steps), actions, lamp.astype(np.float32), ends, 2
    loss, codes, areas = tokens.measure("any", "rem", [], played, seed=0)
    assert (loss, codes) == (0.5, 31 if is_shown else 30)
    assert areas[0] > 0.95 if is_shown else areas[0] < 0.7


def test_a_tokenizer_learns_from_the_frames_that_are_not_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, stored = 40, list[int]()

    class Counted(ReplayBuffer):
        def extend(self, observations: Any, actions: torch.Tensor, *given: Any, **more: Any) -> None:
            stored.append(len(actions))
            super().extend(observations, actions, *given, **more)

    monkeypatch.setattr(tokens, "ReplayBuffer", Counted)
    frames, ends = torch.randint(256, (steps, 3, 64, 64), dtype=torch.uint8), np.arange(steps) % 12 == 11
    played = frames, torch.zeros(steps).long(), np.zeros(steps, np.float32), ends, 6
    found, loss = tokens.tokens_of("atari/Pong", "rem", ["training.tokenizer.updates_first_epoch=1"], played, seed=0)
    assert found.shape == (steps, 16) and loss > 0
    assert stored == [12, 12, 6] and sum(stored) == rewards.held_out_from(steps)


def test_a_task_is_played_and_a_row_printed_for_each_set_of_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tokens, "LEARNED", 6)
    value = "model.tokenizer.loss.ssim.weight=0.5 training.tokenizer.learning_rate=0.01"
    tokens.main(["atari/Pong", "--steps", "100", "--updates", "2", "--with", value])
    head, shipped, changed = capsys.readouterr().out.splitlines()
    assert "area under the curve" in head and shipped.endswith("as shipped") and changed.endswith(value)
    assert shipped.split()[1] != changed.split()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atari/Pogn"], "unknown task"),
        (["atari/Pong", "--steps", "5"], "--steps must be at least 100"),
        (["atari/Pong", "--steps", "100", "--method", "delta_iris"], "are not those of single frames"),
        (["atari/Pong", "--steps", "100", "--with", "model.tokens=1"], "model.tokens"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tokens.main(arguments)
