"""The tables of collected runs: which columns ``python -m pipeline.collect`` writes, and what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

COMPONENTS = ("tokenizer", "world_model", "actor_critic")
ACTIVITIES = ("collection", *COMPONENTS, "evaluation")


@dataclass(frozen=True)
class Column:
    """A column of text or numbers (``float``). Readers refuse a table without a required one; an empty field means that
    the value is not known."""

    name: str
    meaning: str
    kind: type = str
    is_required: bool = True


def _optional(*columns: Column) -> tuple[Column, ...]:
    return tuple(replace(column, is_required=False) for column in columns)


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Header of a table."""
    return tuple(column.name for column in columns)


def required(columns: Iterable[Column]) -> tuple[str, ...]:
    """Columns without which a table is refused."""
    return tuple(column.name for column in columns if column.is_required)


def numbers(columns: Iterable[Column]) -> tuple[str, ...]:
    """Columns that hold numbers."""
    return tuple(column.name for column in columns if column.kind is float)


METHOD = Column("method", "folder of the method in pipeline/")
VARIANT = Column("variant", "variant of the method, with a label of the settings where these deviate")
TASK = Column("task", "<benchmark>/<name>")
SEED = Column("seed", "seed of all random streams")
SCALE = Column("scale", "smoke, small, laptop or paper")
TRAINED_VARIANT = Column("trained_variant", "variant without the label of the settings", is_required=False)
IDENTITY = (METHOD, VARIANT, TASK, SEED, SCALE)
HARDWARE = Column("hardware", "device")
HOURS = Column("hours", "hours of training until then", float)
EPOCH = Column("epoch", "epoch of training, from 1 on", float)
EPOCHS = Column("epochs", "epochs of training", float)
STEPS = Column("env_steps", "environment steps of the agent until then", float)
CRAFTER_SCORE = Column("crafter_score", "geometric mean of the success rates; Crafter only", float)

SCORES = (
    METHOD, *_optional(VARIANT), TASK, SEED, *_optional(SCALE, Column("suite", "suite that the run was trained for")),
    Column("score", "mean return of the final evaluation", float),
    *_optional(
        Column("score_std", "standard deviation of the returns over episodes", float),
        Column("episodes", "episodes of the final evaluation", float),
        Column("length_mean", "their mean length in steps", float),
        Column("random_score", "mean return of the random policy, where the scale asks for it", float),
        Column("random_std", "standard deviation of its returns over episodes", float),
        Column("random_episodes", "its episodes", float),
        Column("episode_limit", "frames (Atari) or steps after which its episodes are cut; inf: never", float),
        CRAFTER_SCORE, EPOCHS, STEPS,
        Column("oracle_steps", "further ones, in the world model's place; only where there was none", float),
        HOURS, HARDWARE,
        Column("git_revision", "revision of the code"),
        Column("config_hash", "digest of the configuration"),
        Column("settings_hash", "digest of what all seeds and tasks of a benchmark share"),
        Column("overrides", "settings that deviate from the shipped configuration, as JSON"),
        Column("trained_on", "frames that parts of the agent were trained on before, and whether env_steps has them"),
    ),
    TRAINED_VARIANT,
)  # fmt: skip
"""A row a run."""
ACHIEVEMENTS = (
    *IDENTITY, Column("achievement", "its name"), Column("success_rate", "per cent of the episodes", float),
)  # fmt: skip
"""A row an achievement of a run."""
EVALUATIONS = (
    *IDENTITY, EPOCH, STEPS, Column("split", "test during training, final after it"),
    *_optional(Column("episodes", "how many", float)), Column("return_mean", "mean return", float),
    *_optional(
        Column("return_std", "standard deviation over episodes", float),
        Column("length_mean", "mean length in steps", float),
    ),
    HOURS, *_optional(CRAFTER_SCORE),
)  # fmt: skip
"""A row an evaluation of a run."""
EPISODES = (
    *IDENTITY, Column("episode", "number from 0 on", float), Column("return", "sum of its rewards", float),
    Column("length", "its steps", float),
)  # fmt: skip
"""A row an episode of a run's final evaluation."""
PARAMETERS = (
    Column("parameters", "weights of all components", float),
    *(Column(f"parameters_{name}", f"weights of the {name}", float) for name in COMPONENTS),
)
SECONDS = tuple(Column(f"seconds_{name}", f"mean seconds of {name} an epoch", float) for name in ACTIVITIES)
PEAK_MEMORY = Column("peak_memory_bytes", "highest memory of the accelerator in bytes", float)
COSTS = (*IDENTITY, HARDWARE, HOURS, EPOCHS, STEPS, *PARAMETERS, *SECONDS, PEAK_MEMORY)
"""A row a run."""
LOSSES = (
    *IDENTITY, EPOCH, Column("component", "one of COMPONENTS"), Column("split", "train or eval"),
    Column("loss", "its name"), Column("value", "mean over the batches of the epoch", float),
    *_optional(
        STEPS, Column("updates", "of the component until then", float),
        Column("seconds", "of training the component until then", float),
    ),
)  # fmt: skip
"""A row an epoch, component, split and loss of a run."""

TEACHER_FORCED, OPEN_LOOP, STILL, OTHER, TOKENIZER = PREDICTORS = (
    "teacher-forced", "open loop", "still", "other", "tokenizer",
)  # fmt: skip
QUALITY = (
    Column("episode", "number of the final episode from 0 on", float),
    Column("predictor", "one of PREDICTORS"),
    Column("horizon", "steps since the last real frame; empty where the measure is of no horizon", float),
    Column("part", "modality, empty for all; of a calibration the lower edge of the bin of predictions"),
    Column("measure", "its name (docs/metrics.md)"),
    Column("value", "mean over the episode", float), Column("count", "how many it is the mean of", float),
)  # fmt: skip
WORLD_MODEL = (*IDENTITY, *QUALITY)
"""A row an episode, predictor, horizon, part and measure of a run's world model."""
OF_WORLD_MODEL, OF_TOKENIZER, OF_COST = GROUPS = ("world model", "tokenizer", "cost")
OF_RANDOM_PLAY = "_random_play"  # end of the names of measures of episodes that no agent has played
MEASURED = (
    Column("group", "one of GROUPS"), Column("measure", "its name (docs/metrics.md)"),
    Column("part", "modality or component, empty for all"), Column("value", "of the whole run", float),
    Column("count", "how many examples it is made of", float, is_required=False),
)  # fmt: skip
MEASURES = (*IDENTITY, *MEASURED)
"""A row a measure and part of a run."""

COMPANIONS = {
    "achievements.csv": ACHIEVEMENTS,
    "costs.csv": COSTS,
    "episodes.csv": EPISODES,
    "evaluations.csv": EVALUATIONS,
    "losses.csv": LOSSES,
    "measures.csv": MEASURES,
    "world_model.csv": WORLD_MODEL,
}
"""Tables beside that of the scores."""
