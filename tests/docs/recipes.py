"""Code blocks of a page: files to write, edits to apply, commands to run."""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)
HUNKS = re.compile(r"^@@\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    body: str

    def apply(self, root: Path) -> None:
        """Write the file, or edit it."""
        assert self.title is not None
        path = root / self.title
        if self.language == "diff":
            path.write_text(edited(path.read_text(), self.body))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.body)


def blocks(page: str) -> list[Block]:
    return [Block(*match.group("language", "title", "body")) for match in BLOCK.finditer(page)]


def edited(text: str, diff: str) -> str:
    """A file after a diff whose hunks, separated by ``@@``, have no line numbers: each fits in one place."""
    for hunk in HUNKS.split(diff):
        lines = [line if line.strip() else " " for line in hunk.splitlines()]
        before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        places = re.findall(rf"^{re.escape(before)}", text, re.MULTILINE)
        assert len(places) == 1, f"this fits in {len(places)} places, not in one:\n{before}"
        text = re.sub(rf"^{re.escape(before)}", lambda match: after, text, count=1, flags=re.MULTILINE)  # noqa: B023
    return text
