"""Any Gymnasium environment: what its spaces are read as, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from tests.envs import worlds
from tests.envs.support import content, play
from tokenworlds.config import EnvironmentConfig, load
from tokenworlds.config.spaces import Kind, kind
from tokenworlds.envs import (
    ContinuousActions,
    DiscreteActions,
    GridSpec,
    ImageSpec,
    MultiDiscreteActions,
    Recorded,
    TokenSpec,
    VectorSpec,
    check_task,
    known_tasks,
    make,
)
from tokenworlds.envs.gym import AnyEnvironment
from tokenworlds.errors import UserError

SPOT, BAG = (f"gym/tests.envs.worlds:{name}-v0" for name in ("Spot", "Bag"))
CART, PENDULUM, LAKE = "gym/CartPole-v1", "gym/Pendulum-v1", "gym/FrozenLake-v1"
CONFIG = EnvironmentConfig(size=16, noop_max=0)
BYTES, UNIT = {"low": 0, "high": 255, "dtype": np.uint8}, {"low": 0, "high": 1, "dtype": np.float32}


class Still(gymnasium.Env[Any, Any]):
    """Shows a sample of a space, and remembers the last action."""

    def __init__(self, observation: Any = None, actions: Any = None, shown: Any = None) -> None:
        self.observation_space = spaces.Discrete(3) if observation is None else observation
        self.action_space = spaces.Discrete(2) if actions is None else actions
        self.observation_space.seed(0)
        self.shown = self.observation_space.sample() if shown is None else shown

    def reset(self, **_: Any) -> Any:
        return self.shown, {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.action = action
        return self.shown, 1, np.False_, np.False_, {}


def shown(observation: Any, value: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Specification by modality, and what an agent gets."""
    env = Recorded(AnyEnvironment(Still(observation, shown=value), 16))
    seen = env.reset(seed=0)[0]
    for name, part in env.environment_spec.observation.items():
        assert (seen[name].shape, seen[name].dtype, seen[name].flags.c_contiguous) == (part.shape, part.dtype, True)
    return env.environment_spec.observation, seen


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(-1, 1, (3,), np.float64), {"vector": VectorSpec(3)}),
        (spaces.Box(-np.inf, np.inf, ()), {"vector": VectorSpec(1)}),
        (spaces.Box(0, 255, (2, 3), np.uint8), {"vector": VectorSpec(6)}),
        (spaces.Box(-5, 5, (2, 2), np.int32), {"vector": VectorSpec(4)}),
        (spaces.Box(shape=(128,), **BYTES), {"vector": VectorSpec(128)}),
        *((spaces.Box(shape=shape, **BYTES), {"image": ImageSpec(16, 16)}) for shape in [(20, 12), (20, 12, 1)]),
        *((spaces.Box(shape=shape, **BYTES), {"image": ImageSpec(16, 16)}) for shape in [(20, 12, 3), (3, 20, 12)]),
        (spaces.Box(shape=(1, 9, 9), **UNIT), {"image": ImageSpec(16, 16)}),
        (spaces.Box(shape=(9, 9), **UNIT), {"vector": VectorSpec(81)}),
        (spaces.Discrete(300), {"token": TokenSpec(1, 300)}),
        (spaces.MultiDiscrete([2, 5]), {"token": TokenSpec(2, 5)}),
        (spaces.MultiDiscrete([[2, 5], [2, 2]]), {"token": TokenSpec(4, 5)}),
        (spaces.MultiDiscrete([[3] * 4] * 2), {"token_2d": GridSpec(2, 4, (3,))}),
        (spaces.MultiBinary(4), {"token": TokenSpec(4, 2)}),
        (spaces.Box(0, 1, (2, 5, 3), np.bool_), {"token_2d": GridSpec(2, 5, (2, 2, 2))}),
        (
            spaces.Tuple((spaces.Box(shape=(8, 8), **BYTES), spaces.Box(shape=(9, 9), **BYTES))),
            {"image": ImageSpec(16, 16), "image_2": ImageSpec(16, 16)},
        ),
    ],
    ids=str,
)
def test_a_space_is_read_as_modalities(space: Any, expected: dict[str, Any]) -> None:
    assert shown(space)[0] == expected


def test_dictionaries_are_flattened_and_parts_of_a_kind_are_joined_in_their_order() -> None:
    env = make(BAG, CONFIG)
    spec = env.environment_spec
    assert spec.observation == {
        "image": ImageSpec(16, 16),
        "vector": VectorSpec(1),
        "token": TokenSpec(4, 9),
        "token_2d": GridSpec(2, 4, (2,)),
    }
    assert spec.actions == MultiDiscreteActions((2, 2, 2)) and spec.achievements == ()
    env.reset(seed=0)
    for _ in range(2):
        seen = env.step(np.array([0, 1, 0]))[0]
    place = int(seen["vector"][0])
    assert place >= 2
    assert seen["token"].tolist() == [3 - place, place % 2, place % 3, place]  # left, then signs, counted from zero
    assert seen["token_2d"].reshape(2, 4).argmax(axis=1).tolist() == [place, place]
    assert (seen["image"] == round(255 * place / 4)).all()


