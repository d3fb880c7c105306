from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tutelage.errors import DataError, RunError
from tutelage.report.curated.page import write_curation_page

Make = Callable[..., Path]

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;{{ 7*7 }}\u202e #.png"

SECTIONS = [
    "What was retrieved for what",
    "What was left out",
    "How many each query brought",
    "How similar it is",
    "Where it lies in the gallery",
    "How many are enough",
    "How it was made",
]

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"kept": 2, "points": True},
    "hostile": {"name": HOSTILE, "classes": ("<b>x", "&amp;", "x" * 200)},
    "random": {"kind": "nothing", "points": True},
    "texts": {"kind": "texts", "encoders": ("openclip:ViT-L-14/openai", "bundled:efficientnet-lite0")},
    "gone": {"lost": True},
    "crops": {"crops": 10},
    "one query": {"classes": ("cat",), "each": 1, "retrieved": 1},
    "no thresholds": {
        "thresholds": {
            "a": {"duplicates": None, "leaks": None, "source": "none", "recall": None, "false_alarms": None}
        },
        "dropped": {"exact_copies_of_task": 0, "exact_duplicates": 0, "duplicates": 0, "leaks": 0},
        "problems": {},
    },
    "many classes": {"classes": tuple(f"class {number}" for number in range(60)), "each": 1},
}

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]

MEASURE = """<!doctype html><body style="margin:0"><iframe style="border:0;width:360px;height:9000px" srcdoc="{page}">
</iframe><script>onload = () => {{
  const frame = document.querySelector("iframe").contentDocument;
  for (const each of frame.querySelectorAll("details")) each.open = true;
  const outside = [...frame.body.querySelectorAll("*")].filter(
    (each) => each.getBoundingClientRect().right > 360.5 && !each.closest(".wide, pre"));
  const seen = outside.map((each) => each.outerHTML.slice(0, 80));
  const shown = [...frame.images].filter((each) => each.naturalWidth > 0).length;
  document.title = `${{frame.documentElement.scrollWidth}}|${{shown}}|${{seen}}`;
}}</script>"""


