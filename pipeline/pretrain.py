"""Train the tokenizer that a run begins with: ``python -m pipeline.pretrain method=iris variant=... task=... seed=0``.

The run's configuration says on what and for how long (its section ``pretraining``) and where the tokenizer goes
(``initialization.tokenizer``). The same command goes on where it was stopped; once the folder is there, it does
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline.inputs import require_current_pretraining
from tokenworlds.cli import RESUME, exit_status, raise_on_sigterm
from tokenworlds.config import load
from tokenworlds.envs import check_task


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.pretrain",
        description="Train the tokenizer that a run begins with, from frames of a random policy or of other runs.",
        epilog="Example: python -m pipeline.pretrain method=iris variant=tokenizer-random-policy "
        "task=minigrid/Empty-5x5 seed=0 scale=small. All keys of python -m pipeline.train are taken; "
        "pretraining.frames, .updates and others say how (docs/experiments.md).",
    )
    parser.add_argument("settings", nargs="+", metavar="key=value", help="the run, as for python -m pipeline.train")
    overrides = parser.parse_args(arguments).settings
    config = load(overrides)
    check_task(config.task)
    require_current_pretraining(config)
    from tokenworlds.training.pretraining import pretrain  # imports torch

    pretrain(config)


if __name__ == "__main__":
    raise_on_sigterm()
    sys.exit(exit_status(main, remedy=RESUME))
