"""The recipe: what a run is. Only the frame; each room owns its settings."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from tutelage.curation.settings import CurateSettings
from tutelage.data.settings import DataSettings
from tutelage.export import ExportSettings
from tutelage.methods import METHODS
from tutelage.methods.adapt import AdaptSettings
from tutelage.methods.distill import DistillSettings
from tutelage.methods.finetune import FinetuneSettings
from tutelage.methods.fit import DENSE_BATCH
from tutelage.methods.lessons import LESSONS, Shapes
from tutelage.methods.pairs import ClipSettings
from tutelage.methods.pretrain import PretrainSettings
from tutelage.methods.pseudo_label import PseudoLabelSettings
from tutelage.methods.regularizers import RegularizeSettings
from tutelage.methods.self_distill import DinoSettings
from tutelage.models.preprocess import Modality
from tutelage.models.sizes import native_size
from tutelage.models.sources import is_path, modality
from tutelage.models.text_settings import TextSettings
from tutelage.settings import Settings
from tutelage.store.settings import StoreSettings
from tutelage.tasks import TASKS
from tutelage.tasks.decoder import DecoderSettings
from tutelage.views.settings import ViewSettings


class Recipe(Settings):
    """Everything that decides a run's outcome.

    Attributes:
        task: What is to be learned.
        data: Where data are, and how many labels may be used.
        curate: How a transfer set is retrieved from a gallery, in place of ``data.transfer``.
        teacher: The foundation model; always pretrained. Methods that use features alone take a list of several.
        student: The small model.
        method: How the student is made.
        start: Where the student starts: ``random`` or ``pretrained`` weights; if not given, pretrained for
            a model made here, else the method's choice.
        seed: Seed of everything that is drawn.
        folds: Folds of cross-validation when no validation data are given.
        held_out: Share of the labels of each class to hold out once instead; if not given, a fifth from 1,000 labels
            on.
        baselines: Methods run beside this one on the same student, data and start, for comparison.
        views: Sizes and augmentation of images.
        text: How texts are read.
        pretraining_views: Those of pretrainings that know nothing of the task, where that is told for every pixel;
            else they have those of ``views``.
        decoder: The head of models that tell every pixel.
        adapt: How the teacher is adapted.
        pretrain: How the student learns another labeled set first.
        distill: How the student learns from the teacher.
        dino: How it learns from itself.
        clip: How it learns from images with a text each.
        finetune: How the student learns from the labels.
        pseudo_label: How it then learns from its own predictions, in ``pseudo-label`` and its variants.
        regularize: How teachers' features hold it meanwhile, in ``aft`` and its rivals.
        baseline_finetune: How it does so in each baseline; as in ``finetune`` where not given. A resolved recipe has
            them all, for what suits a pretrained student does not suit one from scratch.
        export: Which files the run leaves.
        store: Where packed images and teacher targets are kept, and how large they may become.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    task: str = "classification"
    data: DataSettings
    curate: CurateSettings | None = None
    teacher: str | tuple[str, ...] | None = None
    student: str
    method: str = "task-oriented"
    start: Literal["random", "pretrained"] | None = None
    seed: int = Field(default=0, ge=0)
    folds: int = Field(default=5, ge=2)
    held_out: float | None = Field(default=None, gt=0, lt=1)
    baselines: tuple[str, ...] = ()
    views: ViewSettings = ViewSettings()
    text: TextSettings = TextSettings()
    pretraining_views: ViewSettings | None = None
    decoder: DecoderSettings = DecoderSettings()
    adapt: AdaptSettings = AdaptSettings()
    pretrain: PretrainSettings = PretrainSettings()
    distill: DistillSettings = DistillSettings()
    dino: DinoSettings = DinoSettings()
    clip: ClipSettings = ClipSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    pseudo_label: PseudoLabelSettings = PseudoLabelSettings()
    regularize: RegularizeSettings = RegularizeSettings()
    baseline_finetune: dict[str, FinetuneSettings] = Field(default_factory=dict)
    export: ExportSettings = ExportSettings()
    store: StoreSettings = StoreSettings()
    device: str = "auto"

    @field_validator("teacher")
    @classmethod
    def _one_is_no_list(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        return value[0] if isinstance(value, tuple) and len(value) == 1 else value or None

    @property
    def teachers(self) -> tuple[str, ...]:
        """All teachers; none, one, or several."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher or ()

    @property
    def curates(self) -> bool:
        """Whether there is a transfer set to be curated, which some method learns from."""
        return self.curate is not None and any(
            METHODS[name].needs_transfer for name in (self.method, *self.baselines)
        )

    @property
    def dense(self) -> bool:
        """Whether every pixel is told apart."""
        return TASKS[self.task].stride is not None

    @property
    def modality(self) -> Modality:
        """What a run is about: what its student reads.

        Raises:
            UnknownNameError: There is no such student.
            ModelError: Its configuration cannot be had.
        """
        return modality(self.student)

    def plain(self) -> Recipe:
        """Return the recipe as pretrainings read it that know nothing of the task."""
        return self.model_copy(update={"views": self.pretraining_views or ViewSettings()}) if self.dense else self

    @property
    def choosing(self) -> dict[str, Any]:
        """How labels are held out to choose by, as :func:`tutelage.data.splits.folds` takes it."""
        return {"most": self.folds} if self.held_out is None else {"most": self.folds, "share": self.held_out}

    def resolved(
        self, *, short_side: int, labels: int, transfer: int, classes: int, pretraining: int = 0, pairs: int = 0
    ) -> Recipe:
        """Fill in every open key with what suits the data.

        Args:
            short_side: Median short side of the images, in pixels.
            labels: How many labels may be used.
            transfer: How many transfer images there are.
            classes: How many classes there are.
            pretraining: How many images of another task there are.
            pairs: How many images with a text there are.

        Raises:
            RecipeError: Something is asked for that these data do not allow.
            ModelError: A teacher to mimic is no CLIP model.
        """
        start = self.start or ("pretrained" if is_path(self.student) else METHODS[self.method].start)
        dense, texts = self.dense, self.modality == "text"

        def finetune(method: str, settings: FinetuneSettings) -> FinetuneSettings:
            kept = start == "pretrained"
            pretrained = METHODS[method].pretrains or kept
            return settings.resolved(labels, pretrained=pretrained, kept=kept, dense=dense, texts=texts)

        def shapes() -> Shapes:
            lesson = METHODS[self.method].lesson or LESSONS["logits"]
            size = (views if lesson.adapted else plain).teacher_size
            stride = TASKS[self.task].stride
            return lesson.shapes(next(iter(self.teachers), ""), size=size, classes=classes, stride=stride)

        seen = self.with_views(short_side)
        views, plain = seen.views, seen.plain().views
        mimics = any(METHODS[name].pairing == "mimic" for name in (self.method, *self.baselines))
        mimicked = next(iter(self.teachers), None) if mimics else None
        finetuning = finetune(self.method, self.finetune)
        assert finetuning.epochs is not None
        assert views.policy is not None
        alone: dict[str, Any] = {}
        if not texts:  # which no method that is of images alone learns from
            alone["dino"] = self.dino.resolved(max(transfer, 1), student=self.student, views=plain)
            alone["clip"] = self.clip.resolved(max(pairs, 1), teacher=mimicked, max_bytes=self.store.max_bytes)
        return self.model_copy(
            update={
                **alone,
                "start": start,
                "views": views,
                "pretraining_views": seen.pretraining_views,
                "decoder": seen.decoder,
                "adapt": self.adapt.resolved(labels, dense=dense, texts=texts),
                "pretrain": self.pretrain.resolved(max(pretraining, 1), texts=texts),
                "distill": self.distill.resolved(
                    max(transfer, 1),
                    shapes=shapes,
                    max_bytes=self.store.max_bytes,
                    most=DENSE_BATCH if dense else None,
                    texts=texts,
                ),
                "finetune": finetuning,
                "pseudo_label": self.pseudo_label.resolved(max(transfer, 1)),
                "regularize": self.regularize.resolved(finetuning.epochs, views.policy),
                "baseline_finetune": {
                    name: finetune(name, self.baseline_finetune.get(name, self.finetune)) for name in self.baselines
                },
            }
        )

    def resolved_views(self, short_side: int, *, plain: bool = False) -> ViewSettings:
        """Return the views that suit images whose short side has so many pixels (their median).

        Args:
            short_side: In pixels.
            plain: Whether they are for what knows nothing of the task.
        """
        if self.modality == "text":
            return self.views.of_texts()
        natives = [native_size(name) for name in self.teachers if modality(name) != "text"]
        free = [native for native in natives if native is not None]  # several share a size if all of them take any
        native = min(free) if free and len(free) == len(natives) else None
        if self.dense and not plain:
            return self.views.resolved(short_side, teacher_native=native, dense=True)
        return self.plain().views.resolved(short_side, teacher_native=native, pairs=self.modality == "pair")

    def with_views(self, short_side: int) -> Recipe:
        """Return the recipe with all views resolved for images whose short side has so many pixels (their median)."""
        views = self.resolved_views(short_side)
        if not self.dense:
            return self.model_copy(update={"views": views})
        assert views.size is not None
        plain, decoder = self.resolved_views(short_side, plain=True), self.decoder.resolved(views.size)
        return self.model_copy(update={"views": views, "pretraining_views": plain, "decoder": decoder})

    def to_yaml(self) -> str:
        """Return the recipe as YAML that :func:`load_recipe` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)
