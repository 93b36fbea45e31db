"""Play, watch, record: ``python -m pipeline.play results/runs/rem/atari/Pong/0`` (docs/play.md).

The agent or you, in the environment, in the world model, or in both side by side: in a browser, in a window, or as a
film without either. The run folder stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenworlds.cli import exit_status, given, raise_on_sigterm
from tokenworlds.config import project_root
from tokenworlds.envs import check_task
from tokenworlds.errors import UserError
from tokenworlds.loading import TrainedAgent, load, locate, read_config
from tokenworlds.runs.layout import EPISODES, KINDS, refuse_in_run

if TYPE_CHECKING:
    from tokenworlds.viewer.base import BaseSession
    from tokenworlds.viewer.session import Session

MODES = {"environment": "environment", "world-model": "world model", "both": "both"}
TALLEST = 2160  # pixels of a picture: a screen
WITHOUT = {  # options and those that they have no use for
    "episodes": (
        "record", "mode", "player", "policy_temperature", "temperature", "memory", "seed", "reconstruction", "panels",
        "stacked", "save_mode", "dream_after",
    ),
    "record": ("window", "save_mode", "host", "port"),
    "window": ("host", "port"),
}  # fmt: skip


def recordings_folder(identity: str) -> Path:
    """Where the recordings of a run's agent go: never into its run folder, which stays as it is."""
    return project_root() / "results" / "recordings" / identity


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.play",
        description="Play, watch and record an agent in its environment and in its world model; prints the address of "
        "a page for your browser.",
        epilog="Keys and everything else: docs/play.md.",
    )
    parser.add_argument(
        "run",
        type=Path,
        help="run folder, scratch folder of a run in training, imported agent, or hub:owner/name/subfolder",
    )
    what = parser.add_argument_group("what is played")
    what.add_argument("--mode", choices=MODES, default="environment", help="world at the start (default: environment)")
    what.add_argument("--player", choices=("agent", "human"), default="agent", help="who plays (default: agent)")
    what.add_argument(
        "-e", "--episodes", action="store_true", help="browse episodes that training kept, and recordings"
    )
    what.add_argument("--policy-temperature", type=float, default=1.0, metavar="T", help="of the agent; 0: greedy")
    what.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of the world model; 0: greedy")
    what.add_argument("--memory", type=int, metavar="FRAMES", help="of the world model (default: as in its paper)")
    what.add_argument(
        "--dream-after",
        type=int,
        default=0,
        metavar="STEPS",
        help="real steps, which the agent plays, before the dream of an episode begins (default: as few as can be)",
    )
    what.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    what.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("-f", "--fps", type=int, default=15, help="steps a second, 1 to 60 (default: 15)")
    shown.add_argument(
        "-r", "--reconstruction", action="store_true", help="original, tokenizer's input and reconstruction"
    )
    shown.add_argument(
        "--panels", metavar="NAME,...", help="pictures: original, input, reconstruction, tokens, imagined"
    )
    shown.add_argument(
        "--height", type=int, default=256, metavar="PIXELS", help="that a picture is enlarged to, about (default: 256)"
    )
    shown.add_argument("--no-header", dest="header", action="store_false", help="no numbers above films and windows")
    shown.add_argument("--stacked", action="store_true", help="pictures of films one above the other")
    shown.add_argument("--window", action="store_true", help="a window instead of the page; needs pygame-ce")
    shown.add_argument("--host", default="127.0.0.1", help="address of the page (default: 127.0.0.1)")
    shown.add_argument("--port", type=int, default=8000, help="port of the page (default: 8000)")
    shown.add_argument("--no-browser", dest="browser", action="store_false", help="do not open a browser")
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("-s", "--save-mode", action="store_true", help="ask after each episode whether to save it")
    kept.add_argument(
        "--record", type=Path, metavar="FILE", help="no page: a film (.mp4, .gif) and its episodes beside it (.npz)"
    )
    kept.add_argument("--steps", type=int, default=500, help="frames of --record (default: 500)")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = arguments_parser()
    options = parser.parse_args(arguments)
    options.run = locate(options.run)
    config = read_config(options.run)
    check_task(config.task)
    _check(options, given(parser, arguments))
    raise_on_sigterm()
    trained = load(options.run, options.device)
    if options.record is not None:
        _record(_session(options, trained), options.record, options.steps)
        return
    session: BaseSession = _browser(options, trained) if options.episodes else _session(options, trained)
    if options.window:
        from tokenworlds.viewer import window

        window.show(session)
    else:
        _serve(session, options)


def _check(options: argparse.Namespace, chosen: set[str]) -> None:
    """Refuse options that contradict each other, and a film that cannot be written, before anything is loaded."""
    for name, useless in WITHOUT.items():
        if name in chosen and (other := next((one for one in useless if one in chosen), None)):
            raise UserError(f"--{other.replace('_', '-')} and --{name} exclude each other; leave one out.")
    if not 1 <= options.height <= TALLEST:
        raise UserError(f"--height is {options.height}; it must be 1 to {TALLEST} pixels.")
    if options.record is None:
        if "steps" in chosen:
            raise UserError("--steps is the length of a film; name one with --record, or leave --steps out.")
        return
    for name in ("dream_after", "temperature", "memory"):
        if name in chosen and options.mode == "environment":
            option = name.replace("_", "-")
            raise UserError(f"--{option} is for dreams, which the film has none of; add --mode both, or leave it out.")
    if options.player == "human":
        raise UserError("--record shows no page to play in; leave out --player human.")
    from tokenworlds.viewer.recorder import LIMIT, check_film

    if not 1 <= options.steps <= LIMIT:
        raise UserError(f"--steps is {options.steps}; it must be 1 to {LIMIT}.")
    refuse_in_run(options.record, "--record")
    check_film(options.record)


def _session(options: argparse.Namespace, trained: TrainedAgent) -> Session:
    from tokenworlds.viewer.session import Options, Session

    return Session(
        trained,
        Options(
            recordings_folder(trained.config.identity),
            world=MODES[options.mode],
            player=options.player,
            fps=options.fps,
            reconstruction=options.reconstruction,
            panels=None if options.panels is None else tuple(options.panels.split(",")),
            header=options.header,
            height=options.height,
            stacked=options.stacked,
            save_mode=options.save_mode,
            policy_temperature=options.policy_temperature,
            temperature=options.temperature,
            memory=options.memory,
            seed=options.seed,
            dream_after=options.dream_after,
        ),
    )


def _browser(options: argparse.Namespace, trained: TrainedAgent) -> BaseSession:
    from tokenworlds.viewer.browser import RECORDING, EpisodeBrowser

    folders = {kind: options.run / EPISODES / kind for kind in KINDS}
    folders[RECORDING] = recordings_folder(trained.config.identity)
    return EpisodeBrowser(trained, folders, options.fps, header=options.header, height=options.height)


def _record(session: Session, film: Path, steps: int) -> None:
    """A film of so many frames, and the episodes in it."""
    from tokenworlds.training.progress import progress
    from tokenworlds.viewer.frame import Input

    try:
        session.record(film)
        with progress("recording", steps) as bar:
            for _ in range(steps):
                session.tick(Input())
                bar.step()
    finally:
        session.close()
    print(f"{film}: {steps} frames", flush=True)


def _serve(session: BaseSession, options: argparse.Namespace) -> None:
    from tokenworlds.viewer import server

    def announce(address: str) -> None:
        print(address, flush=True)
        if options.browser and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(address)

    server.serve(session, options.host, options.port, announce=announce)


if __name__ == "__main__":
    sys.exit(exit_status(main))
