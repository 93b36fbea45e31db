"""A game that front ends step and show: agent or human, in the environment, in the world model, or in both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.errors import UserError, excerpt
from tokenworlds.loading import TrainedAgent
from tokenworlds.rng import RandomStreams
from tokenworlds.training.media import bytes_of
from tokenworlds.viewer import drawing
from tokenworlds.viewer.base import BaseSession, Choice, Command, Flag, Number, Several
from tokenworlds.viewer.frame import Frame, Input
from tokenworlds.viewer.keys import keyboard
from tokenworlds.viewer.player import Player
from tokenworlds.viewer.recorder import LIMIT, Facts, Recorder, Track
from tokenworlds.viewer.worlds import FEWEST, DreamWorld, RealWorld, World

ENVIRONMENT, MODEL, BOTH = WORLDS = ("environment", "world model", "both")
AGENT, HUMAN = PLAYERS = ("agent", "human")
ORIGINAL, INPUT, RECONSTRUCTION = "original", "input", "reconstruction"
IMAGINED, TOKENS, IMAGINED_TOKENS = "imagined", "tokens", "imagined tokens"
REAL_PANELS = (ORIGINAL, INPUT, RECONSTRUCTION)
DELTA_PANELS = ("no delta tokens", "other delta tokens")
DREAM_PANELS = (IMAGINED, IMAGINED_TOKENS)
HOTTEST = 3.0  # temperature
SPOKEN_SECONDS = 4  # that a message stays
LARGEST_SEED = 2**32 - 1  # as of a run
LATEST_DREAM = 10_000  # steps of the real game before it
UNANSWERED = "save or discard the last episode first."

COMMANDS = (
    Command("reset", "new episode", "Enter"),
    Command("pause", "pause or go on", "."),
    Command("step", "one step", "/"),
    Command("record", "start or stop recording", ","),
    Command("switch", "agent or human plays", "="),
    Command("branch", "dream on from here", "["),
    Command("back", "back to the real game", "]"),
    Command("save", "save the episode", "+"),
    Command("discard", "discard the episode", "-"),
)


ATTEMPTS = 100  # episodes, one of which has to be long enough for a dream to begin in it


@dataclass(frozen=True)
class Options:
    """Settings that a session begins with."""

    recordings: Path
    """Folder that recordings are written to."""
    world: str = ENVIRONMENT
    player: str = AGENT
    fps: int = 15
    reconstruction: bool = False
    """Whether original, input and reconstruction are shown."""
    panels: tuple[str, ...] | None = None
    """Names of pictures, instead of the usual ones."""
    header: bool = True
    height: int = drawing.HEIGHT
    """Pixels that a picture is enlarged to, about."""
    stacked: bool = False
    """Whether the pictures of a film are one above the other."""
    save_mode: bool = False
    """Whether to ask after each episode if it is to be saved."""
    policy_temperature: float = 1.0
    """Of the agent; 0 for its most likely actions."""
    temperature: float = 1.0
    """Of the world model; 0 for the most likely tokens."""
    memory: int | None = None
    """Frames that the world model remembers; None: as its method's paper says."""
    seed: int = 0
    dream_after: int = 0
    """Real steps of an episode before its dream begins, at least those of the frames that the world model needs."""


