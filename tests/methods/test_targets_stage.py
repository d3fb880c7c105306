"""The stage between adapting and distilling, with models that take milliseconds."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import TinyJob, tiny_job
from tests.training.tiny_models import tiny_model
from torch import Tensor, nn

from tutelage.methods import METHODS
from tutelage.methods.distill import distill
from tutelage.methods.job import Job
from tutelage.methods.targets import targets
from tutelage.models.model import Model
from tutelage.models.weights import save_weights
from tutelage.progress import Progress, Quiet, Update
from tutelage.run import Stage
from tutelage.store import spec
from tutelage.views import POLICIES

EPOCHS = 6


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "MOST_ROWS", 5)


def job(folder: Path, *, progress: Progress | None = None, store: str = "run", **distilling: Any) -> TinyJob:
    settings = {f"distill__{key}": value for key, value in {"epochs": EPOCHS, **distilling}.items()}
    return tiny_job(folder, progress=progress, store=store, **settings)


def adapted(folder: Path, *, seed: int = 7) -> Stage:
    """A teacher whose head says something."""
    model = tiny_model(seed=5)
    torch.manual_seed(seed)
    nn.init.normal_(model.head.linear.weight, std=3.0)  # type: ignore[union-attr,arg-type]
    (folder / "adapt-probe").mkdir(parents=True, exist_ok=True)
    save_weights(folder / "adapt-probe" / "probe.safetensors", model.state_dict())
    return Stage("adapt-probe", folder / "adapt-probe", f"adapted-{seed}", {}, {}, reused=False)


def taught(by: Stage) -> dict[str, Stage]:
    """The stages after which targets are stored."""
    return {"adapt-probe": by, "adapt": Stage("adapt", by.folder, "chosen", {"chosen": "probe"}, {}, reused=False)}


def stored(job: TinyJob, before: Stage) -> dict[str, Stage]:
    return {**taught(before), "targets": targets(job, taught(before))}


def distilled(job: TinyJob, stages: Mapping[str, Stage]) -> Mapping[str, Tensor]:
    return load_file(distill(job, stages).folder / "student.safetensors")


def off(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


def test_the_stage_is_a_part_of_the_method() -> None:
    assert list(METHODS["task-oriented"].stages)[-4:] == ["adapt", "targets", "distill", "finetune"]


def test_live_targets_cost_nothing_and_say_why(tmp_path: Path) -> None:
    before = adapted(tmp_path)
    asked = targets(job(tmp_path / "asked", targets="live", epochs=100), taught(before))
    planned = targets(job(tmp_path / "planned", epochs=EPOCHS), taught(before))
    assert asked.results == {"mode": "live", "why": "the recipe asks for it"}
    assert planned.results["why"].startswith("storing 6 views of each image takes 6 teacher passes, and 6 epochs")
    assert not asked.cost["seconds"]
    assert not asked.cost["flops"]


def test_the_stage_tells_what_it_stored(tmp_path: Path) -> None:
    one = job(tmp_path / "run", targets="cached", views=2)
    found = targets(one, taught(adapted(tmp_path)))
    assert found.results | {"why": "", "folder": "", "teacher": {}} == {
        "mode": "cached",
        "views": 2,
        "forms": {"logits": "float16"},
        "bytes": 2 * 12 * 3 * 2,
        "images": 12,
        "folder": "",
        "reused": False,
        "why": "",
        "teacher": {},
    }
    assert found.results["why"].startswith("2 teacher passes over 12 images instead of 6")
    assert Path(found.results["folder"]).parent == tmp_path / "run" / "store"
    assert (found.cost["images"], found.cost["flops"] > 0) == (24, True)


def test_with_a_view_an_epoch_the_student_is_that_of_a_live_teacher(tmp_path: Path) -> None:
    before = adapted(tmp_path)

    def student(name: str, **settings: Any) -> Mapping[str, Tensor]:
        one = job(tmp_path / name, **settings)
        return distilled(one, stored(one, before))

    live = student("live", targets="live")
    assert off(live, student("cached", targets="cached", views=EPOCHS)) < 1e-3
    fewer = student("fewer", targets="cached", views=2)
    assert off(live, fewer) > 1e-2
    # A live teacher that sees the same few views again says the same about them.
    assert off(student("few views live", targets="live", views=2), fewer) < 1e-3


def test_distilling_from_stored_targets_builds_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(tmp_path / "run", targets="cached", views=2)
    stages = stored(one, adapted(tmp_path))

    def refused(self: Job) -> Model:
        raise AssertionError("a teacher was built")

    monkeypatch.setattr(TinyJob, "new_teacher", refused)
    assert distilled(one, stages)


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_targets_that_are_lost_in_between_are_stored_again(tmp_path: Path, how: str) -> None:
    one = job(tmp_path / "run", targets="cached", views=2)
    stages = stored(one, adapted(tmp_path))
    folder = Path(stages["targets"].results["folder"])
    if how == "removed":
        shutil.rmtree(folder)
    else:
        shard = next(iter(sorted(folder.glob("*.safetensors"))))
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    again = distilled(one, stages)
    assert len(one.teachers) == 2
    untouched = job(tmp_path / "untouched", targets="cached", views=2)
    assert off(again, distilled(untouched, stored(untouched, adapted(tmp_path)))) == 0
    assert len(untouched.teachers) == 1


def test_another_run_finds_them_and_counts_what_they_cost(tmp_path: Path) -> None:
    before, shared = adapted(tmp_path), str(tmp_path / "shared")
    first = targets(job(tmp_path / "one", targets="cached", views=3, store=shared), taught(before))
    second = targets(job(tmp_path / "two", targets="cached", views=3, store=shared), taught(before))
    assert (first.results["reused"], second.results["reused"]) == (False, True)
    assert second.results["folder"] == first.results["folder"]
    for part in ("images", "flops"):
        assert second.cost[part] == first.cost[part]


def test_another_teacher_is_another_store(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    folders = {
        targets(
            job(tmp_path / str(seed), targets="cached", views=1, store=shared),
            taught(adapted(tmp_path / f"adapted-{seed}", seed=seed)),
        ).results["folder"]
        for seed in (1, 2)
    }
    assert len(folders) == 2


class Killed(Quiet):
    """Ends the run once so many shards are done."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if label == "store targets" and done == self._shards:
                raise KeyboardInterrupt

        yield update


