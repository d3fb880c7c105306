"""ONNX: one file with weights, preprocessing, class names and provenance, for images and texts of any size."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import ExportError
from tutelage.export.exporter import colors
from tutelage.export.graph import Core, Deployable, example_of, free_axes, inference_copy
from tutelage.export.tokenizer import in_one_form, write_tokenizer
from tutelage.models.model import Model
from tutelage.models.preprocess import preprocess_to_dict
from tutelage.run import write_whole
from tutelage.runtime.model import SEGMENTATION
from tutelage.runtime.palette import Color

OPSET = 18
"""The first opset whose Resize can antialias."""

LARGEST = 2**31 - 2**24
"""Most bytes of weights: a protobuf file ends at 2 GiB, and the graph needs its share."""


def export_onnx(
    model: Model,
    path: Path,
    *,
    classes: Sequence[str],
    metadata: Mapping[str, str],
    palette: Sequence[Color] | None = None,
) -> Path:
    """Write ``model`` as one ONNX file: ``images`` uint8 [B, H, W, 3], tokens of texts or both in, ``logits`` out.

    Tokens are ``input_ids`` and, as far as the model reads them, ``attention_mask`` and ``token_type_ids``, each
    int64 [B, L]; what makes them is written beside the file, into ``tokenizer/``. A model that tells every pixel has
    two outputs: ``mask`` [B, H, W], at the images' own size, uint8 for up to 255 classes and else int32; and
    ``logits`` [B, C, h, w], which it is made of.

    Batch, height, width and length are free. The file's metadata hold ``classes`` and ``preprocess`` as JSON, and
    ``metadata``; with texts also ``modality``, with masks ``task`` and ``palette``. Branches that only training needs
    are merged (reparameterized) in a copy; ``model`` is left as it is.

    Args:
        model: A model of images, of texts, or of pairs of both.
        path: The file to write; its folder exists.
        classes: Class names in the order of the logits.
        metadata: Provenance, as text.
        palette: A color for each class that masks may be shown in; colors of our own where not given.

    Returns:
        ``path``.

    Raises:
        ExportError: The model cannot be traced, is too large for one file, or has other classes or
            colors than that.
        ModelError: Its tokenizer cannot be had.
        RunError: A file cannot be written.
    """
    import onnx
    from timm.utils.model import reparameterize_model

    from tutelage.export.onnx_ends import add_mask, front

    merged = inference_copy(model)
    reparameterize_model(merged, inplace=True)
    deployable = Deployable(merged)
    own = {"task": SEGMENTATION, "palette": json.dumps(colors(palette, len(classes)))} if deployable.dense else {}
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
    whole = core
    if deployable.modality != "text":
        whole = onnx.compose.merge_models(front(deployable.images, core), core, io_map=[("views", "views")])
    whole.graph.name = "tutelage"
    whole.producer_name = "tutelage"
    texts = {
        **metadata,
        "classes": json.dumps(list(classes)),
        "preprocess": json.dumps(preprocess_to_dict(in_one_form(deployable.preprocess))),
        **own,
    }
    if deployable.modality != "image":
        texts["modality"] = deployable.modality
        write_tokenizer(path.parent, deployable.preprocess)
    if deployable.dense:
        add_mask(whole, deployable.images.size, len(classes))
    onnx.helper.set_model_props(whole, texts)
    onnx.checker.check_model(whole, full_check=True)
    write_whole(path, whole.SerializeToString())
    return path


def _trace(deployable: Deployable) -> Any:
    core, example = Core(deployable).eval(), example_of(deployable)
    free = ({name: free_axes(deployable, name) for name in example},)
    try:
        with _silence():
            # Some attentions fill a cache in their first pass; a trace must not see that.
            with torch.no_grad():
                core(example)
            # Traced first: the exporter on its own tries one way after the other where one fails.
            program = torch.export.export(core, (example,), dynamic_shapes=free, strict=False)
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=free,
                input_names=list(example),
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
    """Keep the exporter's progress, its report of a failure and idle warnings off the console."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        # Inputs that share an axis are told to share its name, too, which is what is wanted.
        warnings.filterwarnings("ignore", message=".*axis name: .* will not be used", category=UserWarning)
        yield


def _forget_where(core: Any) -> None:
    """Drop the traces of source files that the exporter notes on every node; they name folders of this machine."""
    graph = core.graph
    for noted in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, core):
        del noted.metadata_props[:]
        noted.doc_string = ""
