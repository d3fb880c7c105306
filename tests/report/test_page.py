from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.report.dense_runs import write_dense_run

from tutelage.report.comparison import models
from tutelage.report.finished import read_run
from tutelage.report.page import write_page

HOSTILE = ["<script>alert(1)</script>", "\"' onload=x", "</table></style>&amp;", "{{ 7*7 }}", "Käse " + "x" * 200]
MANY = [f"class {number}" for number in range(100)]
FILES = [f"a/{name}.jpg" for name in HOSTILE] + ["\u202egnp.exe", "שלום", "long/" * 60, "caf\udce9", "a\nb\0c"]
VOID = {"meta", "link", "line", "polyline", "br", "rect", "img"}
PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*")

RUNS = {
    "plain": {},
    "hostile": {"classes": HOSTILE},
    "two": {"classes": 2, "images": 12},
    "hundred": {"classes": MANY},
    "forty": {"classes": 40, "images": 900},
    "no test": {"test": False},
    "validation": {"validation": True},
    "scratch": {"method": "scratch", "baselines": ()},
    "pretrained": {"start": "pretrained"},
    "no history": {"history": False},
    "extras": {"extras": ["photo.jpg"]},
    "hostile extras": {"classes": HOSTILE, "extras": FILES},
    "extras without test": {"test": False, "extras": FILES},
    "extras without teacher": {"method": "scratch", "baselines": (), "extras": FILES},
    "texts": {"modality": "text", "extras": ["words"]},
    "hostile texts": {"modality": "text", "classes": HOSTILE, "extras": FILES},
    "pairs": {"modality": "pair", "extras": FILES},
    "pixels": {"dense": True, "extras": ["photo.jpg"]},
    "hostile pixels": {"dense": True, "classes": HOSTILE, "ids": FILES, "extras": FILES, "nowhere": 1},
    "pixels of many classes": {"dense": True, "classes": MANY},
    "pixels without test": {"dense": True, "test": False, "extras": FILES},
    "pixels without teacher": {"dense": True, "method": "scratch", "baselines": ()},
}

DENSE = ("pixels", "hostile pixels", "pixels of many classes")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

MEASURE = """<!doctype html><body style="margin:0"><iframe style="border:0;width:360px;height:9000px" srcdoc="{page}">
</iframe><script>onload = () => {{
  const frame = document.querySelector("iframe").contentDocument;
  const root = frame.documentElement;
  for (const each of frame.querySelectorAll("details")) each.open = true;
  const outside = [...frame.body.querySelectorAll("*")].filter(
    (each) => each.getBoundingClientRect().right > 360.5 && !each.closest(".wide, pre"));
  const seen = outside.map((each) => each.outerHTML.slice(0, 80));
  document.title = `${{root.scrollWidth}}|${{frame.body.innerText.length}}|${{seen}}`;
}}</script>"""


