from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from tests.models.tiny_clips import tiny_clip

from tutelage.errors import RecipeError, UnknownNameError
from tutelage.methods import METHODS
from tutelage.recipe import Recipe
from tutelage.recipe_reading import load_recipe, make_recipe, parse_setting
from tutelage.views.settings import ViewSettings

MINIMAL: dict[str, Any] = {
    "data": {"labeled": "digits"},
    "teacher": "bundled:efficientnet-lite0",
    "student": "timm:lcnet_050",
}

OTHER = {**MINIMAL, "data": {**MINIMAL["data"], "pretraining": "other", "pairs": "pairs"}}
"""One that any method can run, but those that mimic a CLIP teacher."""


def for_methods(*methods: str) -> dict[str, Any]:
    """Return a recipe that any of some methods can run."""
    mimics = any(METHODS[method].pairing == "mimic" for method in methods)
    return {**OTHER, "teacher": tiny_clip()} if mimics else OTHER


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_from_yaml(tmp_path: Path) -> None:
    text = "data: {labeled: digits, labels: 5}\nteacher: timm:vit_tiny\nstudent: timm:lcnet_050\nseed: 3\n"
    recipe = load_recipe(written(tmp_path, text))
    assert (recipe.data.labels, recipe.teacher, recipe.seed) == ("5", "timm:vit_tiny", 3)


def test_a_recipe_s_path_may_be_text(tmp_path: Path) -> None:
    assert load_recipe(str(written(tmp_path, yaml.safe_dump(MINIMAL)))) == make_recipe(MINIMAL)


def test_what_is_not_said_has_the_documented_default() -> None:
    recipe = make_recipe(MINIMAL)
    assert (recipe.task, recipe.method, recipe.seed, recipe.folds) == ("classification", "task-oriented", 0, 5)
    assert (recipe.data.labels, recipe.device, recipe.start) == ("all", "auto", None)


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump({**MINIMAL, "seed": 1, "distill": {"epochs": 2, "temperature": 3}}))
    recipe = load_recipe(path, {"seed": 5, "distill.epochs": 7, "views.policy.flip": 0.5})
    assert (recipe.seed, recipe.distill.epochs, recipe.distill.temperature) == (5, 7, 3.0)
    assert recipe.views.policy is not None
    assert recipe.views.policy.flip == 0.5