class Parsed(HTMLParser):
    """Collects what a page is made of, and fails on a tag that closes nothing, or the wrong thing."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str, name: str) -> list[str]:
        return [value for each, key, value in self.attributes if (each, key) == (tag, name)]


def page(folder: Path) -> str:
    return write_curation_page(folder).read_text()


def sections(text: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", text)


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))


@pytest.fixture(scope="module", params=FORMS.values(), ids=FORMS)
def every_page(request: pytest.FixtureRequest, write_one: Make, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(write_one(tmp_path_factory.mktemp("form") / "curation", **request.param))


def test_every_page_is_whole_and_needs_nothing_else(every_page: str) -> None:
    parsed = Parsed(every_page)
    assert parsed.open == []
    assert not {"script", "iframe", "object", "form", "image", "use"} & set(parsed.tags)
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        assert name not in {"srcset", "action", "data", "xlink:href"}
        assert name != "href" or value == "data:,"
        assert name != "src" or re.match(r"data:image/(png|jpeg);base64,[\w+/=]+$", value)
    assert not re.search(r"https?:|url\(|@import", every_page)


def test_no_page_shows_what_is_not_a_number(every_page: str) -> None:
    text = every_page.split("</style>")[1]
    # Left out is what is encoded, and "brought none".
    shown = re.sub(r"base64,[\w+/=]+|brought none", "", text)
    assert not re.search(r"\b(nan|inf|none|undefined|null)\b", shown, re.I)


def test_every_picture_is_described(every_page: str) -> None:
    parsed = Parsed(every_page)
    assert len([each for each in parsed.of("img", "alt") if each]) == parsed.tags.count("img")
    hidden = len(parsed.of("svg", "aria-hidden"))
    assert len([each for each in parsed.of("svg", "aria-label") if each]) + hidden == parsed.tags.count("svg")


def test_hostile_names_are_only_text(make_curated: Make) -> None:
    parsed = Parsed(page(make_curated(**FORMS["hostile"])))
    assert f"Retrieved {HOSTILE.replace('#', '0')}, similarity 0.900" in parsed.of("img", "alt")
    assert "<b>x" in parsed.words


def test_names_that_are_not_unicode_do_not_stop_it(make_curated: Make) -> None:
    folder = make_curated(lost=True, query_classes=["caf\udce9"] * 9)
    assert "caf?" in page(folder)


def test_it_is_written_beside_the_folder_of_its_stage(make_curated: Make) -> None:
    folder = make_curated()
    assert write_curation_page(folder) == folder.parent / "curation.html"


def test_all_sections_are_there_in_order(make_curated: Make, quality: dict[str, Any]) -> None:
    assert sections(page(make_curated(quality=quality, points=True))) == SECTIONS


def test_without_probes_there_is_no_curve(make_curated: Make) -> None:
    assert "How many are enough" not in sections(page(make_curated()))


def test_what_was_drawn_at_random_has_no_queries_to_show(make_curated: Make) -> None:
    assert sections(page(make_curated(kind="nothing", points=True))) == [
        "What was left out",
        "Where it lies in the gallery",
        "How it was made",
    ]


def test_the_headline_says_what_was_done(make_curated: Make) -> None:
    found = re.search("<h1>(.*?)</h1>", page(make_curated()))
    assert found is not None
    assert html.unescape(found[1]) == (
        "40 of 5,000 images were retrieved for 9 labeled images by query-balanced with efficientnet-lite0: "
        "equally many of the nearest of each labeled image, k = 7"
    )


def test_kept_suspects_are_a_warning_and_marked(make_curated: Make) -> None:
    text = page(make_curated(kept=2))
    assert 'class="warning" role="note"' in text
    assert "holds 2 possible leaks that nobody has looked at" in text
    # Each is among the neighbors of some of the 9 queries: item 0 of the first, item 1 of the first two.
    assert text.count("<b>possible leak</b>") == 3


def test_without_suspects_there_is_no_warning(make_curated: Make) -> None:
    text = page(make_curated())
    assert 'role="note"' not in text
    assert "<b>possible leak</b>" not in text


def test_each_query_stands_beside_what_was_retrieved_for_it(make_curated: Make) -> None:
    alts = Parsed(page(make_curated())).of("img", "alt")
    assert alts[:3] == [
        "Query cat/0.png",
        "Retrieved img 0.png, similarity 0.900",
        "Retrieved img 1.png, similarity 0.880",
    ]
    assert len(alts) == 9 * 7


def test_few_queries_are_shown_at_first_sight(make_curated: Make) -> None:
    text = page(make_curated(each=8))
    assert text.split("<details>")[0].count('class="pair"') == 12
    assert "<summary>12 more</summary>" in text


def test_pictures_are_the_images_themselves_when_they_are_small(make_curated: Make) -> None:
    folder = make_curated()
    shown = Parsed(page(folder)).of("img", "src")[1]
    original = np.asarray(Image.open(folder.parents[1] / "gallery" / "img 0.png"))
    np.testing.assert_array_equal(pixels(shown), original)


def test_crops_are_cut_by_their_box(make_curated: Make) -> None:
    folder = make_curated(crops=10)
    shown = Parsed(page(folder)).of("img", "src")[1]
    original = np.asarray(Image.open(folder.parents[1] / "gallery" / "img 0.png"))
    # 40 pixels a side; top 0.1, left 0.2, height and width 0.5.
    np.testing.assert_array_equal(pixels(shown), original[4:24, 8:28])


def test_images_that_are_gone_leave_a_gap(make_curated: Make) -> None:
    parsed = Parsed(page(make_curated(lost=True)))
    assert len(parsed.of("img", "alt")) == 9
    assert parsed.words.count("not there any more") == 9 * 6


def test_an_image_that_is_damaged_leaves_a_gap(make_curated: Make) -> None:
    folder = make_curated()
    (folder.parents[1] / "labeled" / "cat" / "0.png").write_bytes(b"no picture")
    assert Parsed(page(folder)).words.count("not there any more") == 1


def test_prompts_stand_where_images_would(make_curated: Make) -> None:
    parsed = Parsed(page(make_curated(kind="texts")))
    assert "a photo of a cat." in parsed.words
    assert not any(each.startswith("Query") for each in parsed.of("img", "alt"))
    assert "3 prompts brought" in parsed.words


def test_a_table_says_what_was_left_out(make_curated: Make) -> None:
    words = Parsed(page(make_curated())).words
    assert "Exact copies of images of the task 3" in words
    assert "Near duplicates of other retrieved images 12" in words
    assert "images that end too early 4" in words


def test_thresholds_say_where_they_are_from(make_curated: Make) -> None:
    assert "bundled:efficientnet-lite0 0.981 0.970 calibrated 99.1% 0.4%" in Parsed(page(make_curated())).words


def test_many_classes_are_folded(make_curated: Make) -> None:
    text = page(make_curated(**FORMS["many classes"]))
    first, folded = text.split("<h3>By class</h3>")[1].split("<details>")
    assert (first.count('<th scope="row">'), folded.split("</details>")[0].count('<th scope="row">')) == (20, 40)


def test_the_chosen_size_is_said(make_curated: Make, quality: dict[str, Any]) -> None:
    words = Parsed(page(make_curated(quality=quality))).words
    assert "200 were chosen: the smallest within 0.5 points of the best" in words
    assert "one of 2 seeds" in words


def test_each_size_has_its_mean_scores(make_curated: Make, quality: dict[str, Any]) -> None:
    changed = {**quality, "metric": "likelihood", "beside": {"accuracy": [[0.9, 1.0], [1.0], [0.5], [None, 0.25]]}}
    words = Parsed(page(make_curated(quality=changed))).words
    assert "Retrieved Likelihood of the labels Accuracy 50 62.0% 95.0%" in words
    assert "400 74.3% 25.0%" in words


def test_scores_that_are_missing_are_left_out(make_curated: Make, quality: dict[str, Any]) -> None:
    runs = [[None, None], *quality["runs"][1:3], [0.7, None]]
    text = page(make_curated(quality={**quality, "runs": runs}))
    assert text.count('class="seed"') == 5


@pytest.mark.parametrize("name", ["curation.json", "pairs.json", "transfer.parquet", "vectors.safetensors"])
def test_a_damaged_file_is_one_clear_error(make_curated: Make, name: str) -> None:
    folder = make_curated()
    (folder / name).write_bytes(b"{")
    with pytest.raises((RunError, DataError), match=re.escape(name)):
        write_curation_page(folder)
    assert not (folder.parent / "curation.html").exists()


def test_a_folder_without_a_curation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"curation\.json"):
        write_curation_page(tmp_path)


def test_what_is_asked_of_several_sources_is_read_from_each(make_curated: Make) -> None:
    folder = make_curated()
    pairs = json.loads((folder / "pairs.json").read_text())
    pairs[0]["retrieved"][0] = {**pairs[0]["query"], "box": [0, 0, 1, 1], "similarity": 0.95}
    (folder / "pairs.json").write_text(json.dumps(pairs))
    sources = Parsed(page(folder)).of("img", "src")
    assert sources[0] == sources[1]


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: chromium")
    return found


def test_a_phone_shows_it_without_scrolling_sideways(
    make_curated: Make, quality: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_curated(**FORMS["hostile"], points=True, quality=quality, kept=2)
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(MEASURE.format(page=html.escape(page(folder))))
    command = [browser(), *FLAGS, f"--user-data-dir={tmp_path}/profile", "--dump-dom", wrapper.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    measured = re.search(r"<title>(\d+)\|(\d+)\|(.*?)</title>", found.stdout, re.S)
    assert measured is not None, found.stdout[:500]
    assert int(measured[2]) == 9 * 7  # pictures that the browser could show
    assert int(measured[1]) <= 360
    assert measured[3] == ""
