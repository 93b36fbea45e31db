"""The model card of a finished run, as the Hugging Face Hub shows it, and the list of the agents in a repository.

A card says what the run recorded and nothing more: scores with their protocol, budget, settings, curve, film, and how
well the world model predicts. A run that is smaller than the published ones says so first.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tokenworlds.config import project_root
from tokenworlds.errors import UserError, brief, installing
from tokenworlds.files import shortened
from tokenworlds.runs.columns import OPEN_LOOP, STILL, TEACHER_FORCED, TOKENIZER
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import CONFIG, EVALUATIONS, JOURNAL, RUN_SCORES, WEIGHTS, WORLD_MODEL
from tokenworlds.scores import is_cut
from tokenworlds.tracking.journal import read_journal
from tokenworlds.tracking.summary import HUMAN_NORMALISED, RANDOM, read_scores, summary

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD, METADATA = "README.md", "agent.json"
CURVE, FILM, STRIP = "media/curve.png", "media/episode.mp4", "media/imagination.png"
NAMES = {"iris": "IRIS", "rem": "REM", "delta_iris": "Delta-IRIS", "m3": "M3"}
LIBRARY, LICENCE = "tokenworlds", "mit"
SIZES = {
    "smoke": "A pipeline test: scale `smoke` trains for seconds to show that everything runs. Nothing is learned, and "
    "the scores mean nothing.",
    "small": "Below the published size: scale `small` is a small agent for small worlds, trained on a CPU in minutes. "
    "Its scores are not comparable with published ones.",
    "laptop": "Below the published size: scale `laptop` is a small agent, trained on one CPU core in hours. Its scores "
    "are not comparable with published ones.",
}
IDEA = (
    "a token-based world model: observations become discrete tokens, a sequence model learns to predict the tokens, "
    "reward and end of the next step, and the policy is trained on episodes that this model imagines"
)
ROUNDING = (1 / 255) ** 2 / 12  # mean squared error of rounding to 8 bits
FORCED = {"accuracy": "tokens", "reward_accuracy": "rewards", "end_accuracy": "ends"}
MEASURES = {"mse": "PSNR (dB)", "symlog_error": "error (symlog)", "accuracy": "tokens right"}
PREDICTORS = {OPEN_LOOP: "world model", STILL: "last frame, repeated", TOKENIZER: "tokenizer alone"}
BEGIN, END = "<!-- agents: written by python -m tokenworlds.checkpoints push -->", "<!-- /agents -->"

Scores = Mapping[str, Any]


def finished(run: Path) -> Scores:
    """Content of a finished run's ``scores.json``.

    Raises:
        UserError: the folder holds no finished run, or its scores are damaged.
    """
    missing = [name for name in (CONFIG, WEIGHTS, METADATA, RUN_SCORES) if not (run / name).is_file()]
    if missing:
        raise UserError(
            f"{shortened(run, 80)} is no finished run: it has no {' and no '.join(missing)}; give a folder below "
            "results/runs."
        )
    return known(read_scores(run / RUN_SCORES), run / RUN_SCORES)


def known(scores: Scores, place: object) -> Scores:
    """Scores that have every part of which a card tells."""
    try:
        RunId.of_record(scores["run"])
        numbers = [scores["score"], statistics.fmean(scores["returns"]), scores["budget"]["env_steps"]]
        sections = [scores["protocol"], scores["budget"]["agent_updates"]]
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("no number")
        if not all(isinstance(section, dict) for section in sections):
            raise TypeError("no section")
    except (KeyError, TypeError, ValueError, statistics.StatisticsError) as error:
        raise UserError(f"{place} is damaged or of another version (it lacks parts); train that run again.") from error
    return scores


def require_client(ending: str = ".") -> None:
    """Refuse to go on without the Hub's client, which also writes the metadata of cards."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(f"agents are shared through the package huggingface_hub: {installing('hub')}{ending}")