def test_overrides_leave_the_given_data_alone() -> None:
    data = {**MINIMAL, "distill": {"epochs": 2}}
    make_recipe(data, {"distill.epochs": 9, "data.labels": 3})
    assert data == {**MINIMAL, "distill": {"epochs": 2}}
    assert MINIMAL["data"] == {"labeled": "digits"}


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_recipe(MINIMAL).seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "close"),
    [
        ("methd", "method"),
        ("Student", "student"),
        ("data.label", "data.labels"),
        ("distill.epoch", "distill.epochs"),
        ("views.policy.flp", "views.policy.flip"),
        ("views.polcy.flip", "views.policy"),
        ("adapt.learning_rate", "adapt.learning_rates"),
    ],
)
def test_an_unknown_key_at_any_depth_is_answered_with_the_close_one(key: str, close: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown key '") as caught:
        make_recipe(MINIMAL, {key: 1})
    assert caught.value.close[0] == close


def test_a_misspelled_key_is_told_before_the_one_that_it_leaves_missing() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'student'"):
        make_recipe({"data": {"labeled": "digits"}, "studnt": "timm:lcnet_050", "method": "scratch"})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("seed", 2.5, "valid integer"),
        ("seed", -1, "greater than or equal to 0"),
        ("student", 5, "valid string"),
        ("start", "cold", "'random' or 'pretrained'"),
        ("folds", 1, "greater than or equal to 2"),
        ("distill", 5, "valid dictionary"),
        ("baselines", "scratch", "valid tuple"),
        ("data.labels", True, "valid string"),
        ("data.labels", 0.1, "valid string"),
        ("data.labels", None, "valid string"),
        ("distill.epochs", "many", "valid integer"),
        ("distill.epochs", 0, "greater than or equal to 1"),
        ("distill.learning_rate", -1e-3, "greater than 0"),
        ("distill.learning_rate", math.nan, "finite"),
        ("distill.learning_rate", math.inf, "finite"),
        ("distill.average", 1, "less than 1"),
        ("distill.targets", "stored", "'auto', 'live' or 'cached'"),
        ("distill.views", 0, "greater than or equal to 1"),
        ("distill.top_k", -1, "greater than or equal to 0"),
        ("distill.temperature", 0, "greater than 0"),
        ("finetune.label_smoothing", 1, "less than 1"),
        ("adapt.modes", [], "at least 1 item"),
        ("views.student_size", 4, "greater than or equal to 8"),
        ("views.augment", "lots", "'none', 'light', 'full', 'dense', 'dense-light' or 'auto'"),
        ("views.crop", 1.5, "less than or equal to 1"),
        ("views.policy.mixup", math.inf, "finite"),
        ("views.policy.flip", 1.5, "less than or equal to 1"),
    ],
)
def test_a_bad_value_is_told_with_its_dotted_key(key: str, value: object, reason: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(MINIMAL, {key: value})
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert reason in message
    assert message.endswith(f"got {value!r}")


@pytest.mark.parametrize("key", ["adapt.learning_rates", "adapt.penalties", "finetune.learning_rates"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "fast"])
def test_a_bad_value_in_a_list_is_told_with_its_place(key: str, value: object) -> None:
    with pytest.raises(RecipeError, match=rf"^{key}\.1: input should be .*got {value!r}$"):
        make_recipe(MINIMAL, {key: [1e-3, value]})


@pytest.mark.parametrize("key", ["data.labeled", "student"])
def test_a_missing_key_is_named(key: str) -> None:
    data = {name: value for name, value in MINIMAL.items() if name != key.partition(".")[0]}
    with pytest.raises(RecipeError, match=rf"^{key}: is missing, and has no default$"):
        make_recipe(data)


def test_an_unknown_task_is_answered_with_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'clasification'; did you mean 'classification'"):
        make_recipe(MINIMAL, {"task": "clasification"})


@pytest.mark.parametrize("overrides", [{"method": "scrtch"}, {"baselines": ["scrtch"]}])
def test_an_unknown_method_is_answered_with_the_close_one(overrides: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'scrtch'; did you mean 'scratch'"):
        make_recipe(MINIMAL, overrides)


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_is_asked_for_by_the_methods_that_need_one(method: str) -> None:
    data = {**MINIMAL["data"], "pretraining": "digits", "pairs": "digits"}
    alone = {**MINIMAL, "data": data, "teacher": None, "method": method}
    if METHODS[method].needs_teacher:
        with pytest.raises(RecipeError, match=f"method '{method}' needs a teacher, such as bundled:"):
            make_recipe(alone)
    else:
        assert make_recipe(alone).teacher is None


@pytest.mark.parametrize("changes", [{"method": "supervised"}, {"baselines": ["supervised"]}])
def test_another_labeled_set_is_asked_for_by_supervised_pretraining(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"method 'supervised' needs data\.pretraining"):
        make_recipe({**MINIMAL, **changes})


def test_a_teacher_is_asked_for_by_baselines_too() -> None:
    with pytest.raises(RecipeError, match="method 'task-oriented' needs a teacher"):
        make_recipe(MINIMAL, {"teacher": None, "method": "scratch", "baselines": ["task-oriented"]})


@pytest.mark.parametrize("labels", [7, "7"])
def test_labels_may_be_a_number(labels: object) -> None:
    assert make_recipe(MINIMAL, {"data.labels": labels}).data.labels == "7"


def test_rates_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    text = yaml.safe_dump(MINIMAL) + "distill: {learning_rate: 1e-3}\nadapt: {penalties: [1e-4, 2]}\n"
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.distill.learning_rate == 0.001
    assert recipe.adapt.penalties == (0.0001, 2.0)


@pytest.mark.parametrize("text", ["a: b: c", "data: {labeled: x", "\t- 1", "a: !!python/object:os.system {}"])
def test_what_is_not_yaml_is_told_on_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not YAML \(.+\)$") as caught:
        load_recipe(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not YAML"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "3"])
def test_what_is_no_mapping_is_no_recipe(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: a recipe is a mapping with keys such as data"):
        load_recipe(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml: cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "gone.yaml")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"{tmp_path}: cannot be read \(Is a directory\)"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("seed=3", "seed", 3),
        ("distill.epochs=50", "distill.epochs", 50),
        ("data.labeled=a=b", "data.labeled", "a=b"),
        ("adapt.modes=[probe]", "adapt.modes", ["probe"]),
        ("teacher=", "teacher", None),
        ("data.labels=10%", "data.labels", "10%"),
        ("student=timm:lcnet_050", "student", "timm:lcnet_050"),
    ],
)
def test_a_setting_is_a_key_and_a_yaml_value(text: str, key: str, value: object) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["seed", "=3", ""])
def test_a_setting_without_key_or_equals_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="write key=value, such as"):
        parse_setting(text)


