from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny_models import CLASSES, CPU, CROPS, WIDTH, run, tiny_model, tiny_phase, tiny_samples
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.errors import ModelError, RunError
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.objectives import Logits
from tutelage.progress import Quiet
from tutelage.store import spec as specs
from tutelage.store import targets as module
from tutelage.store.shards import open_shard
from tutelage.store.spec import StoredOutput, TargetSpec, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets, open_targets
from tutelage.training.phase import LiveTeacher
from tutelage.views import ViewPolicy

LOGITS = {"view": {"logits": StoredOutput("float16", (CLASSES,))}}
ROOM = 10**9
MIXED = ViewPolicy(crop=(0.5, 1.0), flip=0.5, mixup=0.8, cutmix=1.0)
NEEDS = frozenset({"logits"})


def teacher(seed: int = 5) -> Model:
    """One whose head says something, and whose BatchNorm has seen something."""
    model = tiny_model(seed=seed)
    nn.init.normal_(model.head.linear.weight, std=3.0)  # type: ignore[union-attr,arg-type]
    return model.eval()


def loader(
    samples: Samples | None = None, *, policy: ViewPolicy = CROPS, size: int = 8, seed: int = 0, **options: Any
) -> Loader:
    samples = samples or tiny_samples(labeled=False)
    groups = options.pop("groups", {"view": ViewGroup(policy, size)})
    return Loader(samples, groups, batch_size=4, seed=seed, **options)


def spec_of(model: Model, made: Loader, outputs: Mapping[str, Any] = LOGITS, *, seed: int = 0) -> TargetSpec:
    return target_spec(teacher_identity(model), made, outputs, seed=seed, device=torch.device("cpu"))


