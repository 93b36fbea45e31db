"""Files as URIs inside the page, so that it needs nothing beside it, within a limit for the whole page."""

import base64
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from pipeline.page.drawing import on_page

BINARY = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
TEXT = {".svg": "image/svg+xml", ".csv": "text/csv;charset=utf-8"}
UNQUOTED = "()[],.:;=/+-~$@*!?|"  # a browser reads these in a URI, and quoted they take three times the room
MARKUP = " <>'"  # so do these, in SVG
PAGE_BYTES = 3_300_000  # all that is embedded, as text: with the page's own text it stays below 4 MB
MEDIA_BYTES = 700_000  # of these for pictures and videos of runs
FILE_BYTES = 1_500_000  # one file; larger ones are linked or named, not embedded
CSS_PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0}
SVG_SIZE = re.compile(rb'<svg[^>]*?\bwidth="([\d.]+)(pt|px|)"[^>]*?\bheight="([\d.]+)')


@dataclass
class Budget:
    """Bytes that are left on the page, taken in the order of the calls."""

    left: int = PAGE_BYTES
    file_bytes: int = FILE_BYTES

    def embed(self, path: Path) -> Markup | None:
        """The file as a URI, or None where it is too large or the page is full."""
        if path.stat().st_size > self.file_bytes:
            return None
        content = path.read_bytes()
        uri = data_uri(on_page(content.decode()).encode() if path.suffix == ".svg" else content, path.suffix)
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri

    def part(self, most: int) -> "Budget":
        """Take at most so many of the bytes that are left, as a budget of its own."""
        part = Budget(min(most, self.left), self.file_bytes)
        self.left -= part.left
        return part


def data_uri(content: bytes, suffix: str) -> Markup:
    """``data:image/png;base64,...``, or readable text, as the value of an attribute in double quotes."""
    if suffix in BINARY:
        return Markup(f"data:{BINARY[suffix]};base64,{base64.b64encode(content).decode()}")
    text, safe = content.decode(), UNQUOTED
    if suffix == ".svg":
        text, safe = text.replace('"', "'"), UNQUOTED + MARKUP
    return Markup(f"data:{TEXT[suffix]},{quote(text, safe=safe)}")


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height in CSS pixels from the head of an SVG, PNG or GIF: its place on the page stays free."""
    with path.open("rb") as file:
        head = file.read(1000)
    if path.suffix == ".png" and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if path.suffix == ".gif" and head[:3] == b"GIF" and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
        return width, height
    if path.suffix == ".svg" and (match := SVG_SIZE.search(head)):
        scale = CSS_PIXELS[match[2].decode()]
        return round(float(match[1]) * scale), round(float(match[3]) * scale)
    return None