def signed(text: str) -> str:
    """A card with a last line by which ``is_unedited`` knows it again."""
    return f"{text}<!-- {LIBRARY} {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_unedited(file: Path) -> bool:
    """Whether a file is a card as this program wrote it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return signed(text[: text.rfind("<!--")]) == text


def name_of(method: str) -> str:
    """As its paper writes it."""
    return NAMES.get(method, method)


def folder_of(run: RunId) -> str:
    """Where a run is in the repository of its method: ``atari/Pong/0``, ``atari/Pong/0+no-pop+smoke``."""
    scale = "" if run.scale == "paper" else run.scale
    return "+".join(filter(None, (f"{run.task}/{run.seed}", run.variant, scale)))


def title(run: RunId) -> str:
    """``REM on atari/Pong, seed 0``, with variant and scale where they are not the published ones."""
    more = [f"variant {run.variant}"] * bool(run.variant) + [f"scale {run.scale}"] * (run.scale != "paper")
    return f"{name_of(run.method)} on {run.task}, {', '.join([*more, f'seed {run.seed}'])}"


def pictures(run: Path) -> dict[str, bytes]:
    """What the card of a finished run shows, by relative path: the curve, and as far as the run has kept them film and
    strip."""
    finished(run)
    kept = {FILM: [run / FILM, *sorted(run.glob("media/episodes/test/*.mp4"))], STRIP: [run / STRIP]}
    found = {name: next((file for file in files if file.is_file()), None) for name, files in kept.items()}
    shown = {name: file.read_bytes() for name, file in found.items() if file is not None}
    drawn = curve(run)
    return ({CURVE: drawn} if drawn else {}) | shown


def model_card(run: Path, shown: Iterable[str], place: str = "OWNER/NAME") -> str:
    """The card of a finished run.

    Args:
        shown: relative paths of the pictures beside the card (``pictures``).
        place: repository that it is to be loaded from.
    """
    require_client()
    scores, shown = finished(run), tuple(shown)
    identity = RunId.of_record(scores["run"])
    paper = citation(identity.method)
    sections = [
        f"# {title(identity)}",
        *(f"> **{note}**" for note in notes(scores)),
        f"An agent of {_link(paper, name_of(identity.method))}, {IDEA}. Trained with `{LIBRARY}`.",
        "## Scores",
        _score_table(scores),
        _protocol(scores),
        f"![Return against agent steps]({CURVE})" if CURVE in shown else "",
        f'<video controls loop muted width="256" src="{FILM}"></video>\n\n[Film of an episode]({FILM})'
        if FILM in shown
        else "",
        "## Training",
        _table(("", ""), _training(scores)),
        *_world_model(run / WORLD_MODEL, STRIP in shown),
        "## Use",
        f'```python\nimport tokenworlds\nagent = tokenworlds.load("hub:{place}/{folder_of(identity)}")\n'
        "action = agent.act(observation)\n```",
        "## Licence",
        "MIT, as the program that trained it. The environment has a licence of its own.",
        *(["## Citation", f"```bibtex\n{paper}\n```"] if paper else []),
    ]
    return _with_metadata(metadata(identity.method, [("", scores)]), "\n\n".join(filter(None, sections)))


def index(agents: Mapping[str, Scores], place: str, earlier: bytes | None = None) -> str:
    """``README.md`` of a repository: its agents by folder, all of one method.

    Args:
        earlier: the file so far, of which all but the list and the metadata that go with it is kept.

    Raises:
        UserError: the file so far cannot be read.
    """
    from huggingface_hub import ModelCard

    method = RunId.of_record(next(iter(agents.values()))["run"]).method
    name = name_of(method)
    rows = [_row(folder, scores) for folder, scores in agents.items()]
    head = (
        "agent",
        "mean return ± std",
        "episodes",
        "random policy",
        "human-normalised",
        "scale",
        "agent steps",
        "hours",
    )
    sized = sorted({RunId.of_record(scores["run"]).scale for scores in agents.values()} & SIZES.keys())
    listed = "\n\n".join([BEGIN, _table(head, rows), *(SIZES[scale] for scale in sized), END])
    data = metadata(method, agents.items())
    if earlier is not None:
        try:
            card = ModelCard(earlier.decode(), ignore_metadata_errors=True)
        except (ValueError, yaml.YAMLError) as error:
            raise UserError(f"{CARD} of {place} cannot be read ({brief(error, 60)}); mend it there first.") from error
        given = {key: value for key, value in card.data.to_dict().items() if key != "model-index"}
        tags = given.get("tags") or []
        tags = [tags] if isinstance(tags, str) else tags
        for key, value in (given | {"tags": list(dict.fromkeys([*tags, *(data.tags or [])]))}).items():
            data[key] = value
        before, found, rest = card.text.partition(BEGIN)
        after = rest.partition(END)[2] if found else "\n"
        return _with_metadata(data, f"{before.strip()}\n\n{listed}{after}".strip())
    paper = citation(method)
    first = next(iter(agents))
    sections = [
        f"# {name}: trained agents",
        f"Agents of {_link(paper, name)}, {IDEA}. Each folder holds one, with its own card, trained with `{LIBRARY}`.",
        listed,
        f'```python\nimport tokenworlds\nagent = tokenworlds.load("hub:{place}/{first}")\n```',
        *(["## Citation", f"```bibtex\n{paper}\n```"] if paper else []),
    ]
    return _with_metadata(data, "\n\n".join(sections))


def metadata(method: str, agents: Iterable[tuple[str, Scores]]) -> ModelCardData:
    """Metadata of a card in the Hub's form, with the evaluation results of agents by folder."""
    from huggingface_hub import ModelCardData

    agents = list(agents)
    benchmarks = sorted({RunId.of_record(scores["run"]).benchmark for _, scores in agents})
    return ModelCardData(
        license=LICENCE,
        library_name=LIBRARY,
        pipeline_tag="reinforcement-learning",
        tags=["reinforcement-learning", "world-model", method, *benchmarks],
        model_name=name_of(method),
        eval_results=[result for folder, scores in agents for result in results(scores, folder)],
    )


