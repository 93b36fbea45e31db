"""Games of all methods: worlds, players, memory, messages. Recordings: test_recorder.py."""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.viewer.support import METHODS, NOTHING, play, session, tell, trained
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.imagined_world import published_memory
from tokenworlds.errors import UserError
from tokenworlds.viewer import drawing
from tokenworlds.viewer import session as viewer
from tokenworlds.viewer.frame import Frame, Input
from tokenworlds.viewer.session import WORLDS, Options, Session

PANELS = ["original", "input", "reconstruction", "tokens", "imagined", "imagined tokens"]
RIGHT = Input(frozenset({"d"}))


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def game(tmp_path: Path) -> Iterator[Session]:
    played = session("iris", tmp_path)
    yield played
    played.close()


def films(frames: list[Frame]) -> list[Any]:
    return [[(panel.name, panel.picture.tobytes()) for panel in frame.panels] for frame in frames]


def script(folder: Path, method: str, world: str, seed: int = 3) -> list[Frame]:
    """A game with changes of world, player and temperature."""
    played = session(method, folder, world=world, seed=seed)
    tell(played, {"set": "panels", "value": PANELS})
    frames = play(played, 4)
    tell(played, {"set": "player", "value": "human"}, {"do": "branch"})
    frames += play(played, 3, RIGHT)
    tell(played, {"do": "back"}, {"set": "player", "value": "agent"}, {"set": "temperature", "value": 0})
    frames += play(played, 3)
    tell(played, {"set": "world", "value": "both"})
    frames += play(played, 3)
    played.close()
    return frames


def test_the_same_seed_inputs_and_messages_make_the_same_film(method: str, world: str, tmp_path: Path) -> None:
    one, other = (script(tmp_path, method, world) for _ in range(2))
    assert films(one) == films(other) and [frame.status for frame in one] == [frame.status for frame in other]
    for frame in one:
        json.dumps(frame.status, allow_nan=False)


def test_another_seed_makes_another_film(tmp_path: Path) -> None:
    assert films(script(tmp_path, "iris", "both")) != films(script(tmp_path, "iris", "both", seed=4))


def test_every_panel_is_a_picture(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path, world="both")
    names = [panel["name"] for panel in played.controls()["panels"] if panel["available"]]
    tell(played, {"set": "panels", "value": names})
    *_, frame = play(played, 3)
    assert [panel.name for panel in frame.panels] == names
    for panel in frame.panels:
        assert panel.picture.dtype == np.uint8 and panel.picture.ndim == 3 and panel.picture.shape[2] == 3
        assert panel.zoom >= 1
    played.close()


def test_the_first_imagined_frames_are_those_of_imagine(method: str, tmp_path: Path) -> None:
    """With the same context, policy state and uniforms. Ends do not stop ``imagine``; compared until one comes."""
    played = session(method, tmp_path, world="world model", memory=None)
    play(played, 1)
    agent, horizon = played._agent, 2
    segments = played._real.segments(agent.context_frames)
    assert segments.mask.shape[1] == agent.context_frames
    state = agent.policy.initial_state(1)
    with torch.no_grad():
        for t in range(agent.context_frames - 1):
            seen = agent.observe({name: values[:, t] for name, values in segments.observations.items()})
            state = agent.policy(seen, state)[2]
            state = agent.policy.observe_action(segments.actions[:, t], state)
    draws = agent.policy.actions.draws
    noise = ImaginationNoise.sample(horizon + 1, agent.num_tokens, 1, torch.Generator().manual_seed(0), draws)
    generators = {"player": played._player.generator, "world": played._dream.imagined.generator}
    saved = {name: generator.get_state() for name, generator in generators.items()}
    for t in range(horizon):
        noise.actions[t] = torch.rand(draws, 1, generator=generators["player"])
        uniforms = torch.rand(2 + agent.num_tokens, 1, generator=generators["world"])
        noise.rewards[t], noise.terminations[t], noise.tokens[t] = uniforms[0], uniforms[1], uniforms[2:]
    expected = imagine(agent, agent.context(segments), state, noise)
    for name, generator in generators.items():
        generator.set_state(saved[name])
    for t in range(horizon):
        (frame,) = play(played, 1)
        assert np.array_equal(frame.status["action"], expected.actions[0, t])
        found = agent.observe_imagined(played._dream.imagined.state)
        torch.testing.assert_close(found, expected.observations[:, t + 1], rtol=0, atol=0)
        assert frame.status["predicted_end"] == bool(expected.terminations[0, t])
        if frame.status["end"]:
            break
    played.close()


