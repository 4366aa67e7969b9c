"""A real Chromium for the tests of pages; where there is none they are skipped and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Where the browser is: what NLPCLI_CHROMIUM names, which must be there, or an installed one."""
    named = os.environ.get("NLPCLI_CHROMIUM")
    path = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    if path is None and named:
        pytest.fail(f"NLPCLI_CHROMIUM names '{named}', which is no program")
    if path is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed, nor does NLPCLI_CHROMIUM name one")
    return path


@pytest.fixture(scope="session")
def tab() -> Iterator[Any]:
    """The one tab of a headless Chromium, for all tests of a worker."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container gives a browser neither the rights for its sandbox nor much shared memory.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page()
        page.set_default_timeout(90_000)  # on a busy machine
        yield page
        browser.close()


class Opened:
    """A page from a file, and what it did that it should not: requests, console messages, dialogs, errors."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.trouble: list[str] = []
        self._listeners = {
            "console": lambda message: self.trouble.append(f"console: {message.text}"),
            "pageerror": lambda error: self.trouble.append(f"error: {error}"),
            "request": self._request,
            "dialog": self._dialog,
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")) and request.url.partition("#")[0] != self.address:
            self.trouble.append(f"request: {request.url}")

    def _dialog(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)

    def drawn(self) -> Opened:
        """Waits until the request is drawn."""
        self.page.wait_for_selector("#panel[aria-busy=false]")
        return self

    def press(self, *keys: str) -> Opened:
        for key in keys:
            self.page.keyboard.press(key)
        return self.drawn()

    def click(self, selector: str, **options: Any) -> Opened:
        self.page.click(selector, **options)
        return self.drawn()

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def picture(self, selector: str = "#panel canvas") -> str:
        """The pixels of the visible canvases."""
        return self.page.evaluate(
            "(s) => [...document.querySelectorAll(s)].filter((c) => c.offsetParent).map((c) => c.toDataURL()).join()",
            selector,
        )


@pytest.fixture
def open_page(tab: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens HTML from a file; at the end no network request and no message on the console may have been made."""
    opened: list[Opened] = []

    def open_html(html: str, hash: str = "", *, size: tuple[int, int] = (1000, 700), scheme: str = "light") -> Opened:
        file = tmp_path / f"page-{len(opened)}.html"
        file.write_text(html, encoding="utf-8")
        if opened:
            opened[-1].close()
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.emulate_media(color_scheme=scheme, media="screen")
        tab.mouse.move(0, 0)
        opened.append(Opened(tab, file.as_uri()))
        tab.goto(file.as_uri() + hash)
        return opened[-1].drawn()

    yield open_html
    for one in opened:
        one.close()
    assert [one.trouble for one in opened] == [[] for _ in opened]
