"""The final evaluation as a command: ``python -m pipeline.evaluate results/runs/iris/atari/Pong/0``.

Plays test episodes with the agent of a finished run, or of a published checkpoint that ``python -m
tokenworlds.checkpoints import`` has made a run folder of. The run folder itself stays as it is. With its own numbers of
episodes and environments a run gets its published score again: the episodes draw from streams of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.console import exit_status, raise_on_sigterm
from tokenworlds.config import SCHEMAS, Perceptual, RunConfig, TokenRunConfig, validate
from tokenworlds.envs import EnvironmentFactory, check_task
from tokenworlds.errors import UserError

if TYPE_CHECKING:
    from tokenworlds.agent import Agent

CONFIG, WEIGHTS = "config.yaml", "agent.safetensors"


def read_config(run: Path) -> RunConfig:
    """The configuration in a run folder; the perceptual network is left out, because only training needs it."""
    missing = [name for name in (CONFIG, WEIGHTS) if not (run / name).is_file()]
    if missing:
        raise UserError(
            f"{run} is no finished run: it has no {' and no '.join(missing)}; give a folder below results/runs, "
            "or import a published checkpoint with `python -m tokenworlds.checkpoints import`."
        )
    try:
        written = OmegaConf.load(run / CONFIG)
        schema = SCHEMAS.get(str(OmegaConf.select(written, "method")), RunConfig)
        merged = OmegaConf.merge(OmegaConf.structured(schema), written)
        config = cast(RunConfig, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run / CONFIG} is damaged or of another version of this program: {reason}.") from error
    if isinstance(config, TokenRunConfig):
        tokenizer = replace(config.model.tokenizer, perceptual=Perceptual.none, perceptual_weights=None)
        config = replace(config, model=replace(config.model, tokenizer=tokenizer))
    return validate(config)


def load_agent(run: Path, config: RunConfig) -> Agent:
    """The trained networks of a run folder; every tensor is there, and no other."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from tokenworlds import methods

    with EnvironmentFactory(config.task, "test", config.environment.test)() as environment:
        agent = methods.get(config.method).build_agent(config, environment.environment_spec)
    try:
        agent.load_state_dict(load_file(run / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run / WEIGHTS} is damaged or does not fit {run / CONFIG}: {reason}; train again.") from error
    return agent


def evaluate(
    run: Path,
    episodes: int | None = None,
    num_envs: int | None = None,
    device: str = "auto",
    media: Path | None = None,
) -> dict[str, Any]:
    """Play the final protocol (or ``episodes`` of it) and return every episode's return and length.

    Film strips and an episode go to the folder ``media``, if one is given.
    """
    config = read_config(run)
    check_task(config.task)
    from tokenworlds.training import precision
    from tokenworlds.training.evaluator import Evaluator

    chosen = precision.configure(config.training.precision, replace(config.runtime, device=device))
    agent = load_agent(run, config).to(chosen)
    num_envs = num_envs or min(config.evaluation.final_num_envs, episodes or config.evaluation.final_num_envs)
    episodes = episodes or config.evaluation.final_episodes
    evaluator = Evaluator(config, agent, chosen)
    played, buffer = evaluator.play("final", episodes=episodes, num_envs=num_envs)
    if media is not None:
        evaluator.pictures(config.training.epochs, buffer, media, {"tokenizer", "world_model", "actor_critic"})
    return {
        "run": config.identity,
        "protocol": {
            "episodes": len(played.returns),
            "num_envs": num_envs,
            "temperature": config.collection.test.temperature,
        },
        "returns": played.returns,
        "lengths": played.lengths,
        "score": statistics.fmean(played.returns),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.evaluate", description="Play test episodes with an agent."
    )
    parser.add_argument("run", type=Path, help="run folder below results/runs, or an imported checkpoint")
    parser.add_argument("--episodes", type=int, help="how many (default: the run's final protocol)")
    parser.add_argument("--num-envs", type=int, help="environments side by side (default: the run's final protocol)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--out", type=Path, help="write all episodes to this JSON file")
    parser.add_argument("--media", type=Path, help="write film strips and an episode of them to this folder")
    options = parser.parse_args(arguments)
    for name in ("episodes", "num_envs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least 1.")
    raise_on_sigterm()
    result = evaluate(options.run, options.episodes, options.num_envs, options.device, options.media)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2))
    returns = result["returns"]
    lowest, highest = min(returns), max(returns)
    print(f"{result['run']}: score {result['score']:.2f} over {len(returns)} episodes ({lowest:g} to {highest:g})")


if __name__ == "__main__":
    sys.exit(exit_status(main))
