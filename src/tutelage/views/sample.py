"""Draw views: each a pure function of (seed, sample key, view number), whatever batch it is drawn in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tutelage.views.dense import sample_dense
from tutelage.views.operations import OPERATIONS, SIGNED, strengths
from tutelage.views.policy import WHOLE, ViewPolicy, Views
from tutelage.views.streams import Doubles, Keys, make_streams, uniforms

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

_TRIES = 10
_ERASE_AREA = (0.02, 0.33)
_ERASE_RATIO = (0.3, 3.3)

# Where each part of a view starts in its stream. Fixed, so that changing one part of a policy moves no other part.
# Operations came last, because their number is open; what dense views have besides is after as many as there can be.
_CROP = 0
_FLIP = _CROP + 2 * _TRIES + 2
_ERASE = _FLIP + 1
_MIX = _ERASE + 1 + 2 * _TRIES + 2
_PAIR = _MIX + 5
_OPS = _PAIR + 1
_DENSE = _OPS + 2 * 8


def sample_views(
    policy: ViewPolicy,
    keys: Keys,
    rows: Ints,
    numbers: Ints,
    *,
    seed: int,
    aspects: Floats,
    partners: Ints | None,
) -> Views:
    """Draw one view for each of B samples.

    Args:
        policy: The distribution to draw from.
        keys: The samples' keys (``Samples.keys``), uint64 [B].
        rows: Their rows in the samples, int64 [B].
        numbers: Which view of each sample, int64 [B].
        seed: The run's seed.
        aspects: Width over height of each image, [B].
        partners: Row that each sample may be mixed with (see :func:`pairing`), int64 [B]; a sample whose partner
            is itself is not mixed. ``None`` mixes nothing.

    Returns:
        B views. A view depends on its own sample's values alone.
    """
    streams = make_streams(seed, keys, numbers)
    possible = np.zeros(len(rows), dtype=np.bool_) if partners is None else np.not_equal(partners, rows)
    shape = np.asarray(aspects, dtype=np.float64)
    dense = None if policy.dense is None else sample_dense(policy.dense, streams, _DENSE, shape)
    if dense is not None:
        crop = dense.places[:, 0]
    else:
        crop = _center_boxes(shape, policy.center) if policy.crop is None else _random_crops(policy, streams, shape)
    ops, magnitudes = _operations(policy, streams)
    kind, weight, box = _mixing(policy, streams, possible)
    return Views(
        crop=crop.astype(np.float32) if dense is None else crop,
        flip=uniforms(streams, _FLIP, 1)[:, 0] < policy.flip,
        ops=ops,
        magnitudes=magnitudes,
        erase=_erase_boxes(policy.erase, streams).astype(np.float32),
        kind=kind,
        partner=rows.copy() if partners is None else np.where(kind > 0, partners, rows),
        weight=weight.astype(np.float32),
        box=box.astype(np.float32),
        dense=dense,
    )


def center_views(aspects: Floats, share: float) -> Views:
    """Return the views that evaluation uses: center squares that keep ``share`` of the short side, unchanged.

    Args:
        aspects: Width over height of each image, [B].
        share: Share of the short side, in 0..1.

    Returns:
        B views; ``partner`` counts from 0, since these views belong to no rows.
    """
    return _drawn_from(ViewPolicy(center=share), aspects)


def whole_views(aspects: Floats) -> Views:
    """Return the views that evaluation of dense tasks uses: whole images at the top left, unchanged.

    Args:
        aspects: Width over height of each image, [B].

    Returns:
        B dense views; ``partner`` counts from 0, since these views belong to no rows.
    """
    return _drawn_from(WHOLE, aspects)


def _drawn_from(policy: ViewPolicy, aspects: Floats) -> Views:
    rows = np.arange(len(aspects), dtype=np.int64)
    return sample_views(policy, rows.astype(np.uint64), rows, rows, seed=0, aspects=aspects, partners=None)


def pairing(keys: Keys, number: int, *, seed: int) -> Ints:
    """Pair all samples for one view number: ``partner[partner[i]] == i``.

    Being mutual, the pairs let a loader keep both halves in one batch. With an odd number of samples one is its own
    partner.

    Args:
        keys: The keys of the whole data set, uint64 [N].
        number: The view number.
        seed: The run's seed.

    Returns:
        Each sample's partner, int64 [N].
    """
    streams = make_streams(seed, keys, np.full(len(keys), number, dtype=np.int64))
    order = np.argsort(uniforms(streams, _PAIR, 1)[:, 0], kind="stable")
    partner = np.arange(len(keys), dtype=np.int64)
    first, second = order[: len(order) // 2 * 2].reshape(-1, 2).T
    partner[first], partner[second] = second, first
    return partner


def _center_boxes(aspects: Doubles, share: float) -> Doubles:
    height, width = share * np.minimum(aspects, 1.0), share * np.minimum(1.0 / aspects, 1.0)
    return np.stack([(1.0 - height) / 2, (1.0 - width) / 2, height, width], axis=1)


def _random_crops(policy: ViewPolicy, streams: Keys, aspects: Doubles) -> Doubles:
    """Torchvision's ``RandomResizedCrop.get_params`` in relative coordinates."""
    assert policy.crop is not None
    draws = uniforms(streams, _CROP, 2 * _TRIES + 2)
    areas, ratios = _areas_and_ratios(draws, policy.crop, policy.ratio)
    heights, widths = np.sqrt(areas / ratios * aspects[:, None]), np.sqrt(areas * ratios / aspects[:, None])
    fits = (heights <= 1.0) & (widths <= 1.0)
    first = fits.argmax(axis=1)[:, None]
    found = np.take_along_axis(fits, first, 1)
    # Where no try fits: the largest center box whose ratio is in range.
    narrow, wide = min(policy.ratio), max(policy.ratio)
    fallback = np.minimum(np.stack([aspects / narrow, wide / aspects], axis=1), 1.0)
    drawn = np.concatenate([np.take_along_axis(heights, first, 1), np.take_along_axis(widths, first, 1)], axis=1)
    size, place = np.where(found, drawn, fallback), np.where(found, draws[:, -2:], 0.5)
    return np.concatenate([place * (1.0 - size), size], axis=1)


