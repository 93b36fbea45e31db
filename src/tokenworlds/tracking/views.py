"""What MLflow shows of an experiment at first: the kind of experiment, a note, and saved views of its list of runs.

MLflow's own default list has fixed columns (name, created, duration, source, models, dataset). A saved view, which
MLflow keeps as a tag of the experiment, has others; it is chosen under *Views*, or by an address that names it.
"""

from __future__ import annotations

import json
from typing import Any

from tokenworlds.tracking.summary import HARDWARE, HOURS, HUMAN_NORMALISED, RANDOM, SCORE

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Model training, by MLflow's convention. The page of MLflow 3.17 does not read it: hence ``addresses``."""
NOTE = (
    "Runs of token-based world models. Under *Views*, **Scores** lists the results, **Curves** draws metrics against "
    "agent steps. Without a human-normalised score: tasks that have no human reference, and runs whose episodes were "
    "cut (smoke scale)."
)
SCORES_VIEW, CURVES_VIEW = "scores", "curves"
_WIDTHS = {  # pixels
    f"metrics.`{SCORE}`": 80,
    f"metrics.`{HUMAN_NORMALISED}`": 180,
    f"metrics.`{RANDOM}`": 110,
    f"metrics.`{HOURS}`": 80,
    f"tags.`{HARDWARE}`": 160,
}
_COLUMNS = {"selectedColumns": [*_WIDTHS], "columnOrder": [*_WIDTHS], "columnWidths": _WIDTHS}


def _view(name: str, **state: Any) -> str:
    """Content of the tag that holds a saved view."""
    return json.dumps({"name": name, "createdAt": 0, "state": json.dumps(state)})


def experiment_tags() -> dict[str, str]:
    """Tags of the experiment of all training runs."""
    x_axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": "budget/env_steps", "lineSmoothness": 0}
    views = {
        SCORES_VIEW: _view("Scores", **_COLUMNS),
        CURVES_VIEW: _view("Curves", **_COLUMNS, globalLineChartConfig=x_axis),
    }
    return {
        **KIND,
        "mlflow.note.content": NOTE,
        **{f"mlflow.sharedViewState.{key}": content for key, content in views.items()},
    }


def addresses(server: str, experiment: str) -> list[str]:
    """Pages with the views, opened in the UI's part for model training: it otherwise begins with chat applications,
    whatever the kind of the experiment, until a person switches."""
    runs = f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey="
    return [f"scores    {runs}{SCORES_VIEW}", f"curves    {runs}{CURVES_VIEW}&compareRunsMode=CHART"]
