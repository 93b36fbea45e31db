"""Files as URIs inside the page, so that it needs nothing beside it, within a limit for the whole page."""

import base64
import re
import struct
from dataclasses import dataclass
from pathlib import Path

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".mp4": "video/mp4", ".csv": "text/csv"}
PAGE_BYTES = 24_000_000  # all that is embedded, as text: what a phone still opens
FILE_BYTES = 2_000_000  # one file; larger ones are named, not embedded
CSS_PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0}
SVG_SIZE = re.compile(rb'<svg[^>]*?\bwidth="([\d.]+)(pt|px|)"[^>]*?\bheight="([\d.]+)')


@dataclass
class Budget:
    """Bytes that are left on the page, taken in the order of the calls."""

    left: int = PAGE_BYTES
    file_bytes: int = FILE_BYTES

    def embed(self, path: Path) -> str | None:
        """The file as a URI, or None where it is too large or the page is full."""
        if path.stat().st_size > self.file_bytes:
            return None
        uri = data_uri(path.read_bytes(), path.suffix)
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def data_uri(content: bytes, suffix: str) -> str:
    """``data:image/png;base64,...``."""
    return f"data:{MIME_TYPES[suffix]};base64,{base64.b64encode(content).decode()}"


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height in CSS pixels from the head of an SVG or PNG: its place on the page stays free."""
    with path.open("rb") as file:
        head = file.read(1000)
    if path.suffix == ".png" and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if path.suffix == ".svg" and (match := SVG_SIZE.search(head)):
        scale = CSS_PIXELS[match[2].decode()]
        return round(float(match[1]) * scale), round(float(match[3]) * scale)
    return None
