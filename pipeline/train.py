"""Train one agent: ``python -m pipeline.train method=iris task=atari/Pong seed=0 scale=smoke``.

A Hydra app. The values come from ``pipeline/<method>/params.yaml`` and the root ``params.yaml`` (see
``tokenworlds.config``) and, with precedence, from the command line. The configuration is checked before torch is
imported, so that a mistake costs a second and not a minute.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from pipeline import failures
from pipeline.inputs import require_current
from pipeline.plan import active_suite, position
from tokenworlds.cli import RESUME, exit_status, print_error, raise_on_sigterm
from tokenworlds.config import RunConfig, command_line, load, to_dict
from tokenworlds.envs import check_task
from tokenworlds.errors import UserError, excerpt
from tokenworlds.redaction import redact
from tokenworlds.training.run_folder import scratch_root

HELP = """\
Train the agent of one (method, task, seed), or go on where a killed run stopped, and write its folder
results/runs/<method>/<task>/<seed>/.

  python -m pipeline.train method=iris task=atari/Pong seed=0 scale=smoke          a whole run in under a minute
  python -m pipeline.train method=rem task=minigrid/Empty-5x5 scale=small          learns in minutes on a CPU
  python -m pipeline.train method=m3 task=dmc/cartpole-balance scale=smoke         vectors, continuous actions
  python -m pipeline.train method=rem variant=no-pop task=atari/Krull              an ablation, with runs of its own
  python -m pipeline.train method=iris task=atari/Pong model.backbone=retnet out=/tmp/retention
  python -m pipeline.train method=iris task=atari/Pong model.world_model.transformer.num_layers=4 out=/tmp/four
  python -m pipeline.train extend=results/runs/iris/atari/Pong/0 training.epochs=900 out=/tmp/longer
  python -m pipeline.train -m method=iris,rem task=atari/Pong seed=0,1,2           one run after the other

Keys (all others are hyper-parameters: add --cfg job to see every key with the value that this run would use):
  method                 a folder of pipeline/ with a params.yaml
  task                   <family>/<name>, for example atari/Breakout
  seed                   default 0
  scale                  smoke | small | laptop | paper (default)
  variant                a named entry of the method's params.yaml; what it sets cannot be set otherwise
  out                    run folder, default results/runs/<method>[+<variant>]/<task>/<seed>
  replace                true: replace a run of another configuration in that folder
  extend                 a finished run: go on after its last epoch, up to training.epochs, as another run
  initialization.path    a run or an imported agent; initialization.tokenizer=true (world_model, actor_critic) loads it
  model.backbone         transformer | retnet | lstm | gru, with settings of its own below model.world_model
  model.decoding         autoregressive | pop (all tokens of the next observation at once)
  model.policy.input=... any hyper-parameter of the method, with its full name
  runtime.device         auto | cpu | cuda | cuda:1 | mps
  runtime.gpu_share      at most this part of a GPU's memory, where runs share one, default 1
  runtime.deterministic  true: the same bits from the same seed
  runtime.scratch        where checkpoints live until the run is finished, default $TOKENWORLDS_SCRATCH or scratch/
  runtime.tracking_uri   MLflow, default $MLFLOW_TRACKING_URI or sqlite in the project
  runtime.kept_episodes  how many of each kind the run folder keeps, default 3; runtime.keep_replay=true: all experience
  runtime.resume         a checkpoint that other code wrote: same_code (default: refuse it) | any_code | never

Settings for all runs are in the root params.yaml, those of a method in pipeline/<method>/params.yaml: what you change
there takes effect at every scale, or is refused. Every value has a range, which the message names when it is left.
"""

# Overrides that only ask a question: the configuration may be incomplete.
QUESTIONS = ("help", "hydra_help", "info", "shell_completion")

_failures: list[int] = []  # exit statuses of jobs
_unread: list[BrokenPipeError] = []  # of a job whose output nobody reads


@hydra.main(version_base="1.3", config_path=None, config_name="train")
def application(_: DictConfig) -> None:
    """One job. Its values come from ``load``, not from Hydra's composition: method and scale choose layers below."""
    overrides = list(HydraConfig.get().overrides.task)
    try:
        run(load(overrides))
    # Not raised through Hydra, which would print a second line, and stop the other jobs of a sweep.
    except UserError as error:
        print_error(str(error))
        _failures.append(error.status)
    except BrokenPipeError as error:
        _unread.append(error)


