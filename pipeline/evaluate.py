"""The final evaluation as a command: ``python -m pipeline.evaluate results/runs/iris/atari/Pong/0``.

Plays test episodes with the agent of a finished run, or of a published checkpoint that ``python -m
tokenworlds.checkpoints import`` has made a run folder of. The run folder itself stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.console import exit_status, raise_on_sigterm
from tokenworlds.errors import UserError

REQUIRED = ("config.yaml", "agent.safetensors")


def check(run: Path) -> None:
    """Refuse what is no run folder, before torch is imported."""
    missing = [name for name in REQUIRED if not (run / name).is_file()]
    if missing:
        raise UserError(
            f"{run} is no finished run: it has no {' and no '.join(missing)}; give a folder below results/runs, "
            "or import a published checkpoint with `python -m tokenworlds.checkpoints import`."
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.evaluate", description="Play test episodes with a trained agent."
    )
    parser.add_argument(
        "run", type=Path, help="run folder: results/runs/<method>/<task>/<seed>, or an imported checkpoint"
    )
    parser.add_argument(
        "--episodes", type=int, help="how many (default: the final protocol of the run's configuration)"
    )
    parser.add_argument("--out", type=Path, help="write the episodes as JSON to this file")
    options = parser.parse_args(arguments)
    if options.episodes is not None and options.episodes < 1:
        raise UserError(f"--episodes is {options.episodes}: at least one episode has to be played.")
    check(options.run)
    raise_on_sigterm()
    from tokenworlds.training.run import run_evaluation  # imports torch

    run_evaluation(options.run, episodes=options.episodes, out=options.out)


if __name__ == "__main__":
    sys.exit(exit_status(main))