def test_the_policy_observes_every_frame_also_while_a_human_plays(method: str, tmp_path: Path) -> None:
    """Its value is that of an agent that has taken the same actions."""
    played = session(method, tmp_path, player="human")
    play(played, 6, RIGHT)
    values = played._player.value
    agent, segments = played._agent, played._real
    state = agent.policy.initial_state(1)
    fresh = session(method, tmp_path)
    fresh._real.reset()
    with torch.no_grad():
        for action in [*segments.actions(), None]:
            _, outputs, state = agent.policy(fresh._real.policy_input(), state)
            if action is not None:
                taken = torch.as_tensor(action[None])
                state = agent.policy.observe_action(taken, state)
                fresh._real.step(taken)
    assert values == float(agent.policy.values.mean(outputs))
    played.close()
    fresh.close()


def test_the_real_game_waits_while_its_world_model_dreams(method: str, tmp_path: Path) -> None:
    dreamt, straight = (session(method, tmp_path, player="human") for _ in range(2))
    play(dreamt, 3, RIGHT)
    tell(dreamt, {"do": "branch"})
    (dream,) = play(dreamt, 1, RIGHT)
    assert dream.status["world"] == "world model" and [panel.name for panel in dream.panels] == ["imagined"]
    assert dream.status["step"] == 1
    tell(dreamt, {"do": "back"})
    play(straight, 3, RIGHT)
    (real,), (expected,) = play(dreamt, 1, RIGHT), play(straight, 1, RIGHT)
    assert films([real]) == films([expected])
    for name in ("step", "return", "value", "entropy"):
        assert real.status[name] == expected.status[name]


def test_a_dream_may_begin_at_the_first_frame_of_an_episode(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path)
    play(played, 1)
    tell(played, {"do": "branch"}, {"set": "player", "value": "human"})
    for _ in range(3 * published_memory(played._trained.config)):
        (frame,) = play(played, 1, RIGHT)
        played._is_over = False
    assert frame.status["world"] == "world model" and frame.status["memory_used"] <= frame.status["memory"]


def test_a_dream_that_ends_leads_back_to_the_real_game(tmp_path: Path) -> None:
    played = session("iris", tmp_path)
    play(played, 3)
    tell(played, {"do": "branch"})
    play(played, 1)
    played._is_over = True
    (frame,) = play(played, 1)
    assert (frame.status["world"], frame.status["step"]) == ("environment", 2)
    assert "real game" in frame.status["message"]


RESET, PAUSE, STEP, BRANCH, BACK = ({"do": name} for name in ("reset", "pause", "step", "branch", "back"))
BESIDE = {"set": "world", "value": "both"}
OVER: dict[str, list[Any]] = {  # messages, and steps of the clock between them
    "before the first step": [PAUSE, BRANCH, 1],
    "before the first step, both": [PAUSE, BESIDE, 1],
    "reset and branch at once": [1, PAUSE, 1, RESET, PAUSE, BRANCH, PAUSE, 1],
    "reset, branch and pause at once": [1, RESET, BRANCH, PAUSE, 1],
    "at the last frame": [2, "over", PAUSE, BRANCH, 1],
    "at the last frame, both": [2, "over", PAUSE, BESIDE, 1],
    "after a first dream": [2, BRANCH, 2, BACK, 2, "over", PAUSE, BESIDE, 1],
}


