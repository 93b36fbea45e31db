"""Stage ``collect``: one CSV row for every run's ``scores.json``; beside it, what has more than one row a run.

python -m pipeline.collect [--scores results/scores] [--runs results/runs] [--out results/collected/scores.csv]
                           [--mixed label]

The tables and their columns are declared in ``tokenworlds.runs.columns``. Evaluations, losses and parts of the costs
are those of runs whose folder is here; a folder that lost part of its files is refused.

Runs of one method, variant, scale and family of tasks must share their settings. ``--mixed label``, or ``mixed: label``
in ``analysis/params.yaml`` for the pipeline, accepts several on purpose: runs that deviate from the shipped
configuration get a variant of their own (``model.backbone=retnet``). They get it, too, where all runs of a name deviate
alike: ``iris`` in a table is the shipped configuration.
"""

import argparse
import csv
import io
import json
import math
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.options import read_options
from pipeline.records import Records, parameter_counts, read_records
from tokenworlds.cli import exit_status
from tokenworlds.config import project_root
from tokenworlds.errors import UserError, excerpt
from tokenworlds.files import require_place, write_atomic
from tokenworlds.runs.columns import COMPANIONS, IDENTITY, SCORES, Column, names
from tokenworlds.runs.identity import RunId, unknown_part
from tokenworlds.runs.layout import (
    EVALUATIONS,
    JOURNAL,
    MEASURES,
    RUN_SCORES,
    WEIGHTS,
    WORLD_MODEL,
    runs_folder,
    scores_folder,
)
from tokenworlds.runs.manifest import is_result, read_weights_header, verify
from tokenworlds.runs.settings import MIXED, REFUSE, label_variants
from tokenworlds.scores import crafter_score

SCHEMA = 1
LARGEST = sys.float_info.max
CRAFTER = "crafter/"  # the benchmark whose achievements make a score

TABLES = {
    EVALUATIONS: ("env_steps", "return_mean"), MEASURES: ("value",), WORLD_MODEL: ("episode", "value", "count"),
}  # fmt: skip
"""Tables of a run that are collected as they are, and columns of each that must hold numbers."""
READ_ANYWAY = (*TABLES, JOURNAL, RUN_SCORES)  # files of a run whose content is compared, too
# A flag given by hand lasts until the next `dvc repro`
ACCEPT = "accept both with `--mixed label` (pipeline: `mixed: label` in analysis/params.yaml)"

Row = dict[str, Any]
REMEDY = "train that run again (`dvc repro -f STAGE`) or delete the file"


def read_run(path: Path, root: Path) -> Row:
    """One row of ``columns.SCORES``; beside it ``achievements`` (per cent by name), ``returns`` and ``lengths``."""
    record = _load(path)
    run, budget = _section(record, "run", path), _section(record, "budget", path)
    returns, lengths = _numbers(record, "returns", path), _numbers(record, "lengths", path)
    if len(returns) != len(lengths):
        raise _broken(path, f"{len(returns)} returns and {len(lengths)} lengths where the numbers must be equal")
    score = _finite(record.get("score"), "score", path)
    if not math.isclose(score, statistics.fmean(returns), rel_tol=1e-6, abs_tol=1e-6):
        raise _broken(path, f"a score of {score} which is not the mean {statistics.fmean(returns)} of its returns")
    row = {
        **{name: run.get(name) for name in names(IDENTITY)},
        **{name: _text(run, name, path) or "" for name in ("variant", "scale", "suite")},
        "score": score,
        "score_std": _std(returns),
        "episodes": len(returns),
        "length_mean": statistics.fmean(lengths),
        **_baseline(record, path),
        "episode_limit": _episode_limit(record, path),
        "achievements": _achievements(record, path),
        "returns": returns,
        "lengths": lengths,
        "crafter_score": record.get("crafter_score"),
        **{name: _amount(budget, name, path) for name in ("epochs", "env_steps", "oracle_steps")},
        "hours": _amount(record, "hours", path),
        **{name: _text(record, name, path) for name in ("hardware", "git_revision", "config_hash", "settings_hash")},
        "overrides": _overrides(record, path),
        "trained_on": _trained_on(budget, path),
    }
    _check_identity(row, path, root)
    return row


