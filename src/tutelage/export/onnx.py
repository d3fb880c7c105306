"""ONNX: one file with weights, preprocessing, class names and provenance, for images of any size."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ExportError
from tutelage.export.graph import Deployable, inference_copy
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess, preprocess_to_dict
from tutelage.run import write_whole
from tutelage.views.render import TIE

OPSET = 18
"""The first opset whose Resize can antialias."""

LARGEST = 2**31 - 2**24
"""Most bytes of weights: a protobuf file ends at 2 GiB, and the graph needs its share."""


def export_onnx(model: Model, path: Path, *, classes: Sequence[str], metadata: Mapping[str, str]) -> Path:
    """Write ``model`` as one ONNX file: ``images`` uint8 [B, H, W, 3] in, ``logits`` out.

    Batch, height and width are free. The file's metadata hold ``classes`` and ``preprocess`` as JSON, and
    ``metadata``. Branches that only training needs are merged (reparameterized) in a copy; ``model`` is left as
    it is.

    Args:
        model: A model of images.
        path: The file to write; its folder exists.
        classes: Class names in the order of the logits.
        metadata: Provenance, as text.

    Returns:
        ``path``.

    Raises:
        ExportError: The model cannot be traced, is too large for one file, or has another number of classes.
        ModelError: The model does not read images.
        RunError: The file cannot be written.
    """
    import onnx
    from timm.utils.model import reparameterize_model

    merged = inference_copy(model)
    reparameterize_model(merged, inplace=True)
    deployable = Deployable(merged)
    size = sum(value.nbytes for value in merged.state_dict().values())
    if size > LARGEST:
        raise ExportError(f"{model.encoder.name}: {size / 2**30:.1f} GiB of weights; an ONNX file holds less than 2")
    core = _trace(deployable)
    given = core.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if given != len(classes):
        raise ExportError(
            f"{model.encoder.name}: the model gives {given} logits, but {len(classes)} classes are named"
        )
    _forget_where(core)
    whole = onnx.compose.merge_models(_front(deployable.preprocess, core), core, io_map=[("views", "views")])
    whole.graph.name = "tutelage"
    whole.producer_name = "tutelage"
    texts = {
        **metadata,
        "classes": json.dumps(list(classes)),
        "preprocess": json.dumps(preprocess_to_dict(deployable.preprocess)),
    }
    onnx.helper.set_model_props(whole, texts)
    onnx.checker.check_model(whole, full_check=True)
    write_whole(path, whole.SerializeToString())
    return path


class _Core(nn.Module):
    """From views of the model's size, float [B, 3, size, size] in 0..1, to logits."""

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.deployable = deployable

    def forward(self, views: Tensor) -> Tensor:
        return self.deployable.score(self.deployable.preprocess(views))


def _trace(deployable: Deployable) -> Any:
    side = deployable.preprocess.size
    core, example = _Core(deployable).eval(), torch.zeros(2, 3, side, side)
    try:
        with _silence():
            # Some attentions fill a cache in their first pass; a trace must not see that.
            with torch.no_grad():
                core(example)
            # Traced first: the exporter on its own tries one way after the other where one fails.
            free = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(core, (example,), dynamic_shapes=free, strict=False)
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=free,
                input_names=["views"],
                output_names=["logits"],
                verbose=False,
            )
    # What cannot be traced fails in many ways, whose errors share no root but Exception.
    except Exception as error:
        name = deployable.model.encoder.name
        first = str(error).strip().partition("\n")[0][:300]
        raise ExportError(f"{name}: cannot be written as ONNX ({first}); choose another student") from error
    assert written is not None
    return written.model_proto


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress and its report of a failure off the console."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _forget_where(core: Any) -> None:
    """Drop the traces of source files that the exporter notes on every node; they name folders of this machine."""
    graph = core.graph
    for noted in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, core):
        del noted.metadata_props[:]
        noted.doc_string = ""


def _front(preprocess: ImagePreprocess, core: Any) -> Any:
    """Build the graph from ``images`` to ``views``: :meth:`Deployable.prepare` without the normalization."""
    from onnx import TensorProto, helper

    numbers = itertools.count()

    def constant(kind: int, *values: float) -> str:
        name = f"prepare.constant.{next(numbers)}"
        constants.append(helper.make_tensor(name, kind, [len(values)], values))
        return name

    def add(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"prepare.{kind.lower()}.{next(numbers)}"
        nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node.{output}", **attributes))
        return output

    nodes: list[Any] = []
    constants: list[Any] = []
    size, bicubic = preprocess.size, preprocess.interpolation == "bicubic"
    # The center square, counted in float64 and cut off toward zero as Python does it.
    extent = add("Shape", "images", start=1, end=3)
    short = add("Cast", add("ReduceMin", extent, keepdims=1), to=TensorProto.DOUBLE)
    share = add("Mul", short, constant(TensorProto.DOUBLE, preprocess.crop))
    rounded = add("Cast", add("Add", share, constant(TensorProto.DOUBLE, 0.5 + TIE)), to=TensorProto.INT64)
    side = add("Max", rounded, constant(TensorProto.INT64, 1))
    start = add("Div", add("Sub", extent, side), constant(TensorProto.INT64, 2))
    square = add("Slice", "images", start, add("Add", start, side), constant(TensorProto.INT64, 1, 2))
    # On the 0..1 scale, channels first, and resized. Without exclude_outside the filter reads past the border,
    # where PyTorch and Pillow leave weights out; -0.5 is their cubic.
    pixels = add("Cast", add("Transpose", square, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    scaled = add("Div", pixels, constant(TensorProto.FLOAT, 255.0))
    resized = add(
        "Resize",
        *(scaled, "", "", constant(TensorProto.INT64, size, size)),
        output="resized" if bicubic else "views",
        mode="cubic" if bicubic else "linear",
        coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=-0.5,
        antialias=1,
        exclude_outside=1,
        axes=[2, 3],
    )
    if bicubic:
        low = helper.make_tensor("prepare.black", TensorProto.FLOAT, [], [0.0])
        high = helper.make_tensor("prepare.white", TensorProto.FLOAT, [], [1.0])
        constants.extend([low, high])
        add("Clip", resized, low.name, high.name, output="views")
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    views = helper.make_tensor_value_info("views", TensorProto.FLOAT, ["batch", 3, size, size])
    graph = helper.make_graph(nodes, "prepare", [images], [views], constants)
    return helper.make_model(graph, opset_imports=core.opset_import, ir_version=core.ir_version)