def test_pictures_are_resized_as_elsewhere_and_grey_ones_have_three_equal_channels() -> None:
    frame = np.zeros((32, 32), np.uint8)
    frame[:, :16] = 200
    seen = shown(spaces.Box(shape=(32, 32), **BYTES), frame)[1]["image"]
    assert (seen == seen[:1]).all() and (seen[:, :, :7] == 200).all() and (seen[:, :, 9:] == 0).all()
    coloured = np.zeros((3, 16, 16), np.uint8)
    coloured[1] = 9
    assert (shown(spaces.Box(shape=(3, 16, 16), **BYTES), coloured)[1]["image"] == coloured).all()


def test_numbers_arrive_in_the_order_of_the_array() -> None:
    space = spaces.Box(-9, 9, (2, 2), np.float64)
    assert shown(space, np.array([[1, 2], [3, 4]], np.float64).T)[1]["vector"].tolist() == [1, 3, 2, 4]


@pytest.mark.parametrize(
    ("space", "spec", "action", "expected"),
    [
        (spaces.Discrete(3, start=5), DiscreteActions(3, ("action 0", "action 1", "action 2")), 2, 7),
        (spaces.MultiDiscrete([[2, 3]], start=[[1, 1]]), MultiDiscreteActions((2, 3)), [0, 2], [[1, 3]]),
        (spaces.MultiBinary(2), MultiDiscreteActions((2, 2)), [0, 1], [0, 1]),
        (spaces.Box(-2, 6, (2, 1), np.float32), ContinuousActions(2), [-1, 0.5], [[-2], [4]]),
        (spaces.Box(0, 1, (1,), np.float64), ContinuousActions(1), [3.0], [1]),
    ],
    ids=str,
)
def test_actions_become_those_of_the_environment(space: Any, spec: Any, action: Any, expected: Any) -> None:
    still = Still(actions=space)
    env = Recorded(AnyEnvironment(still, 16))
    assert env.environment_spec.actions == spec
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(np.asarray(action, spec.dtype))
    assert np.asarray(still.action).tolist() == expected
    assert [type(part) for part in (reward, terminated, truncated)] == [float, bool, bool]