def results(scores: Scores, folder: str = "") -> Iterator[EvalResult]:
    """Evaluation results in the Hub's form: the mean return, and scores that the task defines besides."""
    from huggingface_hub import EvalResult

    task = scores["run"]["task"]
    numbers = {"mean_reward": _mean(scores).replace("±", "+/-"), **_further(scores)}
    for metric, value in numbers.items():
        yield EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type=task,
            dataset_name=task,
            metric_type=metric,
            metric_name=f"{metric} ({folder})" if folder else metric,
            metric_value=value,
            verified=False,
        )


def notes(scores: Scores) -> Iterator[str]:
    """What keeps a score from being the published one."""
    run = RunId.of_record(scores["run"])
    if run.scale in SIZES:
        yield SIZES[run.scale]
    if _is_cut(scores):
        yield f"Episodes are cut after {_limit(scores)}, sooner than in the published protocol."


def citation(method: str) -> str:
    """BibTeX entry of a method's paper; empty where the project has none."""
    file = project_root() / "results" / "data" / "references.bib"
    text = file.read_text(encoding="utf-8") if method in NAMES and file.is_file() else ""
    of_method = re.compile(rf"^  method = \{{{re.escape(NAMES.get(method, ''))}[;}}].*\n", re.M)
    entries = re.findall(r"^@.*?^\}", text, re.M | re.S)
    return next((of_method.sub("", entry) for entry in entries if of_method.search(entry)), "")


