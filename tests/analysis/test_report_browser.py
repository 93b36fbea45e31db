"""The report in a real browser: it shows, sorts, filters, scrolls and prints; skipped where there is no browser."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from analysis import make_figures
from pipeline import aggregate, collect, report
from tests.analysis.conftest import write_run_files, write_scores
from tests.browser import Browser
from tests.episodes.support import an_episode
from tokenworlds.episodes import save

pytestmark = pytest.mark.integration

ITEMS = ["IRIS-T1", "R1-T-atari", "IRIS-F-agg", "IRIS-F-pp", "OURS-T", "OURS-F-games"]
TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed")
PHONE, DESKTOP = (360, 740), (1280, 900)
READABLE = 4.5  # contrast of text, WCAG 2.2 level AA
CONTRASTS = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => channels(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("script")) continue;
    const [one, other] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < READABLE) poor.push([element.outerHTML.slice(0, 80), contrast]);
  }
  return poor;
})()
"""
CLOSED = "main details:not([open])"
FIRST_LINK_SHOWN = "document.querySelector('nav ol a').checkVisibility()"
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a few runs with real pictures and videos; of the inventory a few items."""
    results = write_run_files(tmp_path_factory.mktemp("report") / "results")
    for seed, score in ((1, 11.0), (2, -3.25), (3, 2.5)):  # which text would sort the other way round
        write_scores(results / "scores", "minigrid/Empty-5x5", seed, "small", [score])
    frames = np.zeros((8, 32, 32, 3), dtype=np.uint8)
    frames[:, 8:24, 8:24] = np.linspace(0, 255, 8, dtype=np.uint8)[:, None, None, None]
    for folder in results.glob("runs/*/*/*/*/media"):
        imageio.imwrite(folder / "imagination.png", frames[4])
        imageio.mimwrite(folder / "episode.mp4", list(frames), fps=4, macro_block_size=1)
        for kind in ("test", "imagined"):
            path = folder / "episodes" / kind / "episode_00001.npz"
            episode = an_episode(8, kind=kind)
            save(replace(episode, facts={**episode.facts, "length": 8, "real_frames": 1}), path)
            imageio.mimwrite(path.with_suffix(".mp4"), list(frames), fps=4, macro_block_size=1)
    runs, few = str(results / "collected" / "scores.csv"), ["--repetitions", "40"]
    assert collect.main(["--scores", str(results / "scores"), "--runs", str(results / "runs"), "--out", runs]) == 0
    assert aggregate.main(["--runs", runs, "--out", str(results / "aggregated"), *few]) == 0
    for kind in ("table", "figure"):
        only = [name for name in ITEMS if f"-{kind[0].upper()}" in name]
        arguments = ["--only", *only, "--runs", runs, "--out", str(results / f"{kind}s"), *few]
        assert make_figures.main(arguments) == 0
    assert report.main(["--results", str(results), "--out", str(results / "report")]) == 0
    return results / "report" / "index.html"


@pytest.fixture
def browser(program: Browser, page: Path) -> Browser:
    """The page as one finds it, on a light desktop."""
    program.resize(*DESKTOP)
    program.prefer("light")
    program.open(page)
    return program


def reported(browser: Browser, *methods: str) -> list[dict[str, Any]]:
    return [event for event in browser.events if event.get("method") in methods]


def column(browser: Browser, table: str, number: int) -> list[str]:
    """Texts of the visible cells of a column."""
    rows = f"[...document.querySelectorAll({table + ' tbody tr'!r})].filter((row) => row.checkVisibility())"
    return list(browser.run(f"{rows}.map((row) => row.cells[{number}].textContent)"))


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({selector!r}).click()")


def sort_state(browser: Browser, table: str) -> list[str]:
    headers = f"[...document.querySelectorAll({table + ' th'!r})]"
    return list(browser.run(f"{headers}.map((header) => header.getAttribute('aria-sort'))"))


def test_it_reports_no_error_and_asks_for_nothing_but_itself(browser: Browser, page: Path) -> None:
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.run("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
    browser.run(FRAMES)
    assert reported(browser, *TROUBLE) == []
    urls = {event["params"]["request"]["url"] for event in reported(browser, "Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


def test_its_policy_keeps_it_from_loading_anything_or_running_another_script(browser: Browser) -> None:
    result = browser.run(
        """new Promise((done) => {
          const image = new Image();
          fetch("data:,").catch(() => {});
          image.onload = () => done("loaded");
          image.onerror = () => done("refused");
          image.src = new URL("picture.png", location.href).href;
          const script = document.createElement("script");
          script.textContent = "window.intruder = true";
          document.body.append(script);
        })"""
    )
    assert result == "refused" and browser.run("window.intruder") is None
    entries = [event["params"]["entry"]["text"] for event in reported(browser, "Log.entryAdded")]
    for directive in ("default-src 'none'", "img-src data:", "script-src 'sha256-"):
        assert any("Content Security Policy" in text and directive in text for text in entries), entries


def test_every_picture_is_drawn(browser: Browser) -> None:
    pictures = browser.run(
        """(async () => {
          document.querySelectorAll("details").forEach((one) => { one.open = true; });
          const result = [];
          for (const picture of document.querySelectorAll("main img")) {
            picture.scrollIntoView();
            await picture.decode();
            const box = picture.getBoundingClientRect();
            result.push([picture.naturalWidth, box.width, box.height, picture.checkVisibility()]);
          }
          return result;
        })()"""
    )
    assert len(pictures) == 3 + 4  # figures; film strips of runs
    assert all(natural > 0 and width > 10 and height > 10 and visible for natural, width, height, visible in pictures)


def test_every_video_plays(browser: Browser) -> None:
    videos = browser.run(
        """(async () => {
          document.querySelectorAll("details").forEach((one) => { one.open = true; });
          const ready = (video) => video.readyState > 0 || video.error || new Promise((done) => {
            for (const event of ["loadedmetadata", "error"]) video.addEventListener(event, done);
          });
          const videos = [...document.querySelectorAll("video")];
          await Promise.all(videos.map(ready));
          return videos.map((video) => [video.src.slice(0, 21), video.videoWidth, video.checkVisibility()]);
        })()"""
    )
    decodes = browser.run("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"') !== ''")
    assert videos == [["data:video/mp4;base64", 32 if decodes else 0, True]] * 13  # one also as the film


def test_real_and_imagined_films_stand_side_by_side_and_play_together(browser: Browser) -> None:
    article = "document.querySelector('.gallery article')"
    for size in (DESKTOP, PHONE):
        browser.resize(*size)
        films = f"[...{article}.querySelectorAll('video')].map((one) => one.getBoundingClientRect().toJSON())"
        one, other = browser.run(films)
        assert one["top"] == other["top"] and one["right"] < other["left"] and one["width"] == other["width"] > 100
        assert other["right"] <= size[0]
    browser.run(
        f"""playing = []; {article}.querySelectorAll('video').forEach((one) => {{
          one.play = async () => {{ playing.push(one.currentTime); }}; one.currentTime = 1;
        }})"""
    )
    browser.run(f"{article}.querySelector('.together').focus()")
    browser.press("Enter")
    assert browser.run("playing") == [0, 0]


def test_a_header_sorts_by_number_up_down_and_back(browser: Browser) -> None:
    before = column(browser, "#runs-table", 4)
    tasks = column(browser, "#runs-table", 1)
    score = "#runs-table th:nth-child(5) button"
    click(browser, score)
    upwards = column(browser, "#runs-table", 4)
    assert upwards == sorted(before, key=float) != sorted(before) and upwards != before
    assert sort_state(browser, "#runs-table") == [*["none"] * 4, "ascending", *["none"] * 8]
    click(browser, score)
    assert column(browser, "#runs-table", 4) == upwards[::-1]
    assert sort_state(browser, "#runs-table")[4] == "descending"
    click(browser, score)
    assert column(browser, "#runs-table", 4) == before and column(browser, "#runs-table", 1) == tasks
    click(browser, "#runs-table th:nth-child(2) button")
    assert column(browser, "#runs-table", 1) == sorted(tasks)


def test_a_missing_value_stays_last_in_either_direction(browser: Browser) -> None:
    values = column(browser, "#runs-table", 7)
    assert sorted(values) == [*["0.20"] * 4, *["–"] * 3] != values
    for _ in range(2):
        click(browser, "#runs-table th:nth-child(8) button")
        assert column(browser, "#runs-table", 7) == [*["0.20"] * 4, *["–"] * 3]


def test_the_keyboard_sorts_as_well(browser: Browser) -> None:
    browser.run("document.querySelector('#runs-table th:nth-child(4) button').focus()")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Score"
    before = column(browser, "#runs-table", 4)
    browser.press("Enter")
    assert column(browser, "#runs-table", 4) == sorted(before, key=float)
    browser.press(" ")
    assert column(browser, "#runs-table", 4) == sorted(before, key=float, reverse=True)


def test_games_are_sorted_and_aggregates_stay_below_their_rule(browser: Browser) -> None:
    titles, human = column(browser, "#IRIS-T1", 0), column(browser, "#IRIS-T1", 2)
    assert len(titles) == 31
    click(browser, "#IRIS-T1 th:nth-child(3) button")
    assert column(browser, "#IRIS-T1", 2)[:26] == sorted(human[:26], key=float)
    assert column(browser, "#IRIS-T1", 0)[:26] != titles[:26] and column(browser, "#IRIS-T1", 0)[26:] == titles[26:]
    ruled = "[...document.querySelectorAll('#IRIS-T1 tbody tr')].map((row) => row.classList.contains('rule'))"
    assert browser.run(ruled) == [number == 26 for number in range(31)]


def test_what_stands_above_and_below_the_games_is_not_sorted_with_them(browser: Browser) -> None:
    def leading(texts: list[str]) -> list[float]:
        return [float(text.split(" ±")[0]) for text in texts]

    titles, curl = column(browser, "#R1-T-atari", 0), column(browser, "#R1-T-atari", 5)
    assert titles[3] == "Alien" and "±" in curl[3]
    click(browser, "#R1-T-atari th:nth-child(6) button")
    assert leading(column(browser, "#R1-T-atari", 5)[3:29]) == sorted(leading(curl[3:29])) != leading(curl[3:29])
    after = column(browser, "#R1-T-atari", 0)
    assert after[:3] == titles[:3] and after[29:] == titles[29:] and sorted(after) == sorted(titles)


def test_signs_and_thousands_are_numbers(browser: Browser) -> None:
    read = "['+0.25', '−0.3', '×1.5', '1.2k (1 of 3)', '0.9M', '800'].map((text) => numberOf(text.replace('−', '-')))"
    assert browser.run(read) == [0.25, -0.3, 1.5, 1200, 900000, 800]


def test_the_filter_shows_the_runs_with_all_of_its_words(browser: Browser) -> None:
    def enter(text: str) -> tuple[list[str], str]:
        browser.run(
            f"filter = document.getElementById('filter'); filter.value = {text!r};"
            "filter.dispatchEvent(new Event('input'))"
        )
        return column(browser, "#runs-table", 1), browser.run("document.getElementById('matches').value")

    assert enter("PONG smoke") == (["atari/Pong"], "1 of 7")
    assert enter("atari") == (["atari/Breakout", "atari/Pong"], "2 of 7")
    assert enter("no such run") == ([], "0 of 7")
    assert enter(" ")[1] == "7 of 7"


def test_a_copy_button_copies_its_command(browser: Browser) -> None:
    browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    browser.run("window.setTimeout = () => 0")  # the button keeps its answer
    click(browser, "#IRIS-F-pp .copy")
    browser.run(FRAMES)
    assert browser.run("copied") == "python analysis/make_figures.py --only IRIS-F-pp"
    assert browser.run("document.querySelector('#IRIS-F-pp .copy').textContent") == "Copied"


def test_the_contents_lead_everywhere(browser: Browser) -> None:
    for size, step in ((DESKTOP, 1), (PHONE, 2)):
        browser.resize(*size)
        places = browser.run(
            """(async () => {
              const result = [];
              for (const [number, link] of document.querySelectorAll("nav a").entries()) {
                if (number % STEP) continue;
                link.click();
                // Chromium follows 200 links in ten seconds, then none: four frames are 67 milliseconds
                for (let frame = 0; frame < 4; frame++) await new Promise((done) => requestAnimationFrame(done));
                const target = document.getElementById(link.hash.slice(1));
                const atEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 2;
                result.push([link.hash, location.hash, atEnd ? 0 : target.getBoundingClientRect().top]);
              }
              return result;
            })()""".replace("STEP", str(step))
        )
        assert len(places) > 40
        assert [place for place in places if place[0] != place[1] or not -2 <= place[2] < 130] == []


def test_the_contents_are_a_column_on_a_desktop_and_one_line_on_a_phone(browser: Browser) -> None:
    assert browser.run(FIRST_LINK_SHOWN) and browser.run("document.querySelector('nav').offsetHeight") == DESKTOP[1]
    browser.resize(*PHONE, mobile=True)
    browser.run(FRAMES)
    assert not browser.run(FIRST_LINK_SHOWN) and browser.run("document.querySelector('nav').offsetHeight") < 60
    click(browser, "nav summary")
    browser.run(FRAMES)
    assert browser.run(FIRST_LINK_SHOWN)
    browser.run("document.querySelector('a[href=\"#beyond\"]').click()")
    assert not browser.run("document.querySelector('nav details').open")


@pytest.mark.parametrize("size", [PHONE, (768, 1024), DESKTOP])
def test_nothing_makes_the_body_scroll_sideways(browser: Browser, size: tuple[int, int]) -> None:
    browser.resize(*size, mobile=size == PHONE)
    browser.run("document.querySelectorAll('details.run').forEach((one) => { one.open = true; })")
    assert browser.run("[innerWidth, document.documentElement.scrollWidth]") == [size[0], size[0]]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_all_text_is_readable_on_its_ground(browser: Browser, colours: str) -> None:
    browser.prefer(colours)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (colours == "light")
    assert browser.run(CONTRASTS.replace("READABLE", str(READABLE))) == []


MISNAMED = """
[...document.querySelectorAll("a, button, summary, [role], [tabindex], input, video")].map((element) => {
  const text = (element.matches("a, button") ? element.textContent : "").trim();
  const label = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
  return [element.outerHTML.slice(0, 100), text, label.trim()];
}).filter(([_, text, label]) => !label || !label.toLowerCase().includes(text.toLowerCase()))
"""


def test_names_for_screen_readers_hold_what_is_written_there(browser: Browser) -> None:
    assert browser.run("document.querySelectorAll('[aria-label]').length") > 20
    assert browser.run(MISNAMED) == []  # WCAG 2.5.3: who speaks to the computer says what is written


def pixel(browser: Browser, selector: str) -> list[int]:
    """Red, green and blue of a picture's top left corner, as it is shown."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView()")
    browser.run(f"document.querySelector({selector!r}).decode()")
    browser.run(FRAMES)
    box = browser.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
    shown = imageio.imread(browser.screenshot())
    return list(map(int, shown[round(box["top"]) + 2, round(box["left"]) + 2, :3]))


