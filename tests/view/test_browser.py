"""The report in a real browser: opened from the disk, silent, whole at every width, and deaf to planted scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.view.report import write

SIZES = (375, 768, 1280)


@pytest.fixture(scope="module")
def page_file(whole_run: Path) -> Path:
    return write(whole_run)


def opened(browser, file: Path, *, width: int = 1280, scheme: str = "light", scripts: bool = True):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append("dialog"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_timeout(150)
    return page, said, asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_it_opens_silently_and_fits(browser, page_file: Path, width: int, scheme: str) -> None:
    page, said, asked = opened(browser, page_file, width=width, scheme=scheme)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(n) for n in ground[4:-1].split(",")) > 384) == (scheme == "light")
    # what is wider than the page scrolls in its own box, and nothing else sticks out
    out = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.scroll, .trace')).map(e => e.outerHTML.slice(0, 90))"
    )
    assert out == []
    page.context.close()


def test_planted_scripts_do_not_run(browser, page_file: Path) -> None:
    page, said, _ = opened(browser, page_file)
    assert "window.owned=1" in page.inner_text("main")
    assert page.evaluate("window.owned") is None
    assert page.title() == "quickstart · limbeck report"
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert (
        page.evaluate("document.querySelectorAll('main img, main iframe, main [onload], main [onerror]').length") == 0
    )
    # even markup that got past the escaping could not run: the page allows its own script alone
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned=5\">')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.owned") is None
    assert any("Content Security Policy" in line for line in said)
    page.context.close()


def test_samples_can_be_filtered_with_the_keyboard_too(browser, page_file: Path) -> None:
    page, _, _ = opened(browser, page_file)
    shown = "[...document.querySelectorAll('#samples .card')].filter(c => !c.hidden).length"
    assert page.evaluate(shown) == 12
    button = page.locator("#samples .filter button", has_text="kept, wrong")
    button.focus()
    page.keyboard.press("Enter")
    assert 0 < page.evaluate(shown) < 12
    assert button.get_attribute("aria-pressed") == "true"
    page.context.close()


def test_it_is_whole_without_scripts(browser, page_file: Path) -> None:
    page, said, _ = opened(browser, page_file, scripts=False)
    assert said == []
    assert page.locator("#samples .card").count() == 12
    assert not page.locator("#samples .filter").is_visible()
    page.context.close()


def test_the_drawing_fits_the_width(browser, page_file: Path) -> None:
    for width, visible in ((375, ".slim"), (1280, ".wide")):
        page, _, _ = opened(browser, page_file, width=width)
        assert page.locator(f"#funnel {visible} svg").is_visible()
        assert page.locator("#funnel svg >> visible=true").count() == 1
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().width)"
            ".map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
        )
        assert min(sizes) >= 11, "text in a drawing must stay readable"
        page.context.close()


def test_every_drawing_has_a_name(browser, page_file: Path) -> None:
    page, _, _ = opened(browser, page_file)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label') || !s.querySelector('title')).length"
    )
    assert unnamed == 0
    page.context.close()


def test_a_killed_run_opens_as_well(browser, broken_run: Path) -> None:
    page, said, _ = opened(browser, write(broken_run), width=375)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.context.close()
