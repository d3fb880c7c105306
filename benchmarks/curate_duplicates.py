"""The part ``duplicates`` of `curate.py`: components of near duplicates, against comparing all pairs.

The reference is what one would write: float32 products of blocks of 4,096 unit vectors with torch, no pair twice,
those above the threshold, and scipy's connected components. Planted copies are between 0.985 and 1 like what they are
copies of. Recall is the share of the reference's pairs that are in one component here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, get_args

import numpy as np
import torch
from curate_vectors import Half, Kind, with_copies
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from side_by_side import compare, in_turns, seconds
from torch.nn import functional as F

from tutelage.curation.duplicates import duplicates
from tutelage.data.samples import IntArray

THRESHOLD = 0.99
BLOCK = 4096


def measure_duplicates(images: int, rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows and comparisons."""
    rows: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        features = with_copies(kind, images)
        last: dict[str, Any] = {}
        cases: dict[str, Callable[[], object]] = {
            "ours": lambda features=features, last=last: last.update(ours=duplicates([features], THRESHOLD)),  # type: ignore[misc]
            "all pairs": lambda features=features, last=last: last.update(pairs=all_pairs(features)),  # type: ignore[misc]
        }
        # Nothing that is timed is used a second time; and all pairs of a few images start what torch starts once.
        for warm in (partial(duplicates, [features[:BLOCK]], THRESHOLD), partial(all_pairs, features[:BLOCK])):
            warm()
        found = in_turns(cases, rounds, seconds, warm_up=0)
        pairs, firsts = last["pairs"][0], last["ours"]
        recall = float(np.mean(firsts[pairs[0]] == firsts[pairs[1]])) if pairs.shape[1] else 1.0
        same = float(np.mean(firsts == last["pairs"][1]))
        told: tuple[tuple[str, float, str], ...] = (
            ("ours", median(found["ours"]), "s"),
            ("all pairs", median(found["all pairs"]), "s"),
            ("pairs above the threshold", float(pairs.shape[1]), ""),
            ("images that both keep or drop", 100 * same, "%"),
        )
        rows += [
            {"part": "duplicates", "what": f"{kind}: {what}", "value": value, "unit": unit}
            for what, value, unit in told
        ]
        faster = compare(found["all pairs"], found["ours"], reference="the seconds here", side="at_least", goal=10.0)
        recalled = compare([recall], [1.0], reference="all pairs", side="at_least", goal=0.999)
        comparisons.append({"ours": f"duplicates {kind}, seconds of all pairs", **faster})
        comparisons.append({"ours": f"duplicates {kind}, recall", **recalled})
    return rows, comparisons


def all_pairs(features: Half) -> tuple[IntArray, IntArray]:
    """Return the pairs above the threshold, int64 [2, M], and the first of each image's component, int64 [N]."""
    units = F.normalize(torch.from_numpy(features).float(), dim=1)
    links = []
    for start in range(0, len(units), BLOCK):
        for other in range(start, len(units), BLOCK):
            products = units[start : start + BLOCK] @ units[other : other + BLOCK].T
            first, second = (products > THRESHOLD).nonzero(as_tuple=True)
            pairs = torch.stack([first + start, second + other])
            links.append(pairs[:, pairs[0] < pairs[1]])
    found: IntArray = torch.cat(links, 1).numpy()
    graph = coo_array((np.ones(found.shape[1], np.int8), tuple(found)), shape=(len(units), len(units)))
    labels = connected_components(graph, directed=False)[1]
    _, smallest, label = np.unique(labels, return_index=True, return_inverse=True)
    return found, smallest[label].astype(np.int64)
