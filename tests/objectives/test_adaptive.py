from __future__ import annotations

import math

import pytest
import torch
from rows import drawn, example
from torch import Tensor

from tutelage.objectives import AdaptiveFeatures, kernel_distance

KERNELS = ["linear", "rbf"]


def slow_rows(features: Tensor) -> list[list[float]]:
    """Centered and normalized, one number at a time."""
    rows = features.tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    found = []
    for row in rows:
        row = [value - mean for value, mean in zip(row, means, strict=True)]
        norm = math.sqrt(sum(value * value for value in row)) + 1e-8
        found.append([value / norm for value in row])
    return found


def slow_kernel_distance(student: Tensor, teacher: Tensor, logits: list[float] | None, kernel: str) -> float:
    if logits is not None:
        teacher = torch.tensor(
            [[value / (1 + math.exp(-s)) for value, s in zip(row, logits, strict=True)] for row in teacher.tolist()],
            dtype=torch.float64,
        )

    def similar(a: list[float], b: list[float]) -> float:
        if kernel == "linear":
            return sum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(-sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    phi, psi = slow_rows(student), slow_rows(teacher)
    pairs = [(i, j) for i in range(len(phi)) for j in range(len(phi))]
    total = sum((similar(phi[i], phi[j]) - similar(psi[i], psi[j])) ** 2 for i, j in pairs)
    return math.sqrt(total / len(pairs) + 1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [2, 6])
def test_distance_is_that_of_the_slow_reference(kernel, weighted: bool, count: int) -> None:
    student, teacher = 3 + drawn(count, 5, seed=0), drawn(count, 4, seed=1)
    logits = drawn(4, seed=2) if weighted else None
    expected = slow_kernel_distance(student, teacher, logits.tolist() if weighted else None, kernel)
    assert kernel_distance(student, teacher, logits, kernel=kernel).item() == pytest.approx(expected, rel=1e-9)


def test_a_row_at_the_mean_has_no_direction_and_counts_on_the_diagonal() -> None:
    # Its own product is 0, the teacher's is 1.
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    teacher = drawn(3, 4, seed=1)
    expected = slow_kernel_distance(student, teacher, None, "linear")
    assert kernel_distance(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_that_are_turned_and_moved_have_no_distance(kernel) -> None:
    features = drawn(6, 5, seed=0)
    turn = torch.linalg.qr(drawn(5, 5, seed=1)).Q
    assert kernel_distance(7 * features @ turn + 3, features, kernel=kernel).item() == pytest.approx(1e-4, abs=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_is_that_of_the_distance(kernel) -> None:
    student, teacher, logits = (
        x.requires_grad_() for x in (drawn(4, 3, seed=0), drawn(4, 5, seed=1), drawn(5, seed=2))
    )
    assert torch.autograd.gradcheck(lambda *x: kernel_distance(*x, kernel=kernel), (student, teacher, logits))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("student", [torch.ones(4, 3), drawn(4, 3, seed=0, dtype=torch.float32)])
def test_the_gradient_is_finite_where_nothing_differs(kernel, student: Tensor) -> None:
    # A student that says the same of all, and one that agrees with its teacher.
    student = student.clone().requires_grad_()
    kernel_distance(student, student.detach(), kernel=kernel).backward()
    assert student.grad.isfinite().all()


def test_mixed_precision_does_not_change_the_distance() -> None:
    student, teacher = drawn(8, 64, seed=0, dtype=torch.float32), drawn(8, 32, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = kernel_distance(student, teacher)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, kernel_distance(student, teacher))


def test_half_precision_features_are_compared_in_float32() -> None:
    student, teacher = (drawn(8, 64, seed=seed).bfloat16() for seed in (0, 1))
    found = kernel_distance(student, teacher)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(kernel_distance(student.double(), teacher.double()).item(), rel=1e-5)


def saved_numbers(count: int, width: int, kernel) -> int:
    """How many numbers are kept for the way back."""
    sizes: list[int] = []
    student = drawn(count, width, seed=0).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        kernel_distance(student, drawn(count, width, seed=1), drawn(width, seed=2).requires_grad_(), kernel=kernel)
    return sum(sizes)


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_is_of_pairs_and_of_rows_and_not_of_both(kernel) -> None:
    count, width = 64, 512
    assert saved_numbers(count, width, kernel) < 16 * (count * count + 2 * count * width)


@pytest.mark.parametrize(
    ("student", "teacher", "logits", "said"),
    [
        ((4, 3), (5, 3), None, "same B"),
        ((4,), (4,), None, "same B"),
        ((4, 3, 2), (4, 3, 2), None, "same B"),
        ((1, 3), (1, 3), None, "batch of 1"),
        ((4, 3), (4, 5), (3,), r"scale_logits must be \[5\]"),
        ((4, 3), (4, 5), (1, 5), r"scale_logits must be \[5\]"),
        ((4, 3), (4, 5), (1,), r"scale_logits must be \[5\]"),
    ],
)
def test_features_that_do_not_belong_together_are_refused(student, teacher, logits, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kernel_distance(torch.ones(student), torch.ones(teacher), None if logits is None else torch.ones(logits))


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="'linear' or 'rbf', got 'cubic'"):
        kernel_distance(torch.ones(2, 3), torch.ones(2, 3), kernel="cubic")


# The objective.

STUDENT, TEACHER = drawn(8, 5, seed=0, dtype=torch.float32), drawn(8, 6, seed=1, dtype=torch.float32)


def adaptive(**options) -> AdaptiveFeatures:
    torch.manual_seed(0)
    return AdaptiveFeatures(5, {"teacher": 6}, **options)


def loss(objective: AdaptiveFeatures, student: Tensor = STUDENT, teacher: Tensor = TEACHER) -> Tensor:
    return objective(*example(student, {"teacher": teacher}))["aft"]


def test_all_features_weigh_one_half_at_the_start() -> None:
    objective = adaptive()
    assert objective.feature_weights.tolist() == [0.5] * 6
    assert torch.equal(loss(objective), kernel_distance(STUDENT, TEACHER, torch.zeros(6)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dense_map_starts_where_equal_weights_do(kernel) -> None:
    dense, identity = (loss(adaptive(kernel=kernel, weights=weights)) for weights in ("dense", "identity"))
    assert torch.equal(dense, identity)
    assert torch.equal(identity, kernel_distance(STUDENT, TEACHER, kernel=kernel))


def test_a_dense_map_has_no_sigmoid() -> None:
    objective = adaptive(weights="dense")
    with torch.no_grad():
        objective.weights.copy_(drawn(6, 6, seed=3))
    torch.testing.assert_close(loss(objective), kernel_distance(STUDENT, TEACHER @ objective.weights.T))


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_without_a_kernel_centered_features_are_compared_through_the_map(variant) -> None:
    objective = adaptive(kernel="none", variant=variant)
    said = (TEACHER @ objective.weights.T).double()
    student = STUDENT.double()
    errors = [
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
        for one, other in zip((said - said.mean(0)).tolist(), (student - student.mean(0)).tolist(), strict=True)
    ]
    expected = sum(errors) / (8 if variant == "paper" else 8 * 5)
    assert loss(objective).item() == pytest.approx(expected, rel=1e-5)


def test_without_a_kernel_moving_either_side_changes_nothing() -> None:
    objective = adaptive(kernel="none")
    torch.testing.assert_close(loss(objective, STUDENT + 3, TEACHER - 5), loss(objective), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"weights": "dense"}, {"kernel": "none"}])
def test_what_is_learned_has_a_group_and_a_rate_of_its_own(options) -> None:
    (group,) = adaptive(**options, learning_rate=0.03).param_groups(1e-4)
    assert group["lr"] == 0.03
    assert len(group["params"]) == 1


@pytest.mark.parametrize("options", [{"weights": "identity"}, {"inner_steps": 5}])
def test_what_is_not_learned_with_the_student_has_no_group(options) -> None:
    assert adaptive(**options).param_groups(1e-4) == []


@pytest.mark.parametrize(
    "options",
    [{"weights": "identity"}, {"weights": "dense"}, {"kernel": "none"}, {"kernel": "none", "inner_steps": 1}],
)
def test_only_a_diagonal_has_weights_of_features(options) -> None:
    assert adaptive(**options).feature_weights is None


def test_features_that_the_student_cannot_have_lose_weight() -> None:
    # The student's features are three of the teacher's six.
    objective = AdaptiveFeatures(3, {"teacher": 6})
    teacher = drawn(64, 6, seed=5, dtype=torch.float32)
    optimizer = torch.optim.Adam(objective.param_groups(1e-4))
    for _ in range(200):
        optimizer.zero_grad()
        loss(objective, teacher[:, :3], teacher).backward()
        optimizer.step()
    weights = objective.feature_weights
    assert weights[3:].max() < 0.5 * weights[:3].min()


INNER = [{}, {"kernel": "rbf"}, {"weights": "dense"}, {"kernel": "none"}]


@pytest.mark.parametrize("options", INNER)
def test_inner_steps_are_those_of_adam(options) -> None:
    inner, outer = adaptive(**options, inner_steps=5), adaptive(**options)
    optimizer = torch.optim.Adam(outer.param_groups(1e-4))
    for seed in (0, 1):  # moments go from batch to batch
        student = drawn(8, 5, seed=seed, dtype=torch.float32)
        inner.inner_step(*example(student, {"teacher": TEACHER}))
        for _ in range(5):
            optimizer.zero_grad()
            loss(outer, student).backward()
            optimizer.step()
    torch.testing.assert_close(inner.weights, outer.weights.detach())


@pytest.mark.parametrize("options", INNER)
def test_after_inner_steps_the_distance_is_smaller(options) -> None:
    objective = adaptive(**options, inner_steps=5)
    before = loss(objective)
    objective.inner_step(*example(STUDENT, {"teacher": TEACHER}))
    assert loss(objective) < before


def test_with_inner_steps_the_loss_reaches_the_student_alone() -> None:
    objective, student = adaptive(inner_steps=2), STUDENT.clone().requires_grad_()
    objective.inner_step(*example(student.detach(), {"teacher": TEACHER}))
    loss(objective, student).backward()
    assert student.grad.abs().sum() > 0
    assert list(objective.parameters()) == []


def test_inner_steps_go_on_from_a_loaded_state() -> None:
    whole, first, second = (adaptive(inner_steps=3) for _ in range(3))
    for _ in range(2):
        whole.inner_step(*example(STUDENT, {"teacher": TEACHER}))
    first.inner_step(*example(STUDENT, {"teacher": TEACHER}))
    second.load_state_dict(first.state_dict())
    second.inner_step(*example(STUDENT, {"teacher": TEACHER}))
    assert torch.equal(second.weights, whole.weights)


def test_without_inner_steps_the_weights_stay() -> None:
    objective = adaptive()
    objective.inner_step(*example(STUDENT, {"teacher": TEACHER}))
    assert objective.feature_weights.tolist() == [0.5] * 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "cubic"}, "kernel must be"),
        ({"weights": "sparse"}, "weights must be"),
        ({"kernel": "none", "weights": "identity"}, "a map to the student's features must be learned"),
        ({"weights": "identity", "inner_steps": 5}, "nothing to update"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        adaptive(**options)
