from __future__ import annotations

import dataclasses
import html
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tutelage.comparison.table import Comparison, Outcome, write_comparison
from tutelage.comparison.verdict import verdicts
from tutelage.errors import RunError
from tutelage.report.compared.page import render_comparison, write_comparison_page
from tutelage.report.compared.pictures import COLORS, SHAPES, looks

Make = Callable[..., Comparison]

HOSTILE = [
    "<script>alert(1)</script>",
    "\"' onload=x",
    "</svg></style>&amp;",
    "{{ 7*7 }}",
    "\u202egnp.exe",
    "x" * 200,
]
SECTIONS = [
    "How good each is",
    "Accuracy against labels",
    "Accuracy against pretraining compute",
    "What the transfer set decides",
    "What the last finetuning adds",
    "Teachers and their students",
    "Runs that failed",
    "Not finished",
    "How it was measured",
]
FORMS = {
    "plain": {},
    "unfinished": {"planned": 90},
    "hostile": {"transfers": HOSTILE, "labels": ("5",), "seeds": 1},
    "one seed": {"seeds": 1},
    "one label count": {"labels": ("5",)},
    "both starts": {"starts": ("random", "pretrained")},
    "shares": {"labels": ("1%", "10%", "50%")},
    "mixed labels": {"labels": ("5", "max:100", "10%")},
    "variants": {"labels": ("5",), "variants": ("plain", HOSTILE[0], "warm"), "seeds": 2},
}

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]

MEASURE = """<!doctype html><body style="margin:0"><iframe style="border:0;width:360px;height:9000px" srcdoc="{page}">
</iframe><script>onload = () => {{
  const frame = document.querySelector("iframe").contentDocument;
  for (const each of frame.querySelectorAll("details")) each.open = true;
  const outside = [...frame.body.querySelectorAll("*")].filter(
    (each) => each.getBoundingClientRect().right > 360.5 && !each.closest(".wide, pre"));
  const seen = outside.map((each) => each.outerHTML.slice(0, 80));
  document.title = `${{frame.documentElement.scrollWidth}}|${{frame.body.innerText.length}}|${{seen}}`;
}}</script>"""


