from __future__ import annotations

import pickle
import resource
from pathlib import Path

import pytest
import torch

from tutelage.errors import RunError
from tutelage.training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"done": 3, "weights": {"a": torch.arange(3.0)}, "history": [{"loss": 0.1}]})
    found = load_checkpoint(tmp_path / "c", CPU)
    assert (found["done"], found["history"]) == (3, [{"loss": 0.1}])
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_checkpoint_that_was_cut_short_is_reported(tmp_path: Path, size: int) -> None:
    save_checkpoint(tmp_path / "c", {"done": 3, "weights": torch.arange(100.0)})
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:size])
    with pytest.raises(RunError, match="remove it to start this stage again"):
        load_checkpoint(tmp_path / "c", CPU)


@pytest.mark.parametrize("numbers", [10**4, 10**6])
def test_a_checkpoint_without_room_keeps_the_last_one(tmp_path: Path, numbers: int) -> None:
    save_checkpoint(tmp_path / "c", {"done": 3})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(RunError, match=r"c: cannot be written \(File too large\)"):
            save_checkpoint(tmp_path / "c", {"done": 4, "weights": torch.zeros(numbers)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(tmp_path / "c", CPU) == {"done": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"done": Harmful(tmp_path / "harm")}, tmp_path / "c")
    with pytest.raises(RunError):
        load_checkpoint(tmp_path / "c", CPU)
    assert not (tmp_path / "harm").exists()


def test_the_harmful_checkpoint_would_harm(tmp_path: Path) -> None:
    # Guards the test above: the same content does run its code where unpickling is allowed.
    pickle.loads(pickle.dumps(Harmful(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()
