"""The pipeline's commands. They run the code of their own checkout: a queued experiment of DVC is a copy with other
code, which an installed package or PYTHONPATH must not replace."""

import sys
from pathlib import Path

_SOURCES = str(Path(__file__).resolve().parents[1] / "src")
if _SOURCES in sys.path:
    sys.path.remove(_SOURCES)
sys.path.insert(0, _SOURCES)