def built(
    root: Path, model: Model, made: Loader, views: int, outputs: Mapping[str, Any] = LOGITS, **options: Any
) -> CachedTargets:
    spec = spec_of(model, made, outputs)
    return build_targets(root, options.get("max_bytes", ROOM), spec, views, model, made, progress=Quiet())


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of five images at most, so that twelve make three a view."""
    monkeypatch.setattr(specs, "MOST_ROWS", 5)


def shards(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.safetensors"))


def about(live: Tensor, stored: Tensor) -> bool:
    return torch.allclose(live.log_softmax(1), stored.log_softmax(1), atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("policy", [CROPS, MIXED])
def test_stored_predictions_are_those_of_the_views_that_epochs_show(tmp_path: Path, policy: ViewPolicy) -> None:
    model, made = teacher(), loader(policy=policy, views=2)
    cached, live = built(tmp_path, model, made, 2), LiveTeacher(model)
    for epoch in range(4):
        for batch in made.epoch(epoch):
            truth, stored = live(batch, ("view",), NEEDS)["view"], cached(batch, ("view",), NEEDS)["view"]
            assert stored.logits is not None
            assert stored.logits.dtype == torch.float32
            assert about(truth.require("logits"), stored.logits)


@pytest.mark.parametrize("policy", [CROPS, MIXED])
def test_a_student_learns_the_same_as_from_the_live_teacher(tmp_path: Path, policy: ViewPolicy) -> None:
    model, epochs = teacher(), 4

    def learned(source: Any, views: int | None) -> Mapping[str, Tensor]:
        # No BatchNorm: AdamW blows the rounding of a gradient up that is zero, as of a bias before one.
        phase = tiny_phase(
            {"logits": Logits()},
            loader=loader(policy=policy, views=views),
            teachers={"teacher": source},
            steps=3 * epochs,
        )
        return run(phase, tiny_model(seed=1, norm="group")).raw

    live = learned(LiveTeacher(model), None)
    cached = learned(built(tmp_path, model, loader(policy=policy), epochs), epochs)
    fewer = learned(built(tmp_path, model, loader(policy=policy), 2), 2)

    def off(found: Mapping[str, Tensor]) -> float:
        return max(float((live[key].double() - found[key].double()).abs().max()) for key in live)

    assert off(cached) < 1e-3
    assert off(fewer) > 10 * off(cached)  # the comparison can tell


def changed(tmp_path: Path) -> dict[str, TargetSpec]:
    """The spec after one thing has changed."""
    model, made = teacher(), loader()
    other, normalized, head = teacher(6), teacher(), teacher()
    normalized.encoder.preprocess = ImagePreprocess(8, mean=(0.5, 0.5, 0.5))
    with torch.no_grad():
        head.head.linear.bias[0] += 1  # type: ignore[union-attr,index,operator]
    images = list(tiny_samples(labeled=False).images or ())
    images[3] = images[3] ^ 1  # type: ignore[operator]
    two = {"view": ViewGroup(CROPS, 8, count=2)}
    features = {"view": {**LOGITS["view"], "features": StoredOutput("float16", (WIDTH,))}}
    return {
        "weights": spec_of(other, made),
        "head": spec_of(head, made),
        "preprocess": spec_of(normalized, made),
        "crop": spec_of(model, loader(policy=CROPS.model_copy(update={"crop": (0.4, 1.0)}))),
        "size": spec_of(model, loader(size=9)),
        "seed": spec_of(model, loader(seed=1), seed=1),
        "shots": spec_of(model, loader(groups=two)),
        "image": spec_of(model, loader(replace(tiny_samples(labeled=False), images=images))),
        "fewer images": spec_of(model, loader(tiny_samples(11, labeled=False))),
        "outputs": spec_of(model, made, features),
        "form": spec_of(model, made, {"view": {"logits": StoredOutput("top-2", (CLASSES,))}}),
        "precision": replace(spec_of(model, made), precision="torch.bfloat16"),
    }


def test_whatever_changes_is_a_miss(tmp_path: Path) -> None:
    model, made = teacher(), loader()
    kept = built(tmp_path, model, made, 1)
    for what, spec in changed(tmp_path).items():
        assert open_targets(tmp_path, spec, 1) is None, what
    found = open_targets(tmp_path, spec_of(teacher(), loader()), 1)
    assert found is not None
    assert found.folder == kept.folder


@pytest.mark.parametrize("constant", ["TARGETS", "PACKING", "SCHEME"])
def test_targets_of_another_version_are_a_miss(
    tmp_path: Path, constant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path, teacher(), loader(), 1)
    monkeypatch.setattr(specs, constant, 99)
    assert open_targets(tmp_path, spec_of(teacher(), loader()), 1) is None


def test_a_changed_file_is_a_miss(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{number}.png" for number in range(6))
    for number, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)

    def spec() -> TargetSpec:
        return spec_of(teacher(), loader(Samples(tuple(path.name for path in paths), images=paths)))

    before = spec()
    assert spec() == before
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(paths[2])
    assert spec().identity != before.identity


def test_labels_decide_nothing(tmp_path: Path) -> None:
    assert spec_of(teacher(), loader(tiny_samples(labeled=True))) == spec_of(teacher(), loader())


class Stopping(Loader):
    """Fails in the pass over some shard, as a crash or a kill would."""

    stop_at = 3
    begun = 0

    def view(self, number: int, rows: Any) -> Any:
        type(self).begun += 1
        if type(self).begun == type(self).stop_at:
            raise KeyboardInterrupt
        yield from super().view(number, rows)


def test_a_store_grows_by_views_and_keeps_its_first(tmp_path: Path) -> None:
    model = teacher()
    built(tmp_path, model, loader(), 2)
    before = {path: path.stat().st_mtime_ns for path in shards(tmp_path)}
    grown = built(tmp_path, model, loader(), 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(shards(tmp_path)) == 9
    assert grown.views == 3
    assert grown.cost.images == 36


def test_a_store_with_more_views_counts_only_those_in_use(tmp_path: Path) -> None:
    model, made = teacher(), loader()
    whole = built(tmp_path, model, made, 4)
    some = open_targets(tmp_path, spec_of(model, made), 2)
    assert some is not None
    assert (some.cost.images, some.cost.flops) == (24, pytest.approx(whole.cost.flops / 2))
    assert some.nbytes == 2 * 12 * CLASSES * 2
    assert open_targets(tmp_path, spec_of(model, made), 5) is None


def test_a_killed_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model = teacher()
    Stopping.begun, Stopping.stop_at = 0, 3
    made = Stopping(tiny_samples(labeled=False), {"view": ViewGroup(CROPS, 8)}, batch_size=4, seed=0)
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path, model, made, 2)
    assert [path.stem for path in shards(tmp_path)] == ["v000000-p0000", "v000000-p0001"]
    assert open_targets(tmp_path, spec_of(model, made), 1) is None
    Stopping.begun, Stopping.stop_at = 0, -1
    resumed = built(tmp_path, model, made, 2)
    assert Stopping.begun == 4
    assert resumed.cost.images == 24
    whole = built(tmp_path / "other", model, loader(), 2)
    for one, other in zip(shards(resumed.folder.parent), shards(whole.folder.parent), strict=True):
        for name, array in open_shard(one).arrays.items():
            assert np.array_equal(array, open_shard(other).arrays[name])


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    model, made = teacher(), loader()
    built(tmp_path, model, made, 1)
    path = shards(tmp_path)[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(bytes(content))
    assert open_targets(tmp_path, spec_of(model, made), 1) is None
    Stopping.begun, Stopping.stop_at = 0, -1
    built(tmp_path, model, Stopping(made.samples, made.groups, batch_size=4, seed=0), 1)
    assert Stopping.begun == 1


def test_only_one_view_is_mapped_at_a_time(tmp_path: Path) -> None:
    made = loader(views=4)
    cached = built(tmp_path, teacher(), made, 4)
    most = 0
    for epoch in range(8):
        for batch in made.epoch(epoch):
            cached(batch, ("view",), NEEDS)
            most = max(most, cached.mapped)
    assert most == 3  # the shards of a view, however many views there are


def test_a_shard_that_is_gone_is_told_when_its_view_comes(tmp_path: Path) -> None:
    made = loader(views=2)
    cached = built(tmp_path, teacher(), made, 2)
    for path in shards(tmp_path)[3:]:
        path.unlink()
    for batch in made.epoch(0):
        cached(batch, ("view",), NEEDS)
    with pytest.raises(RunError, match="it was whole before"):
        cached(next(made.epoch(1)), ("view",), NEEDS)


def test_memory_that_was_read_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, given_back = loader(), []
    cached = built(tmp_path, teacher(), made, 1)
    monkeypatch.setattr(module, "TOUCHED", 8)
    monkeypatch.setattr(module, "FAULT", 0)
    monkeypatch.setattr("tutelage.store.shards.Shard.release", lambda shard: given_back.append(shard))
    for batch in made.epoch(0):
        cached(batch, ("view",), NEEDS)
    assert given_back


def test_teachers_side_by_side_have_a_store_each(tmp_path: Path) -> None:
    models, made = {"first": teacher(1), "second": teacher(2)}, loader(views=1)
    sources = {name: built(tmp_path, model, made, 1) for name, model in models.items()}
    assert sources["first"].folder != sources["second"].folder
    phase = tiny_phase({name: Logits(teacher=name) for name in models}, loader=made, teachers=sources)
    batch = next(made.epoch(0))
    for name, model in models.items():
        truth = LiveTeacher(model)(batch, ("view",), NEEDS)["view"].require("logits")
        assert about(truth, phase.targets(batch)[name]["view"].require("logits"))


def test_the_largest_predictions_alone_may_be_stored(tmp_path: Path) -> None:
    model, made = teacher(), loader()
    cached = built(tmp_path, model, made, 1, {"view": {"logits": StoredOutput("top-1", (CLASSES,))}})
    for batch in made.epoch(0):
        truth = LiveTeacher(model)(batch, ("view",), NEEDS)["view"].require("logits").softmax(1)
        found = cached(batch, ("view",), NEEDS)["view"].require("logits").softmax(1)
        assert torch.allclose(found.amax(1), truth.amax(1), atol=1e-3)
        assert torch.equal(found.argmax(1), truth.argmax(1))


def test_every_output_of_several_groups_and_shots_is_found(tmp_path: Path) -> None:
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 6)}
    outputs = {
        "global": {
            "logits": StoredOutput("float16", (CLASSES,)),
            "patches": StoredOutput("float16", (WIDTH, 4, 4)),
            "features": StoredOutput("int8", (WIDTH,)),
        },
        "local": {"logits": StoredOutput("float16", (CLASSES,))},
    }
    model, made = teacher(), loader(groups=groups, views=2)
    cached = built(tmp_path, model, made, 2, outputs)
    needs = {"global": frozenset({"logits", "patches", "features"}), "local": NEEDS}
    for batch in (*made.epoch(0), *made.epoch(1)):
        for group in groups:
            truth = LiveTeacher(model)(batch, (group,), needs[group])[group]
            found = cached(batch, (group,), needs[group])[group]
            assert about(truth.require("logits"), found.require("logits"))
            if group == "global":
                assert found.require("patches").shape == (8, WIDTH, 4, 4)
                assert torch.allclose(found.require("patches"), truth.require("patches"), rtol=1e-3, atol=1e-4)
                assert torch.allclose(found.require("features"), truth.require("features"), atol=0.02)


def one_batch(made: Loader, **changes: Any) -> Batch:
    return replace(next(made.epoch(0)), **changes)


@pytest.mark.parametrize(
    ("group", "output", "view", "reason"),
    [
        ("view", "features", 0, "holds logits of 'view', not features of 'view'"),
        ("other", "logits", 0, "not logits of 'other'"),
        ("view", "logits", 2, "holds 2 views of each image, and the loader shows view number 2"),
    ],
)
def test_what_is_not_stored_is_told(tmp_path: Path, group: str, output: str, view: int, reason: str) -> None:
    made = loader()
    cached = built(tmp_path, teacher(), made, 2)
    with pytest.raises(ModelError, match=reason):
        cached(one_batch(made, view=view), (group,), frozenset({output}))


def test_outputs_too_large_for_half_precision_are_told(tmp_path: Path) -> None:
    model = teacher()
    with torch.no_grad():
        model.head.linear.bias[0] = 1e5  # type: ignore[union-attr,index,operator]
    with pytest.raises(ModelError, match="more than half precision holds"):
        built(tmp_path, model, loader(), 1)
    assert not shards(tmp_path)


def test_another_teacher_is_not_stored_under_this_one_s_name(tmp_path: Path) -> None:
    made = loader()
    with pytest.raises(ModelError, match="is for another teacher"):
        build_targets(tmp_path, ROOM, spec_of(teacher(1), made), 1, teacher(2), made, progress=Quiet())


def test_outputs_of_another_shape_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gives logits \[3\] for view group 'view', not \[4\]"):
        built(tmp_path, teacher(), loader(), 1, {"view": {"logits": StoredOutput("float16", (4,))}})


def test_no_room_is_told_with_what_it_would_take(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"leaves no room for \d+ of 6 shards of targets .*raise store\.max_gb"):
        built(tmp_path, teacher(), loader(), 2, max_bytes=100)


def test_a_teacher_s_own_state_is_left_alone(tmp_path: Path) -> None:
    model = teacher()
    before = teacher_identity(model)
    built(tmp_path, model, loader(), 1)
    assert teacher_identity(model) == before
    assert not model.training


@pytest.mark.parametrize("shape", [(10,), (100_000,)])
def test_rows_a_shard_follow_from_their_bytes(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    monkeypatch.undo()
    spec = spec_of(teacher(), loader(), {"view": {"logits": StoredOutput("float16", shape)}})
    assert spec.rows == (65_536 if shape == (10,) else (64 << 20) // 200_000)


def test_flops_are_those_of_every_view(tmp_path: Path) -> None:
    made, model = loader(), teacher()
    one, many = built(tmp_path / "one", model, made, 1), built(tmp_path / "many", model, made, 3)
    assert one.cost.flops > 0
    assert many.cost.flops == pytest.approx(3 * one.cost.flops)
    assert one.cost.device == CPU.device.type
    assert 0 < one.cost.waiting < one.cost.seconds
