"""The documentation site: it builds strictly, and no page loads anything from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.integration

FOREIGN = re.compile(r"^(https?:)?//")
STYLE_SOURCE = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
LOADING = {"script", "img", "link", "iframe", "source", "video", "audio", "embed", "object"}


class Sources(HTMLParser):
    """Everything that a page loads by itself; links that a reader follows are not counted."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found = STYLE_SOURCE.findall(page)
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADING:
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text()
    for page in (PROJECT / "docs").rglob("*.md"):
        name = page.relative_to(PROJECT / "docs").with_suffix(".html")
        assert ((site / name).is_file() and f'href="{name}"' in front) or name == Path("index.html")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not [source for source in Sources(page.read_text()).found if FOREIGN.match(source)], page
    for style in site.rglob("*.css"):
        assert not STYLE_SOURCE.findall(style.read_text()), style


def test_a_foreign_source_would_be_found() -> None:
    page = '<a href="https://x.org"></a><script src="//x.org/a.js"></script><style>@import "https://x.org/b"</style>'
    assert [source for source in Sources(page).found if FOREIGN.match(source)] == ["https://x.org/b", "//x.org/a.js"]
