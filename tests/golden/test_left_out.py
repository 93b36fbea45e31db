"""Nothing of the golden vectors vanishes silently: what is not in the copy stands in a list, with its reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.golden.left_out import LEFT_OUT, METHODS
from tests.golden.support import ADDED, COPY, golden_dir

pytestmark = pytest.mark.integration

LIMIT = 29.5e6  # bytes; 30 MB are allowed to all


def cases(folder: Path) -> set[str]:
    """Names of the cases of every method in a set."""
    files = (path for method in METHODS.values() for path in (folder / method).iterdir())
    return {f"{path.parent.name}/{path.stem}" for path in files if path.suffix in (".json", ".safetensors")}


def test_the_list_and_the_copy_are_complements() -> None:
    assert not cases(COPY) & LEFT_OUT.keys()
    assert len(LEFT_OUT) == 17  # a longer list is a decision


def test_the_copy_is_small() -> None:
    sizes = [path.stat().st_size for folder in (*METHODS.values(), *ADDED) for path in (COPY / folder).iterdir()]
    assert sum(sizes) < LIMIT


@pytest.mark.golden(*LEFT_OUT)
def test_a_full_set_is_the_copy_and_the_list() -> None:
    assert cases(golden_dir("")) == cases(COPY) | LEFT_OUT.keys()


def test_every_case_left_out_is_the_business_of_some_test() -> None:
    sources = "\n".join(path.read_text() for path in COPY.glob("test_*.py") if path.name != Path(__file__).name)
    assert [case for case in LEFT_OUT if f'{case.split("/")[1]}"' not in sources] == []


def collected(**environment: str) -> set[str]:
    """The tests of one file as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "tests/golden/test_iris_tokenizer.py"]
    clean = {name: value for name, value in os.environ.items() if name != "GOLDEN_DIR"}
    done = subprocess.run(command, cwd=PROJECT, env=clean | environment, capture_output=True, text=True, check=True)
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_tests_of_cases_left_out_are_deselected_and_come_back_with_a_full_set(tmp_path: Path) -> None:
    default, full = collected(), collected(GOLDEN_DIR=str(tmp_path))
    assert default < full and len(full - default) >= 5
    assert all("tokenizer_b" in name for name in full - default)
    assert not any("tokenizer_b" in name for name in default)
