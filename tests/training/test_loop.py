from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import StopAt, run, same, tiny_model, tiny_patches_phase, tiny_phase, tiny_samples
from torch import Tensor, nn

from tutelage.data.loader import ViewGroup
from tutelage.errors import ModelError, RecipeError, TrainingError
from tutelage.models.outputs import Outputs
from tutelage.objectives import Logits, Needs, Objective, Supervised
from tutelage.tasks import Classification
from tutelage.training.checkpoint import load_checkpoint
from tutelage.training.loop import State, Trained
from tutelage.views import ViewPolicy

LOGITS = Needs(student=frozenset({"logits"}))


class Scaled(Objective):
    """The sum of the logits, times a factor."""

    needs = LOGITS

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        return {"scaled": student["view"].require("logits").sum() * self.factor}


class BadAt(Objective):
    """A finite loss until a step; then what ``bad`` makes of it."""

    needs = LOGITS

    def __init__(self, step: int, bad) -> None:
        super().__init__()
        self.left, self.bad = step, bad

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        self.left -= 1
        value = student["view"].require("logits").square().mean()
        return {"bad": self.bad(value) if self.left == 0 else value}


class Rated(Objective):
    """Has a parameter with its own learning rate; ``pull`` is its gradient."""

    needs = LOGITS

    def __init__(self, pull: float = 1.0, rate: float = 0.25) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.pull, self.rate = pull, rate

    def param_groups(self, learning_rate):
        return [{"params": [self.scale], "lr": self.rate}]

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        return {"rated": self.pull * self.scale.sum() + student["view"].require("logits").square().mean()}


class Noted(Objective):
    """Minimizes one number, watches another, and drops a gradient at first."""

    needs = LOGITS
    watched = frozenset({"seen"})

    def __init__(self, until: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.until, self.progress = until, []

    def before_step(self, progress: float) -> None:
        self.progress.append(progress)
        if progress < self.until:
            self.scale.grad = None

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        logits = student["view"].require("logits").square().mean()
        return {"kept": logits + self.scale.sum(), "seen": logits.detach() + 7}


def interrupted(tmp_path: Path, *, stop: int = 4, **phase) -> tuple[Trained, Trained]:
    """The same training, once in one go, and once interrupted and gone on with in a new process's state."""
    whole = run(tiny_phase(**phase), tiny_model(dropout=0.3))
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(tiny_phase(**phase), tiny_model(dropout=0.3), progress=StopAt(stop), checkpoint=path, every=0)
    assert load_checkpoint(path, torch.device("cpu"))["done"] == stop - 1
    torch.manual_seed(99)
    return whole, run(tiny_phase(**phase), tiny_model(seed=5, dropout=0.3), checkpoint=path, every=0)


def test_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = interrupted(tmp_path)
    assert same(whole.raw, resumed.raw)


def test_resumed_training_ends_with_the_average_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = interrupted(tmp_path)
    assert same(whole.average, resumed.average)


def test_resumed_training_has_the_whole_history(tmp_path: Path) -> None:
    whole, resumed = interrupted(tmp_path)
    assert whole.history == resumed.history
    assert [point["step"] for point in resumed.history] == [1, 2, 3, 4, 5, 6]


def test_resumed_training_goes_on_in_the_middle_of_a_later_epoch(tmp_path: Path) -> None:
    whole, resumed = interrupted(tmp_path, stop=6, steps=8)
    assert same(whole.raw, resumed.raw)


def test_resumed_training_counts_the_work_of_all_attempts(tmp_path: Path) -> None:
    whole, resumed = interrupted(tmp_path)
    assert (resumed.cost.images, resumed.cost.flops) == (whole.cost.images, whole.cost.flops)


def test_resumed_training_counts_the_seconds_before_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(tiny_phase(), tiny_model(), progress=StopAt(4), checkpoint=path, every=0)
    before = load_checkpoint(path, torch.device("cpu"))["cost"]["seconds"]
    assert before > 0
    assert run(tiny_phase(), tiny_model(), checkpoint=path, every=0).cost.seconds > before


def test_the_checkpoint_is_gone_once_training_is_done(tmp_path: Path) -> None:
    run(tiny_phase(), tiny_model(), checkpoint=tmp_path / "state.checkpoint", every=0)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_training_leaves_no_loader_thread() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_phase(steps=50), tiny_model(), progress=StopAt(2))
    assert [thread for thread in threading.enumerate() if thread.name == "loader"] == []