def curve(run: Path) -> bytes | None:
    """Picture (PNG) of returns against agent steps: training episodes, evaluations with their standard deviation, the
    final one, the random policy. None for a run without evaluations."""
    from matplotlib.figure import Figure

    rows = _rows(run / EVALUATIONS, split=str, env_steps=float, return_mean=float, return_std=float)
    if not rows:
        return None
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    scores = read_scores(run / RUN_SCORES)
    if training := list(_training_returns(run / JOURNAL)):
        episodes = "lives" if _is_atari(scores) else "episodes"
        axes.plot(*zip(*training), ".", color="0.7", label=f"training {episodes}, mean of an epoch")
    for split, mark, label in (("test", "o-", "evaluation ± std"), ("final", "D", "final evaluation ± std")):
        if points := [list(row.values())[1:] for row in rows if row["split"] == split]:
            steps, means, deviations = zip(*points)
            axes.errorbar(steps, means, deviations, fmt=mark, markersize=4, capsize=3, label=label)
    if (random := summary(scores).get(RANDOM)) is not None:
        axes.axhline(random, color="0.3", linestyle=":", label="random policy")
    axes.set(xlabel="agent steps", ylabel="return")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _training_returns(journal: Path) -> Iterator[tuple[float, float]]:
    """Agent steps and mean return of the episodes that ended in each epoch of training."""
    if not journal.is_file():
        return
    for record in read_journal(journal):
        values = record.get("values")
        if isinstance(values, dict) and {"collection/train/return_mean", "budget/env_steps"} <= values.keys():
            yield values["budget/env_steps"], values["collection/train/return_mean"]


def _mean(scores: Scores) -> str:
    return f"{scores['score']:.2f} ± {statistics.pstdev(scores['returns']):.2f}"


def _further(scores: Scores) -> dict[str, float]:
    """Scores that a task defines besides the return, by metric of the Hub."""
    normalised = summary(scores).get(HUMAN_NORMALISED)
    found = {"human_normalised_score": normalised, "crafter_score": scores.get("crafter_score")}
    return {metric: round(value, 3) for metric, value in found.items() if value is not None}


def _score_table(scores: Scores) -> str:
    rows: list[tuple[str, str, object]] = [("this agent", _mean(scores), len(scores["returns"]))]
    if random := scores.get("random"):
        deviation = statistics.pstdev(random["returns"])
        rows.append(("random policy", f"{random['score']:.2f} ± {deviation:.2f}", len(random["returns"])))
    elif (published := summary(scores).get(RANDOM)) is not None:
        rows.append(("random policy, published", f"{published:.2f}", "-"))
    return _table(("", "mean return ± std over episodes", "episodes"), rows)


def _protocol(scores: Scores) -> str:
    protocol = scores["protocol"]
    parts = [
        f"Protocol: {len(scores['returns'])} episodes after the last epoch, actions sampled at temperature "
        f"{protocol.get('temperature')}, cut after {_limit(scores)}.",
        *(f"{name.replace('_', ' ').capitalize()}: {value}." for name, value in _further(scores).items()),
    ]
    return " ".join(parts)


def _limit(scores: Scores) -> str:
    limit = scores["protocol"].get("max_episode_steps")
    unit = "frames" if _is_atari(scores) else "steps"
    return "the environment's own limit" if limit is None else f"{limit:,} {unit}"


def _is_atari(scores: Scores) -> bool:
    return RunId.of_record(scores["run"]).benchmark == "atari"


def _is_cut(scores: Scores) -> bool:
    limit = scores["protocol"].get("max_episode_steps", math.nan)
    run = RunId.of_record(scores["run"])
    return is_cut(run.task, math.inf if limit is None else float(limit), run.scale)


