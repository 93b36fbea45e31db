"""The page in a real browser, with the game of an untrained agent; skipped where there is no browser."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import imageio.v2 as imageio
import numpy as np
import pytest

from tests.browser import Browser
from tests.viewer.dot import SECONDS, Dot, serving
from tests.viewer.support import session as play_session
from tokenworlds import episodes
from tokenworlds.viewer.server import Server

pytestmark = pytest.mark.integration

TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed")
DESKTOP, PHONE = (1400, 900), (390, 844)
TILES = "Object.fromEntries([...document.querySelectorAll('#numbers div')].map((one) => [one.firstChild.textContent, one.lastChild.textContent]))"  # noqa: E501
CONNECTED = "!document.querySelector('#connection').classList.contains('off')"


@pytest.fixture
def browser(program: Browser) -> Iterator[Browser]:
    """A light desktop without a page."""
    program.resize(*DESKTOP)
    program.prefer("light")
    program.call("Emulation.setTouchEmulationEnabled", enabled=False)
    yield program
    program.open("about:blank")


@pytest.fixture
def dot(tmp_path: Path) -> Dot:
    return Dot(tmp_path)


@pytest.fixture
def server(dot: Dot) -> Iterator[Server]:
    with serving(dot) as running:
        yield running


def open_page(browser: Browser, server: Server) -> None:
    browser.open(server.address())
    until(browser, "document.querySelectorAll('#stage canvas').length > 0")


def until(browser: Browser, condition: str | Callable[[], object]) -> None:
    """Wait for an expression in the page or a call to be true."""
    deadline = time.monotonic() + SECONDS
    while not (browser.run(condition) if isinstance(condition, str) else condition()):
        assert time.monotonic() < deadline, (condition, browser.run("document.body.innerText"))
        time.sleep(0.05)


def click(browser: Browser, selector: str) -> None:
    """With the mouse, in the middle of an element."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView({{ block: 'center' }})")
    x, y = middle(browser, selector)
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def middle(browser: Browser, selector: str, right: float = 0.5) -> tuple[float, float]:
    box = f"document.querySelector({selector!r}).getBoundingClientRect()"
    x, y, width, height = browser.run(f"(({{ x, y, width, height }}) => [x, y, width, height])({box})")
    return x + width * right, y + height / 2


def requests(browser: Browser) -> set[str]:
    wanted = [event for event in browser.events if event.get("method") == "Network.requestWillBeSent"]
    urls = {event["params"]["request"]["url"] for event in wanted}
    return {url for url in urls if not url.startswith("data:")}  # pictures of a film's buttons


def trouble(browser: Browser) -> list[dict[str, Any]]:
    browser.run("new Promise((done) => setTimeout(done, 100))")
    return [event for event in browser.events if event.get("method") in TROUBLE]


def test_a_game_is_played_switched_recorded_and_downloaded(browser: Browser, tmp_path: Path) -> None:
    session = play_session("iris", tmp_path, player="human", fps=30)
    with serving(session) as server:
        open_page(browser, server)
        assert browser.run("document.title").startswith("iris/") and browser.run(f"{TILES}.Step") == "0"
        browser.press("d")
        until(browser, f"{TILES}.Step === '1'")
        assert browser.run(f"{TILES}.Action") == "right"  # and without keys the game waits
        click(browser, "#set-world-world-model + label")
        until(browser, "document.querySelector('#stage figcaption').textContent === 'imagined'")
        click(browser, "#set-world-environment + label")
        until(browser, "document.querySelector('#stage figcaption').textContent === 'original'")
        browser.press(",")
        until(browser, "!document.querySelector('#writing').hidden")
        click(browser, "#set-player-agent + label")
        until(browser, f"Number({TILES}.Step) > 4")
        browser.press(",")
        until(browser, "document.querySelectorAll('#files a').length > 1")
        links = browser.run("[...document.querySelectorAll('#files a')].map((link) => link.href)")
        for address in links:
            with urlopen(address) as answer:
                (tmp_path / Path(address).name).write_bytes(answer.read())
        film = next(Path(address).name for address in links if address.endswith(".mp4"))
        arrays = next(Path(address).name for address in links if address.endswith(".npz"))
        with imageio.get_reader(tmp_path / film) as reader:
            assert reader.count_frames() > 1
        assert len(episodes.load(tmp_path / arrays).actions) > 1
        assert trouble(browser) == []
        assert [url for url in requests(browser) if not url.startswith(server.address())] == []


def test_keys_move_the_game_and_stay_with_a_field_that_has_the_focus(
    browser: Browser, server: Server, dot: Dot
) -> None:
    open_page(browser, server)
    before = dot.place.tolist()
    browser.key("keyDown", "d")
    until(browser, lambda: dot.place.tolist() != before)
    browser.key("keyUp", "d")
    until(browser, lambda: not dot.inputs[-1].keys)
    browser.run("document.querySelector('#set-temperature').focus()")
    number, place = len(dot.inputs), dot.place.tolist()
    for key in ("w", " ", ","):
        browser.press(key)
    until(browser, lambda: len(dot.inputs) > number + 5)
    assert dot.place.tolist() == place and dot.recording is None
    click(browser, "#set-world-both + label")  # the mouse does not keep the keys
    browser.press("w")
    until(browser, lambda: dot.place.tolist() != place)