@pytest.mark.parametrize("case", OVER)
def test_a_change_of_world_while_an_episode_is_over_takes_effect_with_the_next(case: str, tmp_path: Path) -> None:
    played = session("iris", tmp_path)
    tell(played, {"set": "panels", "value": PANELS})
    for part in OVER[case]:
        if isinstance(part, int):
            frames = play(played, part)
        elif part == "over":
            played._is_over = True
        else:
            tell(played, part)
    chosen = frames[-1].status["world"]
    if played._is_over:
        assert [panel.name for panel in frames[-1].panels] == PANELS[:4]
        tell(played, STEP)
        frames = play(played, 1)
    assert chosen != "environment" and frames[-1].status["world"] == chosen
    assert [panel.name for panel in frames[-1].panels] == (PANELS if chosen == "both" else PANELS[4:])
    assert frames[-1].status["step"] == 0 and frames[-1].status["memory_used"] is not None
    played.close()


def test_a_game_is_shown_before_its_first_step(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path)
    tell(played, {"set": "panels", "value": PANELS}, PAUSE)
    (frame,) = play(played, 2)
    assert [panel.name for panel in frame.panels] == PANELS[:4]
    tell(played, STEP)
    (first,) = play(played, 1)
    assert films([frame]) == films([first])


def test_side_by_side_begins_at_the_same_frame_and_measures_the_drift(tmp_path: Path) -> None:
    played = session("m3", tmp_path, world="both")
    *_, frame = play(played, 3)
    drift = frame.status["drift"]
    assert list(drift) == ["image PSNR", "vector distance", "token equal", "token_2d equal"]
    assert 0 < drift["image PSNR"] < 99 and 0 <= drift["token equal"] <= 1
    assert [f"{name} {value:.2f}" for name, value in drift.items()] == drawing.summary(frame.status)[-4:]
    tell(played, BACK)
    (alone,) = play(played, 1)
    assert not any(alone.status["drift"].values())
    assert len(drawing.summary(alone.status)) == len(drawing.summary(frame.status)), "a film of another size"
    tell(played, BESIDE)
    play(played, 1)
    played._dream.observation = played._real.observation
    exact = {"image PSNR": 99.0, "vector distance": 0.0, "token equal": 1.0, "token_2d equal": 1.0}
    assert played._status()["drift"] == exact


@pytest.mark.parametrize("world", ["both", "world model"])
def test_a_dream_may_begin_later_in_an_episode(world: str, method: str, tmp_path: Path) -> None:
    least = trained(method).agent.context_frames - 1
    for after in (0, least + 3):
        played = session(method, tmp_path, world=world, dream_after=after)
        play(played, 1)
        assert (played._real.steps, played._dream.steps) == (max(least, after), 0)
        played.close()