def _training(scores: Scores) -> Iterator[tuple[str, Any]]:
    run, budget = RunId.of_record(scores["run"]), scores["budget"]
    yield "method", name_of(run.method) + (f", variant `{run.variant}`" if run.variant else "")
    yield "scale", f"`{run.scale}`"
    changed = ", ".join(f"`{key}={value}`" for key, value in (scores.get("overrides") or {}).items())
    yield "settings that differ from the shipped ones", changed or "none"
    yield "agent steps", f"{budget['env_steps']:,} in {budget.get('epochs')} epochs"
    yield "updates", ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in budget["agent_updates"].items())
    yield "hardware", scores.get("hardware", "unknown")
    yield "hours", _hours(scores)
    yield "revision", f"`{scores.get('git_revision', 'unknown')}`"
    yield "configuration hash", f"`{scores.get('config_hash', 'unknown')}`"


def _hours(scores: Scores) -> str:
    return f"{scores['hours']:.3g}" if "hours" in scores else "unknown"


def _row(folder: str, scores: Scores) -> tuple[Any, ...]:
    run, random = RunId.of_record(scores["run"]), summary(scores).get(RANDOM)
    return (
        f"[{folder}]({folder}/{CARD})",
        _mean(scores) + (" (episodes cut)" if _is_cut(scores) else ""),
        len(scores["returns"]),
        "-" if random is None else f"{random:.2f}",
        _further(scores).get("human_normalised_score", "-"),
        run.scale,
        f"{scores['budget']['env_steps']:,}",
        _hours(scores),
    )


def _world_model(file: Path, has_strip: bool) -> Iterator[str]:
    """How well the world model predicts the final episodes: means over episodes (docs/metrics.md)."""
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for row in _rows(file, predictor=str, measure=str, part=str, horizon=str, value=float):
        found[row["predictor"], row["measure"], row["part"], row["horizon"]].append(row["value"])
    means = {key: statistics.fmean(values) for key, values in found.items()}
    right = [
        f"{name} {means[key]:.1%}"
        for measure, name in FORCED.items()
        if (key := (TEACHER_FORCED, measure, "", "")) in means
    ]
    horizons = sorted({horizon for _, measure, _, horizon in means if measure in MEASURES and horizon}, key=float)
    rows = [
        (f"{named}: {predictor}", *(_cell(measure, means.get((kind, measure, part, horizon))) for horizon in horizons))
        for measure, title in MEASURES.items()
        for part, named in _parts(title, {part for _, one, part, _ in means if one == measure}).items()
        for kind, predictor in PREDICTORS.items()
        if any((kind, measure, part, horizon) in means for horizon in horizons)
    ]
    if right or rows or has_strip:
        yield "## World model"
    if right:
        yield f"One step ahead of real frames it predicts right: {', '.join(right)}."
    if rows:
        yield "Open loop, under the real actions, after so many steps:"
        yield _table(("", *horizons), rows)
    if has_strip:
        yield f"![Real episodes, and what the world model imagines under the same actions]({STRIP})"


def _parts(title: str, parts: Collection[str]) -> dict[str, str]:
    """What a measure of each part is called; that of all parts ("") alone, where there is one."""
    if "" in parts or len(parts) == 1:
        return {min(parts): title}
    return {part: f"{title}, {part}" for part in sorted(parts)}


def _cell(measure: str, value: float | None) -> str:
    if value is None:
        return "-"
    if measure == "mse":
        return f"{-10 * math.log10(max(value, ROUNDING)):.1f}"
    return f"{value:.1%}" if measure == "accuracy" else f"{value:.3f}"


def _rows(file: Path, **columns: Callable[[str], Any]) -> list[dict[str, Any]]:
    """These columns of a CSV file, each with what reads its cells; nothing where there is no such file."""
    if not file.is_file():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return [{name: read(row[name]) for name, read in columns.items()} for row in csv.DictReader(opened)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{shortened(file)} is damaged ({brief(error, 60)}); restore it, or train that run again."
        ) from error


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _link(entry: str, name: str) -> str:
    found = re.search(r"eprint = \{(.+?)\}", entry)
    return f"[{name}](https://arxiv.org/abs/{found[1]})" if found else name


def _with_metadata(data: ModelCardData, text: str) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n{text}\n"