@pytest.mark.parametrize("bad", [lambda value: value * float("nan"), lambda value: value + float("inf")])
def test_a_loss_that_is_not_finite_stops_training_at_its_step(bad) -> None:
    with pytest.raises(TrainingError, match="at step 3 of 6; there is no earlier checkpoint"):
        run(tiny_phase({"bad": BadAt(3, bad)}), tiny_model())


def test_a_bad_loss_between_two_looks_is_named_by_its_own_step() -> None:
    # 600 steps: losses are looked at every third step.
    with pytest.raises(TrainingError, match="at step 4 of 600"):
        run(tiny_phase({"bad": BadAt(4, lambda value: value * float("nan"))}, steps=600), tiny_model())


def test_a_bad_loss_leaves_the_last_good_checkpoint_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "state.checkpoint"
    with pytest.raises(TrainingError, match=f"last good checkpoint is {path}"):
        run(
            tiny_phase({"bad": BadAt(3, lambda value: value * float("nan"))}),
            tiny_model(),
            checkpoint=path,
            every=0,
        )
    assert load_checkpoint(path, torch.device("cpu"))["done"] == 2


def test_a_finite_loss_with_a_gradient_that_is_not_leaves_no_bad_checkpoint(tmp_path: Path) -> None:
    # The derivative of a root at 0 is infinite, its value is 0.
    path = tmp_path / "state.checkpoint"
    with pytest.raises(TrainingError, match="at step 3 of 6"):
        run(
            tiny_phase({"bad": BadAt(3, lambda value: (value * 0).sqrt())}),
            tiny_model(),
            checkpoint=path,
            every=0,
        )
    kept = load_checkpoint(path, torch.device("cpu"))
    assert all(value.isfinite().all() for value in kept["step"].values())


def test_without_a_gradient_matrices_decay_by_the_schedule() -> None:
    model = tiny_model()
    before = model.encoder.conv.weight.detach().clone()
    rates = [0.1 * factor for factor in (1 / 3, 2 / 3, 1, 0.8535533906, 0.5, 0.1464466094)]
    run(tiny_phase({"zero": Scaled(0.0)}, learning_rate=0.1, weight_decay=0.5, warmup=1 / 3), model)
    for rate in rates:
        before *= 1 - rate * 0.5
    torch.testing.assert_close(model.encoder.conv.weight.detach(), before)


def test_decay_that_grows_is_applied_as_it_is_at_each_step() -> None:
    model = tiny_model()
    before = model.encoder.conv.weight.detach().clone()
    phase = tiny_phase(
        {"zero": Scaled(0.0)}, learning_rate=0.1, weight_decay=0.1, final_weight_decay=0.5, warmup=0.0, steps=4
    )
    rates, decays = (1.0, 0.8535533906, 0.5, 0.1464466094), (0.1, 0.1585786438, 0.3, 0.4414213562)
    run(phase, model)
    for rate, decay in zip(rates, decays, strict=True):
        before *= 1 - 0.1 * rate * decay
    torch.testing.assert_close(model.encoder.conv.weight.detach(), before)


def test_without_a_gradient_vectors_stay_as_they_are() -> None:
    model = tiny_model()
    vectors = {name: value.detach().clone() for name, value in model.named_parameters() if value.ndim == 1}
    assert len(vectors) == 4
    run(tiny_phase({"zero": Scaled(0.0)}, learning_rate=0.1, weight_decay=0.5), model)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in vectors.items())


def test_the_learning_rate_warms_up_and_then_falls_along_a_cosine() -> None:
    trained = run(tiny_phase(learning_rate=0.1, warmup=1 / 3), tiny_model())
    expected = [0.1 * factor for factor in (1 / 3, 2 / 3, 1, 0.8535533906, 0.5, 0.1464466094)]
    assert [point["learning_rate"] for point in trained.history] == pytest.approx(expected)


def first_gradient_norm(tmp_path: Path, clip: float | None) -> float:
    """The norm of the gradient that AdamW saw in its first step; its first moment is a tenth of it."""
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(
            tiny_phase({"scaled": Scaled(1000.0)}, clip=clip),
            tiny_model(),
            progress=StopAt(2),
            checkpoint=path,
            every=0,
        )
    moments = load_checkpoint(path, torch.device("cpu"))["optimizer"]["state"].values()
    return float(torch.cat([moment["exp_avg"].flatten() for moment in moments]).norm()) * 10


