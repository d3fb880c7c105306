"""The second source's recipes pass the check on data laid out as they say, and their commands make what it shows."""

from __future__ import annotations

import io
import itertools
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
import yaml
from PIL import Image
from tests.models.tiny_clips import save_tokenizer
from torch.utils.flop_counter import FlopCounterMode

from tutelage.checks import check
from tutelage.comparison.grid import Grid, make_grid, recipe_of
from tutelage.comparison.variants import parse_variants
from tutelage.methods import METHODS
from tutelage.methods.regularizers import REGULARIZERS
from tutelage.models import build_encoder
from tutelage.models.templates import TEMPLATES
from tutelage.recipe import Recipe
from tutelage.recipe_reading import load_recipe, parse_setting
from tutelage.runtime.texts import TEXT_PAIR, parts

FOLDER = Path(__file__).parents[2] / "recipes" / "aft"
PUBLISHED: dict[str, Any] = yaml.safe_load((FOLDER / "published.yaml").read_text())
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "published")
TEXTS = sorted(TEMPLATES)
PAIRS = ["snli_ve"]
IMAGES = [name for name in NAMES if name not in (*TEXTS, *PAIRS)]
LISTED = {
    "flowers": ("flowers/jpg", "image_{row:05}.jpg", ("77", "3")),
    "pets": ("pets/images", "{label}_{row}.jpg", ("Abyssinian", "yorkshire_terrier")),
    "dtd": ("dtd/images", "{label}/{label}_{row:04}.jpg", ("banded", "zigzagged")),
    "food101": ("food-101/images", "{label}/{row}.jpg", ("apple_pie", "waffles")),
}
"""Folder of the images below ``data``, name of one, and two classes."""
GLUE = {
    "mnli": (("premise", "hypothesis"), "validation_matched"),
    "sst2": (("sentence",), "validation"),
    "mrpc": (("sentence1", "sentence2"), "validation"),
    "qqp": (("question1", "question2"), "validation"),
    "qnli": (("question", "sentence"), "validation"),
    "rte": (("sentence1", "sentence2"), "validation"),
}
"""Columns of texts, and which part the source tests on."""
TRAIN, TEST = 6, 2
"""Items a class."""


@dataclass(frozen=True)
class Command:
    """A printed ``tutelage compare``: the recipe's file without its ending, what its flags make, and the folder."""

    name: str
    recipe: Recipe
    grid: Grid
    out: str


def commands(name: str) -> Iterator[Command]:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    comments = "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    for line in comments.replace("\\\n", "").splitlines():
        if not line.startswith("tutelage compare"):
            continue
        words = shlex.split(line)
        assert words[2] == f"recipes/aft/{name}.yaml"
        given: dict[str, list[str]] = {}
        for flag, value in zip(words[3::2], words[4::2], strict=True):
            given.setdefault(flag, []).append(value)
        assert given.keys() <= {"--methods", "--seeds", "--set", "--variant", "--out"}
        assert given["--seeds"] == ["3"]
        recipe = load_recipe(FOLDER / f"{name}.yaml", dict(parse_setting(each) for each in given.get("--set", [])))
        methods, variants = given["--methods"][0].split(","), parse_variants(given.get("--variant", []))
        yield Command(name, recipe, make_grid(recipe, methods=methods, variants=variants), given["--out"][0])


COMMANDS = [command for name in NAMES for command in commands(name)]