def _erase_boxes(probability: float, streams: Keys) -> Doubles:
    """Torchvision's ``RandomErasing.get_params`` on a square view; nothing is erased where no try fits."""
    if probability == 0.0:
        return np.zeros((len(streams), 4))
    draws = uniforms(streams, _ERASE, 1 + 2 * _TRIES + 2)
    areas, ratios = _areas_and_ratios(draws[:, 1:], _ERASE_AREA, _ERASE_RATIO)
    heights, widths = np.sqrt(areas * ratios), np.sqrt(areas / ratios)
    fits = (heights < 1.0) & (widths < 1.0)
    first = fits.argmax(axis=1)[:, None]
    size = np.concatenate([np.take_along_axis(heights, first, 1), np.take_along_axis(widths, first, 1)], axis=1)
    erased = (draws[:, :1] < probability) & np.take_along_axis(fits, first, 1)
    return np.where(erased, np.concatenate([draws[:, -2:] * (1.0 - size), size], axis=1), 0.0)


def _areas_and_ratios(
    draws: Doubles, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Doubles, Doubles]:
    """Turn each row's first draws into tries: areas uniform, aspect ratios uniform in their logarithm."""
    areas, ratios = draws[:, : 2 * _TRIES : 2], draws[:, 1 : 2 * _TRIES : 2]
    low, high = np.log(ratio)
    return area[0] + (area[1] - area[0]) * areas, np.exp(low + (high - low) * ratios)


def _operations(policy: ViewPolicy, streams: Keys) -> tuple[Ints, npt.NDArray[np.float32]]:
    draws = uniforms(streams, _OPS, 2 * policy.ops)
    ops = (draws[:, 0::2] * len(OPERATIONS)).astype(np.int64)
    negative = SIGNED[ops] & (draws[:, 1::2] < 0.5)
    unsigned = strengths(policy.magnitude)[ops]
    return ops, np.where(negative, -unsigned, unsigned)


def _mixing(policy: ViewPolicy, streams: Keys, possible: npt.NDArray[np.bool_]) -> tuple[Ints, Doubles, Doubles]:
    """Draw kind, weight and box.

    Mixup (arXiv:1710.09412) keeps λ ~ Beta(a, a) of a sample. CutMix (arXiv:1905.04899) gives away a square of area
    1 - λ around a uniform center, cut at the border; its weight is the area that then remains.
    """
    kind, weight, box = np.zeros(len(streams), np.int64), np.ones(len(streams)), np.zeros((len(streams), 4))
    if not (policy.mixup or policy.cutmix):
        return kind, weight, box
    draws = uniforms(streams, _MIX, 5)
    mixed = possible & (draws[:, 0] < policy.mix)
    mixup_share = 0.5 if policy.mixup and policy.cutmix else float(policy.mixup > 0.0)
    kind[mixed] = np.where(draws[mixed, 1] < mixup_share, 1, 2)

    blended, cut = kind == 1, kind == 2
    weight[blended] = _beta(policy.mixup, draws[blended, 2])
    reach = 0.5 * np.sqrt(1.0 - _beta(policy.cutmix, draws[cut, 2]))[:, None]
    start, end = np.maximum(draws[cut, 3:] - reach, 0.0), np.minimum(draws[cut, 3:] + reach, 1.0)
    box[cut] = np.concatenate([start, end - start], axis=1)
    weight[cut] = 1.0 - (end - start).prod(axis=1)
    return kind, weight, box


def _beta(parameter: float, uniforms: Doubles) -> Doubles:
    """Turn uniform numbers into Beta(parameter, parameter) ones by the inverse of its distribution function."""
    from scipy.special import betaincinv

    values: Doubles = betaincinv(parameter, parameter, uniforms)
    return values
