from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import run, tiny_bank_phase, tiny_model, tiny_pairs_phase, tiny_patches_phase, tiny_phase

from tutelage.errors import RecipeError
from tutelage.models.weights import load_weights
from tutelage.training.distributed import World, pick_device, process_mean, world
from tutelage.training.phase import Phase

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from tiny_models import CROPS, tiny_captioned, tiny_model
from tiny_models import tiny_bank_phase, tiny_pairs_phase, tiny_patches_phase, tiny_phase
from tutelage.data.loader import Loader, ViewGroup
from tutelage.models.weights import save_weights
from tutelage.progress import Quiet
from tutelage.training.distributed import process_mean, world
from tutelage.training.loop import train

with world("cpu") as here:
    own = torch.tensor([float(here.rank), 3.0])
    assert process_mean(own).tolist() == [0.5, 3.0]
    assert own.tolist() == [here.rank, 3.0]
    loader = Loader(
        tiny_captioned(), {"view": ViewGroup(CROPS, 8)}, batch_size=4, seed=0, rank=here.rank, world=here.size
    )
    for phase in (tiny_phase, tiny_patches_phase, tiny_bank_phase, tiny_pairs_phase):
        model = tiny_model(norm="layer", behind=True)
        trained = train(phase(loader=loader), model, world=here, seed=0, progress=Quiet())
        assert here.total(1.0) == here.size == 2
        assert trained.cost.images == 24
        save_weights(Path(sys.argv[1]) / f"{phase.__name__}-{here.rank}.safetensors", trained.raw)
"""


@pytest.fixture(scope="module", params=["first try", "second try"])
def two_processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes of torchrun left their weights; tried twice, since gloo can be moody."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(folder / "script.py"), str(folder), str(Path(__file__).parent)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", [tiny_phase, tiny_patches_phase, tiny_bank_phase, tiny_pairs_phase])
def test_two_processes_train_as_one_does(two_processes: Path, phase: Callable[[], Phase], rank: int) -> None:
    # With a head that is read, with parts that get no gradient, with rows that the other process has seen, and with
    # pairs that are told apart from its own.
    alone = run(phase(), tiny_model(norm="layer", behind=True)).raw
    together = tiny_model(norm="layer", behind=True)
    load_weights(two_processes / f"{phase.__name__}-{rank}.safetensors", together)
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value, alone[name], atol=1e-5, rtol=1e-5)


def test_without_torchrun_a_process_stands_alone() -> None:
    with world("cpu") as here:
        assert here == World(torch.device("cpu"), rank=0, size=1)


def test_a_lone_process_is_the_first() -> None:
    assert World(torch.device("cpu")).first


def test_a_lone_process_totals_its_own() -> None:
    assert World(torch.device("cpu")).total(3.5) == 3.5


def test_the_mean_over_a_lone_process_is_its_own() -> None:
    assert process_mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "meta", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="device"):
        pick_device(name)
