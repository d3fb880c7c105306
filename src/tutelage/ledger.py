"""The ledger: what each stage cost, in seconds and in FLOPs (they disagree)."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


@dataclass
class Cost:
    """What a piece of work cost.

    Attributes:
        seconds: Wall time, of interrupted attempts up to where they were resumed from as well.
        images: Images (or texts) that went through the trained model; through the teacher alone where nothing
            is trained.
        flops: Floating-point operations of all models' forward and backward passes, as torch counts them (a
            multiply-add is two).
        waiting: Seconds spent waiting for data.
        peak_memory: Most bytes held: of the process on a CPU, of the device's allocator on a GPU.
        device: Where it ran.
        earlier: How many of the seconds were those of interrupted attempts.
    """

    seconds: float = 0.0
    images: int = 0
    flops: float = 0.0
    waiting: float = 0.0
    peak_memory: int = 0
    device: str = ""
    earlier: float = 0.0

    def add(self, other: Cost) -> None:
        """Add what a part took; only the seconds of its earlier attempts are not already inside this one's."""
        self.seconds += other.earlier
        self.earlier += other.earlier
        self.images += other.images
        self.flops += other.flops
        self.waiting += other.waiting
        self.peak_memory = max(self.peak_memory, other.peak_memory)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for manifests and results."""
        return asdict(self)


@contextmanager
def measured(cost: Cost, device: torch.device) -> Iterator[Cost]:
    """Add the seconds, and set peak memory and device, of the block to ``cost``."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds += time.perf_counter() - start
        cost.peak_memory = max(cost.peak_memory, _peak_memory(device))
        cost.device = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def counted(work: Callable[[], T]) -> tuple[T, float]:
    """Run ``work`` and return its result with the FLOPs that it took."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, float(counter.get_total_flops())


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