def test_a_setting_that_is_not_yaml_is_told_on_one_line() -> None:
    with pytest.raises(RecipeError, match=r"^--set 'adapt.modes=\[probe': the value is not YAML \(.+\)$"):
        parse_setting("adapt.modes=[probe")


def unset(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from unset(value, f"{prefix}{key}.")
        elif value is None:
            yield prefix + key


def resolved(
    short_side: int = 28,
    labels: int = 50,
    transfer: int = 1000,
    classes: int = 10,
    pretraining: int = 500,
    pairs: int = 500,
    **overrides: Any,
) -> Recipe:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return make_recipe(for_methods(overrides.get("method", "scratch")), dotted).resolved(
        short_side=short_side,
        labels=labels,
        transfer=transfer,
        classes=classes,
        pretraining=pretraining,
        pairs=pairs,
    )


NOT_GIVEN = {
    "data.validation",
    "data.test",
    "data.transfer",
    "store.folder",
    "pretrain.steps",
    "distill.steps",
    "dino.steps",
    "clip.steps",
    "clip.views",
    "pseudo_label.steps",
    "pseudo_label.learning_rates",
    "regularize.betas",
    "held_out",
    "pretraining_views",
    "decoder.rates",
    "curate",
    "data.classes",
    "data.ignore",
    "data.columns",
    "text.template",
    "text.student_length",
    "text.teacher_length",
}
PRETRAINING = [name for name, method in METHODS.items() if method.pretrains]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("short_side", [8, 300])
def test_resolving_leaves_nothing_open_but_what_may_be_absent(method: str, short_side: int) -> None:
    # What of predictions is stored is of no use where no predictions are.
    lesson = METHODS[method].lesson
    absent = NOT_GIVEN if lesson is None or lesson.adapted else NOT_GIVEN | {"distill.top_k"}
    if METHODS[method].pairing == "mimic":  # a tower of fixed size, and what it says is stored
        absent = absent - {"clip.views"} | {"views.teacher_size"}
    assert set(unset(resolved(short_side, method=method).model_dump())) == absent


def test_a_teacher_of_fixed_size_keeps_its_own() -> None:
    assert set(unset(resolved(teacher="timm:vit_tiny_patch16_224").model_dump())) == {
        *NOT_GIVEN,
        "views.teacher_size",
    }


def test_without_a_teacher_its_size_stays_open() -> None:
    found = resolved(method="scratch", teacher=None)
    assert set(unset(found.model_dump())) == {*NOT_GIVEN, "teacher", "views.teacher_size"}


@pytest.mark.parametrize("method", METHODS)
def test_resolving_twice_is_resolving_once(method: str) -> None:
    once = resolved(8, 20, 300, method=method)
    assert once.resolved(short_side=300, labels=5000, transfer=9, classes=3) == once


GIVEN: dict[str, Any] = {
    "start": "pretrained",
    "views.augment": "none",
    "views.student_size": 40,
    "views.teacher_size": 72,
    "views.size": 80,
    "views.crop": 0.5,
    "adapt.epochs": 3,
    "distill.epochs": 4,
    "distill.batch_size": 5,
    "distill.targets": "cached",
    "distill.views": 3,
    "distill.top_k": 4,
    "distill.contrast.negatives": 7,
    "pretrain.epochs": 5,
    "pretrain.batch_size": 6,
    "dino.epochs": 5,
    "dino.batch_size": 6,
    "dino.prototypes": 7,
    "dino.hidden": 8,
    "dino.bottleneck": 9,
    "dino.warmup_epochs": 2,
    "dino.global_crop": (0.5, 0.9),
    "dino.local_crop": (0.1, 0.3),
    "dino.local_size": 24,
    "clip.epochs": 5,
    "clip.batch_size": 6,
    "clip.learning_rate": 0.5,
    "clip.text.length": 9,
    "pseudo_label.epochs": 4,
    "pseudo_label.batch_size": 5,
    "finetune.epochs": 6,
    "finetune.learning_rates": (0.5,),
    "finetune.modes": ("probe",),
    "regularize.views": 2,
}


@pytest.mark.parametrize("key", GIVEN)
def test_resolving_keeps_what_is_given(key: str) -> None:
    found: Any = resolved(8, **{key.replace(".", "__"): GIVEN[key]})
    for part in key.split("."):
        found = getattr(found, part)
    assert found == GIVEN[key]


def test_the_start_is_the_method_s_choice_unless_given() -> None:
    assert {name: resolved(method=name).start for name in METHODS} == {n: m.start for n, m in METHODS.items()}


@pytest.mark.parametrize("method", PRETRAINING)
def test_every_pretraining_is_followed_by_the_same_finetuning(method: str) -> None:
    # Else a comparison would be one of finetunings.
    assert resolved(method=method).finetune == resolved(method="task-oriented").finetune


@pytest.mark.parametrize("method", METHODS)
def test_the_head_alone_is_tried_after_a_pretraining(method: str) -> None:
    modes = resolved(method=method, start="random").finetune.modes
    assert modes == (("finetune", "probe") if method in PRETRAINING else ("finetune",))


@pytest.mark.parametrize(("start", "statistics"), [("random", "batch"), ("pretrained", "kept")])
@pytest.mark.parametrize("method", METHODS)
def test_statistics_of_many_images_are_kept(method: str, start: str, statistics: str) -> None:
    assert resolved(method=method, start=start).finetune.statistics == statistics


def test_from_random_weights_finetuning_is_longer() -> None:
    alone, taught = (
        resolved(method=method, start="random").finetune.epochs for method in ("scratch", "task-oriented")
    )
    assert alone is not None
    assert taught is not None
    assert alone > taught


def test_a_larger_pretraining_set_is_seen_less_often() -> None:
    few, many = (resolved(method="supervised", pretraining=images).pretrain for images in (100, 10_000))
    assert few.epochs is not None
    assert many.epochs is not None
    assert few.epochs > many.epochs


@pytest.mark.parametrize(
    ("short_side", "student", "teacher"),
    [(8, 32, 64), (28, 64, 64), (32, 64, 64), (64, 96, 128), (128, 192, 224), (300, 256, 224)],
)
def test_sizes_follow_the_images(short_side: int, student: int, teacher: int) -> None:
    found = ViewSettings().resolved(short_side, teacher_native=224)
    assert (found.student_size, found.teacher_size) == (student, teacher)


@pytest.mark.parametrize(
    ("short_side", "teacher", "size"), [(8, 224, 32), (300, 224, 256), (300, 384, 300), (40, 384, 64)]
)
def test_raw_views_are_no_smaller_than_the_student_s_and_no_larger_than_of_use(
    short_side: int, teacher: int, size: int
) -> None:
    assert ViewSettings().resolved(short_side, teacher_native=teacher).size == size


@pytest.mark.parametrize(("short_side", "augment", "crop"), [(63, "light", 1.0), (64, "full", 256 / 288)])
def test_small_images_are_augmented_lightly_and_seen_whole(short_side: int, augment: str, crop: float) -> None:
    found = ViewSettings().resolved(short_side, teacher_native=None)
    assert (found.augment, found.crop) == (augment, crop)


def test_more_labels_and_images_take_fewer_passes() -> None:
    few, many = resolved(labels=20, transfer=100), resolved(labels=2000, transfer=100_000)
    for stage in ("adapt", "distill", "dino", "finetune", "pseudo_label"):
        assert getattr(few, stage).epochs > getattr(many, stage).epochs


@pytest.mark.parametrize(("images", "batch"), [(1, 16), (260, 16), (1024, 64), (2048, 128), (10**6, 128)])
def test_the_batch_is_a_sixteenth_of_the_transfer_set_within_bounds(images: int, batch: int) -> None:
    assert resolved(transfer=images).distill.batch_size == batch


@pytest.mark.parametrize("section", ["distill", "pretrain", "dino", "clip", "pseudo_label"])
@pytest.mark.parametrize(
    ("steps", "images", "epochs"), [(100, 1000, 5), (100, 200, 25), (129, 1000, 6), (3, 1000, 1)]
)
def test_epochs_are_those_of_the_steps_asked_for(section: str, steps: int, images: int, epochs: int) -> None:
    settings = {f"{section}__steps": steps, f"{section}__batch_size": 50}
    assert getattr(resolved(transfer=images, pretraining=images, pairs=images, **settings), section).epochs == epochs


def test_given_epochs_win_over_steps() -> None:
    assert resolved(distill__steps=100, distill__epochs=3).distill.epochs == 3


def told(recipe: Recipe) -> tuple[str, int | None, int | None]:
    return recipe.distill.targets, recipe.distill.views, recipe.distill.top_k


@pytest.mark.parametrize(
    ("epochs", "classes", "max_gb", "found"),
    [
        (100, 10, 1, ("cached", 16, 0)),
        (31, 10, 1, ("live", None, None)),
        (100, 10, 0, ("live", None, None)),
        (100, 1000, 0.0022, ("cached", 16, 32)),
        (100, 1000, 0.0006, ("cached", 4, 32)),
    ],
)
def test_targets_are_planned_from_the_recipe_and_the_data(
    epochs: int, classes: int, max_gb: float, found: tuple[str, int | None, int | None]
) -> None:
    once = resolved(classes=classes, distill__epochs=epochs, store__max_gb=max_gb)
    assert told(once) == found
    assert once.resolved(short_side=28, labels=50, transfer=1000, classes=classes) == once


@pytest.mark.parametrize(("targets", "found"), [("live", ("live", None, None)), ("cached", ("cached", 3, 0))])
def test_targets_that_were_asked_for_are_not_planned_away(
    targets: str, found: tuple[str, int | None, int | None]
) -> None:
    assert told(resolved(distill__epochs=3, distill__targets=targets)) == found


def test_targets_that_were_asked_for_and_have_no_room_are_told_before_the_run() -> None:
    with pytest.raises(RecipeError, match=r"distill\.targets: 4 views of 1,000 images take .* set store\.max_gb"):
        resolved(distill__targets="cached", store__max_gb=0)


@pytest.mark.parametrize("short_side", [8, 300])
@pytest.mark.parametrize("method", METHODS)
def test_a_resolved_recipe_is_read_back_as_it_was_written(tmp_path: Path, method: str, short_side: int) -> None:
    recipe = resolved(short_side, method=method, baselines=["scratch"], data__labels="max:3", data__test="digits")
    assert load_recipe(written(tmp_path, recipe.to_yaml())) == recipe


def test_an_open_recipe_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = make_recipe({**MINIMAL, "data": {"labeled": "bücher/über"}})
    assert load_recipe(written(tmp_path, recipe.to_yaml())) == recipe


def settings_classes(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from settings_classes(kind)


@pytest.mark.parametrize("settings", list(settings_classes(Recipe)), ids=lambda each: each.__name__)
def test_every_key_is_documented(settings: type[BaseModel]) -> None:
    docs = [each.__doc__ or "" for each in settings.__mro__ if each is not BaseModel and issubclass(each, BaseModel)]
    documented = {line.strip().partition(":")[0] for doc in docs for line in doc.splitlines()}
    assert set(settings.model_fields) <= documented


def test_settings_of_what_is_no_baseline_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="scratch"):
        make_recipe(MINIMAL, {"baseline_finetune.scratch.epochs": 3})


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("baseline", sorted(METHODS))
def test_resolving_a_resolved_recipe_changes_nothing(method: str, baseline: str) -> None:
    asked = make_recipe(for_methods(method, baseline), {"method": method, "baselines": [baseline]})
    once = asked.resolved(short_side=64, labels=50, transfer=100, classes=10)
    read_back = make_recipe(yaml.safe_load(once.to_yaml()))
    assert read_back.resolved(short_side=64, labels=50, transfer=100, classes=10) == once


TWO = ["bundled:efficientnet-lite0", "bundled:efficientnet-lite1"]


ONE = [name for name, method in METHODS.items() if method.needs_teacher and not method.several_teachers]


@pytest.mark.parametrize("method", ONE)
def test_methods_that_learn_more_than_features_have_one_teacher(method: str) -> None:
    with pytest.raises(RecipeError, match=f"method '{method}' learns from one teacher, and there are 2; .*aft"):
        make_recipe({**OTHER, "method": method, "teacher": TWO})


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.several_teachers])
def test_methods_that_take_features_alone_have_any_number_of_teachers(method: str) -> None:
    assert make_recipe({**MINIMAL, "method": method, "teacher": TWO}).teachers == tuple(TWO)


