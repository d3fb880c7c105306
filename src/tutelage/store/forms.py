"""How one output of a teacher is stored: in half precision, in 8 bits, or its largest predictions alone.

Logits are stored relative to each sample's largest, which a softmax does not see: half precision is finest near zero,
and that is then where the probability is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tutelage.data.samples import IntArray
from tutelage.errors import ModelError, RecipeError
from tutelage.store.shards import Array

FLOAT16 = "float16"
"""Half precision, any shape; largest value 65,504, relative error at most 2⁻¹¹."""

INT8 = "int8"
"""Features: a signed byte a value, and one float32 scale a row; error at most 1/254 of its largest magnitude."""

_LARGEST = 65_504.0
_TOP = re.compile(r"top-([1-9]\d*)")


def top_form(count: int) -> str:
    """Return the form that keeps the ``count`` largest logits of a row, and how probable all others are together."""
    return f"top-{count}"


def check_form(name: str, shape: Sequence[int], form: str) -> None:
    """Raise if an output cannot be stored so.

    Args:
        name: Of the output.
        shape: Of one row.
        form: ``float16``, ``int8`` or ``top-K``.

    Raises:
        RecipeError: The form is unknown, or not for this output.
    """
    count = _top(form)
    if form not in (FLOAT16, INT8) and count is None:
        raise RecipeError(f"{name}: there is no form {form!r}; use float16, int8, or top-K such as top-32")
    if form == INT8 and name == "logits":
        raise RecipeError("logits: int8 is for features; use float16, or top-K such as top-32")
    if count is not None and (name != "logits" or count >= shape[0]):
        raise RecipeError(
            f"{name}: {form} is for logits of more than {count} classes, and this is {name} {list(shape)}; "
            "use float16"
        )


def row_bytes(shape: Sequence[int], form: str) -> int:
    """Return the bytes of one row.

    Args:
        shape: Of the row.
        form: As in :func:`encode`.
    """
    count = _top(form)
    if count is not None:
        return (count * (2 + _class_type(shape[0]).itemsize) + 4) * math.prod(shape[1:])
    return math.prod(shape) + 4 if form == INT8 else 2 * math.prod(shape)


def encode(name: str, values: Tensor, form: str) -> dict[str, Array]:
    """Return what is stored of an output.

    Args:
        name: Of the output; logits lose each row's (each pixel's) largest value.
        values: [n, ...]; on any device.
        form: ``float16``, ``int8``, or ``top-K`` for logits [n, C, ...]: the K largest (of each pixel), their
            classes, and the logarithm of the probability of all others together, relative to the largest.

    Returns:
        Arrays by name, each [n, ...]: the values under the output's own name, what else there is beside it, such as
        ``logits.classes``.

    Raises:
        ModelError: A value is not finite, or too large for half precision.
        RecipeError: The form is not for this output.
    """
    check_form(name, values.shape[1:], form)
    values = values.detach().float()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(f"the teacher's {name} hold values that are not finite; its weights or inputs are damaged")
    if name == "logits":
        values = values - values.amax(1, keepdim=True)
    if form == INT8:
        return _in_bytes(name, values)
    count = _top(form)
    if count is None:
        return {name: _halves(name, values)}
    kept, classes = values.topk(count, dim=1)
    others = values.scatter(1, classes, -torch.inf).logsumexp(1)
    return {
        name: _halves(name, kept),
        f"{name}.classes": classes.cpu().numpy().astype(_class_type(values.shape[1])),
        f"{name}.others": others.cpu().numpy(),
    }


def decode(
    name: str,
    arrays: Mapping[str, Array],
    form: str,
    shape: Sequence[int],
    *,
    rows: IntArray | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return stored values, float32 [n, ...].

    Of logits stored as ``top-K``, the K have the probabilities that they had at temperature 1; what is left is spread
    evenly over the other classes, for which of them it belonged to is not stored.

    Args:
        name: Of the output.
        arrays: From :func:`encode`.
        form: The form that they were encoded in.
        shape: Of one row.
        rows: Which; all if not given. What is not asked for is not read.
        device: Where to; what is stored goes there, and is widened there.
    """

    def read(array: Array) -> Tensor:
        picked = array if rows is None else array[rows]
        return torch.from_numpy(picked).to(device or "cpu", non_blocking=True)

    values = read(arrays[name]).float()
    if form == INT8:
        scale = read(arrays[f"{name}.scale"])
        return values * scale.view(-1, *[1] * len(shape))
    count = _top(form)
    if count is None:
        return values
    kept = arrays[f"{name}.classes"]
    classes = torch.from_numpy((kept if rows is None else kept[rows]).astype(np.int64)).to(device or "cpu")
    each = read(arrays[f"{name}.others"]) - math.log(shape[0] - count)
    return each[:, None].expand(-1, shape[0], *each.shape[1:]).scatter(1, classes, values)


def _top(form: str) -> int | None:
    found = _TOP.fullmatch(form)
    return None if found is None else int(found[1])


def _class_type(classes: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint16 if classes <= 1 << 16 else np.uint32)


def _halves(name: str, values: Tensor) -> Array:
    largest = float(values.abs().amax()) if values.numel() else 0.0
    if largest > _LARGEST:
        what = "differ within a row by" if name == "logits" else "reach"
        advice = "distil live (distill.targets=live)" if name == "logits" else "store them as int8, or distil live"
        raise ModelError(
            f"the teacher's {name} {what} {largest:,.0f}, more than half precision holds ({_LARGEST:,.0f}); {advice}"
        )
    return values.half().cpu().numpy()


def _in_bytes(name: str, values: Tensor) -> dict[str, Array]:
    scale = values.flatten(1).abs().amax(1) / 127
    steps = values / scale.clamp(min=torch.finfo(torch.float32).tiny).view(-1, *[1] * (values.ndim - 1))
    return {name: steps.round().to(torch.int8).cpu().numpy(), f"{name}.scale": scale.cpu().numpy()}
