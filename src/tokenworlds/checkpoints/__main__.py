"""``python -m tokenworlds.checkpoints``: published agents as run folders (``import``), and finished runs to and from a
hub (``card``, ``push``, ``pull``)."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
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
from tokenworlds.checkpoints import card, contents, delta_iris, fetch, hub, iris, layout, m3, rem
from tokenworlds.checkpoints.card import NAMES
from tokenworlds.config import EnvironmentConfig, RunConfig
from tokenworlds.envs import EnvironmentSpec
from tokenworlds.errors import UserError, brief
from tokenworlds.files import require_file, require_folder, shortened, write_atomic
from tokenworlds.runs.layout import refuse_in_run
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


def write_card(chosen: argparse.Namespace) -> None:
    """Write the card of a run with its pictures beside it, or print it."""
    run, out = chosen.run, chosen.out
    shown = card.pictures(run)
    text = card.model_card(run, shown)
    if out is None:
        print(text, end="")
        return
    refuse_in_run(out, "--out")
    is_own = card.is_card(out)
    files = {out.name: text.encode(), **shown}
    for name in files:
        require_file(out.parent / name, lambda _: is_own, "name another file with --out")
    for name, content in files.items():
        write_atomic(out.parent / name, content)
    print(f"{out}: the card, and the pictures that it shows in {out.parent / 'media'}")


def push(chosen: argparse.Namespace) -> None:
    """Push runs, and print where they are."""
    options = {name: getattr(chosen, name) for name in ("private", "revision", "replace", "dry_run")}
    print(hub.push(chosen.runs, chosen.repo, **options))


def pull(chosen: argparse.Namespace) -> None:
    """Pull an agent into a new folder."""
    hub.pull_to(chosen.reference, chosen.out)
    print(f"{chosen.out}: play it with python -m pipeline.play {chosen.out}")


SHARING = {"card": write_card, "push": push, "pull": pull}


def _add_sharing(commands: Any) -> None:
    """The arguments of the commands that share agents (docs/sharing.md)."""
    carding = commands.add_parser("card", help="the model card of a finished run")
    carding.add_argument("run", type=Path, help="folder of a finished run, such as results/runs/rem/atari/Pong/0")
    carding.add_argument("--out", type=Path, help="file to write, such as card/README.md (default: print the card)")
    pushing = commands.add_parser("push", help="finished runs of one method to a repository of the Hugging Face Hub")
    pushing.add_argument("runs", type=Path, nargs="+", metavar="run", help="folder of a finished run")
    pushing.add_argument("--repo", required=True, metavar="OWNER/NAME", help="repository, made where it is missing")
    pushing.add_argument("--private", action="store_true", help="only for its owner to see")
    pushing.add_argument("--revision", metavar="BRANCH", help="made where it is missing (default: main)")
    pushing.add_argument("--replace", action="store_true", help="replace another run that is in the same folder")
    pushing.add_argument("--dry-run", action="store_true", help="check, and say what would be written")
    pulling = commands.add_parser("pull", help="an agent from a repository of the Hugging Face Hub")
    pulling.add_argument("reference", help="[hub:]OWNER/NAME/FOLDER[@REVISION], such as OWNER/NAME/atari/Pong/0")
    pulling.add_argument("--out", type=Path, required=True, help="folder to make; one that exists is refused")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tokenworlds.checkpoints", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="a published IRIS, REM, Delta-IRIS or M3 agent as a run folder")
    importing.add_argument("file", type=Path, help="<Game>.pt or last.pt, or the same tensors as .safetensors")
    importing.add_argument(
        "--task", required=True, help="the task that it was trained on, such as atari/Breakout or dmc/walker-run"
    )
    importing.add_argument("--out", type=Path, required=True, help="folder to write")
    importing.add_argument(
        "--num-heads",
        type=int,
        help="attention heads of a transformer (default: as published, 8 in Delta-IRIS's agent of Crafter, else 4)",
    )
    importing.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings that its shapes do not show, such as variant=no-action-input",
    )
    extracting = commands.add_parser("lpips", help="the perceptual network of a published checkpoint as one file")
    extracting.add_argument(
        "file", type=Path, help="a published <Game>.pt, or vgg16-397923af.pth (or a folder with it and vgg.pth)"
    )
    extracting.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    fetching = commands.add_parser("fetch", help="an agent that its authors have published, downloaded and imported")
    fetching.add_argument("agent", nargs="?", help="such as iris/Breakout (default: list them)")
    fetching.add_argument("--list", action="store_true", help="list the published agents that are known")
    fetching.add_argument("--out", type=Path, help="folder to write (default: results/published/<agent>)")
    fetching.add_argument("--file", help="path in the repository, where it is not to be found out")
    fetching.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="as of import")
    _add_sharing(commands)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "fetch":
            if chosen.agent is None or chosen.list:
                print(fetch.overview())
            else:
                fetch_agent(chosen.agent, chosen.file, chosen.out, chosen.set)
        elif chosen.command == "import":
            import_agent(chosen.file, chosen.task, chosen.out, chosen.num_heads, chosen.set)
        elif chosen.command in SHARING:
            SHARING[chosen.command](chosen)
        else:
            extract_perceptual(chosen.file, chosen.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
