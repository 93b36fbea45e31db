"""The final evaluation as a command: ``python -m pipeline.evaluate results/runs/iris/atari/Pong/0``.

Plays test episodes with the agent of a finished run, of a published checkpoint that ``python -m
tokenworlds.checkpoints import`` has made a run folder of, or of the Hugging Face Hub. The run folder itself stays as it
is. With its own numbers of episodes and environments, and its own temperature, a run gets its published score again:
the episodes draw from streams of their own.

With ``--world-model`` the predictions of the world model are compared with what happened in these episodes
(docs/metrics.md), with intervals over them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenworlds.cli import exit_status, raise_on_sigterm
from tokenworlds.config import Decoding, validate
from tokenworlds.envs import check_task
from tokenworlds.errors import UserError
from tokenworlds.files import remove_own, require_file, require_folder, write_atomic
from tokenworlds.loading import load, locate, read_config
from tokenworlds.runs.layout import EPISODES, TRAIN, refuse_in_run

RESULT = {"run", "protocol", "returns", "lengths", "score"}  # entries of the file at --out
QUALITY = "world_model"  # a further one


class Evaluation:
    """Episodes of the final protocol (or ``episodes`` of it, or as many as ``is_of_world_model`` needs), with the agent
    of a run folder."""

    def __init__(
        self,
        run: Path,
        episodes: int | None = None,
        num_envs: int | None = None,
        device: str = "auto",
        is_of_world_model: bool = False,
        temperature: float | None = None,
    ) -> None:
        run = locate(run)
        config = read_config(run)
        check_task(config.task)
        protocol = config.evaluation
        num_envs = num_envs or min(protocol.final_num_envs, episodes or protocol.final_num_envs)
        episodes = episodes or (is_of_world_model and config.runtime.measured_episodes) or protocol.final_episodes
        protocol = replace(protocol, final_episodes=episodes, final_num_envs=num_envs)
        test = config.collection.test
        test = replace(test, temperature=test.temperature if temperature is None else temperature)
        collection = replace(config.collection, test=test)
        self.config = validate(replace(config, evaluation=protocol, collection=collection))
        self._has_world_model = config.model.decoding is not Decoding.oracle
        if is_of_world_model and not self._has_world_model:
            raise UserError(f"{config.identity} learned in the environment itself and has no world model to measure.")
        trained = load(run, device)
        from tokenworlds.training.evaluator import Evaluator

        self._evaluator = Evaluator(self.config, trained.agent, trained.device)

    def play(self) -> dict[str, Any]:
        """Every episode's return and length."""
        protocol = self.config.evaluation
        played, self._buffer = self._evaluator.play(
            "final", episodes=protocol.final_episodes, num_envs=protocol.final_num_envs
        )
        return {
            "run": self.config.identity,
            "protocol": {
                "episodes": len(played.returns),
                "num_envs": protocol.final_num_envs,
                "temperature": self.config.collection.test.temperature,
            },
            "returns": played.returns,
            "lengths": played.lengths,
            "score": statistics.fmean(played.returns),
        }

    def world_model(self) -> dict[str, Any]:
        """Measures of every episode that was played, and of the tokenizer on their pictures.

        Raises:
            UserError: nothing follows the context in any of them.
        """
        episodes = self.config.evaluation.final_episodes
        quality = self._evaluator.world_model("final", self._buffer, episodes)
        if not quality.episodes:
            raise UserError(
                f"all {quality.left_out} episodes are too short for the world model's context, so there is nothing to "
                "predict; play more with --episodes."
            )
        quality.measures += self._evaluator.random_play(episodes)
        quality.measures += self._evaluator.tokenizer(self._buffer, episodes)
        return asdict(quality)

    def pictures(self, folder: Path) -> None:
        """Film strips and episodes of what was played, and what is imagined from its first frames."""
        from tokenworlds.training.kept_episodes import keep_played
        from tokenworlds.training.run_folder import EPISODE_FILES

        active, epoch = {"tokenizer", "actor_critic"}, self.config.training.epochs
        if self._has_world_model:
            active.add("world_model")
        self._evaluator.pictures(epoch, self._buffer, folder, active)
        own = [pattern for pattern in EPISODE_FILES if TRAIN not in Path(pattern).parts]
        remove_own(folder, own)  # of an earlier evaluation, with other numbers
        keep_played(self._evaluator.agent, self._buffer, self.config, epoch, active, folder / Path(EPISODES).name)


def is_evaluation(file: Path) -> bool:
    """Whether a file is a result that this command wrote."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() - {QUALITY} == RESULT


def check_places(out: Path | None, media: Path | None) -> None:
    """Check before playing that the results can be written.

    Raises:
        UserError: ``out`` or ``media`` cannot be written, holds files of others, or is in the folder of a run.
    """
    for option, path in (("--out", out), ("--media", media)):
        if path is not None:
            refuse_in_run(path, option)
    if out is not None:
        require_file(out, is_evaluation, "name another file with --out")
    if media is not None:
        from tokenworlds.training.run_folder import MEDIA_FILES

        require_folder(media, MEDIA_FILES, "name another folder with --media")


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_atomic(out, json.dumps(result, indent=2).encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.evaluate", description="Play test episodes with an agent."
    )
    parser.add_argument("run", type=Path, help="run folder, imported checkpoint, or hub:owner/name/subfolder")
    parser.add_argument(
        "--world-model", action="store_true", help="compare the world model's predictions with the episodes, too"
    )
    parser.add_argument(
        "--episodes",
        type=int,
        help="at least so many, in whole rounds of the environments (default: the run's final protocol; with "
        "--world-model its runtime.measured_episodes)",
    )
    parser.add_argument("--num-envs", type=int, help="environments side by side (default: the run's final protocol)")
    parser.add_argument("--temperature", type=float, help="of the policy (default: the run's in test episodes)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--out", type=Path, help="write all episodes to this JSON file")
    parser.add_argument("--media", type=Path, help="write film strips and episodes to this folder")
    options = parser.parse_args(arguments)
    for name in ("episodes", "num_envs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
    raise_on_sigterm()
    check_places(options.out, options.media)
    evaluation = Evaluation(
        options.run, options.episodes, options.num_envs, options.device, options.world_model, options.temperature
    )
    result = evaluation.play()
    returns = result["returns"]
    span = f"{min(returns):g} to {max(returns):g}"
    print(f"{result['run']}: score {result['score']:.2f} over {len(returns)} episodes ({span})", flush=True)
    _write(result, options.out)
    if options.world_model:
        from pipeline.quality import report

        result[QUALITY] = evaluation.world_model()
        print(report(result[QUALITY], result["run"]), flush=True)
        _write(result, options.out)
    if options.media is not None:
        evaluation.pictures(options.media)


if __name__ == "__main__":
    sys.exit(exit_status(main))
