"""What training and teachers compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision where the device gains from it: bfloat16 on GPUs that have it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