def test_figures_and_page_follow_the_system_and_the_switch_which_is_remembered(browser: Browser, page: Path) -> None:
    figure, light, dark = "#IRIS-F-agg img", [255, 255, 255], [0x16, 0x19, 0x1D]
    assert pixel(browser, figure) == light
    browser.prefer("dark")
    assert pixel(browser, figure) == dark
    click(browser, "#theme")
    try:
        assert (
            pixel(browser, figure) == light
            and browser.run("document.querySelector('#theme').textContent") == "Dark page"
        )
        browser.open(page)
        assert pixel(browser, figure) == light
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        browser.run("localStorage.clear()")


def test_the_contents_mark_where_the_reader_is(browser: Browser) -> None:
    marked = "[...document.querySelectorAll('nav [aria-current]')].map((link) => link.hash)"
    browser.run(FRAMES)
    assert browser.run(marked) == ["#overview"]
    for place in ("#IRIS-F-pp", "#defects", "#what"):
        browser.run(f"document.querySelector({place!r}).scrollIntoView()")
        browser.run(FRAMES)
        assert browser.run(marked) == [place]
    browser.resize(*PHONE, mobile=True)
    browser.run("document.querySelector('#IRIS-T1').scrollIntoView()")
    browser.run(FRAMES)
    assert browser.run("document.querySelector('#here').textContent") == "Atari-100k per game, IRIS paper's Table 1"


