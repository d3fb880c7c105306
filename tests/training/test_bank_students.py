"""Students that learn against memory banks, in the loop: stopped anywhere, they end as if they had not been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import run, same, tiny_bank_phase, tiny_model
from torch import Tensor

from tutelage.progress import Progress, Quiet, Update
from tutelage.training import loop
from tutelage.training.loop import Trained
from tutelage.training.phase import Phase

FORMS = ["float32", "float16", "disk"]
STEPS = 9
"""Three epochs: every row is overwritten several times."""


def phase(form: str, folder: Path) -> Phase:
    return tiny_bank_phase(options={"form": form, "folder": folder, "negatives": 5}, steps=STEPS)


def whole(form: str) -> Mapping[str, Tensor]:
    """What training without an interruption ends with; on disk it is that of half precision."""
    return run(phase("float16" if form == "disk" else form, Path()), tiny_model()).raw


class Clock(Quiet):
    """Lets a checkpoint be due after some steps, and no others; stops training after another."""

    def __init__(self, due: tuple[int, ...] = (), stop: int = 0) -> None:
        self.due, self.stop, self.now = due, stop, 0.0

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if done in self.due:
                self.now += 100.0
            if done == self.stop:
                self.end()

        yield update

    def end(self) -> None:
        raise KeyboardInterrupt


def piece(form: str, folder: Path, clock: Clock) -> Trained:
    """Train until the clock stops it, from the last checkpoint in the folder."""
    checkpoint = folder / "state.checkpoint"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now, perf_counter=time.perf_counter))
        return run(phase(form, folder), tiny_model(), progress=clock, checkpoint=checkpoint, every=50)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_stopped_between_checkpoints_ends_as_if_it_was_not(tmp_path: Path, form: str) -> None:
    # Before the first one; two steps past the second one; past that again; and three past another one.
    for due, stop in (((), 2), ((1, 3), 5), ((), 7), ((5,), 8)):
        with pytest.raises(KeyboardInterrupt):
            piece(form, tmp_path, Clock(due, stop))
    assert same(piece(form, tmp_path, Clock()).raw, whole(form))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_stopped_after_every_step_ends_as_if_it_was_not(tmp_path: Path, form: str) -> None:
    for stop in range(2, STEPS):
        with pytest.raises(KeyboardInterrupt):
            after_every_step(form, tmp_path, Clock((), stop))
    assert same(after_every_step(form, tmp_path, Quiet()).raw, whole(form))


def after_every_step(form: str, folder: Path, progress: Progress) -> Trained:
    checkpoint = folder / "state.checkpoint"
    return run(phase(form, folder), tiny_model(), progress=progress, checkpoint=checkpoint, every=0)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_bank_students import Clock, piece

class Killed(Clock):
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

piece("disk", Path(sys.argv[2]), Killed((2,), 5))
"""


def test_what_is_killed_between_checkpoints_ends_as_if_it_was_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert (tmp_path / "state.checkpoint").exists()
    again = run(phase("disk", tmp_path), tiny_model(), checkpoint=tmp_path / "state.checkpoint")
    assert same(again.raw, whole("disk"))


def test_large_checkpoints_are_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A step takes a second, and so does a checkpoint: twenty seconds pass before the next one.
    now, saved = [0.0], []

    def save(path: Path, state: Any) -> None:
        saved.append(state["done"])
        now[0] += 1.0

    class Second(Quiet):
        @contextmanager
        def track(self, label: str, total: int) -> Iterator[Update]:
            def update(done: int, numbers: Mapping[str, float]) -> None:
                now[0] += 1.0

            yield update

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter))
    monkeypatch.setattr(loop, "save_checkpoint", save)
    run(tiny_bank_phase(steps=40), tiny_model(), progress=Second(), checkpoint=tmp_path / "c", every=2.5)
    assert saved == [3, 24]
