"""Run the mutations: ``python -m tests.mutations [--list] [NAME ...]``; NAME is the beginning of a file's path."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import copy_sources
from tests.mutations.faults import FAULTS, Fault

LIMIT = 900  # seconds for the tests of one fault
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def find(fault: Fault, folder: Path) -> str:
    """The first test that fails with this fault in the copy; empty if none does."""
    path = folder / fault.file
    original = path.read_text()
    path.write_text(fault.insert(original))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file's time and size may stay the same
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0"]
    command += ["--hypothesis-profile=mutations", *fault.tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"time limit of {LIMIT} s"
    finally:
        path.write_text(original)
    match = FAILED.search(done.stdout)
    if done.returncode not in (0, 1) and not match:
        sys.exit(f"error: {' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return match[1] if match else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only faults in files whose paths begin like this")
    parser.add_argument("--list", action="store_true", help="list the faults, run nothing")
    arguments = parser.parse_args()
    chosen = [fault for fault in FAULTS if not arguments.names or fault.file.startswith(tuple(arguments.names))]
    if not chosen:
        parser.error("no fault is in these files; --list shows all")
    survived = 0
    with tempfile.TemporaryDirectory() as temporary:
        copy_sources(Path(temporary))
        print("| file | fault | found by | seconds |\n| --- | --- | --- | --- |")
        for fault in chosen:
            begin = time.monotonic()
            found = "" if arguments.list else find(fault, Path(temporary))
            survived += not (found or arguments.list)
            by = found or ("" if arguments.list else "**nothing**")
            print(f"| {fault.file} | {fault.what} | {by} | {time.monotonic() - begin:.0f} |", flush=True)
    if not arguments.list:
        print(f"\n{len(chosen) - survived} of {len(chosen)} found")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