def test_a_link_to_what_is_folded_opens_it(browser: Browser) -> None:
    shown = "document.getElementById('IRIS-F-rec').checkVisibility()"
    assert not browser.run(shown)
    click(browser, "nav a[href='#IRIS-F-rec']")
    assert browser.run(shown)
    folded = "document.getElementById('DIRIS-F-rec').checkVisibility()"
    assert browser.run(f"{folded} || (reveal('DIRIS-F-rec'), {folded})")  # where the browser does not do it by itself


def test_what_is_wider_than_its_place_fades_and_the_keyboard_moves_it(browser: Browser) -> None:
    box = "document.querySelector('#IRIS-T1 .scroll')"
    state = f"[{box}.tabIndex, {box}.className, getComputedStyle({box}).maskImage !== 'none']"
    browser.run(FRAMES)
    assert browser.run(state) == [-1, "scroll", False]  # nothing to scroll to, nothing to stop at
    browser.resize(*PHONE, mobile=True)
    browser.run(FRAMES)
    assert browser.run(state) == [0, "scroll more-right", True]
    browser.run(f"{box}.focus(); {box}.scrollLeft = 40; undefined")
    browser.run(FRAMES)
    assert browser.run(state) == [0, "scroll more-right more-left", True]
    browser.run(f"{box}.scrollLeft = 9999; undefined")
    browser.run(FRAMES)
    assert browser.run(state) == [0, "scroll more-left", False]


