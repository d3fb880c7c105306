"""A short look at how fast a comparison's models are, from which its time and budgets are worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.comparison.bank_speed import BANKS
from tutelage.comparison.bench import FREE, Bench, Pooled, Step
from tutelage.comparison.table import Spent
from tutelage.methods.job import Job
from tutelage.methods.lessons import Lesson, widths_of
from tutelage.methods.pair_targets import teachers_text
from tutelage.methods.pairs import Pairing
from tutelage.objectives import Supervised


@dataclass(frozen=True)
class StepSpeed:
    """What a training step costs, linear in its images.

    Attributes:
        fixed: Seconds of any step, whatever its size.
        image: Seconds more for each image.
        flops: Of each image.
    """

    fixed: float
    image: float
    flops: float

    def training_cost(self, steps: float, batch_size: float) -> Spent:
        """Return what so many steps cost on batches of so many images."""
        return Spent(steps * (self.fixed + batch_size * self.image), steps * batch_size * self.flops)


@dataclass(frozen=True)
class Speeds:
    """What one image costs, each piece of work alone.

    Attributes:
        view: Decoding aside, cutting one view (no FLOPs).
        decode: Decoding an image (no FLOPs).
        passes: A forward pass of ``student`` and ``teacher``; of all teachers together if there are several. Of a
            CLIP teacher that is mimicked, ``teacher-text`` is that of its text tower. ``student-plain`` and
            ``teacher-plain`` are those of pretrainings that know nothing of a dense task.
        steps: A training step on an image of a large batch: ``student``, ``teacher`` on labels, each lesson by its
            name, the teacher's own pass left out, and ``self-distill``, its teacher's pass and its views included;
            ``banks``, what memory banks of :data:`tutelage.comparison.bank_speed.TIMED` rows add to a step.
        training: The same of batches of any size.
    """

    view: Spent
    decode: Spent
    passes: Mapping[str, Spent]
    steps: Mapping[str, Spent]
    training: Mapping[str, StepSpeed]

    def with_more(self, other: Speeds) -> Speeds:
        """Return these, and what another measurement has besides."""
        return Speeds(
            self.view,
            self.decode,
            {**other.passes, **self.passes},
            {**other.steps, **self.steps},
            {**other.training, **self.training},
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Speeds:
        """Return what :meth:`as_dict` gave, of an earlier version as well: it took a step to be its images alone."""
        passes, steps = ({name: Spent(**each) for name, each in data[part].items()} for part in ("passes", "steps"))
        training = {name: StepSpeed(0.0, step.seconds, step.flops) for name, step in steps.items()}
        training |= {name: StepSpeed(**each) for name, each in data.get("training", {}).items()}
        return cls(Spent(**data["view"]), Spent(**data["decode"]), passes, steps, training)


def step_speed(small: Step, large: Step) -> StepSpeed:
    """Return the line through two steps, neither of whose parts is negative.

    Args:
        small: Of few images.
        large: Of as many or more; its FLOPs count.
    """
    more = large.images - small.images
    image = max(0.0, (large.seconds - small.seconds) / more) if more else large.seconds / large.images
    fixed = large.seconds - large.images * image
    if fixed < 0:
        fixed, image = 0.0, large.seconds / large.images
    return StepSpeed(fixed, image, large.flops / large.images)


def measure_speeds(
    job: Job,
    lessons: Mapping[str, Lesson],
    *,
    teacher: bool,
    adapted: bool = True,
    alone: bool = False,
    pairing: Pairing | None = None,
) -> Speeds:
    """Measure a comparison's models on a few of its labeled images: a few seconds, and nothing is kept.

    Args:
        job: Resolved; its device and threads are those of the runs to come.
        lessons: That will be taught.
        teacher: Whether there is one; several only teach without lessons.
        adapted: Whether the teacher will be trained, too.
        alone: Whether the student will learn from itself.
        pairing: What image-text pairs will teach it, if there are any.
    """
    bench = Bench(job)
    student = job.new_student()
    passes = {"student": bench.forward(student)}
    timed = {"student": bench.steps(student, {"supervised": Supervised(job.task)})}
    # Pretrainings that know nothing of a dense task have views and a stride of their own.
    plain, plainly, untold = job, bench, student
    if job.dense:
        plain = job.plain()
        plainly, untold = Bench(plain), plain.new_student()
        passes["student-plain"] = plainly.forward(untold)
        timed["student-plain"] = plainly.steps(untold, {"pooled": Pooled()})
    if alone:
        timed["self-distill"] = plainly.self_distillation(untold)
    if pairing is not None:
        timed["align"] = plainly.pairs(untold, pairing)
    if pairing == "mimic":
        passes["teacher-text"] = plainly.texts(teachers_text(plain))
    for name in job.recipe.teachers if teacher else ():
        taught = job.new_teacher(name)
        own = bench.forward(taught)
        _add(passes, "teacher", own)
        for lesson in lessons.values():
            shown, learns, teaches, beside = bench, student, taught, own
            if job.dense and not lesson.adapted:
                shown, learns, teaches = plainly, untold, plain.new_teacher(name)
                beside = shown.forward(teaches)
                _add(passes, "teacher-plain", beside)
            shapes = lesson.shapes_of(teaches, len(job.labeled.classes))
            objective = lesson.of(learns, shapes, temperature=1.0)
            timed[lesson.name] = shown.steps(learns, {lesson.name: objective}, teaches, beside)
            if lesson.contrasts:
                timed[BANKS] = shown.banks(widths_of(shapes))
        if job.dense and any(lesson.adapted for lesson in lessons.values()):
            timed["teacher-head"] = bench.steps(taught, {"supervised": Supervised(job.task)}, trained="head")
        if adapted:
            taught.requires_grad_(True)
            timed["teacher"] = bench.steps(taught, {"supervised": Supervised(job.task)})
    return Speeds(
        Spent(bench.viewing, 0.0),
        Spent(bench.decoding, 0.0),
        passes,
        steps={
            name: Spent(large.seconds / large.images, large.flops / large.images)
            for name, (_, large) in timed.items()
        },
        training={name: step_speed(*both) for name, both in timed.items()},
    )


def _add(passes: dict[str, Spent], name: str, own: Spent) -> None:
    others = passes.get(name, FREE)
    passes[name] = Spent(others.seconds + own.seconds, others.flops + own.flops)
