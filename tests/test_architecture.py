"""The list of files in docs/architecture.md exists and stays short."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_a_step_of_iris_is_followed_in_few_files() -> None:
    page = (PROJECT / "docs" / "architecture.md").read_text()
    names = re.findall(r"^\| \d+ \| `(\S+)` \|", page, re.M)
    paths = [
        PROJECT / name if name.startswith("pipeline/") else PROJECT / "src" / "tokenworlds" / name for name in names
    ]
    lines = sum(len(path.read_text().splitlines()) for path in paths)
    assert len(names) == len(set(names)) <= 25 and lines <= 3500, lines
