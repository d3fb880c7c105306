"""INT8: the ONNX file with whole-number weights and activations, and the gate that it must pass."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError, ExportError
from tutelage.export.exporter import Material
from tutelage.export.graph import Deployable
from tutelage.export.scoring import Logits, Pixels, Sample, Score, Segment
from tutelage.run import write_whole

FILE = "model.int8.onnx"

QUANTIZED = ("Conv", "MatMul", "Gemm")
"""Where nearly all time goes. All else stays in float, the preprocessing in front of the model as well."""

DYNAMIC = ("MatMul", "Gemm", "Gather")
"""The same where texts are read, whose embeddings are most of a small model's bytes."""


def export_int8(material: Material, folder: Path) -> Path:
    """Write ``model.int8.onnx`` from ``model.onnx``, with weights by channel.

    A model of images is quantized statically: they go through the float graph one by one, and only the range of each
    activation is kept, so that memory does not grow with them. Where texts are read, the ranges are those of each
    text itself, and embeddings become whole numbers as well; convolutions then stay in float. Metadata are those of
    ``model.onnx``, and ``precision``.

    Raises:
        ExportError: There are no images to calibrate with, or ONNX Runtime cannot quantize the graph.
        RunError: The file cannot be written.
    """
    import onnx

    source, path = folder / "model.onnx", folder / FILE
    static = Deployable(material.model).modality == "image"
    if static and not material.calibration:
        raise ExportError(f"{source.name}: no images to calibrate INT8 with; leave int8 out of export.forms")
    try:
        graph = onnx.load(source)
        texts = {prop.key: prop.value for prop in graph.metadata_props}
        with tempfile.TemporaryDirectory(prefix="tutelage-int8-") as scratch:
            quantized = Path(scratch) / FILE
            if static:
                _quantize_static(graph, quantized, material.calibration)
            else:
                _quantize_dynamic(graph, quantized)
            made = onnx.load(quantized)
        made.producer_name = "tutelage"
        onnx.helper.set_model_props(made, {**texts, "precision": "int8"})
        onnx.checker.check_model(made)
    except DataError:
        raise
    # The errors of ONNX Runtime and its tools share no root but Exception.
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise ExportError(f"{source.name}: cannot be quantized ({first}); leave int8 out of export.forms") from error
    write_whole(path, made.SerializeToString())
    return path


def _quantize_static(graph: Any, path: Path, calibration: Sequence[ImageSource]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        _prepared(graph),
        path,
        _reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=_ends(graph),
        per_channel=True,
        # Seven bits of eight: else sums overflow on processors that add products in 16 bits.
        reduce_range=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # Products of two activations, as in attention, lose much and win little.
        extra_options={"MatMulConstBOnly": True},
    )


def _quantize_dynamic(graph: Any, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        _prepared(graph),
        path,
        op_types_to_quantize=list(DYNAMIC),
        nodes_to_exclude=_ends(graph),
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def readable(images: Iterable[ImageSource]) -> Iterator[Pixels]:
    """Yield the images that can be decoded, each uint8 [H, W, 3], one at a time."""
    for image in images:
        if (pixels := _pixels(image)) is not None:
            yield pixels


def readable_samples(samples: Samples) -> Iterator[Sample]:
    """Yield the samples that can be decoded, in the form that files are scored on, one at a time."""
    if samples.images is None:
        yield from samples.texts or ()
    elif samples.texts is None:
        yield from readable(samples.images)
    else:
        for image, text in zip(samples.images, samples.texts, strict=True):
            if (pixels := _pixels(image)) is not None:
                yield pixels, text


def _pixels(image: ImageSource) -> Pixels | None:
    try:
        return np.ascontiguousarray(decode_pixels(image))
    except DataError:
        return None


@dataclass(frozen=True)
class Agreement:
    """How far a file says what the float file says.

    Attributes:
        images: Number of samples compared.
        agreement: Share of samples, or mean share of their pixels, with the same top-1 class.
        probability: Mean absolute difference of a class's probability.
    """

    images: int
    agreement: float
    probability: float


def compare(exact: Score, other: Score, samples: Iterable[Sample]) -> Agreement:
    """Compare two files on decoded samples that neither was fitted to, one at a time.

    Raises:
        ExportError: There is none.
    """
    same: list[bool] = []
    apart: list[float] = []
    for sample in samples:
        one, two = (_finite(score([sample])) for score in (exact, other))
        same.append(two is not None and one is not None and bool(one.argmax() == two.argmax()))
        apart.append(1.0 if one is None or two is None else float((one.softmax(1) - two.softmax(1)).abs().mean()))
    return _agreement(same, apart)


def compare_masks(exact: Segment, other: Segment, images: Iterable[Pixels]) -> Agreement:
    """Compare two files that give masks, pixel by pixel, as :func:`compare` does.

    Raises:
        ExportError: There is no image.
    """
    same: list[float] = []
    apart: list[float] = []
    for pixels in images:
        (one, first), (two, second) = exact([pixels]), other([pixels])
        finite = _finite(first), _finite(second)
        if finite[0] is None or finite[1] is None:
            same.append(0.0)
            apart.append(1.0)
        else:
            same.append(float((one == two).mean()))
            apart.append(float((finite[0].softmax(1) - finite[1].softmax(1)).abs().mean()))
    return _agreement(same, apart)


def _agreement(same: Sequence[float], apart: Sequence[float]) -> Agreement:
    if not same:
        raise ExportError("no transfer samples are left to check INT8 on; give more than one, or leave int8 out")
    return Agreement(len(same), float(np.mean(same)), float(np.mean(apart)))


def _finite(logits: Logits) -> Tensor | None:
    found = torch.from_numpy(logits).double()
    return found if found.isfinite().all() else None


def _reader(images: Sequence[ImageSource]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.pixels = readable(images)

        def get_next(self) -> dict[str, Pixels] | None:
            pixels = next(self.pixels, None)
            return None if pixels is None else {"images": pixels[None]}

    return Reader()


def _ends(graph: Any) -> list[str]:
    """Return the nodes that lose most and weigh least: the first convolution, and what gives the logits."""
    first = next((node.name for node in graph.graph.node if node.op_type == "Conv"), None)
    last = next((node.name for node in graph.graph.node if "logits" in node.output), None)
    return [name for name in (first, last) if name]


def _prepared(graph: Any) -> Any:
    """Return the float graph as quantization wants it: shapes inferred, and every resize told all four sizes.

    Told only height and width, ONNX Runtime fails: around whole-number convolutions it turns images to channels
    last, moves that turn past the resize, and expects four sizes to turn as well.
    """
    import onnx
    from onnx import helper

    nodes: list[Any] = []
    for node in graph.graph.node:
        axes = [attribute for attribute in node.attribute if attribute.name == "axes"]
        if node.op_type == "Resize" and axes:
            lead, sizes = f"{node.name}.lead", f"{node.name}.sizes"
            nodes.append(helper.make_node("Shape", [node.input[0]], [lead], name=lead, start=0, end=2))
            nodes.append(helper.make_node("Concat", [lead, node.input[3]], [sizes], name=sizes, axis=0))
            node.input[3] = sizes
            node.attribute.remove(axes[0])
        nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    # The merged graph may import one set of operators twice, which quantization takes for none.
    domains = {opset.domain: opset.version for opset in graph.opset_import}
    del graph.opset_import[:]
    graph.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in domains.items())
    inferred = onnx.shape_inference.infer_shapes(graph)
    # Else it logs that this should be done first.
    helper.set_model_props(inferred, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return inferred