def test_a_teacher_is_named_once() -> None:
    with pytest.raises(RecipeError, match="teacher: 'bundled:efficientnet-lite0' is named twice"):
        make_recipe({**MINIMAL, "method": "aft", "teacher": [TWO[0], TWO[0]]})


def test_a_list_of_one_teacher_is_a_teacher() -> None:
    assert make_recipe({**MINIMAL, "teacher": TWO[:1]}) == make_recipe({**MINIMAL, "teacher": TWO[0]})


@pytest.mark.parametrize("changes", [{"regularize.betas": []}, {"regularize.betas": [0.0]}])
def test_a_grid_of_weights_has_some_that_are_positive(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"regularize\.betas"):
        make_recipe({**MINIMAL, "method": "aft"}, changes)


def test_a_batch_of_one_image_has_no_kernel() -> None:
    with pytest.raises(RecipeError, match=r"finetune\.batch_size: method 'aft' compares the images of a batch"):
        make_recipe({**MINIMAL, "method": "aft"}, {"finetune.batch_size": 1})


@pytest.mark.parametrize(
    "changes", [{"regularize.kernel": "none"}, {"regularize.inner_steps": 5}], ids=["kernel", "inner"]
)
def test_what_learns_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="weights: identity"):
        make_recipe({**MINIMAL, "method": "aft"}, {"regularize.weights": "identity", **changes})


