from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.analysis.made_comparisons import made, plain_recipes
from tests.report.compared.test_comparison_page import Parsed

from tutelage.analysis.comparison_sections import TITLES as COMPARISON_TITLES
from tutelage.analysis.correlation import teacher_curves, teacher_groups
from tutelage.analysis.inference import Inference, PassTime
from tutelage.analysis.medians import median_ratio
from tutelage.analysis.noise import noise_curves
from tutelage.analysis.normalized import normalized_errors
from tutelage.analysis.of_comparison import ComparisonAnalysis
from tutelage.analysis.of_run import RunAnalysis
from tutelage.analysis.overhead import StepTimes
from tutelage.analysis.page import render_analysis
from tutelage.analysis.probes import Probed, ProbeGain
from tutelage.analysis.run_sections import TITLES as RUN_TITLES
from tutelage.analysis.terminal import show_analysis
from tutelage.analysis.weights import WeightSummary
from tutelage.report.intervals import Interval

HOSTILE = "<script>alert(1)</script>\"' onload=x {{ 7*7 }}"
LONG = "x" * 200


def of_run(teacher: str = "clip", folder: str = "night") -> RunAnalysis:
    ratio = median_ratio([1.02, 1.03, 1.01, 1.02, 1.04, 1.03, 1.02], [1.0] * 7)
    shares = tuple(0.05 for _ in range(20))
    plain, weighted = Probed(0.1, None, 0.8, 0.812), Probed(0.01, "weakest", 0.85, 0.834)
    passes = {1: PassTime(0.03, ratio), 64: PassTime(1.2, ratio)}
    return RunAnalysis(
        Path("runs") / folder,
        about={
            "method": "aft",
            "student": "timm:small",
            "teachers": [teacher],
            "seed": 0,
            "labels": 50,
            "beta": 10.0,
            "device": "cpu",
        },
        weights={
            teacher: WeightSummary(768, 0.62, (0.5, 0.61, 0.7), 0.2, shares),
            "noise": WeightSummary(64, 0.11, (0.1, 0.11, 0.12), 1.0, shares),
        },
        probes=ProbeGain(plain, weighted, 0.022, Interval(0.004, 0.04), 900),
        training=StepTimes(64, 0.2, 0.204, ratio),
        inference=[
            Inference("timm:small", 1_200_000, 64, {1: PassTime(0.003), 64: PassTime(0.1)}),
            Inference(teacher, 303_000_000, 224, passes),
        ],
        left_out={},
    )


def of_comparison(teacher: str = "clip", variant: str = "dino") -> ComparisonAnalysis:
    variants = {
        "plain": {},
        "noise": {"regularize.noise": 2048},
        variant: {"teacher": teacher},
        "other": {"teacher": ["toy:other", teacher]},
        "third": {"teacher": "toy:third"},
    }
    scores = {
        (method, name): [0.7 + 0.01 * place + 0.02 * seed + drop for seed in range(3)]
        for method, drop in (("aft", 0.02), ("kd", 0.0))
        for place, name in enumerate(variants)
    }
    comparison = made({("stl", "plain"): [0.6, 0.65, 0.7], **scores}, variants)
    recipes = plain_recipes(comparison)
    groups = teacher_groups(recipes)
    probes = {
        (name, "5", seed): 0.5 + 0.1 * place + 0.03 * (place % 2)
        for place, name in enumerate(variants)
        for seed in range(3)
    }
    return ComparisonAnalysis(
        Path("runs/compared"),
        {"metric": "accuracy", "student": "timm:small", "methods": ["stl", "aft", "kd"], "seeds": 3},
        normalized_errors(comparison, recipes),
        noise_curves(comparison, recipes),
        teacher_curves(comparison, recipes, groups, probes),
        {},
    )


