"""The station's live page in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest

from adq_edge.station.events import Trigger
from adq_edge.station.station import Station
from factories.chromium import Browser, find_chromium, open_browser
from factories.parts import write_fitted_engine
from factories.stations import WAIT_S, part_image, station_config

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
TOKEN = "0123456789abcdef"
PAGE = Path(__file__).parents[3] / "adq_edge" / "station" / "services" / "web" / "page.html"
HOSTILE = "<img src=x onerror=alert(1)>"

OUTSIDE = """
[...document.querySelectorAll('body *')].filter(item => item.getBoundingClientRect().right >
  document.documentElement.clientWidth + 1).map(item => item.outerHTML.slice(0, 80))
"""
# Texts whose contrast with their background is below 4.5 (WCAG 2.1, level AA).
PALE = """
(() => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const linear = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = channels(color).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = item => {
    for (; item; item = item.parentElement) {
      const color = getComputedStyle(item).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body *')].filter(item =>
    item.checkVisibility() && [...item.childNodes].some(node => node.nodeType === 3 && node.data.trim()) &&
    !item.closest('script, style')).filter(item => {
      const pair = [light(getComputedStyle(item).color), light(behind(item))].sort((a, b) => b - a);
      return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
    }).map(item => item.outerHTML.slice(0, 80));
})()
"""
BOX = "(({x, width}) => x >= 0 && width > 0)(document.querySelector('.frame rect').getBoundingClientRect())"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with open_browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("station")
    web = {"port": 0, "token": TOKEN}
    tables = {"web": web, "station": {"name": f"Press 4 {HOSTILE}"}, "sinks": {"mes": {"type": "rest"}}}
    with Station(station_config(write_fitted_engine(folder), folder, **tables)) as started:
        for number in range(10):
            inspect(started, number, is_defective=number % 3 == 0)
        yield started


def inspect(station: Station, number: int = 0, is_defective: bool = False, **keys: str) -> str:
    trigger = Trigger(image=part_image(number, is_defective), fields={"serial": HOSTILE}, **keys)
    return str(station.intake("line").submit(trigger).stored.result(WAIT_S)["id"])


def url_of(station: Station) -> str:
    return str(station.config.services["web"].describe())


def log_in(browser: Browser, station: Station, width: int = 1280, dark: bool = False) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.open_url(url_of(station), width, dark=dark)
    browser.wait_for("!document.getElementById('login').hidden")
    submit_token(browser, TOKEN)
    browser.wait_for("document.querySelector('.verdict b')")


def submit_token(browser: Browser, token: str) -> None:
    browser.evaluate(
        f"(document.getElementById('token').value = {json.dumps(token)},"
        " document.querySelector('#login form').requestSubmit())"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
def test_page_fits_and_can_be_read(browser: Browser, station: Station, width: int, dark: bool) -> None:
    log_in(browser, station, width, dark)
    frame = inspect(station, 20, is_defective=True)
    browser.wait_for(f"document.querySelector('.frame img').src.includes({json.dumps(frame)})")
    browser.wait_for("document.querySelector('.frame img').naturalWidth === 64")
    assert all(url.startswith((url_of(station), "data:")) for url in browser.requests), browser.requests
    assert [one for one in browser.messages if "401" not in one] == []  # before the login
    assert browser.evaluate("document.scrollingElement.scrollWidth") == width
    assert browser.evaluate(OUTSIDE) == []
    assert browser.evaluate(PALE) == []
    assert browser.evaluate(BOX)
    text = browser.evaluate("document.body.innerText")
    for words in (
        "defective",
        "bolt",
        HOSTILE,
        "Allowed false rejects",
        "99.9 % are below",
        "waiting for mes",
    ):
        assert words in text


def test_a_new_verdict_and_a_problem_appear_without_a_reload(browser: Browser, station: Station) -> None:
    log_in(browser, station)
    inspect(station, 1)
    browser.wait_for("document.querySelector('.verdict b').textContent === '✓ good'")
    inspect(station, 2, is_defective=True)
    browser.wait_for("document.querySelector('.verdict b').textContent === '✕ defective'")
    station.conditions.report("source line", "no image since 5 s")
    browser.wait_for("document.getElementById('problems').innerText.includes('no image since 5 s')")
    browser.wait_for("document.getElementById('state').textContent === 'degraded'")
    station.conditions.report("source line", None)
    browser.wait_for("document.getElementById('problems').hidden")
    inspect(station, 3)
    browser.wait_for("document.querySelector('.verdict b').textContent === '✓ good'")
    browser.evaluate(
        "[...document.querySelectorAll('button')].find(b => b.textContent === 'Last reject').click()"
    )
    assert browser.evaluate("document.querySelector('.verdict b').textContent") == "✕ defective"


def test_the_page_polls_where_events_do_not_come(browser: Browser, station: Station) -> None:
    script = (
        "window.EventSource = class { static CLOSED = 2; constructor() { this.readyState = 2; } close() {} };"
    )
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        log_in(browser, station)
        frame = inspect(station, 4)
        browser.wait_for(f"document.querySelector('.frame img').src.includes({json.dumps(frame)})")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def test_a_wrong_token_is_refused_and_the_login_stays(browser: Browser, station: Station) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.open_url(url_of(station), 390)
    browser.wait_for("!document.getElementById('login').hidden")
    assert "serial" not in browser.evaluate("document.body.innerText")
    assert browser.evaluate(PALE) == []
    submit_token(browser, "not the token")
    browser.wait_for("document.getElementById('login-problem').textContent === 'This is not the token.'")
    submit_token(browser, TOKEN)
    browser.wait_for("document.getElementById('login').hidden && document.querySelector('.verdict b')")
    browser.open_url(url_of(station), 390)  # the cookie is kept
    browser.wait_for("document.querySelector('.verdict b')")


def test_page_is_small_and_needs_nothing_from_elsewhere() -> None:
    page = PAGE.read_text("utf-8")
    assert len(page.encode()) < 60_000
    assert "innerHTML" not in page
    assert "https://" not in page
    assert page.count("http://") == page.count("http://www.w3.org/2000/svg")
