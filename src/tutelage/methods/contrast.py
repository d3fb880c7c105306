"""What a student's image embeddings are contrasted with, and how the memory banks of that are kept."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field

from tutelage.errors import RecipeError
from tutelage.methods.lessons import ImageMaker
from tutelage.objectives.banks import BYTES, Form
from tutelage.objectives.contrast import NEGATIVES, Draws
from tutelage.objectives.image import BankContrast, ImageFeatures, common_space
from tutelage.settings import Settings
from tutelage.store.plan import in_gb
from tutelage.training.distributed import World

if TYPE_CHECKING:
    from tutelage.methods.distill import DistillSettings
    from tutelage.methods.job import Job


class ContrastSettings(Settings):
    """How image embeddings are told apart (``agnostic-image``).

    Attributes:
        against: ``banks``: memory banks, a row for each image of the transfer set (CRD, as in the source); views are
            then not mixed. ``batch``: the other images of the batch (InfoNCE), the light variant.
        negatives: Of each image, from a bank; 16,384, or all other images of a smaller transfer set, if not given.
        temperature: That cosines are divided by.
        momentum: Share of a bank's row that stays when its image is seen again.
        draws: Whether the images of a batch share one draw of negatives, or each draws its own (``separate``), as in
            the released code of CRD: what is expected is the same, and a step reads up to a batch's size times more.
        form: How banks are kept: in memory in full (``float32``) or half precision (``float16``), or on ``disk`` in
            half precision, for a single process. ``auto`` takes the first that fits.
        memory: What fits: the share of the memory of the GPU, or of the machine, that banks may take. A resume needs
            as much again for a moment.
    """

    against: Literal["banks", "batch"] = "banks"
    negatives: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    draws: Draws = "shared"
    form: Form | Literal["auto"] = "auto"
    memory: float = Field(default=0.25, gt=0, le=1)

    def resolved(self, images: int) -> ContrastSettings:
        """Fill in what suits a transfer set of this size."""
        return self.model_copy(update={"negatives": self.negatives or min(NEGATIVES, max(1, images - 1))})

    @property
    def deciding(self) -> dict[str, Any]:
        """What the student depends on, plain data."""
        if self.against == "batch":
            return self.model_dump(mode="json", include={"against", "temperature"})
        return self.model_dump(mode="json", exclude={"memory"})


def check_contrast(settings: DistillSettings, images: int) -> None:
    """Check that there is something to contrast with.

    Args:
        settings: Resolved.
        images: In the transfer set.

    Raises:
        RecipeError: There is not.
    """
    if images < 2:
        raise RecipeError(
            f"data.transfer: images are told apart from other ones, and there is {images or 'none'}; give two or more"
        )
    if settings.contrast.against == "batch" and settings.batch_size == 1:
        raise RecipeError(
            "distill.batch_size: images are told apart from others of their batch; allow two or more, or set "
            "distill.contrast.against=banks"
        )


@dataclass(frozen=True)
class BankPlan:
    """How memory banks are kept.

    Attributes:
        form: In which form.
        images: Rows of each.
        width: Numbers in a row.
        negatives: That each image is told apart from.
        bytes: Of all banks; on disk, with what is kept to go back to the last checkpoint.
        why: The reason, in plain words.
    """

    form: Form
    images: int
    width: int
    negatives: int
    bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def plan_banks(
    settings: ContrastSettings, *, images: int, width: int, banks: int, max_bytes: int, processes: int = 1
) -> BankPlan:
    """Plan how memory banks are kept.

    Args:
        settings: What the recipe asks for.
        images: In the transfer set.
        width: Of the common space.
        banks: How many.
        max_bytes: Memory that they may take.
        processes: That train together.

    Raises:
        RecipeError: They do not fit, or are to be on disk with several processes.
    """
    sizes = {form: banks * images * width * each for form, each in BYTES.items()}
    in_memory: tuple[Form, ...] = ("float32", "float16")
    fits: Form = next((form for form in in_memory if sizes[form] <= max_bytes), "disk")
    form = fits if settings.form == "auto" else settings.form
    if form == "disk" and processes > 1:
        raise RecipeError(
            f"distill.contrast: memory banks on disk are for a single process; those of {images:,} images take "
            f"{in_gb(sizes['float16'])} in half precision, and may take {in_gb(max_bytes)} of memory; raise "
            "distill.contrast.memory, train in one process, or set distill.contrast.against=batch"
        )
    reason = "the recipe asks for it" if settings.form != "auto" else f"banks may take {in_gb(max_bytes)} of memory"
    negatives = min(settings.negatives or NEGATIVES, images - 1)
    size = sizes[form] * (2 if form == "disk" else 1)
    why = f"{banks} of {images:,} rows take {in_gb(size)} as {form}; {reason}"
    return BankPlan(form, images, width, negatives, size, why)


def planned_banks(job: Job, settings: ContrastSettings, widths: Mapping[str, int]) -> BankPlan:
    """Return how a job's memory banks are kept.

    Args:
        job: Says where they are, and for how many images.
        settings: Resolved.
        widths: Of what the teacher gives.

    Raises:
        RecipeError: They do not fit, or are to be on disk with several processes.
    """
    space = common_space(widths)
    return plan_banks(
        settings,
        images=len(job.transfer),
        width=space.width,
        banks=2 if space.projects_teacher else 1,
        max_bytes=bank_memory(settings, job.world),
        processes=job.world.size,
    )


def bank_memory(settings: ContrastSettings, here: World) -> int:
    """Return the bytes of memory that banks may take in each process."""
    if here.device.type == "cuda":
        whole = torch.cuda.get_device_properties(here.device).total_memory
    else:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // here.size
    return int(settings.memory * whole)


def image_maker(settings: ContrastSettings, plan: BankPlan | None, folder: Path, *, seed: int) -> ImageMaker:
    """Return what makes the objective on image embeddings.

    Args:
        settings: Resolved.
        plan: Of the banks, if there are any.
        folder: Where banks on disk are.
        seed: Of the draws.
    """
    if plan is None:
        return functools.partial(ImageFeatures, temperature=settings.temperature)
    return functools.partial(
        BankContrast,
        size=plan.images,
        negatives=plan.negatives,
        temperature=settings.temperature,
        momentum=settings.momentum,
        draws=settings.draws,
        form=plan.form,
        folder=folder,
        seed=seed,
    )


def candidates(settings: ContrastSettings, *, images: int, batch_size: int) -> float:
    """Return how many rows of a bank a step's images are compared with, about.

    Args:
        settings: Resolved.
        images: In the transfer set.
        batch_size: Images a step.
    """
    negatives = min(settings.negatives or NEGATIVES, images - 1)
    if settings.draws == "shared":
        return negatives + 1
    return images * (1 - (1 - 1 / images) ** (batch_size * negatives))
