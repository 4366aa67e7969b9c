"""A report's page in a real Chromium: it asks nothing of a network, runs nothing, and can be read on a phone."""

from __future__ import annotations

import pytest

from nlpcli.commands.report.html_report import as_page
from nlpcli.commands.report.report import ReportRequest, make_report
from nlpcli.config.loading import dump_yaml
from nlpcli.config.schema import RunConfig
from nlpcli.training.training_log import MetricsLog

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


@pytest.fixture
def written(tmp_path):
    """The page of two runs with text in all places that would run if it were not escaped."""
    folders = []
    for name, rate in (("plain", 1.0), ("b & <i>", 0.7)):
        folder = tmp_path / name
        folder.mkdir()
        config = RunConfig(description=EVIL, task="translation").model_dump()
        config["training"]["lr"] = rate
        (folder / "config.yaml").write_text(dump_yaml(config))
        (folder / "model.yaml").write_text(dump_yaml({"step": 60, "metrics": {EVIL: 1.0, "loss": 2.0}}))
        log = MetricsLog(folder)
        for step in range(10, 61, 10):
            log.write("train", step, loss=9 / step**rate, lr=0.1, grad_norm=1.0, tokens_per_second=9.0, seconds=step)
            log.write("dev", step, loss=10 / step**rate, bleu=rate * step, seconds=step)
            log.show("dev", step, [{"source": EVIL, "reference": "متن راست \ud83d", "output": f"{EVIL} {step} \x00"}])
        folders.append(folder)
    return as_page(make_report(ReportRequest(tuple(folders)), notify=print))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_of_a_report_is_quiet_fits_and_shows_text_as_text(tab, written, tmp_path, width, scheme):
    file = tmp_path / "report.html"
    file.write_text(written, encoding="utf-8", errors="backslashreplace")
    page, trouble = tab, []
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    listeners = {
        event: (lambda message, event=event: trouble.append((event, str(message))))
        for event in ("console", "pageerror", "dialog", "requestfailed")
    }
    listeners["request"] = lambda request: None if request.url == file.as_uri() else trouble.append(request.url)
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(file.as_uri())
    assert trouble == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("script, img").count() == 0
    assert page.locator(".sample").first.inner_text().count(EVIL) >= 3
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert (sum(map(int, ink[4:-1].split(","))) > sum(map(int, paper[4:-1].split(",")))) == (scheme == "dark")
    curves = page.locator(".charts svg path[style*='--run-2']")
    assert curves.count() > 0
    colors = {curves.nth(i).evaluate("(p) => getComputedStyle(p).stroke") for i in range(curves.count())}
    assert colors <= {"rgb(213, 94, 0)" if scheme == "light" else "rgb(255, 154, 77)", "none"} and len(colors) >= 1
    sizes = page.evaluate(
        "[...document.querySelectorAll('.charts svg text')].map((t) => t.getBoundingClientRect().height)"
    )
    assert min(sizes) > 8  # pixels
    identities = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(identities) == len(set(identities))
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