class Session(BaseSession):
    """The game of one trained agent. The same seed, inputs and messages make the same film.

    The agent's policy observes every frame, also while the human plays. The real game waits while its world model
    dreams on from one of its frames. A dream begins at a real frame, after as many real ones as its agent needs.

    Raises:
        UserError: an option is out of its range; the environment cannot be made.
    """

    def __init__(self, trained: TrainedAgent, options: Options) -> None:
        self._trained, self._agent, self._options = trained, trained.agent, options
        self._keyboard = keyboard(trained.config.task, trained.spec.actions)
        self._is_delta = isinstance(self._agent, DeltaAgent)
        has_tokens = self._agent.num_tokens > 0
        self._real_panels = (
            *REAL_PANELS,
            *(DELTA_PANELS if self._is_delta else ()),
            *((TOKENS,) if has_tokens else ()),
        )
        self._dream_panels = DREAM_PANELS if has_tokens else (IMAGINED,)
        super().__init__(
            (
                Choice("world", "world", WORLDS),
                Choice("player", "player", self._players),
                Number("fps", "steps a second", 1, 60, 1),
                Number("policy_temperature", "temperature of the agent, 0 for greedy", 0.0, HOTTEST, 0.05),
                Number("temperature", "temperature of the world model, 0 for greedy", 0.0, HOTTEST, 0.05),
                _memory(trained),
                Several("panels", "pictures", (*self._real_panels, *self._dream_panels)),
                Flag("header", "header"),
            ),
            COMMANDS,
        )
        extra = (INPUT, RECONSTRUCTION) if options.reconstruction else (INPUT,) if options.world == BOTH else ()
        panels = (ORIGINAL, *extra, IMAGINED) if options.panels is None else options.panels
        self._values: dict[str, Any] = {
            "world": options.world,
            "player": options.player,
            "fps": options.fps,
            "policy_temperature": options.policy_temperature,
            "temperature": options.temperature,
            "memory": max(published_memory(trained.config), trained.agent.context_frames + 1)
            if options.memory is None
            else options.memory,
            "panels": list(panels),
            "header": options.header,
        }
        for name, value in self._values.items():
            self._check(name, value)
        if not 0 <= options.seed <= LARGEST_SEED:
            raise UserError(f"the seed is {excerpt(options.seed)}; it must be 0 to {LARGEST_SEED}.")
        if not 0 <= options.dream_after <= LATEST_DREAM:
            raise UserError(f"dream_after cannot be {options.dream_after}: choose 0 to {LATEST_DREAM} steps.")
        streams = RandomStreams(options.seed, trained.device)
        self._real = RealWorld(trained, options.seed)
        self._no_drift = dict.fromkeys(drawing.drift(trained.spec, self._real.observation, self._real.observation))
        self._dream = DreamWorld(
            ImaginedWorld(self._agent, streams.torch("world model"), self._values["memory"], float(options.temperature))
        )
        self._player = Player(self._agent, streams.torch("player"))
        self._played = ENVIRONMENT  # the world that the episode runs in; where it is over, another may be chosen
        self._waiting: Player | None = None  # in the real game, while its world model dreams on from it
        self._has_branched = False  # the dream came out of a real game, to which its end leads back
        self._action: NDArray[Any] | None = None
        self._is_over, self._is_paused, self._steps_once, self._asks = True, False, False, False
        self._message, self._ticks, self._says_until = "", 0, 0
        self._recorder: Recorder | None = None
        self._finished: dict[str, Path] = {}
        self._film_on_request = False

    def controls(self) -> dict[str, Any]:
        config, missing = self._trained.config, self._missing
        names = (*self._real_panels, *self._dream_panels)
        common = super().controls()
        game = [{"key": key, "label": label, "message": None} for key, label in self._keyboard.labels.items()]
        return common | {
            "title": config.identity,
            "task": config.task,
            "method": config.method,
            "worlds": list(WORLDS),
            "players": list(self._players),
            "panels": [{"name": name, "available": name not in missing, "why": missing.get(name)} for name in names],
            "actions": self._keyboard.card(),
            "keys": game + common["keys"],
        }

    @property
    def _players(self) -> tuple[str, ...]:
        return PLAYERS if self._keyboard.labels else (AGENT,)

    @property
    def _missing(self) -> dict[str, str]:
        """Panels that cannot be shown here, and why."""
        return {} if self._real.why_undrawn is None else {ORIGINAL: self._real.why_undrawn}

    # Messages

    def _say(self, message: str) -> None:
        self._message, self._says_until = message, self._ticks + SPOKEN_SECONDS * self._values["fps"]

    def _do(self, name: str) -> None:
        try:
            getattr(self, f"_do_{name}")()
        except UserError as error:
            self._say(str(error))

    def _do_reset(self) -> None:
        if self._asks:
            raise UserError(UNANSWERED)
        self._is_over, self._steps_once = True, self._is_paused
        self._has_branched, self._waiting = False, None
        self._asks = self._options.save_mode and self._recorder is not None

    def _do_pause(self) -> None:
        self._is_paused = not self._is_paused

    def _do_step(self) -> None:
        self._is_paused = self._steps_once = True

    def _do_switch(self) -> None:
        players = self._players
        self._values["player"] = players[(players.index(self._values["player"]) + 1) % len(players)]

    def _do_branch(self) -> None:
        self._set("world", MODEL)

    def _do_back(self) -> None:
        self._set("world", ENVIRONMENT)

    def _do_record(self) -> None:
        if self._options.save_mode:
            raise UserError("every episode is recorded; save it when it has ended.")
        if self._recorder is None:
            self.record()
        else:
            self._stop_recording()

    def _do_save(self) -> None:
        self._answer(keep=True)

    def _do_discard(self) -> None:
        self._answer(keep=False)

    def _answer(self, *, keep: bool) -> None:
        if not self._asks:
            raise UserError("there is no episode to save or discard.")
        self._asks = False
        self._stop_recording(keep=keep)

    def _set(self, name: str, value: Any) -> None:
        if name == "world":
            self._choose_world(value)
            return
        self._values[name] = value
        match name:
            case "temperature":
                self._dream.imagined.temperature = float(value)
            case "memory":
                self._dream.imagined.memory = value

    def _choose_world(self, world: str) -> None:
        """Change the world: at once, or with the next episode where this one is over and no real game waits."""
        if self._asks:
            self._say(UNANSWERED)
        elif world != self._values["world"]:
            self._values["world"] = world
            if self._waiting is not None:
                self._player, self._waiting, self._is_over = self._waiting, None, False
            if not self._is_over:
                self._change_world(world)

    def _change_world(self, world: str) -> None:
        """Go on in another world: a dream begins at the frame of the real game, which waits for its return."""
        self._played = world
        if world != ENVIRONMENT:
            self._begin_dream()
            self._has_branched = True
        with self._recording():
            self._begin_tracks()

    # Steps

    def tick(self, input: Input) -> Frame | None:
        self._ticks += 1
        has_changed = self._take_messages()
        if self._asks or (self._is_paused and not self._steps_once):
            return self._frame() if has_changed else None
        self._steps_once = False
        if self._is_over:
            self._reset()
        else:
            action = self._choose(input)
            if action is None:
                return self._frame() if has_changed else None
            self._advance(action)
        frame = self._frame()
        if self._recorder is None:
            return frame
        with self._recording():
            self._film(self._recorder, frame)
        return replace(frame, status=self._status())

    def _reset(self) -> None:
        """The next episode; or the real game, if a dream that came out of it is over."""
        self._is_over, self._action = False, None
        if self._goes_back:
            self._choose_world(ENVIRONMENT)
            self._say("the dream is over; this is the real game again")
            return
        self._has_branched, self._waiting = False, None
        self._restart()
        self._played = self._values["world"]
        if self._played != ENVIRONMENT:
            self._play_before(max(self._agent.context_frames - 1, self._options.dream_after))
            self._begin_dream()
        with self._recording():
            if self._options.save_mode:
                self._recorder = Recorder.beneath(self._options.recordings, self._values["fps"])
            self._begin_tracks()

    def _play_before(self, steps: int) -> None:
        """Real steps of one episode, of the first that is long enough; of no more than ``ATTEMPTS``.

        Raises:
            UserError: none is as long as ``dream_after`` says.
        """
        for _ in range(ATTEMPTS):
            for _ in range(steps):
                self._step_real(self._player.sample(self._values["policy_temperature"]))
                if self._real.is_over:
                    self._restart()
                    break
            else:
                return
        if self._options.dream_after:
            raise UserError(f"{ATTEMPTS} episodes ended before {steps} steps; let dreams begin earlier (dream_after).")

    @property
    def _goes_back(self) -> bool:
        """Whether a real game waits for the end of the dream that came out of it."""
        return self._has_branched and self._waiting is not None

    def _restart(self) -> None:
        """The next real episode."""
        self._real.reset()
        self._player.restart()
        self._observe_real()

    def _observe_real(self) -> None:
        self._player.observe(self._real.policy_input())
        if self._recorder is not None or TOKENS in self._values["panels"]:
            self._real.read_tokens()

    def _begin_dream(self) -> None:
        """A dream from the current real frame on, which the policy has observed."""
        self._dream.begin(self._real.segments(self._agent.context_frames))
        if self._played == MODEL:
            self._waiting, self._player = self._player, copy(self._player)

    def _choose(self, input: Input) -> Tensor | None:
        """The action of whoever plays; None while the game waits for a key."""
        if self._values["player"] == AGENT:
            return self._player.sample(self._values["policy_temperature"])
        action = self._keyboard.action(input.keys, input.action)
        return None if action is None else torch.from_numpy(action[None]).to(self._trained.device)

    def _advance(self, action: Tensor) -> None:
        self._action = action.squeeze(0).cpu().numpy()
        if self._played != ENVIRONMENT:
            self._dream.step(action)
        if self._played == MODEL:
            self._player.observe_action(action)
            self._player.observe(self._dream.policy_input())
        else:
            self._step_real(action)
        self._is_over = self._world.is_over
        if self._recorder is not None:
            for name, world in self._running().items():
                self._recorder.tracks[name].step(
                    self._action, world.reward, world.is_terminated, world.observation, world.tokens
                )

    def _step_real(self, action: Tensor) -> None:
        self._real.step(action)
        self._player.observe_action(action)
        self._observe_real()

    @property
    def _world(self) -> World:
        """The world that the player is in."""
        return self._dream if self._played == MODEL else self._real

    def _running(self) -> dict[str, World]:
        """The worlds that are stepped, by their names in a recording."""
        worlds: dict[str, World] = {"": self._world}
        return worlds | {IMAGINED: self._dream} if self._played == BOTH else worlds

    # Recording

    def record(self, film: Path | None = None) -> None:
        """Record from the current frame on, by default into the folder of recordings.

        Raises:
            UserError: the file exists or cannot be written; of a given file also later, in ``tick`` and ``close``; or
                pictures were asked for that it would not show.
        """
        useless = [name for name in self._options.panels or () if name not in self._possible(self._values["world"])]
        if film is not None and useless:
            raise UserError(f"this film has no {useless[0]}; leave that panel out, or choose another mode.")
        fps, self._film_on_request = self._values["fps"], film is not None
        self._recorder = Recorder.beneath(self._options.recordings, fps) if film is None else Recorder(film, fps)
        if not self._is_over:
            self._begin_tracks()

    def _begin_tracks(self) -> None:
        """Follow the worlds that run from here on, the others no longer."""
        if self._recorder is None:
            return
        self._recorder.end()
        for name, world in self._running().items():
            if world is self._real:
                self._real.read_tokens()
            tokens = [] if world.tokens is None or self._is_delta else [world.tokens]
            self._recorder.tracks[name] = Track(self._facts(world), [world.observation], tokens)

    def _facts(self, world: World) -> Facts:
        """What an episode follows from: the seed of the real one and its actions up to here; in a dream, those before
        it, and the session's seed."""
        config, actions = self._trained.config, self._real.actions()
        facts: Facts = {
            "kind": "recording",
            "world": ENVIRONMENT if world is self._real else MODEL,
            "task": config.task,
            "identity": config.identity,
            "seed": self._real.seed,
            "session_seed": self._options.seed,
            "actions_before": json.dumps(actions.tolist()),
        }
        if world is self._real:
            return facts
        return facts | {name: self._values[name] for name in ("temperature", "memory")}

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Where a file cannot be written, stop the recording and not the game; a film on request fails."""
        recorder = self._recorder
        try:
            yield
        except UserError as error:
            if self._film_on_request:
                raise
            self._recorder = None
            self._say(str(error))
            with suppress(UserError):
                if recorder is not None:
                    recorder.close()

    def _film(self, recorder: Recorder, frame: Frame) -> None:
        """Append the frame; stop where the recording is full, ask at the end of an episode."""
        recorder.show(drawing.compose(frame, self._values["header"], self._options.stacked))
        if self._options.save_mode:
            self._asks = recorder.is_full or (self._is_over and not self._goes_back)
        elif recorder.is_full:
            self._stop_recording()
            self._say(f"saved {recorder.path}: a recording has at most {LIMIT} frames")

    def _stop_recording(self, *, keep: bool = True) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close(keep=keep)
            self._finished |= {f"{path.parent.name}-{path.name}": path for path in recorder.files}
            self._say(f"saved {recorder.path}" if keep else "discarded")

    def files(self) -> dict[str, Path]:
        return dict(self._finished)

    def close(self) -> None:
        try:
            with self._recording():
                self._stop_recording(keep=self._asks or not self._options.save_mode)
        finally:
            self._real.close()

    # What is shown

    def _frame(self) -> Frame:
        world, chosen, missing = self._played, self._values["panels"], self._missing
        shown = [name for name in self._possible(world) if name in chosen and name not in missing]
        if not shown:
            shown = [IMAGINED if world == MODEL else INPUT]
        pictures = self._pictures(set(shown))
        return Frame(tuple(drawing.panel(name, pictures[name], self._options.height) for name in shown), self._status())

    def _possible(self, world: str) -> tuple[str, ...]:
        """Pictures of a world that is played."""
        return (
            *(self._real_panels if world != MODEL else ()),
            *(self._dream_panels if world != ENVIRONMENT else ()),
        )

    @torch.no_grad()
    def _pictures(self, shown: set[str]) -> dict[str, drawing.Picture]:
        """Pictures of the panels, those that need computation only where they are shown."""
        pictures: dict[str, drawing.Picture] = {}
        if ORIGINAL in shown:
            pictures[ORIGINAL] = self._real.draw()
        if INPUT in shown:
            pictures[INPUT] = _last(self._agent.render_segments(self._real.segments(1)))
        if shown & {RECONSTRUCTION, *DELTA_PANELS}:
            segments = self._real.segments(FEWEST if self._is_delta else 1)
            pictures |= {name: _last(frames) for name, frames in self._agent.reconstruct(segments).items()}
        if IMAGINED in shown:
            pictures[IMAGINED] = bytes_of(self._dream.imagined.pictures())[0]
        worlds: dict[str, World] = {TOKENS: self._real, IMAGINED_TOKENS: self._dream}
        return pictures | {name: self._grid(world) for name, world in worlds.items() if name in shown}

    def _grid(self, world: World) -> drawing.Picture:
        """The tokens of a world, those that have changed marked."""
        if world is self._real and world.tokens is None:
            self._real.read_tokens()
        tokens = np.zeros(self._agent.num_tokens, np.int64) if world.tokens is None else world.tokens
        return drawing.agents_grid(self._trained, tokens, world.tokens_before)

    def _status(self) -> dict[str, Any]:
        world, action, recorder = self._world, self._action, self._recorder
        dreams = self._played != ENVIRONMENT
        return self._values | {
            "episode": self._real.episode,
            "step": world.steps,
            "return": world.total,
            "action": None if action is None else action.tolist(),
            "action_label": None if action is None else self._keyboard.describe(action),
            "reward": world.reward,
            "end": world.is_over,
            "value": self._player.value,
            "entropy": self._player.entropy,
            "predicted_reward": self._dream.reward if dreams else None,
            "predicted_end": self._dream.is_over if dreams else None,
            "memory_used": self._dream.imagined.frames if dreams else None,
            "restarted": dreams and self._dream.has_restarted,
            "tokens_changed": world.tokens_changed(),
            "drift": drawing.drift(self._trained.spec, self._real.observation, self._dream.observation)
            if self._played == BOTH
            else self._no_drift,
            "recording": None if recorder is None else {"file": str(recorder.path), "frames": recorder.frames},
            "paused": self._is_paused,
            "asks": "save this episode?" if self._asks else None,
            "message": self._message if self._ticks < self._says_until else None,
        }


def _last(frames: Tensor) -> drawing.Picture:
    """The last of frames (1, T, C, Y, X) in [0, 1]."""
    picture: drawing.Picture = bytes_of(frames[0, -1:])[0]
    return picture


def _memory(trained: TrainedAgent) -> Number:
    least = trained.agent.context_frames + 1
    return Number(
        "memory", "frames that the world model remembers", least, trained.config.model.world_model.max_blocks, 1
    )