def shown(analysis: RunAnalysis | ComparisonAnalysis) -> str:
    console = Console(file=io.StringIO(), width=120, soft_wrap=True)
    show_analysis(console, analysis)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(
    ("analysis", "titles"),
    [
        (of_run(), RUN_TITLES),
        (of_comparison(), COMPARISON_TITLES),
        (of_run(HOSTILE, folder="<b>"), RUN_TITLES),
        (of_comparison(HOSTILE, LONG), COMPARISON_TITLES),
    ],
    ids=["run", "comparison", "hostile run", "hostile comparison"],
)
def test_a_page_is_whole_has_every_part_and_needs_nothing_else(
    analysis: RunAnalysis | ComparisonAnalysis, titles: dict[str, str]
) -> None:
    text = render_analysis(analysis)
    page = Parsed(text)
    assert page.open == []
    assert not {"script", "iframe", "object", "form", "img", "image", "use", "b"} & page.tags
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"src", "srcset", "action", "data", "xlink:href"}
        assert name != "href" or value == "data:,"
    assert re.findall("<h2>(.*?)</h2>", text) == [*titles.values(), "What was analyzed"]
    assert not re.search(r"\b(nan|inf|none|undefined|null)\b", text.split("</style>")[1], re.I)


def test_hostile_names_are_only_text() -> None:
    for analysis in (of_run(HOSTILE), of_comparison(HOSTILE, LONG)):
        assert HOSTILE in Parsed(render_analysis(analysis)).words


def test_what_is_left_out_is_told_with_its_reason() -> None:
    analysis = dataclasses.replace(of_run(), probes=None, left_out={"probes": "nothing was learned <here>"})
    words = Parsed(render_analysis(analysis)).words
    assert "What is left out" in words
    assert f"{RUN_TITLES['probes']} : nothing was learned <here>." in words
    assert f"{RUN_TITLES['probes']}: left out; nothing was learned <here>" in shown(analysis)


def test_the_terminal_says_what_the_page_says() -> None:
    text = shown(of_run())
    assert "training left mean weights of 0.62 (clip)." in text
    assert "Noise weighs 0.11, against 0.62 of all other features" in text
    assert "83.4% with weighted features and 81.2% with plain ones: +2.2 points" in text
    assert "weakest penalty" in text
    assert "takes 1.020 times as long with aft" in text
    assert text.rstrip().splitlines()[-1].startswith("runs/night/analysis.html")


def test_without_test_data_there_is_no_verdict_on_the_probe() -> None:
    analysis = of_run()
    assert analysis.probes is not None
    judged = [dataclasses.replace(each, test=None) for each in (analysis.probes.plain, analysis.probes.weighted)]
    text = shown(dataclasses.replace(analysis, probes=ProbeGain(*judged, None, None, 0)))
    assert "There are no test data" in text
    assert "95% interval over test items" not in text


def test_every_series_has_its_line_and_its_name() -> None:
    text = render_analysis(of_comparison())
    noise = text.split(COMPARISON_TITLES["noise"])[1].split("<h2>")[0]
    assert [noise.count(f'<g class="c{place} circle">') for place in range(3)] == [1, 1, 0]
    assert re.findall("<li>.*?<bdi>(.*?)</bdi>", noise) == ["aft", "kd"]


def test_a_correlation_that_includes_nothing_is_not_claimed() -> None:
    analysis = of_comparison()
    assert analysis.correlation is not None
    (aft, kd) = analysis.correlation
    assert aft.found is not None
    unsure = dataclasses.replace(aft, found=dataclasses.replace(aft.found, interval=Interval(-0.1, 0.9)))
    sure = dataclasses.replace(kd, found=dataclasses.replace(aft.found, interval=Interval(0.2, 0.9)))
    text = shown(dataclasses.replace(analysis, correlation=[unsure, sure]))
    lines = {line.split(":")[0]: line for line in text.splitlines() if ": correlation" in line}
    assert "do not tell whether there is a correlation" in lines["aft"]
    assert "do not tell" not in lines["kd"]
