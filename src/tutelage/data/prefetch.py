"""Batches, or blocks of other things, made ahead of the steps that use them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

import torch

AHEAD = 3
"""Batches prepared while the model trains."""

Item = TypeVar("Item")


def prefetched(batches: Iterator[Item]) -> Generator[Item]:
    """Prepare batches in a thread of their own while the caller works on the last one."""
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=AHEAD)
    stopped = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        # This thread's own: a second team of compute threads would fight the model's for the same cores.
        torch.set_num_threads(1)
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
