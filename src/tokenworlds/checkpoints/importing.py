"""Published agents as run folders, and the perceptual network inside of one as a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tokenworlds import config as configuration
from tokenworlds import envs, methods, tensor_files
from tokenworlds.actor_critic import action_head
from tokenworlds.agents.base import Agent
from tokenworlds.agents.token import TokenAgent
from tokenworlds.checkpoints import contents, delta_iris, fetch, iris, layout, m3, rem
from tokenworlds.checkpoints.card import NAMES
from tokenworlds.config import EnvironmentConfig, RunConfig
from tokenworlds.envs import EnvironmentSpec
from tokenworlds.errors import UserError, brief
from tokenworlds.files import require_file, require_folder, shortened, write_atomic
from tokenworlds.tokenizers import lpips
from tokenworlds.tracking.revision import git_revision


class Layout(Protocol):
    """A module of this package that knows the checkpoints of one method."""

    def infer_model(self, state: dict[str, Tensor], num_heads: int | None = None) -> dict[str, Any]:
        """The ``model`` section that fits a published state dict, as far as its shapes show; the rest is as
        published."""
        ...

    def from_reference(self, state: dict[str, Tensor], model: Any, num_tokens: int, quirks: Any) -> dict[str, Tensor]:
        """Our names for the tensors of a published state dict (or for any mapping with its keys, gradients for example)
        of an agent with this configuration, whose observations have ``num_tokens`` tokens."""
        ...


LAYOUTS: dict[str, Layout] = {"iris": iris, "rem": rem, "delta_iris": delta_iris, "m3": m3}
RUN_FILES = ("config.yaml", "agent.safetensors", "agent.json")
LEVELS = 51  # of each continuous action in published agents
ACTIONS = r"actor_critic\.(model\.)?actor_linear\.(0\.)?weight"  # has a row for each output of the policy
ANOTHER_FOLDER = "name another folder with --out"


def import_agent(
    file: Path,
    task: str,
    out: Path,
    num_heads: int | None = None,
    overrides: Sequence[str] = (),
    origin: str | None = None,
) -> None:
    """Write ``config.yaml``, ``agent.safetensors`` and ``agent.json`` of a published checkpoint to ``out``.

    Args:
        overrides: what shapes do not show, such as ``model.policy.action_input=false``.
        origin: where the file is from; default: its name.

    Raises:
        UserError: an unreadable file, another layout, or tensors that do not fit task and overrides.
    """
    envs.check_task(task)
    _require_run_folder(out)
    if num_heads is not None and num_heads < 1:
        raise UserError(f"--num-heads is {num_heads}; it must be at least 1.")
    fixed = [given for given in overrides if given.lstrip("+~").split("=")[0] in ("method", "task", "scale")]
    if fixed:
        raise UserError(f"--set {brief(fixed[0], 60)}: the file tells the method, --task the task; leave it out.")
    found = contents.agent_in(file, tensor_files.read(file))
    method, state = found.method, found.state
    for note in found.notes(file):
        print(note)
    spec = _spec(task, EnvironmentConfig())
    _require_actions(file, found, task, action_head(spec.actions, LEVELS).width)
    with _complete(file, method):
        inferred = layout.overrides(LAYOUTS[method].infer_model(state, num_heads))
    config = configuration.load([f"method={method}", f"task={task}", "scale=paper", *inferred, *overrides])
    agent = _build(config, _spec(task, config.environment.test))
    with _complete(file, method):
        num_tokens = agent.tokenizer.layout.num_tokens if isinstance(agent, TokenAgent) else agent.num_tokens
        renamed = LAYOUTS[method].from_reference(state, config.model, num_tokens, config.quirks)
    ours = _fitted(file, {key: value for key, value in renamed.items() if ".lpips." not in key}, agent.state_dict())
    if damaged := tensor_files.not_finite(ours):
        names = tensor_files.not_finite(state) or damaged
        tensor_files.refuse_not_finite(file, names, "such an agent plays nothing sensible; fetch it again")
    metadata = {"method": method, "variant": config.variant, "task": task, "config_hash": None}
    metadata |= {"git_revision": git_revision(), "imported_from": origin or file.name}
    write_atomic(out / "config.yaml", OmegaConf.to_yaml(configuration.to_dict(config)).encode())
    write_atomic(out / "agent.safetensors", tensor_files.save(ours, metadata))
    write_atomic(out / "agent.json", json.dumps({**metadata, **spec.card()}, indent=2).encode())
    print(
        f"{out}: {sum(value.numel() for value in ours.values()):,} parameters; "
        f"evaluate with python -m pipeline.evaluate {out}"
    )


def _require_actions(file: Path, found: contents.Found, task: str, width: int) -> None:
    """Check the policy's outputs before anything else: how settings of another task misfit says less."""
    outputs = [len(value) for key, value in found.state.items() if re.fullmatch(ACTIONS, key)]
    if outputs != [width]:
        published = outputs[0] if outputs else "no"
        raise UserError(
            f"{shortened(file)} is an agent of {NAMES[found.method]} with {published} actions, but {task} has {width}; "
            "give the task that it was trained on."
        )