def _load(path: Path) -> dict[str, Any]:
    record = _read_json(path)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{path} must hold scores of schema {SCHEMA}, found {excerpt(repr(found))}; {REMEDY}.")
    return record


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); {REMEDY}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {REMEDY}.") from error


def _broken(path: Path, finding: str) -> UserError:
    return UserError(f"{path} holds {excerpt(finding, 120)}; {REMEDY}.")


def _overrides(record: Mapping[str, Any], path: Path) -> str:
    """The settings that differ from the shipped configuration, as JSON; empty where the file does not say."""
    found = record.get("overrides")
    if not isinstance(found, dict | None):
        raise _broken(path, f"{found!r} as overrides where a mapping is expected")
    return "" if found is None else json.dumps(found, sort_keys=True)


def _trained_on(budget: Mapping[str, Any], path: Path) -> str:
    """``tokenizer: 50000 frames of random_policy, counted``, ``tokenizer: 500 frames of replay iris/atari/Pong/0
    iris/atari/Pong/1, not counted``; empty where nothing was trained before."""
    found = budget.get("trained_on", {})
    try:
        return "; ".join(
            f"{part}: {one['frames']} frames of {' '.join([one['source'], *one.get('runs', [])])}, "
            f"{'' if one['counts_toward_budget'] else 'not '}counted"
            for part, one in found.items()
        )
    except (AttributeError, KeyError, TypeError):
        raise _broken(path, f"{excerpt(repr(found))} as trained_on where frames by part are expected") from None


