"""How the layers of a run's configuration are put together.

From the bottom up:

1. ``pipeline/<method>/params.yaml``: the published values (they stand there and nowhere else), for all tasks and, under
   ``families.<family>``, for those of one family of environments;
2. named overrides of the same file: ``scales.<scale>``, ``families.<family>.scales.<scale>``, ``tasks.<task>``,
   ``variants.<variant>``, ``variants.<variant>.families.<family>``;
3. the root ``params.yaml``: the switches that cut across methods (``model.backbone`` and its like);
4. command-line overrides.

Every layer is merged into the dataclasses of ``schema``, so an unknown key, a wrong type or an unknown choice fails at
once with its full name.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from tokenworlds.config.checks import validate
from tokenworlds.config.schema import SCHEMAS, RunConfig, project_root
from tokenworlds.errors import UserError, near_matches

NAMED = ("families", "scales", "tasks", "variants")  # sections of overrides in a method's params.yaml


def known_methods() -> list[str]:
    return sorted(path.parent.name for path in (project_root() / "pipeline").glob("*/params.yaml"))


def load(overrides: list[str]) -> RunConfig:
    """The resolved configuration of the run described by ``overrides`` such as ``["method=iris", "task=atari/Pong"]``.

    Raises:
        UserError: unknown method, variant, key or choice; wrong type; missing value; impossible combination.
    """
    try:
        return _load(overrides)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        message = (error.msg or str(error)).splitlines()[0].rstrip(".")
        raise UserError(f"configuration: {key}{message}{_remedy(error)}") from error


def _load(overrides: list[str]) -> RunConfig:
    command_line = OmegaConf.from_dotlist(overrides)
    schema = SCHEMAS.get(str(command_line.get("method")), RunConfig)
    head = _merge(OmegaConf.structured(schema), command_line)
    for required in ("method", "task"):
        if OmegaConf.is_missing(head, required):
            raise UserError(
                f"configuration: {required} is not given; say for example method=iris task=atari/Pong seed=0."
            )
    if head.method not in known_methods():
        raise UserError(f"unknown method '{head.method}': {near_matches(head.method, known_methods())}")
    params = _read_yaml(project_root() / "pipeline" / head.method / "params.yaml")
    layers = [{key: value for key, value in params.items() if key not in NAMED}]
    name, families = head.task.partition("/")[0], params.get("families", {})
    family = dict(families.get(name, {}))
    family_scales = family.pop("scales", {})
    layers += [family, *(scales.get(head.scale.name, {}) for scales in (params.get("scales", {}), family_scales))]
    layers.append(params.get("tasks", {}).get(head.task, {}))
    if head.variant is not None:
        variants = params.get("variants", {})
        if head.variant not in variants:
            raise UserError(
                f"unknown variant '{head.variant}' of {head.method}: {near_matches(head.variant, variants)}"
            )
        variant = dict(variants[head.variant])
        of_families = variant.pop("families", {})
        if unknown := of_families.keys() - families.keys():
            raise UserError(
                f"variant '{head.variant}' of {head.method} names families without settings: {', '.join(unknown)}."
            )
        layers += [variant, of_families.get(name, {})]
    layers.append({"model": _without_nulls(_read_yaml(project_root() / "params.yaml").get("model") or {})})
    config = OmegaConf.structured(schema)
    for layer in [*layers, command_line]:
        config = _merge(config, layer)
    return validate(_instantiate(cast(DictConfig, config), families))


def _merge(config: Any, layer: Any) -> Any:
    """``config`` with ``layer`` on top."""
    try:
        return OmegaConf.merge(config, layer)
    except OmegaConfBaseException as error:
        error.full_key = error.full_key or _misplaced(cast(Any, OmegaConf.get_type(config))(), layer)
        raise


def _misplaced(schema: Any, layer: Any, prefix: str = "") -> str:
    """The key of a plain value in the place of a section, which OmegaConf does not name."""
    for key, value in layer.items():
        section = getattr(schema, str(key), None)
        if dataclasses.is_dataclass(section):
            is_section = isinstance(value, dict | DictConfig)
            if found := _misplaced(section, value, f"{prefix}{key}.") if is_section else f"{prefix}{key}":
                return found
    return ""


def _instantiate(config: DictConfig, families: dict[str, Any]) -> RunConfig:
    missing, family = sorted(OmegaConf.missing_keys(config)), config.task.partition("/")[0]
    sections = [OmegaConf.create(section) for section in families.values()]
    if family not in families and any(OmegaConf.select(section, key) for section in sections for key in missing):
        known = ", ".join(families)
        raise UserError(f"configuration: {config.method} has no settings for {family}; it has some for {known}.")
    if missing:
        raise UserError(
            f"configuration: {', '.join(missing)} has no value; "
            "give one in the method's params.yaml or on the command line."
        )
    return cast(RunConfig, OmegaConf.to_object(config))


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    loaded = OmegaConf.load(path)
    if isinstance(loaded, ListConfig):
        raise UserError(f"{path} should hold a mapping, not a list.")
    return cast(dict[str, Any], OmegaConf.to_container(loaded))


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """A null in the root params.yaml means: the method's own value."""
    nested = {key: _without_nulls(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


def _remedy(error: OmegaConfBaseException) -> str:
    """For an unknown key: the known ones nearby."""
    if not dataclasses.is_dataclass(error.object_type) or not isinstance(error, ConfigKeyError | ConfigAttributeError):
        return "."
    return f"; {near_matches(str(error.key), [f.name for f in dataclasses.fields(error.object_type)])}"