def test_row_labels_stay_while_a_figure_scrolls_on_a_phone(browser: Browser) -> None:
    labels = "document.querySelector('#IRIS-F-agg .labels')"
    assert browser.run(labels) is None
    browser.resize(*PHONE, mobile=True)
    browser.run(FRAMES)
    browser.run("document.querySelector('#IRIS-F-agg .card').scrollLeft = 150; undefined")
    browser.run(FRAMES)
    left, width = browser.run(f"[{labels}.getBoundingClientRect().left, {labels}.offsetWidth]")
    card = browser.run("document.querySelector('#IRIS-F-agg .card').getBoundingClientRect().left")
    assert 0 <= left - card <= 2 and 20 < width < 200


def test_it_prints_without_what_can_only_be_clicked(browser: Browser, page: Path) -> None:
    browser.prefer("dark", "print")
    for selector in ("nav", ".copy", ".files", ".filter", ".skip", "#beside"):
        assert not browser.run(f"document.querySelector({selector!r}).checkVisibility()"), selector
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('#IRIS-F-pp')).breakInside") == "avoid"
    browser.resize(700, 1000)  # A4 between its margins: were a table wider, every page would be shrunk
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == 700
    browser.prefer("light", "")
    browser.open(page)
    count = f"document.querySelectorAll({CLOSED!r}).length"
    browser.run(f"addEventListener('beforeprint', () => {{ window.closedOnPaper = {count}; }})")
    assert browser.run(count) > 5
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", pdf)) > 5
    assert browser.run("closedOnPaper") == 0 and browser.run(count) > 5


def test_without_script_everything_is_there_to_read(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.resize(*PHONE)
        browser.open(page)
        assert len(column(browser, "#runs-table", 1)) == 7
        assert browser.run("document.querySelectorAll('th button').length") == 0
        assert not browser.run("document.querySelector('.filter').checkVisibility()")
        assert not browser.run(FIRST_LINK_SHOWN)
        click(browser, "nav summary")
        browser.screenshot()  # draws a frame
        assert browser.run(FIRST_LINK_SHOWN)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
