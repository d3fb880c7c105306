from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.curation.ray_encoders import passes, small_pieces, watched
from tests.training.tiny_models import TinyEncoder

from tutelage.curation import embeddings, ray_engine, ray_workers
from tutelage.curation.crops import CROPS, Cutting
from tutelage.curation.embedding_work import Listing, Work
from tutelage.curation.embeddings import Embeddings, embed_gallery
from tutelage.curation.ray_engine import QUIET, RayEngine, connected, search_with_ray
from tutelage.curation.ray_workers import Embedder, Lister
from tutelage.curation.search import search
from tutelage.data.readers import stream
from tutelage.errors import DataError, ModelError, RunError
from tutelage.progress import Quiet
from tutelage.store.shelf import Shelf

ray = pytest.importorskip("ray")

# Ray Data sets what it has deprecated itself; what is deprecated of our calls is raised in our own modules.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")

IMAGES, SHARDS = 24, 6
CUT = Cutting(CROPS, 2, seed=5)
ENGINE = RayEngine(actors=2, cpus=1, gpus=0)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK", 2)
    monkeypatch.setattr(embeddings, "MOST_IMAGES", 4)
    monkeypatch.setattr(embeddings, "pieces", small_pieces)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two cores; its address."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short: sockets lie in it
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        # Its processes work for drivers that other folders are current for, too, and load these encoders.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=80 << 20,
            _temp_dir=folder,
        )
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def write_gallery(folder: Path) -> Path:
    folder.mkdir()
    for number in range(IMAGES):
        generator = np.random.default_rng(number)
        size = (int(generator.integers(9, 40)), int(generator.integers(9, 40)), 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    return write_gallery(tmp_path / "gallery")


def embedded(root: Path, gallery: Path, encoder: TinyEncoder, engine: RayEngine | None = None) -> Embeddings:
    return embed_gallery(root, 10**9, str(gallery), [encoder], CUT, progress=Quiet(), engine=engine)


def stacked(found: Embeddings) -> np.ndarray[Any, Any]:
    return np.concatenate(list(found.vectors()))


@pytest.fixture(scope="module")
def survived(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Embeddings, Embeddings]]:
    """What was embedded on the cluster though a process was killed, and in this process."""
    folder = tmp_path_factory.mktemp("survived")
    gallery = write_gallery(folder / "gallery")
    (gallery / "05.png").write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK", 2)
        patch.setattr(embeddings, "MOST_IMAGES", 4)
        patch.setattr(embeddings, "pieces", small_pieces)
        found = embedded(folder / "store", gallery, watched(folder, dies_at=1), ENGINE)
        (folder / "here").mkdir()
        yield folder, found, embedded(folder / "other", gallery, watched(folder / "here"))


def test_a_killed_process_costs_its_shard_alone(survived: tuple[Path, Embeddings, Embeddings]) -> None:
    folder, _, _ = survived
    assert (folder / "died").exists()
    made = passes(folder)
    assert len(made) == SHARDS
    assert len(set(made)) > 1


def test_what_is_embedded_on_a_cluster_is_what_is_embedded_here(
    survived: tuple[Path, Embeddings, Embeddings],
) -> None:
    _, found, here = survived
    np.testing.assert_array_equal(stacked(found), stacked(here))
    rows = np.arange(len(here))
    assert found.items(rows).ids == here.items(rows).ids
    np.testing.assert_array_equal(found.items(rows).boxes, here.items(rows).boxes)
    assert list(found.problems()) == list(here.problems())
    assert found.folder.name == here.folder.name


def test_what_a_cluster_took_counts(survived: tuple[Path, Embeddings, Embeddings]) -> None:
    _, found, here = survived
    assert (found.cost.images, found.cost.flops) == (here.cost.images, here.cost.flops)
    assert found.cost.seconds > 0


def test_nothing_but_shards_is_left(survived: tuple[Path, Embeddings, Embeddings]) -> None:
    _, found, here = survived
    assert {file.name for file in found.folder.iterdir()} == {file.name for file in here.folder.iterdir()}


