"""One thread a process: tests are small, and machines are shared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from tutelage.cache import cache_folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of the tests' own, but for the browser's runtime, which is fetched once."""
    folder, fetched = tmp_path_factory.mktemp("cache"), cache_folder("web")
    fetched.mkdir(parents=True, exist_ok=True)
    (folder / "web").symlink_to(fetched)
    os.environ["TUTELAGE_CACHE"] = str(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything that tests look for is installed (TUTELAGE_SKIPS=fail), only a missing GPU excuses a skip."""
    report = yield
    if report.skipped and os.environ.get("TUTELAGE_SKIPS") == "fail" and not item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report


CLASSES = ("red", 'green, or "so"', "blue")


def write_model(path: Path, *, classes: object = CLASSES, **changes: str) -> Path:
    """Write a model that needs no training: each class's logit is the mean of its channel, times 8."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], [changes.get("output", "logits")]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [8 / 255]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    logits = helper.make_tensor_value_info(changes.get("output", "logits"), TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "means", [images], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    texts = {"classes": json.dumps(classes), "preprocess": '{"size": 32}', "provenance": '{"student": "means"}'}
    texts |= {key: value for key, value in changes.items() if key != "output"}
    helper.set_model_props(model, {key: value for key, value in texts.items() if value})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_mask_model(path: Path, *, classes: object = CLASSES, kind: int = TensorProto.UINT8, **changes: str) -> Path:
    """Write a model that needs no training: the class of a pixel is its largest channel."""
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["logits"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["logits"], ["largest"], axis=1, keepdims=0),
        helper.make_node("Cast", ["largest"], [changes.get("output", "mask")], to=kind),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    mask = helper.make_tensor_value_info(changes.get("output", "mask"), kind, ["batch", "height", "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    graph = helper.make_graph(nodes, "largest", [images], [mask, logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    texts = {
        "task": "segmentation",
        "classes": json.dumps(classes),
        "palette": "[[250, 0, 0], [0, 250, 0], [0, 0, 250]]",
        "preprocess": '{"size": 32}',
        "provenance": '{"student": "largest"}',
    }
    texts |= {key: value for key, value in changes.items() if key != "output"}
    helper.set_model_props(model, {key: value for key, value in texts.items() if value})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def paint(path: Path, color: tuple[int, ...], size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, len(color)), color, np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    return write_model


@pytest.fixture(scope="session")
def make_mask_model() -> Callable[..., Path]:
    return write_mask_model


@pytest.fixture(scope="session")
def painted() -> Callable[..., Path]:
    return paint


@pytest.fixture
def mask_run(tmp_path: Path) -> Path:
    """A run folder of a segmentation model, as far as prediction looks into it."""
    return write_mask_model(tmp_path / "run" / "model" / "model.onnx").parents[1]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder as far as prediction looks into it."""
    return write_model(tmp_path / "run" / "model" / "model.onnx").parents[1]