def test_a_large_gradient_is_clipped(tmp_path: Path) -> None:
    assert first_gradient_norm(tmp_path, clip=0.5) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("clip", [1e9, None])
def test_a_gradient_within_the_limit_is_not_clipped(tmp_path: Path, clip: float | None) -> None:
    assert first_gradient_norm(tmp_path, clip=clip) > 1000


def test_training_the_head_leaves_the_encoder_as_it_is() -> None:
    # Batch statistics too: the encoder is in eval mode.
    model = tiny_model(dropout=0.3)
    before = copy.deepcopy(model.encoder.state_dict())
    run(tiny_phase(trained="head"), model)
    assert same(model.encoder.state_dict(), before)


def test_training_the_head_moves_the_head() -> None:
    model = tiny_model()
    run(tiny_phase(trained="head"), model)
    assert model.head.linear.weight.abs().max() > 0


def test_an_objective_learns_at_its_own_rate() -> None:
    objective = Rated()
    run(tiny_phase({"rated": objective}, steps=1, warmup=0.0), tiny_model())
    # Adam's first step is the learning rate.
    torch.testing.assert_close(objective.scale.detach(), torch.tensor([0.75]))


def test_what_an_objective_does_not_ask_to_decay_stays_as_it_is() -> None:
    objective = Rated(pull=0.0)
    run(tiny_phase({"rated": objective}), tiny_model())
    assert objective.scale.item() == 1.0


def test_parameters_of_an_objective_are_resumed(tmp_path: Path) -> None:
    whole, resumed = Rated(), Rated()
    run(tiny_phase({"rated": whole}), tiny_model())
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(tiny_phase({"rated": Rated()}), tiny_model(), progress=StopAt(4), checkpoint=path, every=0)
    run(tiny_phase({"rated": resumed}), tiny_model(), checkpoint=path, every=0)
    assert torch.equal(whole.scale, resumed.scale)
    assert whole.scale.item() != 1.0


def test_the_loss_is_the_weighted_sum_of_the_parts() -> None:
    objectives = {"scaled": (Scaled(2.0), 3.0), "supervised": (Supervised(Classification()), 0.5)}
    for point in run(tiny_phase(objectives), tiny_model()).history:
        assert point["loss"] == pytest.approx(3.0 * point["scaled"] + 0.5 * point["supervised"], rel=1e-5)


def test_what_is_watched_is_kept_and_not_minimized() -> None:
    for point in run(tiny_phase({"watched": (Noted(), 3.0)}), tiny_model()).history:
        assert point["seen"] >= 7
        assert point["loss"] == pytest.approx(3.0 * point["kept"], rel=1e-5)


def test_an_objective_sees_its_gradients_before_each_step() -> None:
    objective = Noted()
    run(tiny_phase({"watched": objective}), tiny_model())
    assert objective.progress == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


def test_a_parameter_whose_gradient_is_dropped_stays_and_then_starts_anew() -> None:
    # Adam's first step is the learning rate, whenever it is taken.
    frozen, free = Noted(until=0.5), Noted()
    run(tiny_phase({"watched": frozen}, steps=2, warmup=0.0, learning_rate=0.1), tiny_model())
    run(tiny_phase({"watched": free}, steps=2, warmup=0.0, learning_rate=0.1), tiny_model())
    assert frozen.scale.item() == pytest.approx(1 - 0.05)
    assert free.scale.item() == pytest.approx(1 - 0.1 - 0.05)


class Sized(Objective):
    """Keeps the sizes of the patches that the student gives of two view groups."""

    needs = Needs(student=frozenset({"patches"}), groups=("large", "small"))

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        self.seen = {group: student[group].require("patches").shape[-1] for group in self.needs.groups}
        return {"sized": sum(student[group].require("patches").mean() for group in self.needs.groups)}


@pytest.mark.parametrize(("sizes", "expected"), [({}, 4), ({"small": 4}, 2)])
def test_a_view_group_may_be_seen_at_a_size_of_its_own(sizes: dict[str, int], expected: int) -> None:
    groups = {"large": ViewGroup(ViewPolicy(), 8), "small": ViewGroup(ViewPolicy(), 4)}
    objective = Sized()
    run(replace(tiny_phase({"sized": objective}, groups=groups, steps=1), sizes=sizes), tiny_model())
    assert objective.seen == {"large": 4, "small": expected}


