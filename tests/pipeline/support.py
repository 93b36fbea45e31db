"""Changes that tests make to the sources in a checkout of their own."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from analysis.data.families import FAMILIES
from tests.conftest import PROJECT, Checkout
from tokenworlds.config import Backbone, known_methods

# A run in seconds: the smoke scale, once more shrunk.
TINY = {
    "collection": {
        "train": {"steps": 20, "steps_first_epoch": None, "stop_after_epochs": 2},
        "test": {"num_envs": 1, "episodes": 1},
    },
    "environment": {"train": {"max_episode_steps": 60}, "test": {"max_episode_steps": 60}},
    "training": {
        "epochs": 2,
        "tokenizer": {"batch_size": 2, "updates_per_epoch": 1, "updates_first_epoch": None, "start_after_epochs": 0},
        "world_model": {"batch_size": 4, "updates_per_epoch": 1, "updates_first_epoch": None, "start_after_epochs": 0},
        "actor_critic": {"batch_size": 2, "updates_per_epoch": 1, "start_after_epochs": 0, "horizon": 2, "burn_in": 2},
    },
    "evaluation": {"every": 3, "imagined_episodes": 1, "final_episodes": 1, "final_num_envs": 1, "random_episodes": 1},
    "runtime": {"deterministic": True, "threads": 1},
}


BEGINNINGS = {
    "same_game_variants": "results/runs/iris/${item.task}/${item.seed}/agent.safetensors",
    "random_policy_variants": "results/tokenizers/random_policy/iris/${item.task}/${item.seed}/agent.safetensors",
    "other_games_variants": "results/tokenizers/other_games/iris/${item.task}/${item.seed}/agent.safetensors",
}
"""Groups of variants that begin with weights of another stage, and these, on which they depend."""


def prefix_of(group: str) -> str:
    """What the tasks of a stage group begin with: ``crafter/`` of ``crafter_more_variants``, nothing of ``any``."""
    family = group.removesuffix("_variants").removesuffix("_more")
    return "" if family == "any" or group in BEGINNINGS else f"{family}/"


def variants_of(method: str) -> list[str]:
    """The variants of the method's settings, in their order."""
    return [*yaml.safe_load((PROJECT / "pipeline" / method / "params.yaml").read_text())["variants"]]


def backbones_of(method: str) -> list[Backbone]:
    """The sequence models that the method has sizes for."""
    sections = yaml.safe_load((PROJECT / "pipeline" / method / "params.yaml").read_text())["model"]["world_model"]
    return [backbone for backbone in Backbone if backbone.name in sections]


def ablations_of(method: str) -> list[str]:
    """The variants that are not of experiments of ours."""
    ours = {name for family in FAMILIES.values() for name in family.names} if method == "delta_iris" else set()
    return [variant for variant in variants_of(method) if variant not in ours]


def edit_yaml(path: Path, changes: dict[str, Any]) -> None:
    """Merge ``changes`` into a YAML file."""
    merged = OmegaConf.merge(yaml.safe_load(path.read_text()), changes)
    path.write_text(OmegaConf.to_yaml(merged))


def shrink(folder: Path, epochs: int = 2) -> None:
    """Make the smoke scale of every method tiny."""
    changes = OmegaConf.to_container(OmegaConf.merge(TINY, {"training": {"epochs": epochs}}))
    for params in (folder / "pipeline").glob("*/params.yaml"):
        for file in (params, params.with_name("published.yaml")):  # so the runs are those of the methods as shipped
            edit_yaml(file, {"scales": {"smoke": changes}})


def repeat_seldom(folder: Path) -> None:
    """Let the analysis resample 50 times."""
    names = ("aggregates", "profiles", "improvement")
    edit_yaml(folder / "analysis" / "params.yaml", {f"repetitions_{name}": 50 for name in names})


def quicken(checkout: Checkout, epochs: int) -> Checkout:
    """Runs of seconds, a quick analysis and a tracking database of its own, committed."""
    shrink(checkout.folder, epochs)
    repeat_seldom(checkout.folder)
    checkout.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{checkout.folder / 'mlflow.db'}"
    checkout.commit()
    return checkout


def choose(
    folder: Path, *tasks: str, methods: tuple[str, ...] = ("iris",), seeds: tuple[int, ...] = (0,), scale: str = "smoke"
) -> None:
    """Let the grid ask for some methods on some Atari games, and for nothing else."""
    path = folder / "pipeline" / "grid.yaml"
    grid = yaml.safe_load(path.read_text())["grid"] | {"suite": "test", "scale": scale}
    for method in known_methods():
        for axes in grid[method].values():
            axes.update({axis: [] for axis in axes})
    for method in methods:
        grid[method]["atari"] = {"tasks": list(tasks), "seeds": list(seeds)}
    path.write_text(yaml.safe_dump({"grid": grid}))


def overrides(values: dict[str, Any], prefix: str = "") -> list[str]:
    """The same values on a command line."""
    flat: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += overrides(value, f"{prefix}{key}.")
        else:
            flat.append(f"{prefix}{key}={'null' if value is None else value}")
    return flat