@pytest.mark.parametrize(
    ("observation", "actions", "message"),
    [
        (spaces.Text(3), None, "^an observation is Text.*; known are Box, Discrete"),
        (spaces.Dict({"a": spaces.Tuple([spaces.Sequence(spaces.Discrete(2))])}), None, "^a.0: an observation is Sequ"),
        (spaces.Box(shape=(9, 9, 4), **BYTES), None, r"a picture has the shape \(9, 9, 4\).*TransformObservation"),
        (spaces.Dict({}), None, "^an observation holds nothing"),
        (
            spaces.Dict({"a": spaces.Box(-1, 1, (0,))}),
            None,
            r"^a: an observation is Box.*\(0,\).*, which holds nothing",
        ),
        (spaces.Discrete(10**6), None, "^an observation has 1,000,000 categories.*at most 16,384 are taken: show them"),
        (spaces.Box(-1, 1, (40, 50)), None, "an observation has 2,000 numbers.*at most 1,024"),
        (None, spaces.Box(-np.inf, 1, (2,)), "its actions are Box.*finite bounds"),
        (None, spaces.Box(0, 9, (2,), np.int64), "its actions are Box"),
        (None, spaces.Tuple([spaces.Discrete(2)]), "its actions are Tuple"),
    ],
)
def test_spaces_that_no_agent_can_use_are_one_sentence(observation: Any, actions: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        AnyEnvironment(Still(observation, actions), 16)
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize(
    ("space", "shown", "message"),
    [
        (spaces.Box(-1, 1, (3,)), [np.nan, 0, 0], "Still shows what its observation_space.*: vector has NaN or infini"),
        (spaces.Box(-1, 1, (3,)), [0.0, 0.0], r"vector has the shape \(2,\); mend one"),
        (spaces.Box(-1, 1, (3,)), "none", "vector cannot be read .UFuncTypeError"),
        (spaces.Discrete(4, start=1), 5, "token has categories out of range; the least is 0, the greatest 3"),
        (spaces.Discrete(300), 70_000, "token has categories out of range"),  # more than its type holds
        (spaces.MultiDiscrete(np.full((2, 3), 4)), np.full((2, 3), -1), "token_2d has categories out of range"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (3,))}), {}, "vector cannot be read .KeyError: 'a'"),
    ],
)
def test_observations_outside_their_space_are_one_sentence(space: Any, shown: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        AnyEnvironment(Still(space, shown=shown), 16).reset()
    assert len(str(error.value)) <= 300


@pytest.mark.parametrize(("reward", "is_one"), [(np.array([2]), True), (True, True), (None, False), (np.inf, False)])
def test_a_reward_is_a_finite_number(reward: Any, is_one: bool) -> None:
    class Paying(Still):
        def step(self, action: Any) -> Any:
            return self.shown, reward, False, False, {}

    env = AnyEnvironment(Paying(), 16)
    with (
        nullcontext() if is_one else pytest.raises(UserError, match=f"^the environment Paying gave the reward {reward}")
    ):
        assert env.step(0)[1] in (1.0, 2.0)


def test_an_environment_of_the_older_interface_is_one_sentence() -> None:
    class Old(Still):
        def reset(self) -> Any:
            return self.shown

    with pytest.raises(UserError, match="its reset lacks seed or options"):
        AnyEnvironment(Old(), 16)

    class Older(Still):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(2)  # of two numbers, which could be taken for observation and info

        def step(self, action: Any) -> Any:
            return self.shown, 1.0, False, {}

    env = AnyEnvironment(Older(), 16)
    with pytest.raises(UserError, match=r"Older is of the interface .*: reset must return \(observation, info\)"):
        env.reset()
    with pytest.raises(UserError, match=r"Older is of the interface .*: step must return"):
        env.step(0)


@pytest.fixture
def registered() -> Iterator[str]:
    """The name of an environment that cannot be made."""

    def fail() -> Any:
        raise ImportError("the simulator is not installed")

    gymnasium.register("Failing-v0", fail)
    yield "gym/Failing-v0"
    del gymnasium.registry["Failing-v0"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            "gym/CartPol-v1",
            r"unknown task 'gym/CartPol-v1': did you mean gym/CartPole-v1.*; one of another package is gym/",
        ),
        (
            "gym/nowhere:Mine-v0",
            "^gym/nowhere:Mine-v0: the module nowhere cannot be imported .*No module named 'nowhere'",
        ),
        (
            "gym/tests.envs.worlds:Spto-v0",
            r"unknown task 'gym/tests.envs.worlds:Spto-v0': did you mean gym/tests.envs.worlds:Spot-v0",
        ),
        ("gym/../../x", "is no Gymnasium environment: write gym/<id> or gym/<module>:<id>"),
        ("gym/Failing-v0", r"^gym/Failing-v0 cannot be made \(ImportError: the simulator is not installed\)"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(task: str, message: str, registered: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(task, CONFIG)
    assert len(str(error.value)) <= 300


def test_a_name_is_checked_without_making_the_environment(registered: str) -> None:
    assert check_task(registered) == "gym"
    assert not any(task.startswith("gym/") for task in known_tasks())


@pytest.mark.parametrize(
    ("task", "expected"),
    [(CART, Kind.vector), (PENDULUM, Kind.vector), (LAKE, Kind.symbols), (SPOT, Kind.image), (BAG, Kind.mixed)],
)
def test_kinds_of_environments(task: str, expected: Kind) -> None:
    assert kind(task) is expected


def test_actions_are_refused_before_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings, which preflight reads, and not when the environment of the training is made."""
    monkeypatch.setitem(gymnasium.registry, "Free-v0", EnvSpec("Free-v0", lambda: Still(None, spaces.Text(3))))
    with pytest.raises(UserError, match="gym/Free-v0: its actions are Text"):
        load(["method=m3", "task=gym/Free-v0", "scale=smoke"])


@pytest.mark.parametrize(("given", "steps"), [(None, 12), (5, 5), (100, 12)])
def test_the_time_limit_is_the_registered_one_or_a_shorter_one(given: int | None, steps: int) -> None:
    env = make(SPOT, EnvironmentConfig(size=16, noop_max=0, max_episode_steps=given))
    env.reset(seed=0)
    ends = []
    while not ends or not any(ends[-1]):
        ends.append(env.step(0)[2:4])
    assert len(ends) == steps and ends[-1] == (False, True)


@pytest.mark.parametrize("task", [CART, PENDULUM, LAKE, SPOT, BAG])
def test_an_environment_is_restored_bit_for_bit(task: str) -> None:
    env, other = make(task, CONFIG), make(task, CONFIG)
    env.reset(seed=3)
    actions = env.environment_spec.actions.random(np.random.default_rng(0), 90)
    seen = play(env, actions[:50])
    assert content(other.restore(env.state())) == seen[-1][0]
    assert play(env, actions[50:]) == play(other, actions[50:])


def test_randomness_that_the_seed_does_not_reach_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(range(1000))
    monkeypatch.setattr(worlds.Spot, "_observation", lambda self: np.full((20, 24), next(draws), np.uint8))
    env = make(SPOT, CONFIG)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(UserError, match=r"Spot shows something else .*reset.*runtime.resume=never") as error:
        env.restore(env.state())
    assert len(str(error.value)) <= 300


def test_pictures_are_drawn_where_the_environment_offers_them(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(SPOT, CONFIG)
    env.reset(seed=0)
    assert env.render().shape == (20, 24, 3)
    monkeypatch.setattr(worlds.Spot, "metadata", {"render_modes": []})
    env = make(SPOT, CONFIG)
    env.reset(seed=0)
    with pytest.raises(UserError, match="Spot has no render mode rgb_array"):
        env.render()


def test_nothing_is_printed_and_torch_is_not_imported() -> None:
    program = (
        "import sys; from tokenworlds.config import *; from tokenworlds.envs import *;"
        f"load(['method=m3', 'task={CART}', 'scale=smoke']); env = make('{CART}', EnvironmentConfig());"
        "env.reset(seed=0); assert 'torch' not in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
