"""Teacher targets: what a teacher says about V views of each image, computed once and read in every epoch.

A store belongs to a teacher, its images and how views of them are made; the number of views is not a part of that, so
that a store grows. Shard ``v000007-p0000`` holds view 7 of the first images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.loader import Loader
from tutelage.data.samples import IntArray
from tutelage.errors import ModelError, RunError
from tutelage.ledger import Cost, counted, measured
from tutelage.models.model import Model
from tutelage.models.outputs import Outputs
from tutelage.models.work import amount_of
from tutelage.progress import Progress
from tutelage.store.budget import Budget
from tutelage.store.folder import Store
from tutelage.store.forms import decode, encode
from tutelage.store.settings import GB
from tutelage.store.shards import FAULT, TOUCHED, Array, Shard
from tutelage.store.spec import TargetSpec, shard_name, teacher_identity
from tutelage.training.precision import precision


class CachedTargets:
    """A teacher's outputs from a store, as :class:`tutelage.training.phase.TargetSource` wants them.

    It holds no teacher, and maps the shards of one view at a time.

    Args:
        store: Holds all shards of the first ``views`` views.
        spec: What they are.
        views: Views of each image.
    """

    def __init__(self, store: Store, spec: TargetSpec, views: int) -> None:
        self.spec = spec
        self.views = views
        self._store = store
        self._view = -1
        self._shards: dict[int, Shard] = {}
        self._touched = 0

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._store.folder

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of a row of each output."""
        return {name: each.shape for held in self.spec.outputs.values() for name, each in held.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the views that are read here; the store may hold more."""
        return self.views * self.spec.images * self.spec.image_bytes

    @property
    def mapped(self) -> int:
        """How many shards are mapped."""
        return len(self._shards)

    @property
    def cost(self) -> Cost:
        """What making these views cost whoever made them; of a store with more views, their share."""
        stored = self.views
        while all(name in self._store for name in self.spec.names(stored)):
            stored += 1
        share, cost = self.views / stored, self._store.cost
        return replace(
            cost,
            seconds=cost.seconds * share,
            images=round(cost.images * share),
            flops=cost.flops * share,
            waiting=cost.waiting * share,
        )

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Read the outputs in ``needs`` for a batch, float32, on the batch's device.

        Raises:
            ModelError: They are not stored.
            RunError: A shard has been removed or damaged meanwhile.
        """
        if not 0 <= batch.view < self.views:
            raise ModelError(
                f"{self.folder}: holds {self.views} views of each image, and the loader shows view number "
                f"{batch.view}; make it with views={self.views}, or store more"
            )
        if batch.view != self._view:
            self._shards, self._view = {}, batch.view  # what was mapped before is given back
        rows: IntArray = batch.indices.cpu().numpy() if batch.rows is None else batch.rows
        return {
            group: Outputs(**{name: self._read(group, name, rows, batch.indices.device) for name in needs})
            for group in groups
        }

    def _read(self, group: str, name: str, rows: IntArray, device: torch.device) -> Tensor:
        stored = self.spec.outputs.get(group, {}).get(name)
        if stored is None:
            held = ", ".join(f"{each} of {at!r}" for at, outputs in self.spec.outputs.items() for each in outputs)
            raise ModelError(f"{self.folder}: holds {held}, not {name} of {group!r}; store them, or distil live")
        shots, key = self.spec.shots(group), f"{group}.{name}"
        # All first views of the batch before all second ones; in the store, an image's views are side by side.
        places = (rows[None] * shots + np.arange(shots)[:, None]).ravel()
        parts = places // (self.spec.rows * shots)

        def read(part: int, some: IntArray) -> Tensor:
            arrays, start = self._shard(part).arrays, part * self.spec.rows * shots
            return decode(key, arrays, stored.form, stored.shape, rows=some - start, device=device)

        self._count(len(places))
        first = int(parts[0]) if len(parts) else 0
        if (parts == first).all():
            return read(first, places)
        found = torch.empty(len(places), *stored.shape, device=device)
        for part in np.unique(parts).tolist():
            where = np.flatnonzero(parts == part)
            found[torch.from_numpy(where).to(device)] = read(part, places[where])
        return found

    def _shard(self, part: int) -> Shard:
        if part not in self._shards:
            self._shards[part] = self._store.shard(shard_name(self._view, part))
        return self._shards[part]

    def _count(self, reads: int) -> None:
        """Keep mapped memory from growing with the number of images: what was read long ago is given back."""
        self._touched += reads
        if self._touched >= TOUCHED and sum(len(shard.mapping) for shard in self._shards.values()) > TOUCHED * FAULT:
            self._touched = 0
            for shard in self._shards.values():
                shard.release()


def open_targets(root: Path, spec: TargetSpec, views: int) -> CachedTargets | None:
    """Open stored targets, if all of the first ``views`` views are there.

    Args:
        root: Folder of all stores.
        spec: What they are to be.
        views: How many views of each image.

    Raises:
        RunError: The folder cannot be written, or was made by a newer version.
    """
    store = Store(root, "targets", spec.identity)
    return CachedTargets(store, spec, views) if _complete(store, spec, views) else None


def build_targets(
    root: Path,
    max_bytes: int,
    spec: TargetSpec,
    views: int,
    teacher: Model,
    loader: Loader,
    *,
    progress: Progress,
    section: str = "distill",
) -> CachedTargets:
    """Run the teacher once over each view that is not stored yet, shard by shard, and open what is stored.

    Finished shards stay whatever happens, and are not made again. Of several processes that ask for the same, one
    makes them and the others wait.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        spec: What to store.
        views: How many views of each image.
        teacher: On its device.
        loader: The one that the spec was made for.
        progress: Shows how many shards are done.
        section: Of the recipe that asks for it, for messages.

    Raises:
        ModelError: The teacher is not the spec's, gives other outputs, or outputs that cannot be stored so.
        RunError: There is no room for all of it, or it cannot be written.
    """
    store = Store(root, "targets", spec.identity)
    names = [name for view in range(views) for name in spec.names(view)]
    if not _complete(store, spec, views):
        if teacher_identity(teacher) != dict(spec.teacher):
            raise ModelError(f"{store.folder}: is for another teacher than the {teacher.encoder.name} given here")
        store.build(
            names,
            _Passes(spec, teacher, loader).shard,
            budget=Budget(root, max_bytes),
            progress=progress,
            label="store targets",
            room=lambda name: len(spec.range(_place(name)[1])) * spec.image_bytes,
        )
    if lacking := sum(name not in store for name in names):
        size = views * spec.images * spec.image_bytes
        raise RunError(
            f"{store.folder}: store.max_gb={max_bytes / GB:g} or the disk leaves no room for {lacking} of "
            f"{len(names)} shards of targets ({size / GB:.2f} GB in all); raise store.max_gb, free space, set "
            f"{section}.views lower, or {section}.targets=live"
        )
    return CachedTargets(store, spec, views)


class _Passes:
    """A teacher at work for a store."""

    def __init__(self, spec: TargetSpec, teacher: Model, loader: Loader) -> None:
        self._spec = spec
        self._teacher = teacher.eval().requires_grad_(False)
        self._loader = loader
        self._device = next(teacher.parameters()).device
        self._flops = 0.0  # of one unit of work

    def shard(self, name: str, cost: Cost) -> dict[str, Array]:
        """Return a shard's arrays."""
        view, part = _place(name)
        span = self._spec.range(part)
        arrays: dict[str, Array] = {}
        with (
            measured(cost, self._device),
            closing(self._loader.ready(self._loader.view(view, np.arange(span.start, span.stop)))) as batches,
        ):
            for batch in _waited(batches, cost):
                outputs = self._outputs(batch.to(self._device))
                cost.images += len(batch)
                cost.flops += self._amount(batch) * self._flops
                self._keep(arrays, outputs, batch.indices.numpy() - span.start, len(span))
        return arrays

    def _outputs(self, batch: Batch) -> dict[str, Outputs]:
        def run() -> dict[str, Outputs]:
            with torch.no_grad(), precision(self._device):
                return {
                    group: self._teacher(batch.inputs[group], {*held}) for group, held in self._spec.outputs.items()
                }

        if self._flops:
            return run()
        found, flops = counted(run)  # every image, or token, is the same work: the first batch's count stands for all
        self._flops = flops / self._amount(batch)
        return found

    def _amount(self, batch: Batch) -> int:
        preprocess = self._teacher.encoder.preprocess
        return sum(amount_of(batch.inputs[group], preprocess) for group in self._spec.outputs)

    def _keep(self, arrays: dict[str, Array], outputs: Mapping[str, Outputs], rows: IntArray, count: int) -> None:
        """Put a batch's outputs where they belong; only what is stored of them stays in memory."""
        for group, held in self._spec.outputs.items():
            shots = self._spec.shots(group)
            places = (rows[None] * shots + np.arange(shots)[:, None]).ravel()
            for name, stored in held.items():
                values = outputs[group].require(name)
                if tuple(values.shape[1:]) != stored.shape:
                    raise ModelError(
                        f"{self._teacher.encoder.name}: gives {name} {list(values.shape[1:])} for view group "
                        f"{group!r}, not {list(stored.shape)}"
                    )
                for key, encoded in encode(name, values, stored.form).items():
                    whole = arrays.setdefault(
                        f"{group}.{key}", np.empty((count * shots, *encoded.shape[1:]), encoded.dtype)
                    )
                    whole[places] = encoded


def _waited(batches: Iterator[Batch], cost: Cost) -> Iterator[Batch]:
    """Yield batches, counting the time that they are waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        cost.waiting += time.perf_counter() - began
        if batch is None:
            return
        yield batch


def _complete(store: Store, spec: TargetSpec, views: int) -> bool:
    return all(name in store for view in range(views) for name in spec.names(view))


def _place(name: str) -> tuple[int, int]:
    """Return the view and the part that a shard's name stands for."""
    view, _, part = name.partition("-p")
    return int(view[1:]), int(part)
