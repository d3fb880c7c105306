"""The distributed seam: one process, or several started by ``torchrun``, over the same code."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from tutelage.errors import RecipeError


@dataclass(frozen=True)
class World:
    """Where this process stands.

    Attributes:
        device: The device that it computes on.
        rank: Its number.
        size: How many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            distributed.barrier()

    def total(self, value: float) -> float:
        """Return the sum of a number over all processes."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return float(tensor)


def process_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; the tensor itself where there is one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def gathered(value: Tensor) -> Tensor:
    """Return a tensor of every process, one after the other by their numbers; all must have the same shape."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    parts = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def gathered_with_gradient(value: Tensor) -> Tensor:
    """Return what :func:`gathered` does, as a part of the graph: a process gets the sum of all processes' gradients.

    A loss that all of them compute from it has, once DDP has averaged the gradients of parameters, those that it
    would have in one process.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    found: Tensor = _Gathered.apply(value)
    return found


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return gathered(value.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def pick_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RecipeError: It does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"device: {name!r} is no device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise RecipeError(f"device: {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"device: {name!r} was asked for, and {torch.cuda.device_count()} CUDA devices are here")
    return device


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or stand alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(pick_device(device))
        return
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(chosen, distributed.get_rank(), size)
        # gloo aborts now and then when models wrapped for DDP outlive the group, or a process leaves early.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
