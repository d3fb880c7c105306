from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.report.tasks import TASKS
from tutelage.report.words import collapses, headline, short_name, usage, verdict


def results(accuracy: float, baseline: float | None = None, **more: Any) -> dict[str, Any]:
    baselines = {} if baseline is None else {"scratch": {"metrics": {"test": {"accuracy": baseline}}}}
    return {
        "method": "task-oriented",
        "start": "random",
        "teacher": {"name": "bundled:efficientnet-lite0"},
        "student": {"name": "timm:lcnet_050", "params": 584_010},
        "images": {"test": 597},
        "metrics": {"val": {"accuracy": 0.9}, "test": {"accuracy": accuracy}},
        "baselines": baselines,
        **more,
    }


def test_headline_compares_with_the_baseline() -> None:
    assert headline(results(0.9213, 0.8383)) == (
        "A 0.58M-parameter lcnet_050 reaches 92.1% on 597 test images, "
        "8.3 points above the same student trained from scratch"
    )


def test_headline_says_when_the_baseline_is_better_or_level() -> None:
    assert "1.2 points below the same student" in headline(results(0.9, 0.912))
    assert ", level with the same student" in headline(results(0.9, 0.9))


def test_headline_names_the_metric_of_pixels() -> None:
    found = results(0, task="segmentation", metrics={"val": {}, "test": {"miou": 0.4567}})
    assert headline(found).endswith("lcnet_050 reaches a mean IoU of 45.7% on 597 test images")


def test_headline_without_test_data_says_so() -> None:
    without = {"val": {"accuracy": 0.9021}, "test": None}
    assert headline(results(0, metrics=without)).endswith("90.2% on held-out labels; no test set was given")


@pytest.mark.parametrize(
    ("params", "start"),
    [(8_100_000, "An 8.10M"), (11_200_000, "An 11.2M"), (18_000, "An 18k"), (110_000_000, "A 110M"), (1_800, "A 1,")],
)
def test_article_is_the_spoken_one(params: int, start: str) -> None:
    assert headline(results(0.9, student={"name": "timm:x", "params": params})).startswith(start)


def test_verdict_tells_a_gain_from_none() -> None:
    assert verdict(results(0.9213, 0.8383), "scratch") == (
        "Distillation gained 8.3 points over the same student trained from scratch (one seed)."
    )
    assert "did not help here: it ended 1.2 points below" in verdict(results(0.9, 0.912), "scratch")
    assert "did not help here: it ended level with" in verdict(results(0.9, 0.9), "scratch")


def test_verdict_without_test_data_claims_nothing() -> None:
    without = {"val": {"accuracy": 0.9}, "test": None}
    assert verdict(results(0, 0.8, metrics=without), "scratch").startswith("Without test data nobody knows")


def test_a_pretrained_student_was_not_trained_from_scratch() -> None:
    assert verdict(results(0.9, 0.8, start="pretrained"), "scratch").endswith("on the labels alone (one seed).")


@pytest.mark.parametrize("folder", ["runs/digits", 'runs/a "quoted" one', "runs/Käse\\x"])
def test_usage_is_python_that_names_the_folder(folder: str) -> None:
    line = usage(Path(folder))[1]
    opened = []
    exec(line, {"tutelage": type("Module", (), {"load_model": staticmethod(opened.append)})})
    assert opened == [folder]


def test_what_tells_pixels_is_used_otherwise() -> None:
    assert usage(Path("runs/x"), TASKS["segmentation"])[2] == '(mask,) = model.segment("picture.png")'


def test_a_collapse_is_told_of_the_method_and_of_baselines() -> None:
    found = results(0.9, 0.8, method="dino", collapsed="it says nothing")
    assert collapses(found) == [
        "The pretraining of dino collapsed: it says nothing. What was finetuned had learned next to nothing."
    ]
    found = results(0.9, baselines={"dino": {"collapsed": "it says nothing"}, "scratch": {"collapsed": None}})
    assert [sentence[:29] for sentence in collapses(found)] == ["The pretraining of dino colla"]


def test_where_nothing_collapsed_nothing_is_told() -> None:
    assert collapses(results(0.9, 0.8)) == collapses(results(0.9, collapsed=None)) == []


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("timm:lcnet_050", "lcnet_050"),
        ("hf:google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("cut:0,5@bundled:minilm-l6", "0,5@minilm-l6"),
        ("pair:bundled:efficientnet-lite0+cut:2@bundled:minilm-l6", "efficientnet-lite0+2@minilm-l6"),
        ("pair:openclip:RN50/openai", "RN50/openai"),
    ],
)
def test_a_short_name_tells_models_apart(name: str, short: str) -> None:
    assert short_name(name) == short