def test_keys_that_need_altgr_count_and_shortcuts_do_not(browser: Browser, server: Server, dot: Dot) -> None:
    open_page(browser, server)

    def press(key: str, **modifiers: bool) -> None:
        held = ", ".join(f"{name}: true" for name in modifiers)
        browser.run(f"dispatchEvent(new KeyboardEvent('keydown', {{ key: {key!r}, {held} }})), 0")

    for modifier in ("ctrlKey", "altKey", "metaKey"):
        press(",", **{modifier: True})
    press(".", ctrlKey=True, altKey=True, modifierAltGraph=True)
    until(browser, lambda: dot.paused)
    assert dot.recording is None


def test_settings_commands_and_questions_reach_the_session_and_show_its_answer(
    browser: Browser, server: Server, dot: Dot
) -> None:
    open_page(browser, server)
    click(browser, "#set-panels-large")
    until(browser, "document.querySelectorAll('#stage canvas').length === 1")
    browser.run(
        "(({ style }) => 0)(document.body), document.querySelector('#set-fps').value = 20,"
        "document.querySelector('#set-fps').dispatchEvent(new Event('input'))"
    )
    until(browser, lambda: dot.settings["fps"] == 20)
    click(browser, "#commands button:nth-child(2)")
    until(browser, "document.querySelector('#commands button:nth-child(2)').ariaPressed === 'true'")
    click(browser, "#commands button:nth-child(2)")
    click(browser, "#commands button:nth-child(4)")
    until(browser, "!document.querySelector('#ask').hidden")
    click(browser, "#ask button")
    until(browser, "document.querySelector('#ask').hidden")
    assert dot.asks is None
    click(browser, "#set-player-agent + label")
    until(browser, lambda: dot.settings["player"] == "agent")
    until(browser, "document.querySelector('#pad').hidden")  # the page has heard of it; the click alone checks the box
    browser.press("d")
    until(browser, "document.querySelector('#message').textContent.includes('agent plays')")


def test_a_page_says_that_the_server_is_away_and_comes_back_by_itself(browser: Browser, dot: Dot) -> None:
    with serving(dot) as server:
        open_page(browser, server)
        port = server.port
        browser.key("keyDown", "d")
        until(browser, lambda: "d" in dot.inputs[-1].keys)
    until(browser, "!document.querySelector('#lost').hidden")
    assert not browser.run(CONNECTED)
    with serving(dot, port=port):
        until(browser, CONNECTED)
        number = len(dot.inputs)
        until(browser, lambda: len(dot.inputs) > number)
        assert browser.run("document.querySelector('#lost').hidden") and not dot.inputs[-1].keys
        browser.key("keyUp", "d")
        browser.press("w")
        until(browser, lambda: any("w" in one.keys for one in dot.inputs[number:]))


def test_two_fingers_steer_and_fire_on_a_phone(browser: Browser, server: Server, dot: Dot) -> None:
    browser.resize(*PHONE, mobile=True)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
    open_page(browser, server)
    assert browser.run("document.documentElement.scrollWidth") == PHONE[0]
    until(browser, "!document.querySelector('#pad').hidden")
    labels = "[...document.querySelectorAll('#pad button')].map((button) => button.ariaLabel)"
    assert browser.run(labels) == ["up", "left", "down", "right", "fire"]  # and no button for up and fire together
    shown = "document.querySelector('#pad').getBoundingClientRect().bottom <= innerHeight"
    assert browser.run(f"scrollY === 0 && {shown}")
    assert browser.run("document.querySelector('#stage canvas').getBoundingClientRect().bottom") < PHONE[1] / 2
    right, fire = middle(browser, ".stick", 0.9), middle(browser, ".rest button")
    browser.touch(right, fire)
    until(browser, lambda: dot.inputs[-1].keys == {"d", " "})
    browser.touch()
    until(browser, lambda: not dot.inputs[-1].keys)


def test_sliders_play_continuous_actions(browser: Browser, tmp_path: Path) -> None:
    dot = Dot(tmp_path, continuous=True)
    with serving(dot) as server:
        open_page(browser, server)
        browser.run(
            "document.querySelector('#action-1').value = -0.5,"
            "document.querySelector('#action-1').dispatchEvent(new Event('input'))"
        )
        until(browser, lambda: dot.inputs[-1].action == (0.0, -0.5))
        click(browser, "#sliders button")
        until(browser, lambda: dot.inputs[-1].action == (0.0, 0.0))


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_control_has_a_name(browser: Browser, server: Server, colours: str) -> None:
    browser.prefer(colours)
    open_page(browser, server)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = ("button", "checkbox", "radio", "slider", "combobox", "link", "meter", "image", "alertdialog")
    nameless = [
        node["role"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in named and not node["ignored"] and not node["name"]["value"]
    ]
    assert nameless == [] and browser.run("document.documentElement.lang") == "en"
    assert np.count_nonzero([node.get("role", {}).get("value") == "slider" for node in nodes]) == 2
