from __future__ import annotations

import pytest
import torch
from rows import drawn
from rows import example as plain_example
from torch import Tensor

from tutelage.models.outputs import Outputs
from tutelage.objectives import AdaptiveProduct, Factor, ProductRegression, feature_error, product_kernel_distance

IMAGE, TEXT = drawn(8, 5, seed=0, dtype=torch.float32), drawn(8, 3, seed=1, dtype=torch.float32)
TEACHERS = {
    "sees": drawn(8, 6, seed=2, dtype=torch.float32),
    "sees too": drawn(8, 2, seed=3, dtype=torch.float32),
    "reads": drawn(8, 4, seed=4, dtype=torch.float32),
}
SEEN = torch.cat([TEACHERS["sees"], TEACHERS["sees too"]], dim=1)
FACTORS = (
    Factor("image_features", 5, {"sees": 6, "sees too": 2}),
    Factor("text_features", 3, {"reads": 4}),
)


def example(image: Tensor = IMAGE, text: Tensor = TEXT):
    batch, _, targets = plain_example(IMAGE, TEACHERS)
    return batch, {"view": Outputs(image_features=image, text_features=text)}, targets


def adaptive(factors=FACTORS, **options) -> AdaptiveProduct:
    return AdaptiveProduct(factors, **options)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_all_features_of_both_modalities_weigh_one_half_at_the_start(kernel) -> None:
    expected = product_kernel_distance(
        (IMAGE, TEXT), (SEEN, TEACHERS["reads"]), (torch.zeros(8), torch.zeros(4)), kernel=kernel
    )
    assert torch.equal(adaptive(kernel=kernel)(*example())["aft"], expected)


def test_each_modality_has_weights_of_its_own() -> None:
    objective = adaptive()
    with torch.no_grad():
        objective.weights.copy_(drawn(12, seed=5))
    expected = product_kernel_distance(
        (IMAGE, TEXT), (SEEN, TEACHERS["reads"]), (objective.weights[:8], objective.weights[8:])
    )
    assert torch.equal(objective(*example())["aft"], expected)


def test_without_weights_the_products_are_compared_as_they_are() -> None:
    expected = product_kernel_distance((IMAGE, TEXT), (SEEN, TEACHERS["reads"]))
    assert torch.equal(adaptive(weights="identity")(*example())["aft"], expected)


def test_without_a_teacher_of_texts_the_texts_are_not_held() -> None:
    objective = adaptive(FACTORS[:1])
    image, text = IMAGE.clone().requires_grad_(), TEXT.clone().requires_grad_()
    loss = objective(*example(image, text))["aft"]
    assert torch.equal(loss, product_kernel_distance((IMAGE,), (SEEN,), (torch.zeros(8),)))
    loss.backward()
    assert image.grad.abs().sum() > 0
    assert text.grad is None


def test_after_inner_steps_the_distance_is_smaller() -> None:
    objective = adaptive(inner_steps=5)
    before = objective(*example())["aft"]
    objective.inner_step(*example())
    assert objective(*example())["aft"] < before


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_each_modality_has_a_map_of_its_own(variant) -> None:
    torch.manual_seed(0)
    objective = ProductRegression(FACTORS, variant=variant)
    seen, read = objective.projectors
    errors = [
        feature_error(seen(IMAGE), SEEN, variant=variant),
        feature_error(read(TEXT), TEACHERS["reads"], variant=variant),
    ]
    expected = sum(errors) / (2 if variant == "code" else 1)
    torch.testing.assert_close(objective(*example())["kd"], expected)


@pytest.mark.parametrize("make", [AdaptiveProduct, ProductRegression])
@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((), "each factor must have a teacher"),
        ((Factor("image_features", 5, {}),), "each factor must have a teacher"),
        ((Factor("image_features", 5, {"one": 2}), Factor("text_features", 3, {"one": 2})), "reads one modality"),
    ],
)
def test_factors_that_make_no_sense_are_refused(make, factors, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(factors)


@pytest.mark.parametrize("options", [{"kernel": "none"}, {"weights": "dense"}])
def test_what_would_need_the_whole_product_is_refused(options) -> None:
    with pytest.raises(ValueError, match="of products, the kernel must be"):
        adaptive(**options)