def test_a_dream_begins_in_an_episode_that_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of earlier ones do not count."""
    monkeypatch.setattr(viewer, "ATTEMPTS", 3)
    agent = trained("iris")
    agent.config.environment.test.max_episode_steps = 6
    played = Session(agent, Options(tmp_path, world="both", dream_after=5))
    play(played, 1)
    assert played._real.steps == 5
    played.close()
    with pytest.raises(UserError, match="3 episodes ended before 7 steps; let dreams begin earlier"):
        play(Session(agent, Options(tmp_path, world="both", dream_after=7)), 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_memory_restarts_and_play_goes_on(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path, world="world model")
    memory = published_memory(played._trained.config)
    least = played._agent.context_frames + 1
    used = []
    for _ in range(4 * memory):
        (frame,) = play(played, 1)
        played._is_over = False  # ends of an untrained world model are chance
        used.append((frame.status["memory_used"], frame.status["restarted"]))
    assert max(count for count, _ in used) <= memory and any(restarted for _, restarted in used)
    tell(played, {"set": "memory", "value": least})
    for _ in range(3 * least):
        (frame,) = play(played, 1)
        played._is_over = False
    assert frame.status["memory"] == least and frame.status["memory_used"] <= least
    with pytest.raises(UserError, match="memory cannot be 1;"):
        played.command({"set": "memory", "value": 1})


def test_greedy_play_does_not_draw(tmp_path: Path) -> None:
    def greedy(seed: int) -> list[Any]:
        played = Session(
            trained("iris"), Options(tmp_path, world="world model", policy_temperature=0, temperature=0, seed=seed)
        )
        played._real._first_seed = 0
        return films(play(played, 5))

    assert greedy(1) == greedy(2)


def test_pause_step_and_reset(game: Session) -> None:
    play(game, 3)
    tell(game, {"do": "pause"})
    (paused,) = play(game, 5)
    assert paused.status["paused"] and paused.status["step"] == 2
    tell(game, {"do": "step"})
    (stepped,) = play(game, 5)
    assert stepped.status["paused"] and stepped.status["step"] == 3
    tell(game, {"do": "reset"})
    (reset,) = play(game, 5)
    assert (reset.status["step"], reset.status["episode"]) == (0, 1)
    tell(game, {"do": "pause"})
    assert len(play(game, 5)) == 5


def test_a_game_without_an_idle_action_waits_for_a_key(game: Session) -> None:
    tell(game, {"do": "switch"})
    (first,) = play(game, 5)
    assert first.status["player"] == "human" and first.status["step"] == 0
    (moved,) = play(game, 1, RIGHT)
    assert moved.status["step"] == 1 and moved.status["action_label"] == "right"
    tell(game, {"do": "switch"})
    assert len(play(game, 5)) == 5


def test_an_episode_that_ends_is_followed_by_another(tmp_path: Path) -> None:
    played = session("iris", tmp_path, player="human")
    frames = play(played, 120, Input(frozenset({"d"})))  # turns until the world's limit of steps
    ends = [index for index, frame in enumerate(frames) if frame.status["end"]]
    assert ends and frames[ends[0] + 1].status["step"] == 0 and frames[ends[0] + 1].status["episode"] == 1


NONSENSE: list[Any] = [
    None, 1, "reset", [], {}, {"do": 1}, {"do": "fly"}, {"do": "reset", "x": 1}, {"set": "fps"},
    {"set": "fps", "value": 0}, {"set": "fps", "value": 10**400}, {"set": "fps", "value": 3.5},
    {"set": "fps", "value": True},
    {"set": "temperature", "value": float("nan")}, {"set": "temperature", "value": "hot"},
    {"set": "world", "value": []},
    {"set": "panels", "value": "original"}, {"set": "panels", "value": ["nothing"]}, {"set": "panels", "value": [[]]},
    {"set": "panels", "value": ["input"] * 99}, {"set": "nothing", "value": 1}, {"set": "header", "value": 1},
    {"set": "player", "value": "x" * 10**5},
]  # fmt: skip


@pytest.mark.parametrize("message", NONSENSE, ids=lambda message: repr(message)[:40])
def test_nonsense_is_refused_in_one_sentence_and_changes_nothing(message: Any, game: Session) -> None:
    with pytest.raises(UserError) as refused:
        game.command(message)
    assert len(str(refused.value)) < 400 and str(refused.value)[-1] in ".?"
    (frame,) = play(game, 1)
    assert frame.status == play(session("iris", Path("unused")), 1)[0].status


def test_too_many_messages_are_refused(game: Session) -> None:
    with pytest.raises(UserError, match="more than 1000 messages"):
        tell(game, *[{"do": "pause"}] * 1001)


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"memory": 1},
        {"temperature": -1.0},
        {"world": "nowhere"},
        {"policy_temperature": 99.0},
        {"dream_after": -1},
    ],
)
def test_options_out_of_their_ranges_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(UserError, match=f"{name} cannot be"):
        session("iris", tmp_path, **options)


def test_controls_are_plain_and_name_what_there_is(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path)
    controls = json.loads(json.dumps(played.controls()))
    (frame,) = play(played, 1)
    assert {setting["name"] for setting in controls["settings"]} <= frame.status.keys()
    assert {panel["name"] for panel in controls["panels"]} >= {panel.name for panel in frame.panels}
    keys = [entry["key"] for entry in controls["keys"]]
    assert len(keys) == len(set(keys)), "a key with two meanings"
    for command in controls["commands"]:
        played.command({"do": command["do"]})
    assert controls["actions"]["meanings"][2] == "forward"


def test_memory_is_flat(tmp_path: Path) -> None:
    played = session("iris", tmp_path, world="world model")
    play(played, 100)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        played.tick(NOTHING)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000