@pytest.mark.parametrize("k", [3, 10**3])
def test_a_search_on_a_cluster_finds_what_one_here_finds(
    survived: tuple[Path, Embeddings, Embeddings], k: int
) -> None:
    _, found, _ = survived
    queries = [stacked(found)[::7].astype(np.float32)]
    there, here = search_with_ray(queries, found, k), search(queries, [found.vectors()], k)
    np.testing.assert_array_equal(there.rows, here.rows)
    np.testing.assert_array_equal(there.similarity, here.similarity)


def test_a_search_on_a_cluster_refuses_what_one_here_refuses(
    survived: tuple[Path, Embeddings, Embeddings],
) -> None:
    _, found, _ = survived
    with pytest.raises(DataError, match="no 0 nearest"):
        search_with_ray([stacked(found)[:2].astype(np.float32)], found, 0)


DRIVER = """
import sys
from pathlib import Path
from tests.curation.ray_encoders import small_pieces, watched
from tests.curation.test_ray_engine import CUT
from tutelage.curation import embeddings
from tutelage.curation.ray_engine import RayEngine
from tutelage.progress import Quiet
embeddings.pieces, embeddings.MOST_IMAGES = small_pieces, 4
folder = Path(sys.argv[1])
encoder = watched(folder, waits_at=3)
engine = RayEngine(actors=1, cpus=1, gpus=0)
embeddings.embed_gallery(folder / "store", 10**9, "gallery", [encoder], CUT, progress=Quiet(), engine=engine)
"""


