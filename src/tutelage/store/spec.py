"""What a store of targets holds: all that decides it, and how it is cut into shards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tutelage.data.loader import Loader
from tutelage.errors import ModelError
from tutelage.models.model import Model, weight_hash
from tutelage.models.preprocess import preprocess_to_dict
from tutelage.store.forms import check_form, row_bytes
from tutelage.store.packs import PACKING
from tutelage.training.precision import precision
from tutelage.views.policy import SCHEME

TARGETS = 1
"""Version of what a shard of targets is."""

SHARD_BYTES = 64 << 20
"""About how large a shard is."""

MOST_ROWS = 1 << 16
"""Most images a shard."""


@dataclass(frozen=True)
class StoredOutput:
    """One output of a view.

    Attributes:
        form: How it is stored (see :mod:`tutelage.store.forms`).
        shape: Of one row.
    """

    form: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return row_bytes(self.shape, self.form)


@dataclass(frozen=True)
class TargetSpec:
    """All that decides what a store of targets holds: if anything here differs, it is another store.

    Attributes:
        teacher: From :func:`teacher_identity`.
        outputs: What is stored of each view group.
        samples: Fingerprint of the images, labels left out.
        images: How many.
        groups: Every view group of the loader, in order: name, policy, size and views a sample.
        seed: Of the views.
        precision: What the teacher computes in.
    """

    teacher: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, StoredOutput]]
    samples: str
    images: int
    groups: tuple[Mapping[str, Any], ...]
    seed: int
    precision: str

    @property
    def identity(self) -> dict[str, Any]:
        """The spec as plain data, with the versions of all that views and shards are made by."""
        return {**asdict(self), "rows": self.rows, "targets": TARGETS, "packing": PACKING, "views": SCHEME}

    @property
    def image_bytes(self) -> int:
        """Bytes of one view of an image, in all groups."""
        return sum(self.shots(group) * each.nbytes for group, held in self.outputs.items() for each in held.values())

    @property
    def rows(self) -> int:
        """Images a shard: a function of their bytes alone, so that every run cuts shards alike."""
        return max(1, min(MOST_ROWS, SHARD_BYTES // max(1, self.image_bytes)))

    @property
    def parts(self) -> int:
        """Shards a view."""
        return math.ceil(self.images / self.rows)

    def shots(self, group: str) -> int:
        """Return how many times a view group shows each image."""
        return next(int(each["count"]) for each in self.groups if each["name"] == group)

    def names(self, view: int) -> list[str]:
        """Return the shards of a view, in the order of their images."""
        return [shard_name(view, part) for part in range(self.parts)]

    def range(self, part: int) -> range:
        """Return the images of a view's shard."""
        return range(part * self.rows, min((part + 1) * self.rows, self.images))


def shard_name(view: int, part: int) -> str:
    """Return the name of the shard with a part of a view's images."""
    return f"v{view:06d}-p{part:04d}"


def teacher_identity(model: Model) -> dict[str, Any]:
    """Return what tells a teacher from all others, plain data: name, weights with the head, preprocess.

    It is the same after it has been written to a manifest, whose JSON knows no tuples, and read back.
    """
    found: dict[str, Any] = json.loads(
        json.dumps(
            {
                "name": model.encoder.name,
                "weights": weight_hash(model),
                "preprocess": preprocess_to_dict(model.encoder.preprocess),
            }
        )
    )
    return found


def target_spec(
    teacher: Mapping[str, Any],
    loader: Loader,
    outputs: Mapping[str, Mapping[str, StoredOutput]],
    *,
    seed: int,
    device: torch.device,
) -> TargetSpec:
    """Return the spec of a teacher's targets for a loader's samples and views.

    Args:
        teacher: From :func:`teacher_identity`.
        loader: Says which images are seen, and how.
        outputs: What to store of each view group.
        seed: The loader's.
        device: Where the teacher runs.

    Raises:
        RecipeError: An output cannot be stored so.
        ModelError: The loader lacks a view group.
    """
    for group, held in outputs.items():
        if group not in loader.groups:
            raise ModelError(f"targets of view group {group!r}: there is {', '.join(loader.groups)}")
        for name, stored in held.items():
            check_form(name, stored.shape, stored.form)
    with precision(device):
        narrow = torch.is_autocast_enabled(device.type)
    return TargetSpec(
        teacher=dict(teacher),
        outputs={group: dict(held) for group, held in outputs.items()},
        samples=loader.samples.without_targets().fingerprint,
        images=len(loader.samples),
        groups=tuple(
            {"name": name, "policy": group.policy.model_dump(mode="json"), "size": group.size, "count": group.count}
            for name, group in loader.groups.items()
        ),
        seed=seed,
        precision=str(torch.get_autocast_dtype(device.type) if narrow else torch.float32),
    )