class Balanced(HTMLParser):
    """Collects text and fails on a tag that closes nothing, or the wrong thing."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    return parser


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).texts).split())


@pytest.fixture
def page(make_run: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    def make(*, dense: bool = False, **how: Any) -> str:
        return write_page(
            write_dense_run(tmp_path / "runs" / "masks", **how) if dense else make_run(**how)
        ).read_text()

    return make


@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)
def test_every_page_is_whole_and_needs_nothing_else(page: Callable[..., str], how: dict) -> None:
    text = page(**how)
    parser = parsed(text)
    assert parser.open == []
    assert not {"script", "iframe", "object", "form"} & set(parser.tags)
    for name, value in parser.attributes:
        assert not name.startswith("on")
        assert name not in {"srcset", "action", "data"}
        assert name != "src" or PICTURE.fullmatch(value)
        assert name != "href" or value == "data:,"
    assert not re.search(r"https?:|url\(|@import", text)


@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)
def test_no_page_shows_what_is_not_a_number(page: Callable[..., str], how: dict) -> None:
    assert not re.search(r"\b(nan|inf|none|undefined|null)\b(?! given)", words(page(**how)).split("Recipe ")[0], re.I)


def test_hostile_class_names_are_only_text(page: Callable[..., str]) -> None:
    text = page(classes=HOSTILE)
    for name in HOSTILE:
        assert name in words(text)
    assert "49" not in [part.strip() for part in parsed(text).texts if "7*7" in part]


def test_names_that_are_not_unicode_do_not_stop_it(page: Callable[..., str]) -> None:
    assert "caf?" in page(classes=["caf\udce9", "tea"])


def test_the_headline_comes_first(page: Callable[..., str]) -> None:
    assert re.search(
        r"<h1>A 0\.58M-parameter lcnet_050 reaches \d\d\.\d% on 597 test images, \d+\.\d points above the same "
        r"student trained from scratch</h1>",
        page(),
    )


def test_all_sections_are_there_in_order(page: Callable[..., str]) -> None:
    assert re.findall("<h2>(.*?)</h2>", page()) == [
        "How good it is",
        "Where it errs",
        "How far to believe its confidence",
        "Exported",
        "What was chosen, and on what",
        "How it trained",
        "What each stage cost",
        "Data",
        "Recipe",
        "Use it",
    ]


def test_the_matrix_counts_every_test_image(page: Callable[..., str]) -> None:
    matrix = page().split('<table class="matrix')[1].split("</table>")[0]
    cells = re.findall(r"<td[^>]*>(\d*)</td>", matrix)[1:]  # the first is the corner
    assert len(cells) == 100
    assert sum(int(cell or 0) for cell in cells) == 597


def test_many_classes_show_pairs_and_hide_the_easy_ones(page: Callable[..., str]) -> None:
    text = page(classes=MANY)
    assert '<table class="matrix' not in text
    assert "Most confused" in text
    assert "The other 80 classes" in text
    assert all(name in text.split("Class by class")[1] for name in MANY)


def test_without_test_data_nothing_is_claimed(page: Callable[..., str]) -> None:
    text = words(page(test=False))
    assert "on held-out labels; no test set was given" in text
    assert "Wilson" not in text
    assert "Where it errs" not in text
    assert "confidence" not in text
    assert "image by image" not in text


def test_held_out_numbers_of_a_distilled_student_are_called_flattering(page: Callable[..., str]) -> None:
    assert "also taught the teacher" in words(page())
    assert "also taught the teacher" not in words(page(validation=True))


def test_scratch_mentions_no_teacher(page: Callable[..., str]) -> None:
    visible = words(page(method="scratch", baselines=())).split("Recipe ")[0]
    assert "efficientnet" not in visible
    assert "Linear probe" not in visible


def test_every_candidate_is_listed_and_the_chosen_marked(page: Callable[..., str]) -> None:
    text = page()
    assert text.count("<mark>chosen</mark>") == 2
    assert text.count("<mark>teaches</mark>") == 1
    assert all(f"peak rate {rate}" in text for rate in ("0.001", "0.0003"))


def test_costs_add_up(page: Callable[..., str], make_run: Callable[..., Path]) -> None:
    total = words(page()).split("All, baselines included")[1].split()
    folder = make_run()
    costs = [json.loads(path.read_text())["cost"] for path in folder.glob("*/stage.json")]
    seconds = sum(cost.get("seconds", 0) for cost in costs)
    assert total[:4] == f"{int(seconds // 60)} min {round(seconds % 60)} s".split()


def test_the_teacher_s_modes_have_costs_of_their_own(make_run: Callable[..., Path]) -> None:
    rows = models(read_run(make_run()))
    costs = {row["note"]: (row["seconds"], row["flops"]) for row in rows if row["kind"] == "teacher"}
    assert costs == {
        "the teacher, linear probe": ("6.4 s", "410 G"),
        "the teacher, finetuned; it taught the student": ("55 s", "3.50 T"),
    }


def test_a_baseline_s_teacher_is_shown_where_its_mode_is_chosen(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    results = json.loads((folder / "results.json").read_text())
    for name in ("adapt-probe", "adapt-finetune", "adapt"):
        place = f"20-task-oriented-{name}"
        shutil.copytree(folder / results["folders"][name], folder / place)
        results["folders"][f"task-oriented-{name}"] = place
    (folder / "results.json").write_text(json.dumps(results))
    text = words(write_page(folder).read_text())
    assert text.count("best of its kind") == 2
    assert "Baseline task-oriented: adapt the teacher" in text


def test_no_stage_of_the_run_is_called_a_baseline(page: Callable[..., str]) -> None:
    costs = words(page(method="scratch", baselines=(), extras=["photo.jpg"])).split("What each stage cost")[1]
    assert "Time one image 9.0 s" in costs
    assert "Baseline" not in costs


def test_every_phase_has_its_curve(page: Callable[..., str]) -> None:
    assert page(test=False).count("<svg") == 4


def test_a_single_step_is_no_curve(make_run: Callable[..., Path]) -> None:
    folder = make_run(test=False)
    (folder / "05-distill" / "history.json").write_text('{"distill": [{"step": 1, "loss": 2.3}]}')
    assert write_page(folder).read_text().count("<svg") == 3


def test_a_student_that_learned_from_itself_is_told_with_what_was_watched(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    manifest = json.loads((folder / "05-distill" / "stage.json").read_text())
    manifest["results"] |= {"teacher_entropy": 0.523, "divergence": 0.9, "spread": 0.81}
    (folder / "05-distill" / "stage.json").write_text(json.dumps(manifest))
    results = json.loads((folder / "results.json").read_text())
    folders = {name.replace("distill", "self-distill"): place for name, place in results["folders"].items()}
    results |= {"folders": folders, "collapsed": "its outputs say nothing"}
    (folder / "results.json").write_text(json.dumps(results))
    text = words(write_page(folder).read_text())
    for told in (
        "Distill the student from itself",
        "teacher's entropy 52.3% of the largest, spread of embeddings 0.81",
        "1,200 unlabeled images",
        "unlabeled images to pretrain on 1,200",
        "collapsed: its outputs say nothing.",
    ):
        assert told in text


def test_dropped_copies_of_another_task_are_counted(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    results = json.loads((folder / "results.json").read_text())
    results["images"] |= {"pretraining": 90, "dropped": {"pretraining": 7}}
    (folder / "results.json").write_text(json.dumps(results))
    text = words(write_page(folder).read_text())
    assert "pretraining images left out as copies of test or validation images 7" in text


def test_dropped_copies_are_counted(page: Callable[..., str]) -> None:
    text = words(page())
    assert "transfer images left out as copies of test or validation images 3" in text
    assert "validation images left out" not in text


def test_no_history_leaves_the_curves_out(page: Callable[..., str]) -> None:
    assert "How it trained" not in page(history=False)


def test_it_replaces_an_older_page_and_leaves_nothing_beside_it(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    before = {path.name for path in folder.iterdir()}
    (folder / "report.html").write_text("old")
    assert write_page(folder) == folder / "report.html"
    assert (folder / "report.html").read_text() != "old"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_hostile_names_of_files_are_only_text(page: Callable[..., str]) -> None:
    text = page(classes=HOSTILE, extras=FILES)
    shown = words(text)
    described = " ".join(value or "" for name, value in parsed(text).attributes if name == "alt")
    for name in FILES[: len(HOSTILE)]:
        assert name in shown
        assert name in described


def test_every_mistake_is_a_picture_with_its_words(page: Callable[..., str]) -> None:
    text = page(extras=["photo.jpg"])
    found = re.findall(
        r'<img class="(png|jpeg)" src="data:image/\1;[^"]*" alt="Image \d+ photo.jpg: \d, taken for', text
    )
    assert len(found) == 24
    assert set(found) == {"png", "jpeg"}


def test_every_mistake_of_texts_is_a_text_with_its_words(page: Callable[..., str]) -> None:
    text = page(modality="text", extras=["words"])
    mistakes = text.split('<div class="mistakes texts">')[1].split("</div>")[0]
    assert mistakes.count("<figure>") == mistakes.count("→") == 24
    assert "<img" not in mistakes
    assert mistakes.count("<blockquote") == 24 + mistakes.count("and another")


def test_a_long_text_is_folded_and_whole(page: Callable[..., str]) -> None:
    text = page(modality="text", extras=["words"])
    start, rest = re.search(r"<details><summary>(words[^<]*)…</summary>([^<]*)</details>", text).groups()
    assert len(start) <= 300
    assert (start + rest).split() == ["words", *["and", "on"] * 100, "end"]


def test_hostile_texts_are_only_text(page: Callable[..., str]) -> None:
    text = page(modality="text", extras=FILES)
    shown = words(text.split('<div class="mistakes texts">')[1].split("</section>")[0].rpartition("</div>")[0])
    for name in FILES[: len(HOSTILE)]:
        assert name in shown


def test_a_mistake_of_pairs_is_a_picture_and_a_text(page: Callable[..., str]) -> None:
    mistakes = page(modality="pair", extras=["words"]).split('<div class="mistakes">')[1].split("</div>")[0]
    assert mistakes.count("<img") == mistakes.count("<blockquote") == 24


@pytest.mark.parametrize("modality", ["text", "pair"])
def test_samples_are_called_what_they_are(page: Callable[..., str], modality: str) -> None:
    shown = words(page(modality=modality, extras=["words"])).split("Problems found")[0]
    assert "image" not in shown.lower().replace("one image of 224 \N{MULTIPLICATION SIGN} 224 pixels with a text", "")
    assert f"597 test {modality}s" in shown


def test_runs_of_older_versions_have_no_pictures(page: Callable[..., str]) -> None:
    text = page()
    assert "<img" not in text
    assert "confident mistakes" not in text
    assert "How fast" not in text
    assert "Problems found" not in text


def test_pixels_have_sections_of_their_own(page: Callable[..., str]) -> None:
    text = page(dense=True)
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "How good it is",
        "Where it errs",
        "Exported",
        "What was chosen, and on what",
        "How it trained",
        "What each stage cost",
        "Data",
        "Recipe",
        "Use it",
    ]
    shown = words(text).split("Recipe ")[0]
    for told in (
        "Mean IoU Pixel accuracy Class accuracy",
        "95% bootstrap interval over test images",
        "masks of 3 classes",
    ):
        assert told in shown
    for other in ("Wilson", "NLL", "ECE", "Macro F1", "taken for", "penalty", "likelihood"):
        assert other not in shown


def test_the_headline_of_pixels_is_in_mean_iou(page: Callable[..., str]) -> None:
    assert re.search(
        r"<h1>A 0\.58M-parameter lcnet_050 reaches a mean IoU of \d\d\.\d% on 14 test images, \d+\.\d points above "
        r"the same student trained from scratch</h1>",
        page(dense=True),
    )


def test_hostile_names_of_classes_and_images_of_pixels_are_only_text(page: Callable[..., str]) -> None:
    text = page(dense=True, classes=HOSTILE, ids=FILES[: len(HOSTILE)])
    shown = words(text)
    described = " ".join(value or "" for name, value in parsed(text).attributes if name == "alt")
    assert all(name in shown for name in HOSTILE)
    assert all(name in shown and name in described for name in FILES[: len(HOSTILE)])


def test_each_of_the_worst_images_is_three_pictures(page: Callable[..., str]) -> None:
    found = re.findall(r'<img class="(png|jpeg)" src="data:image/\1;[^"]*" alt="Image \d+ photo: ', page(dense=True))
    assert len(found) == 36
    assert set(found) == {"png", "jpeg"}


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: chromium")
    return found


def printed(text: str, folder: Path) -> int:
    """Return how many sheets a page takes."""
    source, target = folder / "page.html", folder / "page.pdf"
    source.write_text(text)
    command = [browser(), *FLAGS, f"--user-data-dir={folder}/profile", f"--print-to-pdf={target}", source.as_uri()]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    return len(re.findall(rb"/Type\s*/Page\b", content))


def test_it_prints_on_a_few_sheets(page: Callable[..., str], tmp_path: Path) -> None:
    assert 3 <= printed(page(extras=["photo.jpg"]), tmp_path) <= 12


def test_paper_shows_what_the_screen_folds(page: Callable[..., str], tmp_path: Path) -> None:
    text = page(classes=MANY)
    folded = re.sub("<details>.*?</details>", "", text, flags=re.S)
    assert printed(text, tmp_path) > printed(folded, tmp_path)


@pytest.mark.parametrize("name", ["plain", "hostile", "forty", "hundred", "extras", "hostile extras", *DENSE])
def test_a_phone_shows_it_without_scrolling_sideways(page: Callable[..., str], name: str, tmp_path: Path) -> None:
    wrapper = tmp_path / "phone.html"
    # The page's own policy forbids scripts, so that the one who measures stands outside.
    wrapper.write_text(MEASURE.format(page=html.escape(page(**RUNS[name]))))
    found = subprocess.run(
        [browser(), *FLAGS, f"--user-data-dir={tmp_path}/profile", "--dump-dom", wrapper.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    measured = re.search(r"<title>(\d+)\|(\d+)\|(.*?)</title>", found.stdout, re.S)
    assert measured is not None, found.stdout[:500]
    assert int(measured[2]) > 1000  # the page is really there
    assert int(measured[1]) <= 360
    assert measured[3] == ""
