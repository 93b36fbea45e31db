"""The benchmark of what habits score without looking."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from benchmarks import habits
from tokenworlds.errors import UserError


class Lamp(gymnasium.Env[Any, Any]):
    """A game of 12 steps that rewards the second of its three actions with 5."""

    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.step_number = 0
        self.taken: list[int] = []
        return None, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        self.taken.append(action)
        return None, 5.0 * (action == 1), False, self.step_number == 12, {}


def test_scores_rewards_and_steps_are_those_of_the_game() -> None:
    chosen = habits.policies(["a", "b", "c"], hold=4, noise=0.0)
    assert [*chosen] == ["random", "random, held 4 steps", "a alone", "b alone", "c alone"]
    assert habits.play(Lamp(), chosen["b alone"], 2, seed=0) == [(60.0, 12, 12)] * 2
    assert habits.play(Lamp(), chosen["c alone"], 1, seed=0) == [(0.0, 0, 12)]


def test_an_action_is_held_and_noise_is_a_share_of_the_steps() -> None:
    game = Lamp()
    habits.play(game, habits.policies(["a", "b", "c"], hold=4, noise=0.0)["random, held 4 steps"], 1, seed=1)
    assert all(len({*game.taken[start : start + 4]}) == 1 for start in (0, 4, 8)) and len({*game.taken}) > 1
    noisy = habits.policies(["a", "b", "c"], hold=1, noise=0.3)["a alone"]
    generator = np.random.default_rng(0)
    taken = [noisy(generator, step, 0) for step in range(4000)]
    assert np.mean(np.array(taken) != 0) == pytest.approx(0.3 * 2 / 3, abs=0.02)


def test_the_best_actions_follow_the_random_policies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(habits, "make", lambda *_: Lamp())
    habits.main(["atari/Pong", "--games", "3"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert "score" in head and len(rows) == 2 + 3
    assert [row.split()[1] for row in rows[:2]] == ["random", "random,"] and "action 1 alone" in rows[2]
    scores = [float(row.split()[-4]) for row in rows[2:]]
    assert scores == sorted(scores, reverse=True) and scores[0] > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atari/Pogn"], "unknown task"),
        (["dmc/walker-run"], "no single discrete action|settings"),
        (["atari/Pong", "--games", "0"], "--games and --hold must be at least 1"),
        (["atari/Pong", "--noise", "2"], "--noise from 0 to 1"),
    ],
)
def test_what_cannot_be_played_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        habits.main(arguments)
