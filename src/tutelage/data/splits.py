"""Seeded splits: which labeled samples a run may see, and how they take turns at validating."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import numpy.typing as npt

from tutelage.data.samples import IntArray, Samples
from tutelage.errors import DataError, RecipeError

Targets = npt.NDArray[np.int64]

_AMOUNT = re.compile(r"(?P<most>max:)?(?P<count>\d+)|(?P<percent>\d+(\.\d+)?)%")


def few_shot(samples: Samples, amount: str, *, seed: int) -> IntArray:
    """Choose the labeled subset called ``amount``, per class; of samples with masks, of all.

    Samples are ranked within their class (or all) by a hash of (seed, id), so a smaller subset lies inside a larger
    one, and adding files elsewhere does not reshuffle what was there.

    Args:
        samples: Labeled samples.
        amount: ``"N"`` for exactly N of each class (or in all), ``"max:N"`` for at most N, ``"P%"`` for a share of
            each class (rounded up), ``"all"`` for all.
        seed: Which subset of that size.

    Returns:
        Sorted rows.

    Raises:
        RecipeError: ``amount`` has none of these forms, or is nothing.
        DataError: A class has fewer than N samples.
    """
    strata = _strata(samples)
    if amount == "all":
        return np.arange(len(samples))
    match = _AMOUNT.fullmatch(amount)
    if not match or float(match["count"] or match["percent"]) <= 0 or float(match["percent"] or 0) > 100:
        raise RecipeError(f"data.labels: {amount!r} is none of N, max:N, P% or all (such as 10, max:100, 5%)")
    ranks = np.array([_rank(seed, name) for name in samples.ids])
    chosen = []
    for what, rows in strata:
        count = int(match["count"]) if match["count"] else math.ceil(len(rows) * float(match["percent"]) / 100)
        if match["count"] and not match["most"] and len(rows) < count:
            raise DataError(
                f"{samples.origin}: {what}has {len(rows)} {samples.modality}s, {count} were asked for; "
                f'write labels: "max:{count}" to take what there is'
            )
        chosen.append(rows[np.argsort(ranks[rows], kind="stable")][:count])
    return np.sort(np.concatenate(chosen))


def _strata(samples: Samples) -> list[tuple[str, IntArray]]:
    """Return the rows of each class with what messages call it; of samples with masks, all rows."""
    if samples.masks is not None:
        return [("", np.arange(len(samples)))]
    targets = samples.labels()
    return [(f"class {name!r} ", np.flatnonzero(targets == number)) for number, name in enumerate(samples.classes)]


def share_of(where: str) -> float | None:
    """Return the share that held-out data named ``"20%"`` are of the labeled data; ``None`` for a place.

    Raises:
        RecipeError: The share is none, or all.
    """
    match = _AMOUNT.fullmatch(where)
    if not match or not match["percent"]:
        return None
    share = float(match["percent"]) / 100
    if not 0 < share < 1:
        raise RecipeError(f"data: {where!r} of the labeled data cannot be held out; write a share such as 20%")
    return share


def hold_out(samples: Samples, share: float, *, what: str) -> tuple[IntArray, IntArray]:
    """Split labeled samples into what is kept and what is held out, per class; of samples with masks, of all.

    The same whatever the seed of a run, so that runs and baselines are judged on the same samples; an added
    sample joins one side or the other and moves no more than one that was there.

    Args:
        samples: Labeled samples.
        share: Share of each class to hold out, in 0..1; at least one sample of each is, where it has two.
        what: What it is held out for; different words draw different samples.

    Returns:
        Sorted rows kept, and sorted rows held out.

    Raises:
        DataError: There is a single image with a mask.
    """
    if samples.masks is not None and len(samples) < 2:
        raise DataError(f"{samples.origin}: has a single image, and none is left to hold out for {what}; add some")
    ranks = np.array([_rank(what, name) for name in samples.ids])
    held = []
    for _, rows in _strata(samples):
        if not len(rows):
            continue
        count = min(max(1, round(len(rows) * share)), len(rows) - 1)
        held.append(rows[np.argsort(ranks[rows], kind="stable")][:count])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(samples)), out), out


def folds(
    targets: Targets | None,
    *,
    seed: int,
    count: int = 0,
    most: int = 5,
    share: float | None = None,
    holdout: int = 1000,
) -> list[tuple[IntArray, IntArray]]:
    """Return (train, validation) rows to choose hyper-parameters with.

    Few labels take turns in stratified cross-validation; from ``holdout`` labels on, a fifth of each class (at
    least one sample) is held out once, since a single split then says enough and costs a fifth.

    Args:
        targets: Class numbers, [N]; ``None`` for samples with masks, which are held out whatever they show.
        seed: Of the draw.
        count: How many samples there are, where they have no class numbers.
        most: Folds.
        share: Share of each class to hold out once, however many labels there are.
        holdout: Labels from which on there are no folds.

    Raises:
        DataError: A class has a single sample (or there is a single one), so that nothing can be held out.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if targets is None and count < 2:
        raise DataError(
            "there is a single labeled image, and settings are chosen on labels held out; allow two or more "
            "(data.labels), or give data.validation"
        )
    plain = targets is None
    targets = np.zeros(count, dtype=np.int64) if targets is None else targets
    smallest = int(np.bincount(targets)[np.unique(targets)].min())
    if smallest < 2:
        raise DataError(
            "a class has a single labeled sample, and settings are chosen on labels held out of each class; "
            "allow two or more of each (data.labels), or give data.validation"
        )
    if share is not None or len(targets) >= holdout:
        generator = np.random.default_rng(seed)
        by_class = [generator.permutation(np.flatnonzero(targets == number)) for number in np.unique(targets)]
        held = np.sort(np.concatenate([rows[: _held(len(rows), share)] for rows in by_class]))
        return [(np.setdiff1d(np.arange(len(targets)), held), held)]
    splitter = (KFold if plain else StratifiedKFold)(min(most, smallest), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(targets)), targets))


def _held(rows: int, share: float | None) -> int:
    """Return how many of a class to hold out: at least one, and never all."""
    return max(1, rows // 5) if share is None else min(max(1, round(rows * share)), rows - 1)


def _rank(seed: int | str, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}|{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
