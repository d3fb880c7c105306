"""The page in a real browser, used as a person would."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.curation.review.conftest import Made, Page, Served

    Make, Serve = Callable[..., Made], Callable[[Made], Served]

SHOWN = "[...document.querySelectorAll('#sheet img')].map((each) => [each.naturalWidth, each.naturalHeight])"
LOADED = "[...document.querySelectorAll('#sheet img')].every((each) => each.complete)"

HOSTILE = (
    "<script>alert(1)</script>.png",
    "\"' onerror=x.png",
    "<img src=x onerror=document.title=1>.png",
    "two\nlines.png",
    "\u202egnp.png",
    "שלום 🐈.png",
)


def test_a_suspect_stands_beside_its_nearest_images_of_the_task(page: Page, make: Make, served: Serve) -> None:
    page.open(served(make()).server.url)
    page.at(1)
    page.wait(LOADED)
    assert page.value(SHOWN) == [[90, 60], [90, 60], [8, 8], [8, 8], [8, 8], [8, 8]]
    captions = page.value("[...document.querySelectorAll('figcaption')].map((each) => each.innerText)")
    assert captions[0] == "a.png"
    assert captions[1:4] == [
        "0.9900 · train\ncat/0.png",
        "0.9700 · validation\ncat/1.png",
        "0.9500 · test\ncat/2.png",
    ]


def test_keys_decide_and_each_decision_is_saved_before_the_next_is_shown(
    page: Page, make: Make, served: Serve
) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.press("l")
    page.at(2)
    assert made.decided() == {"a.png": "leak"}
    page.press("f")
    page.at(3)
    assert made.decided() == {"a.png": "leak", "b.png": "fine"}
    assert page.text("counts") == "2 left to decide · 1 leak · 1 not"


def test_the_mouse_decides_as_well(page: Page, make: Make, served: Serve) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.click("fine")
    page.at(2)
    page.click("leak")
    page.at(3)
    assert made.decided() == {"a.png": "fine", "b.png": "leak"}


@pytest.mark.parametrize(("ahead", "back"), [("ArrowRight", "ArrowLeft"), ("j", "k")])
def test_keys_move_without_deciding(page: Page, make: Make, served: Serve, ahead: str, back: str) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.press(ahead)
    page.press(ahead)
    page.at(3)
    page.press(back)
    page.at(2)
    assert made.decided() == {}


def test_undo_takes_back_what_was_decided_last(page: Page, make: Make, served: Serve) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.press("l")
    page.at(2)
    page.press("l")
    page.at(3)
    page.press("u")
    page.at(2)
    assert made.decided() == {"a.png": "leak"}


def test_what_is_decided_can_be_revisited_and_changed(page: Page, make: Make, served: Serve) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.press("l")
    page.at(2)
    page.press("k")
    page.at(1)
    assert page.value("document.getElementById('leak').getAttribute('aria-pressed')") == "true"
    page.press("f")
    page.at(2)
    assert made.decided() == {"a.png": "fine"}


def test_a_key_that_is_held_down_decides_once(page: Page, make: Make, served: Serve) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    page.press("l")
    page.at(2)
    page.press("l", held=True)
    page.press("j")
    page.at(3)
    assert made.decided() == {"a.png": "leak"}


def test_a_failed_save_is_shown_and_nothing_advances(page: Page, make: Make, served: Serve) -> None:
    made = make()
    page.open(served(made).server.url)
    page.at(1)
    blocked = made.folder / "review" / "decisions.json"
    blocked.mkdir()
    page.press("l")
    page.wait("document.getElementById('failure').textContent.startsWith('Not saved: ')")
    page.at(1)
    assert page.text("counts") == "4 left to decide · 0 leaks · 0 not"
    blocked.rmdir()
    page.press("l")
    page.at(2)
    assert (page.text("failure"), made.decided()) == ("", {"a.png": "leak"})


def test_a_server_that_is_gone_is_told(page: Page, make: Make, served: Serve) -> None:
    found = served(make())
    page.open(found.server.url)
    page.at(1)
    found.server.shutdown()
    found.server.server_close()
    page.press("l")
    page.wait("document.getElementById('failure').textContent.includes('does not answer')")
    page.at(1)


def test_it_resumes_at_the_first_that_is_not_decided(page: Page, make: Make, served: Serve) -> None:
    found = served(make())
    found.decide(0, "fine")
    found.decide(2, "leak")
    page.open(found.server.url)
    page.at(2)


def test_done_ends_the_server_once_all_are_decided(page: Page, make: Make, served: Serve) -> None:
    found = served(make())
    page.open(found.server.url)
    for number in range(4):
        page.at(number + 1)
        assert page.value("document.getElementById('finished').hidden")
        page.press("f" if number else "l")
    page.wait("!document.getElementById('finished').hidden")
    assert page.text("summary") == "All are decided: 1 leak, 3 not."
    page.click("done")
    page.wait("document.getElementById('message').textContent.startsWith('All is saved')")
    found.thread.join(30)
    assert not found.thread.is_alive()


def test_names_are_only_text(page: Page, make: Make, served: Serve) -> None:
    made = make(HOSTILE)
    page.open(served(made).server.url)
    shown = []
    for number in range(len(HOSTILE)):
        page.at(number + 1, len(HOSTILE))
        page.wait(LOADED)
        assert page.value("document.querySelectorAll('#sheet script, #sheet img[src=x]').length") == 0
        assert len(page.value(SHOWN)) == 6
        shown.append(page.value("document.querySelector('.suspect bdi').textContent"))
        page.press("l")
    page.wait("!document.getElementById('finished').hidden")
    assert shown == [*HOSTILE[:3], "two\\u{a}lines.png", "\\u{202e}gnp.png", HOSTILE[5]]
    assert page.value("document.title") == "Review of suspects"
    assert set(made.decided()) == set(HOSTILE)


def test_a_name_that_is_no_text_is_decided_on(page: Page, make: Make, served: Serve) -> None:
    made = make((os.fsdecode(b"caf\xe9.png"),), ids=("caf\\xe9.png",))
    page.open(served(made).server.url)
    page.at(1, 1)
    page.wait(LOADED)
    assert page.value(SHOWN)[0] == [90, 60]
    page.press("l")
    page.wait("!document.getElementById('finished').hidden")
    assert made.decided() == {"caf\\xe9.png": "leak"}


def test_an_image_that_is_gone_can_be_decided_on(page: Page, make: Make, served: Serve) -> None:
    made = make(vanished=("a.png",))
    page.open(served(made).server.url)
    page.at(1)
    page.wait("document.querySelector('.suspect .missing')?.textContent.startsWith('This image is no longer in')")
    page.press("f")
    page.at(2)
    assert made.decided() == {"a.png": "fine"}


def test_an_image_that_goes_meanwhile_is_told(page: Page, make: Make, served: Serve) -> None:
    made = make()
    found = served(made)
    (Path(made.gallery) / "a.png").unlink()
    page.open(found.server.url)
    page.wait("document.querySelector('.suspect .missing')?.textContent.includes('was it moved?')")


def test_the_overview_leads_to_any_suspect(page: Page, make: Make, served: Serve) -> None:
    page.open(served(make()).server.url)
    page.at(1)
    page.value("document.getElementById('overview').children[3].click()")
    page.at(4)


def test_a_name_of_someone_else_that_leads_here_shows_nothing(page: Page, make: Make, served: Serve) -> None:
    found = served(make())
    page.open(found.server.url.replace("127.0.0.1", "rebound.example"))
    page.wait("document.body?.innerText.includes('answers to its own address alone')")


def test_another_page_cannot_decide(page: Page, make: Make, served: Serve) -> None:
    made = make()
    found = served(made)
    page.open(found.server.url)  # so that loopback is not another network to the page
    page.at(1)
    page.call("Page.navigate", url="about:blank")
    page.wait("location.href === 'about:blank'")
    sent = """{method: 'POST', mode: 'no-cors', body: '{"suspect": 0, "decision": "leak"}'}"""
    page.value(f"fetch('{found.server.url}decisions', {sent}).catch(String)")
    assert made.decided() == {}


def test_a_phone_shows_it_without_scrolling_sideways(page: Page, make: Make, served: Serve) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    page.open(served(make(("long " * 40 + ".png",))).server.url)
    page.at(1, 1)
    wide = page.value("document.documentElement.scrollWidth")
    page.call("Emulation.clearDeviceMetricsOverride")
    assert wide <= 390
