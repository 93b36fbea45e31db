"""Complete runs of every method and variant, fabricated as they are collected: every item takes them in, as ours."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.context import Context, make_context
from analysis.data import naming
from analysis.data.identity import NAMES, RunGroupId
from analysis.data.published import ABLATIONS
from analysis.data.scores import ROOT, read_references
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.items import ITEMS
from tokenworlds.runs.columns import ACTIVITIES, COMPANIONS, SCORES, names

SEEDS = range(5)
SUITES = ROOT / "pipeline" / "suites"
LONG = "long"  # a variant that nobody published or shipped: IRIS over 10 million frames
SEPARATE = ("Published numbers of one method, beside each other or beside what other programs computed of them.",)
WITHOUT = {  # item -> why no run of ours can enter it
    **dict.fromkeys(("SIM-T-page", "R13-T-summary", "R13-T-agreement"), "printed numbers beside published raw scores"),
    **dict.fromkeys(("R15-T-defects",), "defects of published scores"),
    **dict.fromkeys(("DIRIS-T-tok", "DIRIS-T-abl"), "reconstruction errors and entropies that runs do not record"),
    **dict.fromkeys(("IRIS-T-hp", "REM-T-hp", "DIRIS-T-hp", "M3-T-hp"), "settings from which our runs are made"),
    **dict.fromkeys(("R5-F-coverage", "R5-T-coverage"), "populations of 100 published runs serve as the truth"),
}