def jpeg(generator: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_parquet(path: Path, columns: Mapping[str, list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out a little of every set as the folder's README.md says, two classes in each, and go there."""
    data, generator = tmp_path / "data", np.random.default_rng(0)

    def labels(count: int) -> list[int]:
        return [0, 1] * count

    def images(count: int) -> list[dict[str, Any]]:
        return [{"bytes": jpeg(generator), "path": None} for _ in range(2 * count)]

    def texts(column: str, part: str, count: int) -> list[str]:
        return [f"good {column} of {part} {row}" for row in range(2 * count)]

    for name, label in (("cifar10", "label"), ("cifar100", "fine_label")):
        folder = data / name / ("plain_text" if name == "cifar10" else "cifar100")
        for part, count in (("train", TRAIN), ("test", TEST)):
            columns: dict[str, list[Any]] = {"img": images(count), label: labels(count)}
            if name == "cifar100":
                columns["coarse_label"] = [0] * (2 * count)
            write_parquet(folder / f"{part}-00000-of-00001.parquet", columns)
    for place, file, classes in LISTED.values():
        for part, rows in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
            lines = []
            for (number, label), row in itertools.product(enumerate(classes), rows):
                # The images of Flowers are numbered through all classes.
                found = file.format(label=label, row=row if "label" in file else 100 * number + row)
                path = data / place / found
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(generator))
                lines.append(f"{found},{label}\n")
            (data / place.partition("/")[0] / f"{part}.txt").write_text("".join(lines))
    for (part, count), label in itertools.product((("train", TRAIN), ("test", TEST)), ("neg", "pos")):
        folder = data / "aclImdb" / part / label
        folder.mkdir(parents=True)
        for row in range(count):
            (folder / f"{row}_7.txt").write_text(
                f"a good {part} film {label} {row}<br /><br />film", encoding="utf-8"
            )
    (data / "boolq").mkdir()
    for part, count in (("train", TRAIN), ("dev", TEST)):
        rows = [
            {"question": question, "title": "film", "answer": bool(row % 2), "passage": f"a bad film {part} {row}"}
            for row, question in enumerate(texts("question", part, count))
        ]
        (data / "boolq" / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name, (columns_of, tested) in GLUE.items():
        for part, count in (("train", TRAIN), (tested, TEST)):
            write_parquet(
                data / "glue" / name / f"{part}-00000-of-00001.parquet",
                {
                    **{column: texts(column, part, count) for column in columns_of},
                    "label": labels(count),
                    "idx": list(range(2 * count)),
                },
            )
    for part, count in (("train", TRAIN), ("test", TEST)):
        write_parquet(
            data / "snli-ve" / part / "data" / f"{part}-00000-of-00001-0123456789abcdef.parquet",
            {"image": images(count), "hypothesis": texts("hypothesis", part, count), "label": labels(count)},
        )
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_models(tmp_path: Path) -> dict[str, str]:
    """Models of texts in place of those on the hub, by what they are in a recipe; they read 512 tokens, too."""
    words = ("good", "bad", "film", "a")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    student = transformers.BertModel(transformers.BertConfig(vocab_size=8, max_position_embeddings=512, **sizes))
    student.save_pretrained(save_tokenizer(tmp_path / "bert", words))
    t5 = transformers.T5Config(
        vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5Model(t5).save_pretrained(save_tokenizer(tmp_path / "t5", words))
    return {"student": f"hf:{tmp_path / 'bert'}", "teacher": f"hf:{tmp_path / 't5'}"}


def test_every_set_of_the_source_is_here() -> None:
    assert set(PUBLISHED["inputs"]) == set(NAMES)
    assert len(IMAGES) == 6


@pytest.mark.parametrize("name", IMAGES)
def test_a_recipe_of_images_passes_the_check_on_data_laid_out_as_stated(name: str, layout: None) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", {"device": "cpu"}))
    assert data.test is not None
    assert (len(data.labeled), len(data.test), len(data.labeled.classes)) == (2 * TRAIN, 2 * TEST, 2)
    assert (recipe.views.student_size, recipe.views.teacher_size, recipe.regularize.views) == (224, 518, 1)


@pytest.mark.parametrize("name", TEXTS)
def test_a_recipe_of_texts_passes_the_check_on_data_laid_out_as_stated(
    name: str, layout: None, tiny_models: dict[str, str]
) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", {"device": "cpu", **tiny_models}))
    assert data.test is not None
    assert (len(data.labeled), len(data.test), len(data.labeled.classes)) == (2 * TRAIN, 2 * TEST, 2)
    assert data.labeled.texts is not None
    assert recipe.text.template is not None
    second = {parts(text)[1] is not None for text in data.labeled.texts}
    assert second == {TEXT_PAIR in TEMPLATES[recipe.text.template]}


def test_the_recipe_of_pairs_passes_the_check_on_data_laid_out_as_stated(
    layout: None, tiny_models: dict[str, str]
) -> None:
    teachers = ["timm:vit_large_patch14_dinov2.lvd142m", tiny_models["teacher"]]
    data, _ = check(load_recipe(FOLDER / "snli_ve.yaml", {"device": "cpu", "teacher": teachers}))
    assert data.labeled.images is not None
    assert data.labeled.texts is not None
    assert (len(data.labeled), data.labeled.texts[0]) == (2 * TRAIN, "good hypothesis of train 0")


def test_every_command_writes_to_its_own_folder() -> None:
    folders = [command.out for command in COMMANDS]
    assert sorted(folders) == sorted(set(folders))


def test_every_command_names_methods_that_hold_a_student() -> None:
    assert {method for command in COMMANDS for method in command.grid.methods} == {"stl", *REGULARIZERS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: Path(command.out).name)
def test_every_cell_starts_from_pretrained_weights_and_all_labels(command: Command) -> None:
    for cell in command.grid.cells:
        recipe = recipe_of(command.recipe, command.grid, cell)
        assert (recipe.start, recipe.data.labels, METHODS[recipe.method].start) == ("pretrained", "all", "pretrained")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_as_the_source_does(name: str) -> None:
    """As many steps, rounded up to whole epochs; Adam without decay, warm-up, clipping and averaging."""
    settings = load_recipe(FOLDER / f"{name}.yaml").finetune
    (rate,) = settings.rates
    count = PUBLISHED["inputs"][name]["train"]
    schedule = settings.schedule(rate, count)
    size = 128 if name in IMAGES else 64
    steps = PUBLISHED["steps"].get(name, PUBLISHED["steps"]["vision" if name in IMAGES else "text"])
    expected = count // size if name in PAIRS else math.ceil(steps / (count // size)) * (count // size)
    assert (schedule.steps, schedule.batch_size) == (expected, size)
    assert (schedule.weight_decay, schedule.warmup, schedule.clip, schedule.average) == (0, 0, None, 0)
    assert settings.label_smoothing == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_of_the_labels_is_held_out(name: str) -> None:
    assert load_recipe(FOLDER / f"{name}.yaml").held_out == 0.1


def test_each_student_has_the_learning_rate_of_the_source() -> None:
    rates = {command.recipe.student: command.recipe.finetune.rates for command in COMMANDS}
    assert rates == {
        "timm:vit_small_patch16_224.augreg_in1k": (1e-4,),
        "timm:mixer_b16_224.goog_in21k_ft_in1k": (1e-4,),
        "timm:resnet50.a1_in1k": (1e-3,),
        "hf:prajjwal1/bert-small": (2e-5,),
        "hf:distilbert/distilbert-base-uncased": (2e-5,),
        "pair:openclip:RN50/openai": (1e-5,),
    }


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_read_with_the_prompt_of_their_set(name: str) -> None:
    text = load_recipe(FOLDER / f"{name}.yaml").text
    assert (text.template, text.student_length, text.teacher_length) == (name, 512, 512)


def test_distillation_of_pairs_has_weights_of_its_own() -> None:
    (betas,) = [command.recipe.regularize.betas for command in COMMANDS if command.out == "runs/aft/snli_ve-kd"]
    assert betas == (0.01, 0.1, 1.0)


@pytest.mark.parametrize("table", [4, 5, 6])
def test_a_command_makes_the_columns_of_a_table(table: int) -> None:
    (found,) = [each for each in PUBLISHED["tables"] if each["table"] == table]
    (command,) = [each for each in COMMANDS if each.out == "runs/aft/cifar100-vit-teachers"]
    assert {tuple(row["cells"]) for row in found["rows"]} == {tuple(each.name for each in command.grid.variants)}
    assert {row["method"] for row in found["rows"]} == set(command.grid.methods)
    assert any(each.name == found["recipe"] and each.recipe.student == found["student"] for each in COMMANDS)


def nulls(value: Any) -> Iterator[Mapping[str, Any]]:
    """Return the mappings that some null stands in."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if inner is None:
            yield value
        yield from nulls(inner)


def test_every_null_is_explained() -> None:
    found = list(nulls(PUBLISHED))
    assert found
    assert [each for each in found if not each.get("reason")] == []


def test_accuracies_are_percentages_with_small_errors() -> None:
    tables = [table for table in PUBLISHED["tables"] if table["unit"] == "accuracy"]
    cells = [cell for table in tables for row in table["rows"] for cell in row.get("cells", {"": row}).values()]
    assert len(cells) == 3 + 3 * 15
    assert all(70 < cell["mean"] < 90 and (cell["error"] is None or 0 <= cell["error"] < 0.3) for cell in cells)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PAIRS])
def test_costs_follow_from_the_settings(name: str) -> None:
    recipe, count = load_recipe(FOLDER / f"{name}.yaml"), PUBLISHED["inputs"][name]["train"]
    share = PUBLISHED["assumed_tokens"].get(name, 512) / 512
    flops = {**PUBLISHED["flops_per_input"], **PUBLISHED["flops_per_512_tokens"]}
    costs = dict(PUBLISHED["costs"][name])
    assert costs.pop("features") == pytest.approx(count * share * flops[recipe.teachers[0]], rel=0.05)
    assert set(costs) == {each.recipe.student for each in COMMANDS if each.name == name}
    for student, stated in costs.items():
        one = (recipe.finetune.epochs or 0) * count * share * 3 * flops[student]
        expected = {"stl": 1.9 * one, "aft": 3.7 * one, "others": 4.6 * one}
        assert stated == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", PUBLISHED["flops_per_input"])
def test_a_pass_costs_what_is_stated(name: str) -> None:
    size = 518 if "dinov2" in name else 224
    # On the meta device nothing is allocated or computed.
    with torch.device("meta"):
        encoder = build_encoder(name, pretrained=False, size=size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.rand(1, 3, size, size))
    assert PUBLISHED["flops_per_input"][name] == pytest.approx(counter.get_total_flops(), rel=0.01)
