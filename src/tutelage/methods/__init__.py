"""Each named method as a short sequence of stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from tutelage.methods.adapt import adapt, adapt_in
from tutelage.methods.align import align
from tutelage.methods.distill import distill
from tutelage.methods.features import features
from tutelage.methods.finetune import finetune
from tutelage.methods.job import Job
from tutelage.methods.judge import judge
from tutelage.methods.lessons import LESSONS, Lesson
from tutelage.methods.pair_targets import pair_targets
from tutelage.methods.pairs import Pairing
from tutelage.methods.pretrain import pretrain
from tutelage.methods.pretraining import UNLABELED, pretraining_section
from tutelage.methods.pseudo_label import MOST_ROUNDS, label, train_round
from tutelage.methods.regularize import rate, regularize
from tutelage.methods.self_distill import self_distill
from tutelage.methods.targets import targets
from tutelage.models.preprocess import Modality
from tutelage.run import Stage

EVERY: tuple[Modality, ...] = get_args(Modality)

StageFunction = Callable[[Job, Mapping[str, Stage]], Stage | None]
"""Runs one stage, given the finished ones by name; ``None`` where the recipe leaves it out."""


@dataclass(frozen=True)
class Method:
    """A way to make the student.

    Attributes:
        summary: What it does, in one line.
        stages: In order, by name; the last one leaves the student.
        start: Where the student starts unless the recipe says otherwise.
        lesson: What a teacher teaches on unlabeled data; ``None`` where none does.
        held: Name of the regularizer by which teachers' features of the labeled images hold the student, if they do;
            it may have several teachers, unless it has a lesson, too.
        pairing: What image-text pairs teach; ``None`` where there are none.
        reads: What its student may read.
    """

    summary: str
    stages: Mapping[str, StageFunction]
    start: Literal["random", "pretrained"] = "random"
    lesson: Lesson | None = None
    held: str | None = None
    pairing: Pairing | None = None
    reads: tuple[Modality, ...] = EVERY

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher must be named."""
        return self.lesson is not None or self.held is not None or self.pairing == "mimic"

    @property
    def several_teachers(self) -> bool:
        """Whether it may have more than one."""
        return self.held is not None and self.lesson is None

    @property
    def needs_transfer(self) -> bool:
        """Whether it learns from unlabeled data."""
        return any(name in self.stages for name in UNLABELED)

    @property
    def needs_pretraining(self) -> bool:
        """Whether it learns from labels of another task."""
        return "pretrain" in self.stages

    @property
    def pretrains(self) -> bool:
        """Whether the student has learned something before it sees the labels."""
        return pretraining_section(self.stages) is not None

    @property
    def dense(self) -> bool:
        """Whether it can learn what each pixel shows."""
        return self.held is None and not self.rounds and "image" in self.reads

    @property
    def rounds(self) -> bool:
        """Whether the student learns from its own predictions, in rounds."""
        return "label-2" in self.stages


def _taught(lesson: str) -> dict[str, StageFunction]:
    """Return the stages of pretraining by a teacher."""
    return {
        "targets": partial(targets, lesson=LESSONS[lesson]),
        "distill": partial(distill, lesson=LESSONS[lesson]),
    }


def _holding(regularizer: str) -> dict[str, StageFunction]:
    """Return the stages of learning from the labels, held by teachers' features."""
    return {"features": features, "rate": rate, "finetune": partial(regularize, name=regularizer)}


def _held(summary: str, regularizer: str, reads: tuple[Modality, ...] = ("image", "text")) -> Method:
    """Return a method whose pretrained student is held by teachers' features while it learns from the labels."""
    summary = f"finetune a pretrained student {summary}"
    return Method(summary, _holding(regularizer), start="pretrained", held=regularizer, reads=reads)


def _in_rounds() -> dict[str, StageFunction]:
    """Return the stages of learning from pseudo-labels, for as many rounds as a recipe may have."""
    stages: dict[str, StageFunction] = {"finetune": finetune}
    for number in range(2, MOST_ROUNDS + 1):
        stages[f"label-{number}"] = partial(label, number=number)
        stages[f"train-{number}"] = partial(train_round, number=number)
    return stages


_ADAPTED: dict[str, StageFunction] = {
    "adapt-probe": partial(adapt_in, "probe"),
    "adapt-finetune": partial(adapt_in, "finetune"),
    "adapt": adapt,
}