class Parsed(HTMLParser):
    """Collects what a page is made of, and fails on a tag that closes nothing, or the wrong thing."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


def only(comparison: Comparison, keep: Callable[[Outcome], bool]) -> Comparison:
    return dataclasses.replace(comparison, outcomes=tuple(filter(keep, comparison.outcomes)))


def sections(comparison: Comparison) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", render_comparison(comparison))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_page_is_whole_and_needs_nothing_else(make_comparison: Make, form: dict) -> None:
    text = render_comparison(make_comparison(**form))
    page = Parsed(text)
    assert page.open == []
    assert not {"script", "iframe", "object", "form", "img", "image", "use"} & page.tags
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "srcset", "action", "data", "xlink:href"}
        assert name != "href" or value == "data:,"
    assert not re.search(r"https?:|url\(|@import", text)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_page_shows_what_is_not_a_number(make_comparison: Make, form: dict) -> None:
    text = render_comparison(make_comparison(**form))
    assert not re.search(r"\b(nan|inf|none|undefined|null)\b", text.split("</style>")[1], re.I)


def test_hostile_names_are_only_text(make_comparison: Make) -> None:
    page = Parsed(render_comparison(make_comparison(transfers=HOSTILE, labels=("5",), seeds=1)))
    described = " ".join(value or "" for name, value in page.attributes if name == "aria-label")
    for name in HOSTILE:
        assert name in page.words
        assert name in described


def test_an_error_is_shown_as_text(make_comparison: Make, error: str) -> None:
    failed = Parsed(render_comparison(make_comparison())).words.split("Runs that failed")[1]
    assert "agnostic-patch (generic) 10 labels a class" in failed
    assert f"each method at its best 2 {' '.join(error.split())}" in failed


def test_names_that_are_not_unicode_do_not_stop_it(make_comparison: Make, tmp_path: Path) -> None:
    write_comparison(tmp_path, make_comparison(transfers=("caf\udce9", "generic")))
    assert "caf?" in write_comparison_page(tmp_path).read_text()


def test_it_is_written_beside_its_data(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison()
    write_comparison(tmp_path, comparison)
    assert write_comparison_page(tmp_path) == tmp_path / "comparison.html"
    assert (tmp_path / "comparison.html").read_text() == render_comparison(comparison)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"comparison\.json"):
        write_comparison_page(tmp_path)


def test_verdicts_come_first_and_whole(make_comparison: Make) -> None:
    comparison = make_comparison()
    words = Parsed(render_comparison(comparison)).words
    first = verdicts(comparison)[0]
    assert f"<h1>{first.partition('. ')[0]}</h1>" in render_comparison(comparison)
    ahead = words.split("How good each is")[0]
    for sentence in verdicts(comparison):
        for part in sentence.split(". "):
            assert part in ahead


def test_all_sections_are_there_in_order(make_comparison: Make) -> None:
    assert sections(make_comparison(planned=90)) == SECTIONS


def test_sections_with_nothing_to_show_are_left_out(make_comparison: Make) -> None:
    scratch = only(make_comparison(labels=("5",)), lambda outcome: outcome.cell.method == "scratch")
    assert sections(Comparison({}, scratch.outcomes[:1])) == ["How good each is", "How it was measured"]
    assert sections(Comparison({}, ())) == []


def test_what_is_missing_is_counted(make_comparison: Make) -> None:
    assert "78 of 90 planned runs are there" in Parsed(render_comparison(make_comparison(planned=90))).words
    assert "planned" not in Parsed(render_comparison(make_comparison())).words


def test_each_group_has_its_table_and_every_contender_a_row(make_comparison: Make) -> None:
    text = render_comparison(make_comparison(starts=("random", "pretrained")))
    part = text.split("<h2>How good each is</h2>")[1].split("</section>")[0]
    assert [table.count('<th scope="row">') for table in part.split("</table>")[:-1]] == [13] * 4


def test_every_checkpoint_is_a_mark_and_scratch_a_level(make_comparison: Make) -> None:
    text = render_comparison(make_comparison(labels=("5",)))
    part = text.split("against pretraining compute</h2>")[1].split('<ul class="legend">')[0]
    pictures = part.split("</svg>")[:-1]
    assert [(picture.count('class="mark"'), picture.count('class="line level"')) for picture in pictures] == [
        (60, 1)
    ] * 2


def test_checkpoints_without_flops_are_drawn_over_time_alone(make_comparison: Make) -> None:
    free = [
        dataclasses.replace(
            outcome,
            curve=tuple(
                dataclasses.replace(point, spent=dataclasses.replace(point.spent, flops=0.0))
                for point in outcome.curve
            ),
        )
        for outcome in make_comparison(labels=("5",)).outcomes
    ]
    text = render_comparison(Comparison({}, tuple(free)))
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == ["Time"]


def test_every_contender_is_named_beside_its_line(make_comparison: Make) -> None:
    text = render_comparison(make_comparison())
    picture = text.split("against labels</h2>")[1].split("</svg>")[0]
    places = sorted(float(y) for y in re.findall(r'name-of" x="[\d.]+" y="([\d.]+)"', picture))
    assert len(places) == 13
    assert min(after - before for before, after in itertools.pairwise(places)) > 16.8
    names = re.findall(r'name-of"[^>]*>(.*?)</text>', picture)
    assert {"scratch", "task-oriented-no-finetuning (generic)"} < set(names)


def test_methods_have_colors_and_transfer_sets_shapes(make_comparison: Make) -> None:
    legend = render_comparison(make_comparison()).split('<ul class="legend">')[1].split("</ul>")[0]
    found = {name: style for style, name in re.findall(r'swatch (c\d \w+)".*?<bdi>(.*?)</bdi>', legend)}
    assert len(set(found.values())) == 13
    assert found["task-oriented (related)"].split()[0] == found["task-oriented (generic)"].split()[0]
    assert found["task-oriented (related)"].split()[1] == found["agnostic-patch (related)"].split()[1]


def test_variants_are_told_apart_everywhere(make_comparison: Make) -> None:
    text = render_comparison(make_comparison(variants=("plain", "warm")))
    legend = text.split('<ul class="legend">')[1].split("</ul>")[0]
    found = {name: style for style, name in re.findall(r'swatch (c\d \w+)".*?<bdi>(.*?)</bdi>', legend)}
    assert len(found) == len(set(found.values())) == 26
    assert found["scratch (plain)"].split()[0] == found["scratch (warm)"].split()[0]
    assert set(re.findall(r"<bdi>(\w+ over \w+)</bdi>", text)) == {"warm over plain", "related over generic"}
    assert '<small><bdi class="long">warm</bdi></small>' in text


def test_what_a_variant_sets_is_said(make_comparison: Make) -> None:
    settings = {"plain": {}, "warm": {"distill.temperature": 3, "adapt.modes": ["probe"], "student": "timm:a"}}
    comparison = make_comparison(labels=("5",), variants=("plain", "warm"))
    text = Parsed(
        render_comparison(Comparison({**comparison.about, "variants": settings}, comparison.outcomes))
    ).words
    assert "variant plain the recipe as it is" in text
    assert 'variant warm distill.temperature=3; adapt.modes=["probe"]; student=timm:a' in text


def test_more_variants_than_shapes_have_colors_of_their_own(make_comparison: Make) -> None:
    names = tuple("abcdef")
    scratch = only(make_comparison(labels=("5",), variants=names), lambda each: each.cell.method == "scratch")
    assert len(set(looks(scratch).values())) == len(names)


def test_more_contenders_than_colors_are_told_apart_by_their_strokes(make_comparison: Make) -> None:
    names = tuple(f"v{number}" for number in range(2 * COLORS * len(SHAPES)))
    scratch = only(make_comparison(labels=("5",), variants=names), lambda each: each.cell.method == "scratch")
    assert len({look.classes for look in looks(scratch).values()}) == len(names)


def test_the_recipe_is_there_as_it_was_written(make_comparison: Make) -> None:
    recipe = "task: <b>\n  - 'a' & \"b\"\n"
    text = render_comparison(make_comparison(recipe=recipe))
    shown = re.search('<pre class="recipe" tabindex="0">(.*?)</pre>', text, re.S)
    assert shown is not None
    assert html.unescape(shown[1]) == recipe


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: chromium")
    return found


@pytest.mark.parametrize("form", ["plain", "hostile", "both starts", "variants"])
def test_a_phone_shows_it_without_scrolling_sideways(make_comparison: Make, form: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(MEASURE.format(page=html.escape(render_comparison(make_comparison(**FORMS[form])))))
    command = [browser(), *FLAGS, f"--user-data-dir={tmp_path}/profile", "--dump-dom", wrapper.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    measured = re.search(r"<title>(\d+)\|(\d+)\|(.*?)</title>", found.stdout, re.S)
    assert measured is not None, found.stdout[:500]
    assert int(measured[2]) > 1000  # the page is really there
    assert int(measured[1]) <= 360
    assert measured[3] == ""
