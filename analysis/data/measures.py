"""Every number of our runs as one tidy table, under the same names for every method (docs/metrics.md defines them).

What a run of an older version, or an agent without tokens or world model, does not have is absent.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.data import world_model
from analysis.data.runs import RunGroup
from analysis.data.world_model import CALIBRATION, NO_HORIZON, Measure, shown
from tokenworlds.runs.columns import IDENTITY, OF_RANDOM_PLAY, OF_WORLD_MODEL, OPEN_LOOP, TEACHER_FORCED, names

RUN = list(names(IDENTITY))
WHAT = ["group", "measure", "part", "horizon"]
COLUMNS = [*RUN, "label", *WHAT, "value"]
CONTROL = "control"
FOLLOWED = {TEACHER_FORCED: OF_WORLD_MODEL, OPEN_LOOP: OPEN_LOOP}  # predictors -> group

OF_PICTURES = {
    **{name: world_model.MEASURES[name] for name in ("ssim", "perceptual")},
    "psnr": Measure("PSNR (dB)", "{:.1f}"),
    "l1": Measure("L1", "{:.4f}", False),
    "l1_changed": Measure("L1, changed pixels", "{:.4f}", False),
    "l1_clean": Measure("L1, clean frame", "{:.4f}", False),
    "psnr_clean": Measure("PSNR, clean frame (dB)", "{:.1f}"),
    "probe_reward_f1_latents": Measure("Reward F1, latents", "{:.3f}"),
    "probe_reward_f1_tokens": Measure("Reward F1, tokens", "{:.3f}"),
    "probe_return_r2_latents": Measure("Return R², latents", "{:.3f}"),
    "probe_return_r2_tokens": Measure("Return R², tokens", "{:.3f}"),
    "codebook_perplexity": Measure("Perplexity of codes", "{:.1f}"),
    "codes_used": Measure("Codes used", "{:.1%}"),
}
"""Measures of tokenizers on pictures of episodes."""
CATALOGUE = {
    "return_mean": Measure("Score", "{:.2f}"),
    "loss_observations": Measure("Loss a token", "{:.3f}", False),
    "loss_rewards": Measure("Loss of rewards", "{:.3f}", False),
    "loss_ends": Measure("Loss of ends", "{:.4f}", False),
    "accuracy_at_position": Measure("Tokens right, by place", "{:.1%}"),
    "loss_at_context": Measure("Loss a token, by context", "{:.3f}", False),
    "reward_accuracy": Measure("Rewards right", "{:.1%}"),
    "end_accuracy": Measure("Ends right", "{:.1%}"),
    "loss_random_play": Measure("Loss a token, random play", "{:.3f}", False),
    "reward_macro_f1": Measure("Reward F1", "{:.3f}"),
    "end_f1": Measure("End F1", "{:.3f}"),
    "end_average_precision": Measure("End AP", "{:.3f}"),
    **{name: measure for name, measure in world_model.MEASURES.items() if name != "mse"},
    **OF_PICTURES,
    "token_churn": Measure("Token churn", "{:.1%}", False),
    "token_churn_late": Measure("Token churn, late", "{:.1%}", False),
    "parameters": Measure("Parameters", "{:,.0f}", False),
    "trainable_parameters": Measure("Trained parameters", "{:,.0f}", False),
    "seconds_per_update": Measure("Seconds an update", "{:.3g}", False),
    "seconds_per_imagined_frame": Measure("Seconds an imagined frame", "{:.2g}", False),
    "environment_steps_per_second": Measure("Environment steps a second", "{:.0f}"),
    "peak_memory_bytes": Measure("Peak memory (bytes)", "{:.3g}", False),
    "wall_clock_seconds": Measure("Seconds", "{:,.0f}", False),
    "energy_joules": Measure("Energy (J)", "{:.3g}", False),
    "state_bytes": Measure("State (bytes)", "{:,.0f}", False),
    **{
        name + OF_RANDOM_PLAY: replace(measure, title=f"{measure.title}, random play")
        for name, measure in OF_PICTURES.items()
    },
}
"""How each measure is called and written."""


def of_runs(groups: Sequence[RunGroup], world_models: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """A row of ``COLUMNS`` for every number of every run; ``horizon`` is ``NO_HORIZON`` where there is none.

    Args:
        groups: of our runs.
        world_models: of ``columns.WORLD_MODEL``, of which the means over episodes are taken.
        measures: of ``columns.MEASURES``.
    """
    scores = [group.rows.assign(label=group.short_label) for group in groups]
    if not scores:
        return pd.DataFrame(columns=COLUMNS)
    runs = pd.concat(scores, ignore_index=True)
    control = runs[RUN].assign(group=CONTROL, measure="return_mean", part="", horizon=NO_HORIZON, value=runs.score)
    parts = [control, _predictions(world_models), measures.assign(horizon=NO_HORIZON)]
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return found.merge(runs[[*RUN, "label"]], on=RUN, validate="many_to_one")[COLUMNS]


def _predictions(world_models: pd.DataFrame) -> pd.DataFrame:
    """Means over the episodes of each run; the squared error of pictures as PSNR."""
    rows = world_models[world_models.predictor.isin([*FOLLOWED]) & ~world_models.measure.str.endswith(CALIBRATION)]
    rows = rows.assign(group=rows.predictor.map(FOLLOWED), horizon=rows.horizon.fillna(NO_HORIZON).astype(int))
    means = rows.groupby([*RUN, *WHAT], sort=False).value.mean().reset_index()
    is_error = means.measure == "mse"
    return means.assign(
        measure=means.measure.mask(is_error, "psnr"),
        value=np.where(is_error, shown("mse", means.value.to_numpy(dtype=np.float64)), means.value),
    )


def value(frame: pd.DataFrame, measure: str, part: str = "", horizon: int = NO_HORIZON) -> pd.Series:
    """A measure of every run that has it, by ``RUN``; where it has modalities only, their mean.

    Args:
        frame: of ``of_runs``; of one group where several have this measure.
        measure: its name.
        part: modality, component or place.
        horizon: steps since the last real frame.
    """
    rows = frame[(frame.measure == measure) & (frame.horizon == horizon)]
    chosen = rows[rows.part == part]
    return (chosen if len(chosen) or part else rows).groupby(RUN).value.mean()
