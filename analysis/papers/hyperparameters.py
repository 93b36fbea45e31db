"""IRIS-T-hp, REM-T-hp, DIRIS-T-hp, M3-T-hp: every number of a method, from the file that its runs are made from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.context import Context
from analysis.data.identity import NAMES
from analysis.data.scores import ROOT
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.errors import NoData

SECTIONS = ("environment", "collection", "model", "training", "quirks", "evaluation")
BENCHMARK = "atari"
BENCHMARKS = {BENCHMARK: "Atari", "crafter": "Crafter", "dmc": "DMC", "craftax": "Craftax"}  # of the papers
SCALES = ("laptop", "small", "smoke")
NONE, SAME = "–", ""

Values = dict[str, Any]
"""Dotted name -> value."""


def require_yaml(context: Context) -> None:
    """Raise ``NoData`` where the file cannot be read."""
    try:
        import yaml  # noqa: F401
    except ImportError as error:
        raise NoData("needs PyYAML to read the parameters: `python -m pip install pyyaml`") from error


def parameters_path(method: str) -> Path:
    """File of a method's hyper-parameters."""
    return ROOT / "pipeline" / method / "params.yaml"


def hyperparameter_table(method: str, context: Context) -> Table:
    """A row per number: its value on each benchmark, and where the scales of a CPU differ."""
    import yaml  # only here: all else of the analysis does without

    path = parameters_path(method)
    layers: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    table = values_by_column(layers, _defaults(method, layers))
    benchmark = table[BENCHMARKS[BENCHMARK]]
    whole = {column: benchmark | values for column, values in table.items()}
    names = _by_section([name for name in dict.fromkeys(name for values in table.values() for name in values)
                         if any(_is_chosen(name, values) for values in whole.values())])  # fmt: skip
    records = [
        dict(zip(("section", "parameter"), name.rpartition(".")[::2]))
        | {
            column: _text(table[column].get(name, SAME)) if _is_chosen(name, whole[column]) else NONE
            for column in table
        }
        for name in names
    ]
    lines = [[Cell(text) for text in record.values()] for record in records]
    tops = [name.split(".")[0] for name in names]
    rules = [number for number in range(1, len(tops)) if tops[number] != tops[number - 1]]
    headers = ["Section", "Parameter", *table]
    return render(headers, lines, pd.DataFrame(records), _caption(method, layers), text_columns=2, rules=rules)


def values_by_column(layers: Mapping[str, Any], defaults: Values) -> dict[str, Values]:
    """Per benchmark all values; per scale those that differ from the first benchmark's.

    Args:
        defaults: the program's own values, for numbers that only scales name.
    """
    scales = {scale: dict(_flat(_numbers(layers.get("scales", {}).get(scale, {})))) for scale in SCALES}
    base = dict(_flat({name: layers[name] for name in SECTIONS}))
    added = (name for changes in scales.values() for name in changes if name in defaults)
    base |= {name: defaults[name] for name in added if name not in base}
    families = {name: dict(_flat(_numbers(changes))) for name, changes in layers.get("families", {}).items()}
    shown = [name for name in BENCHMARKS if name == BENCHMARK or name in families]
    columns = {BENCHMARKS[name]: base | families.get(name, {}) for name in shown}
    first = columns[BENCHMARKS[BENCHMARK]]
    for scale, changes in scales.items():
        columns[f"{scale.capitalize()} scale"] = {
            name: value for name, value in changes.items() if value != first.get(name)
        }
    return columns


def _defaults(method: str, layers: Mapping[str, Any]) -> Values:
    from tokenworlds.config import load, to_dict  # needs PyYAML, as do the parameters

    has_perceptual = "perceptual" in layers["model"]["tokenizer"]  # which needs a file that need not be there
    overrides = ["model.tokenizer.perceptual=none"] * has_perceptual
    return dict(_flat(to_dict(load([f"method={method}", f"task={BENCHMARK}/Pong", *overrides]))))


def _numbers(layer: Mapping[str, Any]) -> Values:
    """The numbers of a family or a scale, without a family's own scales and what belongs to the machine."""
    return {name: changes for name, changes in layer.items() if name in SECTIONS}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _by_section(names: list[str]) -> list[str]:
    """Names sorted by section, so that what a benchmark adds is next to the rest of its section."""
    sections = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    places = {section: (SECTIONS.index(section.split(".")[0]), sections.index(section)) for section in sections}
    return sorted(names, key=lambda name: places[name.rpartition(".")[0]])


def _choices() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Switch -> where its alternatives have sections of their own: only those of the chosen one are shown."""
    from tokenworlds.config import Backbone, TokenizerNetwork  # needs PyYAML, as do the parameters

    return {
        "model.backbone": ("model.world_model", tuple(Backbone.__members__)),
        "model.tokenizer.network": ("model.tokenizer", tuple(TokenizerNetwork.__members__)),
    }


def _is_chosen(name: str, values: Values) -> bool:
    """Whether a number belongs to a part that the method uses."""
    for switch, (place, alternatives) in _choices().items():
        others = (f"{place}.{other}." for other in alternatives if other != values.get(switch))
        if switch in values and name.startswith(tuple(others)):
            return False
    return True


def _text(value: object) -> str:
    if value is None or value == []:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _caption(method: str, layers: Mapping[str, Any]) -> str:
    tasks = [
        f"{name} is {_text(value)} on {task.split('/')[-1]}."
        for task, changes in layers.get("tasks", {}).items()
        for name, value in _flat(changes)
    ]
    parts = [
        f"{NAMES[method]}: the published hyper-parameters, as `pipeline/{method}/params.yaml` holds them; our scales "
        "where they differ. Sections of backbones and tokenizers that the method does not use are left out; – is none, "
        "or a part that is not used there.",
        *tasks,
    ]
    if method == "iris":
        parts.append("Its settings on Crafter are not published: those shown are ours.")
    return " ".join(parts)