@pytest.mark.parametrize(("augment", "views"), [("none", 1), ("light", 16)])
def test_one_view_is_stored_where_all_are_the_same(augment: str, views: int) -> None:
    assert resolved(8, method="aft", views__augment=augment).regularize.views == views


def test_a_share_held_out_is_another_choice_than_folds() -> None:
    folds, once = (make_recipe(MINIMAL, {"held_out": share}) for share in (None, 0.1))
    assert (folds.choosing, once.choosing) == ({"most": 5}, {"most": 5, "share": 0.1})


@pytest.mark.parametrize("section", ["finetune", "baseline_finetune.pseudo-label"])
def test_rounds_after_the_first_need_a_rate(section: str) -> None:
    changes = {"baselines": ["pseudo-label"], f"{section}.modes": ["probe"]}
    with pytest.raises(RecipeError, match=r"pseudo_label\.learning_rates: method 'pseudo-label' takes the rate"):
        make_recipe(MINIMAL, changes)
    assert make_recipe(MINIMAL, {**changes, "pseudo_label.learning_rates": [1e-3]})


@pytest.mark.parametrize("rounds", [1, 11])
def test_there_is_more_than_one_round_and_no_end_is_no_option(rounds: int) -> None:
    with pytest.raises(RecipeError, match=r"^pseudo_label\.rounds: "):
        make_recipe(MINIMAL, {"pseudo_label.rounds": rounds})


@pytest.mark.parametrize("method", ["pseudo-label", "pseudo-label-supervised", "pseudo-label-dino"])
def test_the_first_round_is_the_finetuning_of_the_method_that_starts_alike(method: str) -> None:
    alike = {"pseudo-label": "scratch", "pseudo-label-supervised": "supervised", "pseudo-label-dino": "dino"}
    one, other = (resolved(method=name, start="random").finetune for name in (method, alike[method]))
    assert one == other
