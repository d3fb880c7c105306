"""torch.export: one ``.pt2`` file with weights and preprocessing, for images and texts of any size."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.boxes import TIE
from tutelage.errors import ExportError
from tutelage.export.exporter import Material, colors
from tutelage.export.graph import EXAMPLE, VIEWS, Core, Deployable, example_of, free_axes, inference_copy, upsampled
from tutelage.export.tokenizer import in_one_form, write_tokenizer
from tutelage.models.preprocess import preprocess_to_dict
from tutelage.run import write_whole

FILE = "model.pt2"

FINE = 2**40
"""Parts of one that a crop's share is counted in: fine enough for images of a million pixels a side, and their
product still an int64."""


def export_torch(material: Material, folder: Path) -> Path:
    """Write ``model.pt2``: images uint8 [B, H, W, 3] in, logits out; batch, height and width are free.

    A model that tells every pixel gives masks, class numbers int64 [B, H, W], and logits. One of texts takes a
    dictionary of their tokens, as :func:`tutelage.export.onnx.export_onnx` names them, up to its ``length``; one of
    pairs takes images and such a dictionary. The tokenizer is written beside the file.

    Its extra files ``classes``, ``preprocess`` (both JSON; with masks ``palette``, with texts ``modality`` and the
    names of ``tokens`` as well) and those of the metadata come back from
    ``torch.export.load(path, extra_files={"classes": ""})``. Branches that only training needs are merged in a copy.

    Raises:
        ExportError: The model cannot be traced for every size.
        ModelError: Its tokenizer cannot be had.
        RunError: A file cannot be written.
    """
    from timm.utils.model import reparameterize_model

    # Weights that lie channels last are taken for parts of larger ones when they are saved, with a warning.
    merged = inference_copy(material.model).to(memory_format=torch.contiguous_format)
    reparameterize_model(merged, inplace=True)
    deployable = Deployable(merged)
    whole = (_AnySizeMasks if deployable.dense else _AnySize)(deployable).eval()
    example, free = _example(deployable)
    texts = {
        **material.metadata,
        "classes": json.dumps(list(material.classes)),
        "preprocess": json.dumps(preprocess_to_dict(in_one_form(deployable.preprocess))),
    }
    if deployable.modality != "image":
        texts |= {"modality": deployable.modality, "tokens": json.dumps(list(example[-1]))}
        write_tokenizer(folder, deployable.preprocess)
    if deployable.dense:
        texts["palette"] = json.dumps(colors(material.palette, len(material.classes)))
    buffer = io.BytesIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            # Some attentions fill a cache in their first pass; a trace must not see that.
            with torch.no_grad():
                whole(*example)
            program = torch.export.export(
                whole,
                example,
                dynamic_shapes=free if deployable.dense else (free,),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            torch.export.save(program, buffer, extra_files=texts)
    # What cannot be traced fails in many ways, whose errors share no root but Exception.
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise ExportError(
            f"{material.model.encoder.name}: torch.export cannot write it for samples of any size ({first}); "
            "leave torch out of export.forms, model.onnx does the same"
        ) from error
    path = folder / FILE
    write_whole(path, buffer.getvalue())
    return path


def _example(deployable: Deployable) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what a trace is made with, one or two arguments, and the axes of each that are free."""
    arguments: list[Any] = []
    free: list[Any] = []
    tokens = {name: each for name, each in example_of(deployable).items() if name != VIEWS}
    if deployable.modality != "text":
        size = deployable.images.size
        # Of unequal sides, so that the trace cannot take one for the other.
        arguments.append(torch.zeros(len(EXAMPLE), size + 8, size + 18, 3, dtype=torch.uint8))
        free.append({axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "height", "width"))})
    if tokens:
        arguments.append(tokens)
        free.append({name: free_axes(deployable, name) for name in tokens})
    return tuple(arguments), tuple(free)


class _AnySize(nn.Module):
    """:class:`Deployable` in operations whose trace holds for every height and width.

    Args:
        deployable: The model.
    """

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.core = Core(deployable)

    def forward(self, *inputs: Any) -> Tensor:
        """Return logits for images, for tokens by name, or for both."""
        found: dict[str, Tensor] = {}
        for each in inputs:
            found |= {VIEWS: self._views(each)} if isinstance(each, Tensor) else each
        return self.core(found)  # type: ignore[no-any-return]

    def _views(self, images: Tensor) -> Tensor:
        preprocess = self.core.deployable.images
        height, width = images.shape[1], images.shape[2]
        # Whole numbers alone: a traced floor of a float cannot be saved.
        share, half = round(preprocess.crop * FINE), round((0.5 + TIE) * FINE)
        side = torch.sym_max(1, (torch.sym_min(height, width) * share + half) // FINE)
        # A lone pixel is taken twice, which resizes to the same; a length that may be one would be a case of its own.
        steps = torch.arange(torch.sym_max(2, side), device=images.device).clamp(max=side - 1)
        square = images.index_select(1, steps + (height - side) // 2).index_select(2, steps + (width - side) // 2)
        views = F.interpolate(
            square.permute(0, 3, 1, 2).float() / 255.0,
            size=(preprocess.size, preprocess.size),
            mode=preprocess.interpolation,
            antialias=True,
            align_corners=False,
        )
        # Bicubic overshoots; an 8-bit image could not. What is left to do is to normalize: the size is right now.
        return views.clamp(0.0, 1.0)


class _AnySizeMasks(nn.Module):
    """:class:`Deployable` and :func:`to_masks` in operations whose trace holds for every height and width."""

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.deployable = deployable

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        preprocess = self.deployable.images
        size = preprocess.size
        extent = images.shape[1], images.shape[2]
        long = torch.sym_max(*extent)
        inside = [_counted(torch.sym_max(1, (2 * size * side + long) // (2 * long)), size) for side in extent]
        views = F.interpolate(
            images.permute(0, 3, 1, 2).float() / 255.0,
            size=inside,
            mode=preprocess.interpolation,
            antialias=True,
            align_corners=False,
        )
        # Padded by what is taken twice and set to 0: how much that is need not be known.
        steps = torch.arange(size, device=images.device)
        rows, columns = (steps.clamp(max=side - 1) for side in inside)
        square = views.clamp(0.0, 1.0).index_select(2, rows).index_select(3, columns)
        within = (steps < inside[0])[:, None] & (steps < inside[1])
        logits = self.deployable.score(preprocess(square * within))
        mask = upsampled(logits, size).argmax(1)
        for axis, (out, side) in enumerate(zip(extent, inside, strict=True), 1):
            every = (2 * torch.arange(out, device=images.device) + 1) * side // (2 * out)
            mask = mask.index_select(axis, every)
        return mask, logits


def _counted(length: Any, most: int) -> Any:
    """Return a length of which a trace knows the limits alone; else one of 1 would be a case of its own."""
    found = torch.scalar_tensor(length, dtype=torch.int64).item()
    torch._check(found >= 1)
    torch._check(found <= most)
    return found
