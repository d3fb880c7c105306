"""What an ONNX file has around the model: from ``images`` to its views, and from its logits to masks."""

from __future__ import annotations

import itertools
from typing import Any

from onnx import TensorProto, helper

from tutelage.data.boxes import TIE
from tutelage.models.preprocess import ImagePreprocess

EXTENT, INSIDE = "prepare.extent", "prepare.inside"
"""Height and width of the images, and of what the letterbox holds of them, int64 [2] each."""


class Nodes:
    """Nodes of a graph, each added under a name of its own, and their constants.

    Args:
        prefix: What the names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix = prefix
        self._numbers = itertools.count()

    def constant(self, kind: int, *values: float) -> str:
        """Add a constant vector and return its name."""
        name = f"{self._prefix}.constant.{next(self._numbers)}"
        self.constants.append(helper.make_tensor(name, kind, [len(values)], values))
        return name

    def scalar(self, kind: int, value: float) -> str:
        """Add a constant without dimensions and return its name."""
        name = f"{self._prefix}.constant.{next(self._numbers)}"
        self.constants.append(helper.make_tensor(name, kind, [], [value]))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of what it gives."""
        output = output or f"{self._prefix}.{kind.lower()}.{next(self._numbers)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node.{output}", **attributes))
        return output


def front(preprocess: ImagePreprocess, core: Any) -> Any:
    """Build the graph from ``images`` to ``views``: :meth:`Deployable.prepare` without the normalization."""
    graph = Nodes("prepare")
    size = preprocess.size
    if preprocess.fit == "letterbox":
        _letterbox(graph, preprocess)
    else:
        _center(graph, preprocess)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    views = helper.make_tensor_value_info("views", TensorProto.FLOAT, ["batch", 3, size, size])
    made = helper.make_graph(graph.nodes, "prepare", [images], [views], graph.constants)
    return helper.make_model(made, opset_imports=core.opset_import, ir_version=core.ir_version)


def add_mask(whole: Any, size: int, classes: int) -> None:
    """Give a letterboxing graph with ``logits`` the output ``mask``, [B, H, W], as ``graph.to_masks`` makes it.

    Args:
        whole: The model's ONNX graph; changed.
        size: Side of the model's input, in pixels.
        classes: How many there are; up to 255 a pixel is a uint8, else an int32.
    """
    graph = Nodes("mask")
    kind = TensorProto.UINT8 if classes <= 255 else TensorProto.INT32
    full = graph.add(
        "Resize",
        *("logits", "", "", graph.constant(TensorProto.INT64, size, size)),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
        axes=[2, 3],
    )
    # Narrow at once: the class of a pixel is moved twice.
    square = graph.add("Cast", graph.add("ArgMax", full, axis=1, keepdims=0), to=kind)
    down = graph.add("Gather", square, _source_rows(graph, 0), axis=1)
    graph.add("Gather", down, _source_rows(graph, 1), axis=2, output="mask")
    whole.graph.node.extend(graph.nodes)
    whole.graph.initializer.extend(graph.constants)
    whole.graph.output.insert(0, helper.make_tensor_value_info("mask", kind, ["batch", "height", "width"]))


def _center(graph: Nodes, preprocess: ImagePreprocess) -> None:
    """Cut the center square, counted in float64 and cut off toward zero as Python does it, and resize it."""
    extent = graph.add("Shape", "images", start=1, end=3)
    short = graph.add("Cast", graph.add("ReduceMin", extent, keepdims=1), to=TensorProto.DOUBLE)
    share = graph.add("Mul", short, graph.constant(TensorProto.DOUBLE, preprocess.crop))
    rounded = graph.add(
        "Cast", graph.add("Add", share, graph.constant(TensorProto.DOUBLE, 0.5 + TIE)), to=TensorProto.INT64
    )
    side = graph.add("Max", rounded, graph.constant(TensorProto.INT64, 1))
    start = graph.add("Div", graph.add("Sub", extent, side), graph.constant(TensorProto.INT64, 2))
    square = graph.add(
        "Slice", "images", start, graph.add("Add", start, side), graph.constant(TensorProto.INT64, 1, 2)
    )
    sizes = graph.constant(TensorProto.INT64, preprocess.size, preprocess.size)
    _resize(graph, preprocess, square, sizes, output="views")


def _letterbox(graph: Nodes, preprocess: ImagePreprocess) -> None:
    """Resize the images so that they fit, and pad them below and on the right: :func:`letterboxed`."""
    extent = graph.add("Shape", "images", start=1, end=3, output=EXTENT)
    long = graph.add("ReduceMax", extent, keepdims=1)
    two = graph.constant(TensorProto.INT64, 2)
    doubled = graph.add("Mul", extent, graph.constant(TensorProto.INT64, 2 * preprocess.size))
    rounded = graph.add("Div", graph.add("Add", doubled, long), graph.add("Mul", long, two))
    inside = graph.add("Max", rounded, graph.constant(TensorProto.INT64, 1), output=INSIDE)
    resized = _resize(graph, preprocess, "images", inside, output="")
    rest = graph.add("Sub", graph.constant(TensorProto.INT64, preprocess.size, preprocess.size), inside)
    pads = graph.add("Concat", graph.constant(TensorProto.INT64, 0, 0, 0, 0, 0, 0), rest, axis=0)
    graph.add("Pad", resized, pads, graph.scalar(TensorProto.FLOAT, 0.0), output="views")


def _resize(graph: Nodes, preprocess: ImagePreprocess, images: str, sizes: str, *, output: str) -> str:
    """Put uint8 images on the 0..1 scale, channels first, and resize them.

    Without exclude_outside the filter reads past the border, where PyTorch and Pillow leave weights out; -0.5 is
    their cubic.
    """
    bicubic = preprocess.interpolation == "bicubic"
    pixels = graph.add("Cast", graph.add("Transpose", images, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    scaled = graph.add("Div", pixels, graph.constant(TensorProto.FLOAT, 255.0))
    resized = graph.add(
        "Resize",
        *(scaled, "", "", sizes),
        output="" if bicubic else output,
        mode="cubic" if bicubic else "linear",
        coordinate_transformation_mode="half_pixel",
        cubic_coeff_a=-0.5,
        antialias=1,
        exclude_outside=1,
        axes=[2, 3],
    )
    if not bicubic:
        return resized
    low, high = graph.scalar(TensorProto.FLOAT, 0.0), graph.scalar(TensorProto.FLOAT, 1.0)
    return graph.add("Clip", resized, low, high, output=output)


def _source_rows(graph: Nodes, axis: int) -> str:
    """Add which rows (or columns) of the letterbox those of the images take: :func:`source_rows`."""
    which = graph.scalar(TensorProto.INT64, axis)
    out, inside = graph.add("Gather", EXTENT, which), graph.add("Gather", INSIDE, which)
    zero, one, two = (graph.scalar(TensorProto.INT64, value) for value in (0, 1, 2))
    odd = graph.add("Add", graph.add("Mul", graph.add("Range", zero, out, one), two), one)
    return graph.add("Div", graph.add("Mul", odd, inside), graph.add("Mul", out, two))
