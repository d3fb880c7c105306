from __future__ import annotations

import math

import pytest
import torch
from tests.models.tiny_clips import RANDOM, tiny_clip
from tests.training.tiny_models import tiny_pairs_phase, tiny_samples
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.samples import Samples
from tutelage.errors import RecipeError
from tutelage.models.outputs import Outputs
from tutelage.models.text_towers import build_text_tower
from tutelage.objectives import AffinityMimicking, ImageText, affinity_mimicking, image_text_contrast, info_nce

CAPTIONS = ("a red square", "a green circle", "blue lines", "nothing at all")


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def affinities(images: Tensor, texts: Tensor, scale: float) -> list[list[float]]:
    """Scaled cosines of each image and each text."""
    return [[scale * cosine(i.tolist(), t.tolist()) for t in texts] for i in images]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def transposed(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def slow_contrast(images: Tensor, texts: Tensor, scale: float) -> float:
    """One image and one text at a time."""
    by_image = affinities(images, texts, scale)
    by_text = transposed(by_image)
    losses = [-math.log(softmax(row)[place]) for rows in (by_image, by_text) for place, row in enumerate(rows)]
    return sum(losses) / len(losses)


def slow_mimicking(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], scales: tuple[float, float]):
    """One image (or text) at a time: the cross entropy of two distributions over all texts (or images)."""
    said, wanted = affinities(*student, scales[0]), affinities(*teacher, scales[1])
    losses = []
    for ours, theirs in ((said, wanted), (transposed(said), transposed(wanted))):
        for row, target in zip(ours, theirs, strict=True):
            q, p = softmax(row), softmax(target)
            losses.append(-sum(b * math.log(a) for a, b in zip(q, p, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_contrast_is_that_of_the_slow_reference(scale: float) -> None:
    images, texts = drawn(5, 4, seed=0), drawn(5, 4, seed=1)
    found = image_text_contrast(images, texts, scale).item()
    assert found == pytest.approx(slow_contrast(images, texts, scale), rel=1e-9)


def test_contrast_of_two_pairs_is_worked_out_by_hand() -> None:
    # The cosines are 1 and 0: each image finds its text with the odds e² to 1.
    images = torch.eye(2, dtype=torch.float64)
    assert image_text_contrast(3 * images, images, 2.0).item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-12)


def test_contrast_is_info_nce_at_the_inverse_temperature() -> None:
    images, texts = drawn(5, 4, seed=0), drawn(5, 4, seed=1)
    assert torch.equal(image_text_contrast(images, texts, 8.0), info_nce(images, texts, temperature=1 / 8))


def test_a_scale_that_is_learned_has_a_gradient() -> None:
    # Of images that find their own texts, a larger scale makes the loss smaller.
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    images = torch.eye(3, dtype=torch.float64)
    image_text_contrast(images, images, scale).backward()
    assert scale.grad is not None
    assert scale.grad < 0


@pytest.mark.parametrize("scales", [(1.0, 1.0), (50.0, 50.0), (14.3, 100.0)])
def test_mimicking_is_that_of_the_slow_reference(scales: tuple[float, float]) -> None:
    student, teacher = (drawn(5, 4, seed=0), drawn(5, 4, seed=1)), (drawn(5, 7, seed=2), drawn(5, 7, seed=3))
    found = affinity_mimicking(*student, *teacher, student_scale=scales[0], teacher_scale=scales[1]).item()
    assert found == pytest.approx(slow_mimicking(student, teacher, scales), rel=1e-9)


def test_mimicking_of_two_pairs_is_worked_out_by_hand() -> None:
    # The student tells its pairs apart by ln 3, the teacher finds all alike: ½ (ln(4/3) + ln 4) for every row.
    same, own = torch.ones(2, 3, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    found = affinity_mimicking(own, own, same, same, student_scale=math.log(3), teacher_scale=50.0).item()
    assert found == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-12)


def test_the_two_directions_of_mimicking_differ_where_affinities_are_not_symmetric() -> None:
    # Transposing both models swaps the sides; transposing one would change the loss.
    student, teacher = (drawn(4, 3, seed=0), drawn(4, 3, seed=1)), (drawn(4, 3, seed=2), drawn(4, 3, seed=3))
    scales = {"student_scale": 5.0, "teacher_scale": 5.0}
    found = affinity_mimicking(*student, *teacher, **scales)
    assert affinity_mimicking(*student[::-1], *teacher[::-1], **scales).item() == pytest.approx(found.item())
    assert affinity_mimicking(*student, *teacher[::-1], **scales).item() != pytest.approx(found.item(), abs=1e-3)


def test_a_student_that_is_the_teacher_has_the_least_loss_and_no_gradient() -> None:
    images, texts = drawn(4, 3, seed=0).requires_grad_(), drawn(4, 3, seed=1).requires_grad_()
    teacher = images.detach(), texts.detach()
    affinity_mimicking(images, texts, *teacher, student_scale=10.0, teacher_scale=10.0).backward()
    assert images.grad is not None
    assert images.grad.abs().max() < 1e-12


def test_a_sharp_teacher_that_matches_pairs_teaches_what_contrast_does() -> None:
    images, texts = drawn(4, 5, seed=0), drawn(4, 5, seed=1)
    own = torch.eye(4, dtype=torch.float64)
    found = affinity_mimicking(images, texts, own, own, student_scale=9.0, teacher_scale=1e4)
    assert found.item() == pytest.approx(image_text_contrast(images, texts, 9.0).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("shapes", "scales", "said"),
    [
        (((4, 3), (4, 2), (4, 5), (4, 5)), (1.0, 1.0), "the student's images and texts must share"),
        (((4, 3), (4, 3), (4, 5), (3, 5)), (1.0, 1.0), "the teacher's images and texts must share"),
        (((4, 3, 1), (4, 3, 1), (4, 5), (4, 5)), (1.0, 1.0), "the student's images and texts must share"),
        (((4, 3), (4, 3), (5, 3), (5, 3)), (1.0, 1.0), "the student has 4 pairs and the teacher 5"),
        (((1, 3), (1, 3), (1, 3), (1, 3)), (1.0, 1.0), "batch of one pair"),
        (((4, 3), (4, 3), (4, 3), (4, 3)), (0.0, 1.0), "a logit scale must be positive, got 0"),
        (((4, 3), (4, 3), (4, 3), (4, 3)), (1.0, -1.0), "a logit scale must be positive, got -1"),
    ],
)
def test_what_cannot_be_mimicked_is_refused(shapes, scales: tuple[float, float], said: str) -> None:
    given = [drawn(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match=said):
        affinity_mimicking(*given, student_scale=scales[0], teacher_scale=scales[1])


@pytest.mark.parametrize(
    ("images", "texts", "scale", "said"),
    [
        ((4, 3), (4, 2), 1.0, "share a shape"),
        ((1, 3), (1, 3), 1.0, "batch of one"),
        ((4, 3), (4, 3), 0.0, "a logit scale must be positive"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(images, texts, scale: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        image_text_contrast(drawn(*images, seed=0), drawn(*texts, seed=1), scale)


def objective(kind: str, **options) -> ImageText | AffinityMimicking:
    """One that has seen four captions."""
    tiny_clip()
    torch.manual_seed(0)
    text = build_text_tower(RANDOM)
    made = ImageText(5, text, **options) if kind == "contrast" else AffinityMimicking(5, text, **options)
    made.prepare(Samples(CAPTIONS, texts=CAPTIONS), ())
    return made


def given(rows: tuple[int, ...] = (0, 1, 2, 3)):
    """A batch of some of the four, the student's outputs, and what both towers of a teacher say."""
    indices = torch.tensor(rows)
    features = drawn(4, 5, seed=0).float()[indices].requires_grad_()
    batch = Batch({"view": torch.zeros(len(rows), 3, 2, 2)}, {"view": 1}, indices)
    seeds = {"teacher": 1, "teacher-text": 2}
    towers = {name: Outputs(embedding=drawn(4, 7, seed=seed).float()[indices]) for name, seed in seeds.items()}
    return batch, {"view": Outputs(features=features)}, {name: {"view": said} for name, said in towers.items()}


def embedded(made: ImageText | AffinityMimicking, features: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        texts = made.text(CAPTIONS, frozenset({"embedding"})).require("embedding")
        return made.projector(features), texts


def test_images_are_contrasted_with_their_texts_at_clip_s_first_scale() -> None:
    made, (batch, student, targets) = objective("contrast"), given()
    images, texts = embedded(made, student["view"].require("features"))
    losses = made(batch, student, targets)
    torch.testing.assert_close(losses["image-text"], image_text_contrast(images, texts, 1 / 0.07))
    assert losses["logit_scale"].item() == pytest.approx(1 / 0.07)


def test_a_batch_s_rows_say_which_texts_are_its_images_own() -> None:
    made, (batch, student, targets) = objective("contrast"), given((2, 0, 3))
    features = student["view"].require("features")
    images, texts = embedded(made, features)[0], embedded(made, features)[1][[2, 0, 3]]
    expected = image_text_contrast(images, texts, 1 / 0.07)
    torch.testing.assert_close(made(batch, student, targets)["image-text"], expected)


def test_a_teacher_s_affinities_are_mimicked_at_fixed_scales() -> None:
    made, (batch, student, targets) = objective("mimic", student_scale=30.0, teacher_scale=40.0), given()
    images, texts = embedded(made, student["view"].require("features"))
    wanted = (targets[name]["view"].require("embedding") for name in ("teacher", "teacher-text"))
    expected = affinity_mimicking(images, texts, *wanted, student_scale=30.0, teacher_scale=40.0)
    losses = made(batch, student, targets)
    torch.testing.assert_close(losses["affinity"], expected)
    assert losses["logit_scale"] == 30.0


def test_both_scales_are_the_released_scripts_unless_said_otherwise() -> None:
    made, (batch, student, targets) = objective("mimic"), given()
    same = objective("mimic", student_scale=50.0, teacher_scale=50.0)
    assert torch.equal(made(batch, student, targets)["affinity"], same(batch, student, targets)["affinity"])


@pytest.mark.parametrize(("kind", "options"), [("contrast", {}), ("mimic", {"student_scale": None})])
def test_the_gradient_reaches_projection_text_tower_and_scale(kind: str, options) -> None:
    made = objective(kind, **options)
    batch, student, targets = given()
    losses = made(batch, student, targets)
    losses[next(name for name in losses if name not in made.watched)].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        # Only the rows of words that were read have one.
        assert parameter.grad.abs().sum() > 0, name
    features = student["view"].require("features")
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_a_fixed_scale_is_no_parameter() -> None:
    assert not any("scale" in name for name, _ in objective("mimic").named_parameters())


@pytest.mark.parametrize(("scale", "left"), [(1000.0, 100.0), (100.0, 100.0), (3.0, 3.0)])
def test_a_learned_scale_goes_no_further_than_a_hundred(scale: float, left: float) -> None:
    made = objective("contrast")
    with torch.no_grad():
        made.log_scale.fill_(math.log(scale))
    made.after_step(torch.nn.Identity(), 0.5)
    assert made.scale.item() == pytest.approx(left, rel=1e-5)


def test_matrices_are_decayed_and_vectors_and_the_scale_are_not() -> None:
    made = objective("contrast", weight_decay=0.2)
    decay = {id(each): group["weight_decay"] for group in made.param_groups(0.1) for each in group["params"]}
    assert {name: decay[id(each)] for name, each in made.named_parameters()} == {
        name: 0.2 if each.ndim > 1 else 0.0 for name, each in made.named_parameters()
    }
    assert decay[id(made.log_scale)] == 0.0


def test_texts_that_are_cut_are_counted() -> None:
    made = objective("contrast")
    made.prepare(Samples(("a", "b", "c"), texts=["short", "long " * 20, "word " * 10]), ())
    assert made.cut == 1  # ten words, a start and an end are twelve tokens, which is what it reads


def test_a_fixed_scale_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a logit scale must be positive"):
        objective("mimic", student_scale=0.0)


def test_images_without_texts_are_refused_before_the_first_step() -> None:
    phase = tiny_pairs_phase()
    phase.check()
    phase.loader.samples = tiny_samples()
    with pytest.raises(RecipeError, match="objective 'image-text' needs texts, which the samples lack"):
        phase.check()