def run(config: RunConfig) -> None:
    """Train (or resume) and publish the run."""
    require_current(config)
    from tokenworlds.training.run import run_training  # imports torch

    if config.runtime.suite is None:
        config.runtime.suite = active_suite(config)  # no copy: the configuration knows what a person set in it
    if "DVC_STAGE" in os.environ and (where := position(config)):
        print(f"{config.identity}: {where}", flush=True)
    with failures.recorded(config):
        run_training(config)


def main() -> int:
    # Hydra would otherwise turn every exception into its own message and status 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    raise_on_sigterm()
    arguments = get_args_parser().parse_args()
    jobs = check(
        arguments.overrides, many=arguments.multirun, question=any(getattr(arguments, name) for name in QUESTIONS)
    )
    _register(jobs)
    sys.argv[1:] = [_verbatim(argument) if argument in arguments.overrides else argument for argument in sys.argv[1:]]
    try:
        with masked_output() if arguments.cfg or arguments.info else contextlib.nullcontext():
            application()
    except HydraException as error:
        raise UserError(
            f"{excerpt(_first_line(error), 180)}; `python -m pipeline.train --help` shows how to call it."
        ) from error
    if _unread:
        raise _unread[0]
    return max(_failures, default=0)


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Mask passwords in what Hydra prints of the configuration."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        yield
    print(redact(output.getvalue()), end="")


def check(overrides: list[str], many: bool = False, question: bool = False) -> list[RunConfig]:
    """The configurations that a command line asks for, every one complete and valid; none for a mere question."""
    parsed = [override for override in command_line.parse(overrides) if not override.key_or_group.startswith("hydra")]
    if question:
        return []
    configs = []
    for job in itertools.product(*(_values(override, many) for override in parsed)):
        for name, value in command_line.settings(list(job)):
            if name == "task":
                check_task(str(value))
        configs.append(load(list(job)))
    return configs


def _values(override: Override, many: bool) -> list[str]:
    """``key=value`` of an override, as many as a sweep over it has."""
    name, line = override.key_or_group, str(override.input_line)
    if not many or not override.is_sweep_override():
        return [line]
    if not override.is_discrete_sweep():
        raise UserError(f"{excerpt(line, 80)} is no list of values: write for example {name}=0,1,2.")
    return [f"{name}={value}" for value in override.sweep_string_iterator()]


def _verbatim(line: str) -> str:
    """An override in quotes if Hydra would write its value in another way (1.10 as 1.1), which alters a name."""
    (override,) = command_line.parse([line])
    name, _, text = line.partition("=")
    is_number = not override.is_sweep_override() and isinstance(override.value(), bool | int | float)
    return f"{name}='{text.strip()}'" if is_number and str(override.value()) != text.strip() else line


def _register(jobs: list[RunConfig]) -> None:
    """Tell Hydra the schema (with the resolved values, for ``--cfg job``), and to leave no files in the project. Jobs
    of several methods have the keys of all."""
    store = ConfigStore.instance()
    if len(jobs) == 1:
        known: Any = OmegaConf.structured(jobs[0])
    else:
        known = OmegaConf.merge({}, *map(to_dict, jobs)) if jobs else OmegaConf.structured(RunConfig)
    store.store(name="run", node=known)
    node: dict[str, Any] = {
        "defaults": ["run", "_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}],
        "hydra": {
            "run": {"dir": "."},
            "output_subdir": None,
            "sweep": {"dir": str(scratch_root() / "sweeps"), "subdir": "."},
            "help": {"app_name": "pipeline.train", "template": HELP.replace("$", "$$")},
        },
    }
    store.store(name="train", node=node)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(exit_status(main, remedy=RESUME))