def test_a_view_group_of_another_size_leaves_the_running_statistics_alone() -> None:
    def statistics(groups: tuple[str, ...], sizes: dict[str, int]) -> list[float]:
        objective, model = Sized(), tiny_model()
        objective.needs = Needs(student=frozenset({"patches"}), groups=groups)
        made = {"large": ViewGroup(ViewPolicy(), 8), "small": ViewGroup(ViewPolicy(center=0.5), 4)}
        run(replace(tiny_phase({"sized": objective}, groups=made, steps=1), sizes=sizes), model)
        return model.encoder.norm.running_mean.tolist()

    alone = statistics(("large",), {})
    assert statistics(("large", "small"), {"small": 4}) == alone
    assert statistics(("large", "small"), {}) != alone


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (run(tiny_phase(), tiny_model(dropout=0.3), seed=4) for _ in range(2))
    assert same(first.raw, second.raw)


def test_another_seed_draws_other_dropout() -> None:
    first, second = (run(tiny_phase(), tiny_model(dropout=0.3), seed=seed) for seed in (4, 5))
    assert not same(first.raw, second.raw)


def test_another_loader_seed_gives_other_batches() -> None:
    first, second = (run(tiny_phase(seed=seed), tiny_model()) for seed in (4, 5))
    assert not same(first.raw, second.raw)


class Asks(Objective):
    def __init__(self, teacher: str, groups: tuple[str, ...], output: str) -> None:
        super().__init__()
        self.output, self.teacher, self.groups = output, teacher, groups
        self.needs = Needs(frozenset({"logits"}), {teacher: frozenset({output})}, groups)

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        found = sum(targets[self.teacher][group].require(self.output).sum() for group in self.groups)
        return {self.output: found + student["view"].require("logits").sum()}


