"""Encoders that say when they work, die once, or wait; and a gallery in small pieces, in whichever process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tests.training.tiny_models import TinyEncoder

from tutelage.curation.gallery import Piece, pieces
from tutelage.data.readers import stream
from tutelage.models.preprocess import ImagePreprocess, Modality


class WatchedEncoder(TinyEncoder):
    """Notes the process of each forward pass, one a shard here.

    Args:
        folder: Where ``passes`` is written.
        dies_at: The pass of a process before which it kills itself; the first process that gets there.
        waits_at: The pass of a process before which it waits for ever.
    """

    def __init__(self, folder: Path, *, dies_at: int | None = None, waits_at: int | None = None) -> None:
        super().__init__()
        self.preprocess = ImagePreprocess(8)
        self.folder, self.dies_at, self.waits_at = folder, dies_at, waits_at
        self.passes = 0

    def encode(self, inputs: Any, needs: Any) -> Any:
        if self.passes == self.dies_at:
            try:
                (self.folder / "died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        while self.passes == self.waits_at:
            time.sleep(1)
        self.passes += 1
        with (self.folder / "passes").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super().encode(inputs, needs)


def watched(folder: Path, **options: Any) -> WatchedEncoder:
    torch.manual_seed(0)
    return WatchedEncoder(folder, **options).eval()


def passes(folder: Path) -> list[str]:
    """Return the process of each pass so far."""
    return (folder / "passes").read_text().split()


def small_pieces(where: str, count: int, *, modality: Modality = "image") -> Iterator[Piece]:
    stream.CHUNK = 2
    return pieces(where, count, modality=modality)