METHODS: dict[str, Method] = {
    "scratch": Method("train the student on the labels alone", {"finetune": finetune}),
    "supervised": Method(
        "pretrain the student on another labeled set (data.pretraining), finetune on the labels",
        {"pretrain": pretrain, "finetune": finetune},
    ),
    "clip": Method(
        "tell which text belongs to which image (data.pairs), by contrast, finetune on the labels",
        {"align": align, "finetune": finetune},
        pairing="contrast",
        reads=("image",),
    ),
    "clip-mimic": Method(
        "find images and texts (data.pairs) as alike as a CLIP teacher does, finetune on the labels",
        {"targets": pair_targets, "align": partial(align, pairing="mimic"), "finetune": finetune},
        pairing="mimic",
        reads=("image",),
    ),
    "dino": Method(
        "teach the student by its own moving average on unlabeled data (self-distillation), finetune on the labels",
        {"self-distill": self_distill, "finetune": finetune},
        reads=("image",),
    ),
    "agnostic-patch": Method(
        "match the pretrained teacher's patch features on unlabeled data, finetune on the labels",
        {**_taught("patches"), "finetune": finetune},
        lesson=LESSONS["patches"],
        reads=("image",),
    ),
    "agnostic-image": Method(
        "match the pretrained teacher's image features on unlabeled data by contrast, finetune on the labels",
        {**_taught("image"), "finetune": finetune},
        lesson=LESSONS["image"],
        reads=("image",),
    ),
    "agnostic-text": Method(
        "match the pretrained teacher's text features on unlabeled data by contrast, finetune on the labels",
        {**_taught("image"), "finetune": finetune},
        lesson=LESSONS["image"],
        reads=("text",),
    ),
    "task-oriented": Method(
        "adapt the teacher, match its predictions on unlabeled data, finetune on the labels",
        {**_ADAPTED, **_taught("logits"), "finetune": finetune},
        lesson=LESSONS["logits"],
    ),
    "task-oriented-lp": Method(
        "task-oriented with a linear-probed teacher",
        {
            "adapt-probe": partial(adapt_in, "probe", always=True),
            "adapt": adapt,
            **_taught("logits"),
            "finetune": finetune,
        },
        lesson=LESSONS["logits"],
    ),
    "task-oriented-ft": Method(
        "task-oriented with a finetuned teacher",
        {
            "adapt-finetune": partial(adapt_in, "finetune", always=True),
            "adapt": adapt,
            **_taught("logits"),
            "finetune": finetune,
        },
        lesson=LESSONS["logits"],
    ),
    "task-oriented-no-finetuning": Method(
        "task-oriented without its last stage: the student learns from the teacher alone",
        {**_ADAPTED, **_taught("logits"), "judge": judge},
        lesson=LESSONS["logits"],
    ),
    "task-oriented-aft": Method(
        "task-oriented, and held by the teacher's features (as in aft) while it finetunes on the labels",
        {**_ADAPTED, **_taught("logits"), **_holding("aft")},
        lesson=LESSONS["logits"],
        held="aft",
        reads=("image", "text"),
    ),
    "pseudo-label": Method(
        "finetune on the labels, label unlabeled data by the student, train it anew on both, in rounds",
        _in_rounds(),
        start="pretrained",
    ),
    "pseudo-label-supervised": Method(
        "pseudo-label, each round from a student pretrained on another labeled set (data.pretraining)",
        {"pretrain": pretrain, **_in_rounds()},
    ),
    "pseudo-label-dino": Method(
        "pseudo-label, each round from a student pretrained by self-distillation on the unlabeled data",
        {"self-distill": self_distill, **_in_rounds()},
        reads=("image",),
    ),
    "stl": Method(
        "finetune a pretrained student on the labels alone (standard transfer learning)",
        {"rate": partial(rate, always=True), "finetune": regularize},
        start="pretrained",
    ),
    "aft": _held(
        "whose features' kernel stays near the teachers', each feature weighed by what it is worth", "aft", EVERY
    ),
    "kd": _held("that can tell the teachers' features from its own (feature distillation)", "kd", EVERY),
    "rkd": _held("that keeps the teachers' distances and angles between images (relational distillation)", "rkd"),
    "ft": _held("that can tell a compressed form of the teachers' features (factor transfer)", "ft"),
    "b-tuning": _held("that predicts as the teachers' posteriors do (B-Tuning)", "b-tuning"),
}

__all__ = ["METHODS", "Job", "Method", "StageFunction"]