def test_a_killed_driver_redoes_no_finished_shard(cluster: str, tmp_path: Path, gallery: Path) -> None:
    """The driver is another process; the gallery is named relative to where that one runs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_ADDRESS": cluster}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environment, cwd=tmp_path)
    try:
        wait_for(lambda: len(list(tmp_path.glob("store/*/*.safetensors"))) == 3, driver)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    finished = {file: file.stat().st_ino for file in tmp_path.glob("store/*/*.safetensors")}
    assert len(passes(tmp_path)) == len(finished) == 3
    found = embedded(tmp_path / "store", gallery, watched(tmp_path), ENGINE)
    assert len(passes(tmp_path)) == SHARDS
    assert {file: file.stat().st_ino for file in finished} == finished
    assert found.cost.images == IMAGES
    (tmp_path / "here").mkdir()
    here = embedded(tmp_path / "other", gallery, watched(tmp_path / "here"))
    np.testing.assert_array_equal(stacked(found), stacked(here))


def wait_for(done: Any, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not done():
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < deadline, "the driver has embedded nothing"
        time.sleep(0.05)


def work_of(tmp_path: Path, gallery: Path, encoder: TinyEncoder) -> Work:
    (tmp_path / "shelf").mkdir(exist_ok=True)
    cut = list(small_pieces(str(gallery), 4))
    return Work(Shelf(tmp_path / "shelf", "f"), Listing("g", lambda: iter(cut)), [encoder], CUT)


def receipt(work: Work, name: str = "", listing: Listing | None = None) -> dict[str, Any]:
    """Return what comes back of a piece, the first if none is named."""
    listed = listing or work.listing
    name = name or next(iter(small_names(listed)))
    batch = Lister(listed, str(Path.cwd()))({"name": np.array([name])})
    made = Embedder(ray.put(work), 1, 0.0, str(Path.cwd()))(batch)
    found: dict[str, Any] = json.loads(str(made["receipt"][0]))
    return found


def small_names(listing: Listing) -> list[str]:
    return [piece.fingerprint[:32] for piece in listing._cut()]


def test_a_shard_that_is_there_is_not_made_again(cluster: str, tmp_path: Path, gallery: Path) -> None:
    work = work_of(tmp_path, gallery, watched(tmp_path))
    assert receipt(work)["cost"] == receipt(work)["cost"]
    assert len(passes(tmp_path)) == 1


def test_a_shard_over_which_processes_die_again_and_again_is_given_up(
    cluster: str, tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    work = work_of(tmp_path, gallery, watched(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(ray_workers, "shard_of", killed)
        for _ in range(ray_workers.ATTEMPTS):
            with pytest.raises(KeyboardInterrupt):
                receipt(work)
    assert "4 processes died" in receipt(work)["error"][1]
    ray_workers.forget_attempts(work)
    assert "error" not in receipt(work)


def test_an_encoder_whose_values_are_not_finite_is_told_of(cluster: str, tmp_path: Path, gallery: Path) -> None:
    encoder = watched(tmp_path)
    torch.nn.init.constant_(encoder.conv.bias, torch.nan)  # type: ignore[arg-type]
    told = receipt(work_of(tmp_path, gallery, encoder))
    with pytest.raises(ModelError, match="not finite"):
        ray_engine._received(work_of(tmp_path, gallery, encoder), told)


def test_a_gallery_that_a_machine_does_not_see_is_told_of(cluster: str, tmp_path: Path, gallery: Path) -> None:
    work = work_of(tmp_path, gallery, watched(tmp_path))
    shutil.rmtree(gallery)
    told = receipt(work)
    assert told["error"][0] == "DataError"
    assert "00.png" in told["error"][1]
    assert "all machines must see the gallery" in told["error"][1]
    assert list(work.shelf.folder.glob("*.safetensors")) == []


def test_a_gallery_that_has_changed_is_told_of(cluster: str, tmp_path: Path, gallery: Path) -> None:
    told = receipt(work_of(tmp_path, gallery, watched(tmp_path)), "a piece that was")
    assert told["error"] == ["RunError", "g: was changed while it was embedded; the same command goes on"]


def test_a_store_that_a_machine_does_not_see_is_told_of(cluster: str, tmp_path: Path, gallery: Path) -> None:
    work = work_of(tmp_path, gallery, watched(tmp_path))
    work.shelf.folder.rmdir()
    assert "all machines of the cluster share" in receipt(work)["error"][1]


def test_a_shard_that_does_not_appear_here_is_told_of(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "APPEARS", 0.0)
    with pytest.raises(RunError, match=r"a\.safetensors: was written on 10\.0\.0\.7, and is not seen here"):
        ray_engine._received(work_of(tmp_path, gallery, watched(tmp_path)), {"name": "a", "node": "10.0.0.7"})


def test_pieces_asked_for_again_are_listed_anew(tmp_path: Path, gallery: Path) -> None:
    listing = work_of(tmp_path, gallery, watched(tmp_path)).listing
    names = small_names(listing)
    assert [listing.piece(name).fingerprint[:32] for name in (names[3], names[1])] == [names[3], names[1]]


class Resources:
    def __init__(self, **resources: float) -> None:
        self._resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self._resources


@pytest.mark.parametrize(
    ("engine", "resources", "expected"),
    [
        (RayEngine(), {"CPU": 2}, (1, 2, 0)),
        (RayEngine(), {"CPU": 64}, (16, 4, 0)),
        (RayEngine(), {"CPU": 64, "GPU": 8}, (8, 8, 1)),
        (RayEngine(gpus=0.5), {"CPU": 64, "GPU": 8}, (16, 4, 0.5)),
        (RayEngine(gpus=0, cpus=1), {"CPU": 64, "GPU": 8}, (64, 1, 0)),
        (RayEngine(actors=3, cpus=8), {"CPU": 2}, (3, 8, 0)),
    ],
)
def test_processes_fill_the_cluster(
    engine: RayEngine, resources: dict[str, float], expected: tuple[int, int, float]
) -> None:
    size = engine._sized(Resources(**resources))
    assert (size.actors, size.cpus, size.gpus) == expected


def test_a_cluster_without_room_is_told_of() -> None:
    with pytest.raises(RunError, match="finds no room in a cluster of 2 cores and 0 GPUs"):
        RayEngine(gpus=1)._sized(Resources(CPU=2))


def test_without_ray_it_is_said_what_to_install(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r'pip install "tutelage\[ray\]"'):
        embedded(tmp_path / "store", gallery, watched(tmp_path), ENGINE)


def test_a_cluster_that_does_not_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RunError, match=r"RAY_ADDRESS=127\.0\.0\.1:1: no connection .*refused"), connected():
        pass


def test_a_cluster_that_was_connected_stays_so(cluster: str) -> None:
    with connected():
        pass
    assert ray.is_initialized()
