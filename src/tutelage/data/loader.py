"""The loader: from samples to batches of views, in an order and with parameters that are pure functions of a seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.data.images import DecodedImages, Images, short_side
from tutelage.data.masks import Masks
from tutelage.data.order import bucketed, epoch_order
from tutelage.data.prefetch import prefetched
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import DataError, RecipeError
from tutelage.models.preprocess import PairInputs, RawInputs
from tutelage.models.tokens import Corpus, TextInputs
from tutelage.views import mix, mix_targets, pairing, placed, render, render_dense, sample_views
from tutelage.views.policy import ViewPolicy, Views

Result = TypeVar("Result")

MOST_WORKERS = 8
"""Threads that a loader uses to decode and to render."""


@dataclass(frozen=True)
class ViewGroup:
    """How one group of a batch is made.

    Attributes:
        policy: What the views are drawn from. A dense one has its batches to itself.
        size: Side of the raw views, in pixels.
        count: Views a sample.
    """

    policy: ViewPolicy
    size: int
    count: int = 1


class Loader:
    """Batches of views of some samples, epoch after epoch.

    Order and views are pure functions of (seed, epoch), so a resumed run sees what an uninterrupted one would
    have. When views are mixed, partners are put in the same batch: each is rendered once. Batches of texts alone are
    of about equally long ones.

    Args:
        samples: What to load; images, texts, or both.
        groups: View groups by name. Texts are given as they are in every group.
        batch_size: Samples a step, over all processes; at most the number of samples.
        seed: Seed of order and views.
        images: The samples' images, at least 1.5 times as large as the views where the originals are; decoded each
            time if not given.
        masks: The samples' masks, which are the targets of a dense policy's views, of the same sizes as the images. A
            view may be cut elsewhere for what is in its mask (``DensePolicy.fill``), so whoever stores something of
            it needs the same masks here.
        views: How many different views a sample has: epochs past it see them again, in another order. ``None`` for
            new ones in every epoch.
        inline: Whether batches are made between the caller's steps, with all of its compute threads, instead of ahead
            of them in threads of their own. On a CPU that trains, those would only take its cores away.
        device: Where views are cut and mixed; on the CPU if not given.
        rank: This process's number, and ``world`` the number of processes: each takes its part of every batch.

    Raises:
        DataError: There are no samples, or fewer than processes.
        RecipeError: A group is mixed and has several views a sample; a dense policy is not that of the only group;
            there are masks without one.
    """

    def __init__(
        self,
        samples: Samples,
        groups: Mapping[str, ViewGroup],
        *,
        batch_size: int,
        seed: int,
        images: Images | None = None,
        masks: Masks | None = None,
        views: int | None = None,
        inline: bool = False,
        device: torch.device | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not len(samples):
            raise DataError(f"{samples.origin or 'samples'}: nothing to train on")
        self.samples = samples
        self.groups = dict(groups)
        self.mixes = any(_mixes(group.policy) for group in groups.values())
        self.views = views
        self._shots = sum(group.count for group in groups.values())
        if self.mixes and self._shots > 1:
            raise RecipeError("mixup and CutMix need a single view of each sample; set both to 0 for several views")
        dense = any(group.policy.dense for group in groups.values())
        if dense and len(groups) > 1:
            raise RecipeError(
                "what is valid of a batch is said of one group of dense views; give the others a loader"
            )
        if masks is not None and not dense:
            raise RecipeError("masks are for views of a dense policy, and there is none")
        unit = world * (2 if self.mixes else 1)
        self.batch_size = max(min(batch_size, len(samples)) // unit, 1) * unit
        if self.batch_size > len(samples) + 1:
            raise DataError(f"{samples.origin}: {len(samples)} images cannot be shared by {world} processes")
        self.steps_per_epoch = max(1, len(samples) // self.batch_size)
        self._seed = seed
        self._rank, self._world = rank, world
        side = max((group.size for group in groups.values()), default=0)
        self._images, self._masks = images, masks
        if images is None and samples.images is not None:
            self._images = DecodedImages(samples.images, short_side(side))
        self._inline = inline
        self._device = device
        # Each with one compute thread: teams of them would fight for the same cores.
        self._workers = 1 if inline else min(MOST_WORKERS, torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self._workers, "views", torch.set_num_threads, (1,))
        self._targets = None if samples.targets is None else torch.from_numpy(np.ascontiguousarray(samples.targets))
        self._corpus = None if samples.texts is None else Corpus(samples.texts)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to ``stop``, through as many epochs as that takes."""
        while start < stop:
            epoch, first = divmod(start, self.steps_per_epoch)
            for batch in itertools.islice(self.epoch(epoch, start=first), stop - start):
                yield batch
                start += 1

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from step ``start`` on."""
        view = number if self.views is None else number % self.views
        partners = self._partners(view)
        order = epoch_order(len(self.samples), number, seed=self._seed, partners=partners)
        if self._images is None and self._corpus is not None:
            rng = np.random.default_rng([self._seed, number, 1])
            order = bucketed(order, self._corpus.lengths, self.batch_size, rng)
        for step in range(start, self.steps_per_epoch):
            rows = np.resize(order, max(len(order), self.batch_size))[step * self.batch_size :][: self.batch_size]
            part = self.batch_size // self._world
            yield self._batch(rows[self._rank * part : (self._rank + 1) * part], view, partners)

    def ready(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """Yield this loader's batches, prepared ahead unless it works inline; close it when no more are wanted."""
        if self._inline:
            yield from batches
        else:
            yield from prefetched(batches)

    def view(self, number: int, rows: IntArray) -> Iterator[Batch]:
        """Yield some samples in one of their views, as every epoch shows them, in batches and in no particular order.

        Args:
            number: Of the view.
            rows: Which samples.
        """
        partners = self._partners(number)
        if partners is not None:  # pairs side by side: partners in the same batch are rendered once
            rows = rows[np.argsort(np.minimum(rows, partners[rows]), kind="stable")]
        if self._images is None and self._corpus is not None:
            rows = rows[np.argsort(self._corpus.lengths[rows], kind="stable")]
        for start in range(0, len(rows), self.batch_size):
            yield self._batch(rows[start : start + self.batch_size], number, partners)

    def _partners(self, view: int) -> IntArray | None:
        return pairing(self.samples.keys, view, seed=self._seed) if self.mixes else None

    def _batch(self, rows: IntArray, view: int, partners: IntArray | None) -> Batch:
        inputs: dict[str, RawInputs] = {}
        targets, valid = self._targets_of(rows), None
        first = view * self._shots  # no two views of a sample share a number, and with it their crop and flip
        # All views of a sample are cut from one decoding of it. Of mixed ones there is a single one, and its partner.
        pictures = self._taken(self._images, rows) if self._images is not None and partners is None else None
        masks = None if self._masks is None else self._taken(self._masks, rows)
        for name, group in self.groups.items():
            images: Tensor | None = None
            if self._images is not None:
                if group.policy.dense is None:
                    images, targets = self._render(group, rows, first, partners, targets, pictures)
                else:
                    assert pictures is not None
                    images, classes, valid = self._render_dense(group, rows, first, pictures, masks)
                    targets = targets if classes is None else classes
                first += group.count
            texts = None if self._corpus is None else TextInputs(self._corpus, np.tile(rows, group.count))
            if images is None:
                inputs[name] = [] if texts is None else texts
            else:
                inputs[name] = images if texts is None else PairInputs(images, texts)
        counts = {name: group.count for name, group in self.groups.items()}
        return Batch(inputs, counts, torch.from_numpy(rows), targets, valid, view=view, rows=rows)

    def _render(
        self,
        group: ViewGroup,
        rows: IntArray,
        first: int,
        partners: IntArray | None,
        targets: Tensor | None,
        pictures: list[Tensor] | None,
    ) -> tuple[Tensor, Tensor | None]:
        if partners is None:
            assert pictures is not None
            shots = [self._shown(group, rows, first + shot, None, pictures)[0] for shot in range(group.count)]
            return _together(shots), targets
        # Partners that are not in the batch are rendered for it, and left out afterwards.
        every = np.concatenate([rows, np.setdiff1d(partners[rows], rows)])
        assert self._images is not None
        images, views = self._shown(group, every, first, partners, self._taken(self._images, every))
        where = {int(row): position for position, row in enumerate(every)}
        positions = np.array([where[int(mate)] for mate in views.partner])
        known = self._targets_of(every)
        if known is not None:
            shares = known if known.is_floating_point() else F.one_hot(known, len(self.samples.classes)).float()
            targets = mix_targets(shares, torch.from_numpy(views.weight), torch.from_numpy(positions))[: len(rows)]
        return mix(images, views, positions)[: len(rows)], targets

    def _render_dense(
        self, group: ViewGroup, rows: IntArray, first: int, pictures: list[Tensor], masks: list[Tensor] | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        shots = [self._shown_dense(group, rows, first + shot, pictures, masks) for shot in range(group.count)]
        images, targets, valid = zip(*shots, strict=True)
        return _together(images), None if masks is None else _together(targets), _together(valid)

    def _targets_of(self, rows: IntArray) -> Tensor | None:
        """Return the targets of some rows, shares of the classes as float32; ``None`` where there are none."""
        if self._targets is None:
            return None
        found = self._targets[torch.from_numpy(rows)]
        return found.float() if found.is_floating_point() else found

    def _taken(self, source: Images | Masks, rows: IntArray) -> list[Tensor]:
        """Return the images (or masks) that the views of some rows are cut from; workers share the rows."""
        return list(itertools.chain(*self._share(lambda part: source.get(rows[part]), len(rows))))

    def _share(self, work: Callable[[slice], Result], rows: int) -> Iterator[Result]:
        """Return what some work makes of each part of so many rows."""
        edges = np.linspace(0, rows, min(self._workers, rows) + 1).astype(int).tolist()
        parts = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        return map(work, parts) if self._inline else self._pool.map(work, parts)

    def _shown(
        self, group: ViewGroup, rows: IntArray, number: int, partners: IntArray | None, pictures: list[Tensor]
    ) -> tuple[Tensor, Views]:
        """Render one view of each row, not yet mixed; workers share the rows."""
        views = self._drawn(group, rows, number, partners, pictures)

        def shown(part: slice) -> Tensor:
            return render(pictures[part], views[part], group.size, device=self._device)

        return _together(self._rendered(shown, len(rows))), views

    def _shown_dense(
        self, group: ViewGroup, rows: IntArray, number: int, pictures: list[Tensor], masks: list[Tensor] | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Render one dense view of each row, placed by its mask if there is one; workers share the rows."""
        views = self._drawn(group, rows, number, None, pictures)
        dense = group.policy.dense
        assert dense is not None
        if masks is not None:
            crops = self._share(lambda part: placed(views[part], masks[part], dense.fill).crop, len(rows))
            views = replace(views, crop=np.concatenate(list(crops)))

        def shown(part: slice) -> tuple[Tensor, Tensor | None, Tensor]:
            known = None if masks is None else masks[part]
            return render_dense(pictures[part], known, views[part], group.size, device=self._device)

        images, targets, valid = zip(*self._rendered(shown, len(rows)), strict=True)
        return _together(images), None if masks is None else _together(targets), _together(valid)

    def _drawn(
        self, group: ViewGroup, rows: IntArray, number: int, partners: IntArray | None, pictures: list[Tensor]
    ) -> Views:
        return sample_views(
            group.policy,
            self.samples.keys[rows],
            rows,
            np.full(len(rows), number),
            seed=self._seed,
            aspects=np.array([picture.shape[2] / picture.shape[1] for picture in pictures]),
            partners=None if partners is None else partners[rows],
        )

    def _rendered(self, work: Callable[[slice], Result], rows: int) -> list[Result]:
        if self._device is not None and self._device.type != "cpu":
            return [work(slice(None))]  # the device works on all of them at once
        return list(self._share(work, rows))


def _together(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _mixes(policy: ViewPolicy) -> bool:
    return policy.mix > 0 and (policy.mixup > 0 or policy.cutmix > 0)
