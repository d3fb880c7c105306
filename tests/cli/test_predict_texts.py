"""``predict`` and ``evaluate`` on texts, with a file that needs no training."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from tests.cli.test_predict import WITHOUT_TORCH
from tests.models.tiny_clips import save_tokenizer

Command = Callable[..., Any]

CLASSES = ("few", "many")
WORDS = ("red", "green", "blue")


@pytest.fixture
def text_run(tmp_path: Path) -> Path:
    """A model whose second class is the more probable one from three words on."""
    folder = tmp_path / "run" / "model"
    (folder / "tokenizer").mkdir(parents=True)
    save_tokenizer(folder / "tokenizer", WORDS)
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask", "axes"], ["count"], keepdims=1),
        helper.make_node("Cast", ["count"], ["tokens"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["tokens", "limit"], ["over"]),
        helper.make_node("Mul", ["over", "signs"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        # Two of the tokens are the start and the end.
        helper.make_tensor("limit", TensorProto.FLOAT, [], [4.5]),
        helper.make_tensor("signs", TensorProto.FLOAT, [2], [-4.0, 4.0]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "count", inputs, [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    how = {"tokenizer": "tokenizer", "length": 8, "template": "{text}", "padding": "right", "truncation": "right"}
    about = {"classes": CLASSES, "preprocess": {"kind": "text", **how, "segments": False}}
    helper.set_model_props(model, {"modality": "text", **{key: json.dumps(value) for key, value in about.items()}})
    onnx.save(model, folder / "model.onnx")
    return tmp_path / "run"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def labels(ended: Any) -> list[tuple[str, str, str]]:
    """What each row says of where its text came from, of the text, and of its class."""
    rows = json.loads(ended.out)["predictions"]
    return [(row["file"], row.get("text", ""), row.get("label", "")) for row in rows]


def test_texts_are_given_as_they_are(tutelage: Command, text_run: Path) -> None:
    ended = tutelage("predict", "run", "red", "green blue red green", "--json")
    assert labels(ended) == [("", "red", "few"), ("", "green blue red green", "many")]


def test_what_exists_is_a_file_and_one_text(tutelage: Command, text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("red green\nblue red\n")
    assert labels(tutelage("predict", "run", "note.txt", "--json")) == [("note.txt", "red green\nblue red", "many")]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_gives_one_text_a_row(tutelage: Command, text_run: Path, tmp_path: Path, form: str) -> None:
    rows = {
        "csv": "id,text\na,red\nb,red red red\n",
        "jsonl": '{"id": "a", "text": "red"}\n{"id": "b", "text": "red red red"}\n',
    }
    (tmp_path / f"data.{form}").write_text(rows[form])
    found = labels(tutelage("predict", "run", f"data.{form}", "--json"))
    assert found == [(f"data.{form}:a", "red", "few"), (f"data.{form}:b", "red red red", "many")]


def test_a_column_may_have_another_name(tutelage: Command, text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("review\nred\n")
    (row,) = labels(tutelage("predict", "run", "data.csv", "--json", "--column", "text=review"))
    assert row[1:] == ("red", "few")


def test_lines_on_stdin_are_texts(tutelage: Command, text_run: Path, stdin: Any) -> None:
    stdin(b"red\n\ngreen blue red\r\n")
    found = labels(tutelage("predict", "run", "-", "--json"))
    assert found == [("-:1", "red", "few"), ("-:3", "green blue red", "many")]


def test_a_missing_file_is_not_taken_for_a_text(tutelage: Command, text_run: Path) -> None:
    ended = tutelage("predict", "run", "reviews.csv")
    assert ended.code == 2
    assert "reviews.csv: no such file" in ended.err


def test_what_is_no_text_fails_and_the_others_are_answered(tutelage: Command, text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "data.csv").write_text('id,text\na,red\nb," "\n')
    ended = tutelage("predict", "run", "latin.txt", "data.csv", " ", "blue", "--json")
    assert [row[2] for row in labels(ended)] == ["", "few", "", "", "few"]
    assert ended.code == 1
    assert "latin.txt: is not UTF-8" in ended.err
    assert "3 of 5 texts failed" in ended.err


def test_csv_has_a_column_for_the_text(tutelage: Command, text_run: Path) -> None:
    lines = tutelage("predict", "run", 'red, "so"', "--format", "csv").out.splitlines()
    assert lines[0] == "file,text,label,probability,error"
    assert lines[1].startswith(',"red, ""so""",')


def test_a_table_on_the_terminal_shows_the_start_of_a_long_text(tutelage: Command, text_run: Path) -> None:
    shown = tutelage("predict", "run", "red " * 100).out.splitlines()[1]
    assert "red red" in shown
    assert "…" in shown


def test_evaluation_counts_texts(tutelage: Command, text_run: Path, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nred,few\nred red red red,many\nred red,many\n,few\n")
    ended = tutelage("evaluate", "run", "test.csv", "--json")
    found = json.loads(ended.out)
    assert (found["images"], found["accuracy"]) == (3, pytest.approx(2 / 3))
    assert "1 no text" in ended.err


def test_evaluation_on_images_is_refused_in_words(tutelage: Command, text_run: Path, flowers: Path) -> None:
    ended = tutelage("evaluate", "run", "flowers")
    assert ended.code == 2
    assert "no texts found" in ended.err


def test_texts_need_no_torch(text_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict", "run", "red", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["label"] == "few"