def _spec(task: str, settings: EnvironmentConfig) -> EnvironmentSpec:
    with envs.make(task, settings) as env:
        spec: EnvironmentSpec = env.environment_spec
    return spec


def _build(config: RunConfig, spec: EnvironmentSpec) -> Agent:
    try:
        return methods.get(config.method).build_agent(config, spec)
    except (ArithmeticError, LookupError, ValueError, RuntimeError, MemoryError) as error:
        raise UserError(f"no agent can be built with these settings ({brief(error)}); mend --set.") from error


@contextmanager
def _complete(file: Path, method: str) -> Iterator[None]:
    """Turn a tensor that is not found inside into a user error."""
    try:
        yield
    except (LookupError, ValueError) as error:
        raise UserError(
            f"{shortened(file)} lacks tensors of a published {NAMES[method]} checkpoint ({brief(error, 80)}); "
            "fetch it again."
        ) from error


def _fitted(file: Path, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the number formats of the agent's, each with its own memory: tied tensors share theirs, which a
    safetensors file cannot.

    Raises:
        UserError: a tensor is missing, left over, or of another shape.
    """
    misfits = tensor_files.misfits(found, wanted)
    for name, (shape, expected) in misfits.items():
        raise UserError(
            f"{shortened(file)}: {name} has shape {shape or 'none'}, the configured agent's has {expected or 'none'} "
            f"({len(misfits)} misfits in all); say what shapes do not show, such as --set variant=NAME."
        )
    return {key: value.detach().to(wanted[key].dtype).contiguous().clone() for key, value in found.items()}


def extract_perceptual(file: Path, out: Path) -> None:
    """Write the perceptual network that a published checkpoint (or a folder of its original files) holds as one
    safetensors file."""
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors, by which the file is read again.")
    require_file(out, _is_perceptual, "name another file with --out")
    network = lpips.load(file)
    write_atomic(out, tensor_files.save(network.state_dict()))
    print(f"{out}: use it with model.tokenizer.perceptual_weights={out}")


def _require_run_folder(out: Path) -> None:
    """Refuse a folder that holds anything but an agent imported before."""
    if os.path.exists(out / "scores.json"):
        raise UserError(f"{shortened(out)} holds a finished run, which an import would replace; {ANOTHER_FOLDER}.")
    require_folder(out, RUN_FILES, ANOTHER_FOLDER)
    if os.path.exists(out / "agent.json") and not _is_imported(out / "agent.json"):
        raise UserError(
            f"{shortened(out)} holds an agent that was not imported, which an import would replace; {ANOTHER_FOLDER}."
        )


def _is_imported(metadata: Path) -> bool:
    try:
        return "imported_from" in json.loads(metadata.read_text())
    except (OSError, ValueError, TypeError):
        return False


def _is_perceptual(file: Path) -> bool:
    try:
        with safe_open(file, "pt") as opened:
            return set(opened.keys()) == set(lpips.LPIPS(lpips.WIDTHS).state_dict())
    except (SafetensorError, OSError):
        return False


def fetch_agent(name: str, file: str | None, out: Path | None, overrides: Sequence[str]) -> None:
    """Download an agent that its authors have published, and import it."""
    agent = fetch.PublishedAgent.named(name)
    out = agent.folder if out is None else out
    _require_run_folder(out)
    found, origin = fetch.download(agent, file, out)
    import_agent(found, agent.task, out, overrides=[*agent.repository.settings, *overrides], origin=origin)