def test_a_killed_stage_goes_on_with_the_next_shard(tmp_path: Path) -> None:
    before, folder = adapted(tmp_path), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        targets(job(folder, targets="cached", views=2, progress=Killed(4)), taught(before))
    assert not (folder / "01-targets" / "stage.json").exists()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("store/targets-*/*.safetensors")}
    assert len(done) == 4
    found = targets(job(folder, targets="cached", views=2), taught(before))
    assert not found.results["reused"]
    assert found.cost["images"] == 24
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list(folder.glob("store/targets-*/*.safetensors"))) == 6


def test_a_finished_stage_loads_no_teacher(tmp_path: Path) -> None:
    before = adapted(tmp_path)
    targets(job(tmp_path / "run", targets="cached", views=2), taught(before))
    again = job(tmp_path / "run", targets="cached", views=2)
    assert targets(again, taught(before)).reused
    assert not again.teachers


@pytest.mark.parametrize("settings", [{"views": 3}, {"top_k": 1}, {"targets": "live", "views": None}])
def test_distilling_starts_over_when_its_targets_change(tmp_path: Path, settings: dict[str, Any]) -> None:
    before = adapted(tmp_path)

    def fingerprint(**changes: Any) -> str:
        one = job(tmp_path / "run", **{"targets": "cached", "views": 2, **changes})
        return distill(one, stored(one, before)).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(**settings) != first


def test_of_processes_that_start_together_one_stores_and_the_others_wait(tmp_path: Path) -> None:
    before, shared = adapted(tmp_path), str(tmp_path / "shared")
    jobs = [job(tmp_path / str(rank), targets="cached", views=4, store=shared) for rank in range(3)]
    found: dict[int, Stage] = {}

    def work(rank: int) -> None:
        found[rank] = targets(jobs[rank], taught(before))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stage.results["folder"] for stage in found.values()}) == 1
    # Nothing was stored twice: the store's own account has each view of each image once.
    manifest = json.loads((Path(found[0].results["folder"]) / "store.json").read_text())
    assert manifest["cost"]["images"] == 4 * 12


def test_the_largest_predictions_alone_teach_too(tmp_path: Path) -> None:
    one = job(tmp_path / "run", targets="cached", views=2, top_k=2)
    stages = stored(one, adapted(tmp_path))
    assert stages["targets"].results["forms"] == {"logits": "top-2"}
    # Of three classes, what the two largest leave is the third's: nothing is lost.
    whole = job(tmp_path / "whole", targets="cached", views=2)
    assert off(distilled(one, stages), distilled(whole, stored(whole, adapted(tmp_path)))) < 1e-3


@pytest.mark.parametrize("mode", ["live", "cached"])
def test_the_stage_runs_again_when_what_views_are_drawn_from_changes(tmp_path: Path, mode: str) -> None:
    before, one = adapted(tmp_path), job(tmp_path / "run", targets=mode, views=1)
    crops = one.recipe.views.model_copy(update={"policy": POLICIES["light"]})
    other = replace(
        job(tmp_path / "run", targets=mode, views=1), recipe=one.recipe.model_copy(update={"views": crops})
    )
    first, second = (targets(each, taught(before)) for each in (one, other))
    assert first.fingerprint != second.fingerprint
    if mode == "cached":
        assert first.results["folder"] != second.results["folder"]


def test_views_of_another_seed_are_another_store(tmp_path: Path) -> None:
    before, shared = adapted(tmp_path), str(tmp_path / "shared")
    one = job(tmp_path / "one", targets="cached", views=1, store=shared)
    other = replace(
        job(tmp_path / "two", targets="cached", views=1, store=shared),
        recipe=one.recipe.model_copy(update={"seed": 1}),
    )
    assert targets(one, taught(before)).results["folder"] != targets(other, taught(before)).results["folder"]