def _section(record: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = record.get(name)
    if not isinstance(section, dict):
        raise _broken(path, f"no section {name!r}")
    return section


def _finite(value: object, name: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        raise _broken(path, f"{excerpt(repr(value))} as {name} where a finite number is expected")
    return float(value)


def _amount(record: Mapping[str, Any], name: str, path: Path) -> float | None:
    """A number from 0 on as the file has it; None where it does not say."""
    value: float | None = record.get(name)
    if value is not None and _finite(value, name, path) < 0:
        raise _broken(path, f"{value} as {name} where a number from 0 on is expected")
    return value


def _text(record: Mapping[str, Any], name: str, path: Path) -> str | None:
    value = record.get(name)
    if not isinstance(value, str | None):
        raise _broken(path, f"{excerpt(repr(value))} as {name} where a text is expected")
    return value


def _numbers(record: Mapping[str, Any], name: str, path: Path) -> list[float]:
    values = record.get(name)
    if not isinstance(values, list) or not values:
        raise _broken(path, f"{values!r} as {name} where a list with a number for each episode is expected")
    return [_finite(value, f"one of the {name}", path) for value in values]


def _baseline(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Score of the random policy, where the scale asked for one."""
    if record.get("random") is None:
        return {}
    returns = _numbers(_section(record, "random", path), "returns", path)
    return {"random_score": statistics.fmean(returns), "random_std": _std(returns), "random_episodes": len(returns)}


def _episode_limit(record: Mapping[str, Any], path: Path) -> float | None:
    """Frames or steps after which an episode was cut: infinite for the game's own limit, None where the file, of an
    older version, does not say."""
    protocol = {} if record.get("protocol") is None else _section(record, "protocol", path)
    if "max_episode_steps" not in protocol:
        return None
    limit = protocol["max_episode_steps"]
    return math.inf if limit is None else _finite(limit, "max_episode_steps", path)


def _achievements(record: Mapping[str, Any], path: Path) -> dict[str, float]:
    """Success rates in per cent; empty where the environment has none. On Crafter the score must be theirs."""
    if record.get("achievements") is None:
        return {}
    rates = {
        name: _finite(rate, f"the success rate of {name}", path)
        for name, rate in _section(record, "achievements", path).items()
    }
    if not rates or not all(0.0 <= rate <= 100.0 for rate in rates.values()):
        raise _broken(path, f"success rates of {rates} where percentages are expected")
    if not str(record["run"].get("task")).startswith(CRAFTER):
        return rates
    score = _finite(record.get("crafter_score"), "crafter_score", path)
    expected = crafter_score(rates.values())
    if not math.isclose(score, expected, rel_tol=1e-6, abs_tol=1e-6):
        raise _broken(path, f"a crafter_score of {score} where the success rates give {expected}")
    return rates


def _std(values: Sequence[float]) -> float | None:
    """Sample standard deviation; a single episode has none."""
    return statistics.stdev(values) if len(values) > 1 else None


def _check_identity(row: Mapping[str, Any], path: Path, root: Path) -> None:
    """Refuse a file elsewhere than its content says: a copied file would count one run twice."""
    if finding := unknown_part(row["method"], row["task"], row["seed"]):
        raise UserError(f"{path} holds {finding}")
    expected, found = RunId.of_record(row).name, path.relative_to(root).with_suffix("").as_posix()
    if expected != found:
        raise _broken(path, f"the run {expected!r} under the name {found!r}")
    if not row["scale"]:
        raise _broken(path, "no scale, so the run cannot be labelled")


def collect(root: Path, mixed: str = REFUSE) -> list[Row]:
    """All rows, sorted by identity; runs that deviate from the shipped configuration under a variant that says so."""
    paths = sorted(path for path in root.rglob("*.json") if path.is_file()) if root.is_dir() else []
    if not paths:
        raise UserError(f"no scores under {root}: train something first, `make repro` trains the smoke suite.")
    rows = [read_run(path, root) for path in paths]
    label_variants(rows, str(root), ACCEPT, mixed)
    return sorted(rows, key=lambda row: (row["method"], row["variant"], row["task"], int(row["seed"])))


def achievement_rows(rows: Iterable[Row]) -> list[Row]:
    """A row per run and achievement."""
    return [
        _identity(row) | {"achievement": name, "success_rate": rate}
        for row in rows
        for name, rate in row["achievements"].items()
    ]


def episode_rows(rows: Iterable[Row]) -> list[Row]:
    """A row per run and final episode."""
    return [
        _identity(row) | {"episode": number, "return": score, "length": length}
        for row in rows
        for number, (score, length) in enumerate(zip(row["returns"], row["lengths"]))
    ]


def folders(rows: Iterable[Row], scores: Path, runs: Path) -> list[Path | None]:
    """The folder of each run; None where there is none, or one of other scores (made on another machine)."""
    if runs.exists() and not runs.is_dir():
        raise UserError(f"{runs} is a file where the folder of the runs is expected; give another one with --runs.")
    found: list[Path | None] = []
    for row in rows:
        name = RunId.of_record(row).name
        folder, collected = runs / name, scores / f"{name}.json"
        own = folder / RUN_SCORES
        is_its = own.is_file() and collected.is_file() and own.read_bytes() == collected.read_bytes()
        found.append(folder if is_its else None)
    return found


def check_folders(rows: Iterable[Row], runs: Path) -> None:
    """Refuse the folder of a run that lost a file or part of one, also one whose damaged scores would pass for those of
    another machine.

    Sizes are compared with the run's manifest, contents of the files that are read anyway; weights agree with their own
    header, which folders without a manifest (of older versions) have, too.
    """
    for row in rows:
        folder = runs / RunId.of_record(row).name
        if not folder.is_dir():
            continue
        verify(folder, READ_ANYWAY, is_result)
        if (folder / WEIGHTS).is_file():
            read_weights_header(folder / WEIGHTS)
        if (folder / RUN_SCORES).is_file():
            _read_json(folder / RUN_SCORES)


def table_rows(name: str, rows: Iterable[Row], folders: Iterable[Path | None]) -> Iterator[Row]:
    """The rows of one of ``TABLES`` of each run whose folder is here and has it."""
    for row, folder in zip(rows, folders):
        if folder is None or not (path := folder / name).is_file():
            continue
        try:
            with path.open(newline="", encoding="utf-8") as file:
                records = list(csv.DictReader(file, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise _broken(path, f"no table ({error})") from error
        for record in records:
            try:
                for column in TABLES[name]:
                    float(record[column])
            except (KeyError, TypeError, ValueError) as error:
                line = excerpt(", ".join(map(str, record.values())), 60)
                raise _broken(path, f"no numbers as {', '.join(TABLES[name])} in the line {line}") from error
            yield record | _identity(row)


def cost_rows(rows: Iterable[Row], folders: Iterable[Path | None], journals: Iterable[Records]) -> list[Row]:
    """A row per run: what its scores tell (hours, hardware) and, where its folder is here, its size and seconds."""
    return [
        row | ({} if folder is None else parameter_counts(folder / WEIGHTS)) | journal.costs()
        for row, folder, journal in zip(rows, folders, journals)
    ]


def loss_rows(rows: Iterable[Row], journals: Iterable[Records]) -> Iterator[Row]:
    """The losses of each run whose folder is here, a row per epoch, component, split and loss."""
    for row, journal in zip(rows, journals):
        identity = _identity(row)
        for losses in journal.loss_rows():
            yield identity | losses


def _identity(row: Row) -> Row:
    return {name: row[name] for name in names(IDENTITY)}


def check_out(out: Path) -> None:
    """Refuse places that cannot take the tables, or hold files of others that they would replace.

    Raises:
        UserError: a folder, a file that is no table of this program, a name that a table beside it has, or a place that
            cannot be written.
    """
    remedy = "give another file with --out"
    if out.name in COMPANIONS:
        raise UserError(f"{out}: a table of that name is written beside the scores; {remedy}.")
    require_place(out, remedy)
    for path in (out, *map(out.with_name, COMPANIONS)):
        if path.is_dir() or (path.is_symlink() and not path.exists()):
            raise UserError(f"{path} is no file; {remedy}.")
        if path.exists() and not _is_own(path):
            raise UserError(f"{path} is no table that this program wrote; {remedy}, in a folder of its own.")


def _is_own(path: Path) -> bool:
    """Whether a file begins like a table of collected runs, or is empty."""
    with path.open("rb") as file:
        head = file.readline(2000)
    return not head or head.startswith(",".join(names(IDENTITY)).encode())


def write(rows: Iterable[Mapping[str, Any]], out: Path, columns: Iterable[Column] = SCORES) -> None:
    """The CSV; numbers in full precision, absent values empty."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names(columns), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out, file.getvalue().encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.collect", description=__doc__.splitlines()[0])
    collected = project_root() / "results" / "collected" / "scores.csv"
    parser.add_argument("--scores", type=Path, default=scores_folder(), help="folder of the runs' scores")
    parser.add_argument("--runs", type=Path, default=runs_folder(), help="folder of the runs' folders")
    parser.add_argument("--out", type=Path, default=collected, help="CSV to write")
    parser.add_argument(
        "--mixed", choices=MIXED, help="runs of several settings under one name (default: analysis/params.yaml)"
    )
    options = parser.parse_args(arguments)

    def command() -> None:
        check_out(options.out)
        rows = collect(options.scores, options.mixed or read_options().mixed)
        check_folders(rows, options.runs)
        places = folders(rows, options.scores, options.runs)
        journals = [read_records(place / JOURNAL) if place else Records() for place in places]
        tables = {
            options.out.name: rows,
            "achievements.csv": achievement_rows(rows),
            "costs.csv": cost_rows(rows, places, journals),
            "episodes.csv": episode_rows(rows),
            "losses.csv": loss_rows(rows, journals),
            **{name: list(table_rows(name, rows, places)) for name in TABLES},
        }
        for name, lines in tables.items():
            write(lines, options.out.with_name(name), COMPANIONS.get(name, SCORES))
        print(f"{len(rows)} runs -> {options.out}")

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
