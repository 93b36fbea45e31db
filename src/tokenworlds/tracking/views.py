"""What MLflow shows of an experiment at first: the kind of experiment, a note, and saved views of its list of runs.

MLflow's own default list has fixed columns (name, created, duration, source, models, dataset). A saved view, which
MLflow keeps as a tag of the experiment, has others; it is chosen under *Views*, or by an address that names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenworlds.tracking.summary import HARDWARE, HOURS, HUMAN_NORMALISED, RANDOM, SCORE

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Model training, by MLflow's convention. The page of MLflow 3.17 does not read it: hence ``addresses``."""
NOTE = (
    "Runs of token-based world models. Under *Views*, **Scores** lists the results, **Curves** draws metrics against "
    "agent steps. Without a human-normalised score: tasks that have no human reference, and runs whose episodes were "
    "cut (smoke scale)."
)
SUMMARY_NOTE = (
    "Means over seeds, with intervals (`..._low`, `..._high`): tick two runs, then Compare. Under *Views*, **Scores** "
    "lists the results, **Curves** draws means with their intervals against agent steps."
)
SCORES_VIEW, CURVES_VIEW = "scores", "curves"
_WIDTHS = {  # pixels
    f"metrics.`{SCORE}`": 80,
    f"metrics.`{HUMAN_NORMALISED}`": 180,
    f"metrics.`{RANDOM}`": 110,
    f"metrics.`{HOURS}`": 80,
    f"tags.`{HARDWARE}`": 160,
}
_SUMMARY_WIDTHS = {
    **{f"metrics.`{SCORE}{end}`": 80 for end in ("", "_low", "_high")},
    f"metrics.`{HUMAN_NORMALISED}`": 180,
    "params.`seeds`": 80,
    "tags.`scale`": 80,
}


def _views(note: str, widths: Mapping[str, int]) -> dict[str, str]:
    """Tags of an experiment whose runs are listed with these columns, of these widths in pixels."""
    columns = {"selectedColumns": [*widths], "columnOrder": [*widths], "columnWidths": widths}
    x_axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": "budget/env_steps", "lineSmoothness": 0}
    views = {
        SCORES_VIEW: _view("Scores", **columns),
        CURVES_VIEW: _view("Curves", **columns, globalLineChartConfig=x_axis),
    }
    return {
        **KIND,
        "mlflow.note.content": note,
        **{f"mlflow.sharedViewState.{key}": content for key, content in views.items()},
    }


def _view(name: str, **state: Any) -> str:
    """Content of the tag that holds a saved view."""
    return json.dumps({"name": name, "createdAt": 0, "state": json.dumps(state)})


def run_views() -> dict[str, str]:
    """Tags of an experiment of training runs."""
    return _views(NOTE, _WIDTHS)


def summary_views() -> dict[str, str]:
    """Tags of an experiment of summaries over seeds."""
    return _views(SUMMARY_NOTE, _SUMMARY_WIDTHS)


def addresses(server: str, experiments: Mapping[str, str]) -> list[str]:
    """Pages with the views of experiments, whose ids are given by name, opened in the UI's part for model training: it
    otherwise begins with chat applications, whatever the kind of the experiment, until a person switches."""
    lines = []
    for name, experiment in experiments.items():
        runs = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey="
        lines += [name, f"  scores  {runs}{SCORES_VIEW}", f"  curves  {runs}{CURVES_VIEW}&compareRunsMode=CHART"]
    return lines
