"""In which order an epoch shows its samples: a pure function of seed and epoch."""

from __future__ import annotations

import numpy as np

from tutelage.data.samples import IntArray

BUCKET = 50
"""Most batches whose texts are sorted by their length together: texts of a batch are then about as long as each
other, and little is computed for padding."""


def epoch_order(count: int, epoch: int, *, seed: int, partners: IntArray | None = None) -> IntArray:
    """Return the order of ``count`` rows in an epoch; with ``partners`` (an involution), pairs stay together."""
    shuffled = np.random.default_rng([seed, epoch]).permutation(count)
    if partners is None:
        return shuffled
    firsts = shuffled[shuffled < partners[shuffled]]
    alone = shuffled[shuffled == partners[shuffled]]
    return np.concatenate([np.stack([firsts, partners[firsts]], axis=1).ravel(), alone])


def bucketed(order: IntArray, lengths: IntArray, batch_size: int, rng: np.random.Generator) -> IntArray:
    """Return an order in which each batch has rows of about equal length, and batches come in no particular order.

    Args:
        order: Of the rows; what is behind the last whole batch is left out, whatever its length.
        lengths: Of all rows.
        batch_size: Rows a batch.
        rng: Shuffles the batches.
    """
    batches = len(order) // batch_size
    if batches < 2:
        return order
    # A quarter of a small set at a time: sorted as a whole, the same rows would meet in every epoch.
    span = batch_size * min(BUCKET, max(1, batches // 4))
    order = order[: batches * batch_size]
    parts = [order[start : start + span] for start in range(0, len(order), span)]
    rows = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    return rows.reshape(batches, batch_size)[rng.permutation(batches)].ravel()