class RecordingTeacher:
    """Gives exactly what is asked for, and remembers for which view groups it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, batch, groups, needs):
        self.asked += groups
        return {group: Outputs(**{name: torch.ones(len(batch), 2) for name in needs}) for group in groups}


def test_objectives_that_share_a_teacher_each_get_their_outputs() -> None:
    groups = {name: ViewGroup(ViewPolicy(), 8) for name in ("view", "other")}
    objectives = {"a": Asks("t", ("view",), "logits"), "b": Asks("t", ("view", "other"), "features")}
    run(tiny_phase(objectives, groups=groups, teachers={"t": RecordingTeacher()}, steps=1), tiny_model())


def test_a_shared_teacher_runs_once_for_each_view_group() -> None:
    groups = {name: ViewGroup(ViewPolicy(), 8) for name in ("view", "other")}
    objectives = {"a": Asks("t", ("view",), "logits"), "b": Asks("t", ("view", "other"), "features")}
    teacher = RecordingTeacher()
    phase = tiny_phase(objectives, groups=groups, teachers={"t": teacher}, steps=1)
    phase.targets(next(phase.loader.batches(0, 1)))
    assert sorted(teacher.asked) == ["other", "view"]


def test_a_view_group_that_the_loader_lacks_is_named() -> None:
    groups = {"crops": ViewGroup(ViewPolicy(), 8)}
    with pytest.raises(RecipeError, match="needs view group 'view'; there are crops"):
        run(tiny_phase(groups=groups), tiny_model())


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(ModelError, match="'logits' needs a teacher called 'teacher'"):
        run(tiny_phase({"logits": Logits()}), tiny_model())


def test_missing_labels_are_reported() -> None:
    with pytest.raises(RecipeError, match="'supervised' needs labels"):
        run(tiny_phase(samples=tiny_samples(labeled=False)), tiny_model())


def test_a_phase_without_objectives_is_refused() -> None:
    phase = tiny_phase()
    with pytest.raises(RecipeError, match="no objective"):
        type(phase)(phase.name, phase.loader, {}, phase.schedule).check()


def test_kept_batch_statistics_stay_as_they_are() -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.encoder.norm.named_buffers()}
    run(tiny_phase(statistics="kept"), model)
    assert same(dict(model.encoder.norm.named_buffers()), before)


def test_with_kept_batch_statistics_the_rest_is_trained() -> None:
    model = tiny_model()
    before = {name: value.detach().clone() for name, value in model.encoder.named_parameters()}
    run(tiny_phase(statistics="kept"), model)
    assert not any(torch.equal(model.encoder.get_parameter(name), value) for name, value in before.items())


class Watched(Supervised):
    """Learns from labels, and keeps the weights after every step."""

    def __init__(self) -> None:
        super().__init__(Classification())
        self.states: list[State] = []

    def after_step(self, student, progress: float) -> None:
        self.states.append(copied(student.state_dict()))


def copied(state) -> State:
    return {key: value.detach().clone() for key, value in state.items()}


def snapshots(*shares: float, average: float = 0.9, tmp_path: Path | None = None, **options) -> dict[float, State]:
    """Train, interrupted after step 4 if there is a place for checkpoints, and return what is kept on the way."""
    kept: dict[float, State] = {}
    options |= {"snapshots": shares, "keep": lambda share, state: kept.update({share: copied(state)})}
    phase = {"average": average}
    if tmp_path is not None:
        options |= {"checkpoint": tmp_path / "state.checkpoint", "every": 0}
        with pytest.raises(KeyboardInterrupt):
            run(tiny_phase(**phase), tiny_model(dropout=0.3), progress=StopAt(4), **options)
        torch.manual_seed(99)
    run(tiny_phase(**phase), tiny_model(seed=5 if tmp_path else 0, dropout=0.3), **options)
    return kept


def watched(average: float) -> tuple[State, list[State]]:
    """The start of the same training, and its weights after each step."""
    objective, model = Watched(), tiny_model(dropout=0.3)
    start = copied(model.state_dict())
    run(tiny_phase({"watched": objective}, average=average), model)
    return start, objective.states


def test_a_snapshot_without_an_average_is_the_weights_at_its_step() -> None:
    _, states = watched(0.0)
    found = snapshots(0.5, average=0.0)[0.5]
    assert same(found, states[2])
    assert not same(found, states[5])


def test_a_snapshot_with_an_average_is_the_average_at_its_step() -> None:
    average, states = watched(0.9)
    for number, state in enumerate(states[:3]):
        decay = min(0.9, (1 + number) / (10 + number))
        average = {
            key: decay * average[key] + (1 - decay) * value if value.is_floating_point() else value
            for key, value in state.items()
        }
    found = snapshots(0.5)[0.5]
    assert found.keys() == average.keys()
    for key, value in average.items():
        torch.testing.assert_close(found[key], value)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_training_keeps_the_same_snapshots(tmp_path: Path, average: float) -> None:
    # One before the interruption, one that falls on it, one after it.
    shares = (0.3, 2 / 3, 0.8)
    whole, resumed = snapshots(*shares, average=average), snapshots(*shares, average=average, tmp_path=tmp_path)
    assert whole.keys() == resumed.keys() == set(shares)
    assert all(same(whole[share], resumed[share]) for share in shares)


def test_snapshots_do_not_change_the_training() -> None:
    with_them = run(tiny_phase(), tiny_model(dropout=0.3), snapshots=(0.2, 0.5), keep=lambda share, state: None)
    assert same(with_them.raw, run(tiny_phase(), tiny_model(dropout=0.3)).raw)


def test_a_share_of_less_than_a_step_is_the_first_one() -> None:
    assert same(snapshots(0.01, average=0.0)[0.01], watched(0.0)[1][0])


def test_two_shares_of_one_step_are_both_kept() -> None:
    found = snapshots(0.49, 0.5)
    assert found.keys() == {0.49, 0.5}
    assert same(found[0.49], found[0.5])


def test_no_snapshot_is_kept_of_weights_that_are_lost() -> None:
    kept: list[float] = []
    with pytest.raises(TrainingError, match="at step 4 of 600"):
        # 600 steps: losses are looked at every third step, which would be too late.
        run(
            tiny_phase({"bad": BadAt(4, lambda value: value * float("nan"))}, steps=600),
            tiny_model(),
            snapshots=(4 / 600,),
            keep=lambda share, state: kept.append(share),
        )
    assert kept == []


@pytest.mark.parametrize(("phase", "trained"), [(tiny_patches_phase, False), (tiny_phase, True)])
def test_a_head_is_trained_if_an_objective_reads_it(phase, trained: bool) -> None:
    model = tiny_model()
    run(phase(), model)
    assert {parameter.requires_grad for parameter in model.head.parameters()} == {trained}


def test_a_head_that_was_not_trained_before_can_be_trained_after() -> None:
    model = tiny_model()
    model.head.requires_grad_(False)
    run(tiny_phase(), model)
    assert model.head.linear.weight.abs().max() > 0
