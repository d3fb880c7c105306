"""What of some data can be used: the rest is left out and listed, and too much of that is an error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tutelage.data.inspect import inspect
from tutelage.data.inspect_masks import with_usable_masks
from tutelage.data.leaks import Contents, contradictions
from tutelage.data.problems import USED, Problem, in_words
from tutelage.data.samples import Samples
from tutelage.errors import DataError

EXAMPLES = 3
"""Problems that a message spells out."""


def usable(samples: Samples, tolerate: float, where: str, contents: Contents, *, twice: bool = False) -> Samples:
    """Leave out samples that cannot be used, and say which.

    Args:
        samples: As read; every image and mask is decoded once.
        tolerate: Share that may be left out, in 0..1.
        where: Their name, for messages.
        contents: What is known of images from before.
        twice: Whether samples that stand under two labels are left out.

    Raises:
        DataError: More is left out than may be, or none of a class is left.
    """
    rows, found = inspect(samples)
    kept = replace(samples.subset(rows), problems=(*samples.problems, *found))
    if kept.masks is not None:
        kept = with_usable_masks(kept, where)
    if twice:
        kept = _without_contradictions(kept, contents)
    _tolerate(kept, tolerate, where)
    lost = [] if kept.targets is None or not twice else lost_classes(kept)
    if lost:
        causes = f" ({_causes(kept.problems)})" if kept.problems else ""
        raise DataError(
            f"{where}: no {kept.modality} of class {', '.join(map(repr, lost))} is left{causes}; "
            f"add some, or remove the class{_examples(kept.problems)}"
        )
    return kept


def _without_contradictions(samples: Samples, contents: Contents) -> Samples:
    groups = contradictions(samples, contents)
    if not groups:
        return samples
    labels = samples.labels()
    problems = []
    for rows in groups:
        names = " and ".join(repr(samples.classes[number]) for number in sorted(set(labels[rows].tolist())))
        problems += [
            Problem("contradiction", samples.ids[row], f"the same {samples.modality} under {names}") for row in rows
        ]
    left = np.setdiff1d(np.arange(len(samples)), np.concatenate(groups))
    return replace(samples.subset(left), problems=(*samples.problems, *problems))


def _tolerate(kept: Samples, share: float, where: str) -> None:
    """Raise if too much was left out."""
    out = [problem for problem in kept.problems if problem.kind not in USED]
    total = len(kept) + len(out)
    if not out or (len(kept) and len(out) <= share * total):
        return
    message = f"{where}: {len(out):,} of {total:,} {kept.modality}s cannot be used ({_causes(out)})"
    if not len(kept):
        raise DataError(f"{message}; none is left{_examples(out)}")
    enough = min(1.0, math.ceil(100 * len(out) / total) / 100)
    raise DataError(
        f"{message}, more than data.tolerate={share:g} allows; repair or remove them, "
        f"or set data.tolerate={enough:g} to go on without them{_examples(out)}"
    )


def _causes(problems: Sequence[Problem]) -> str:
    return in_words(dict(Counter(problem.kind for problem in problems).most_common()))


def _examples(problems: Sequence[Problem]) -> str:
    shown = [
        f"\n  {problem.where}: {problem.kind}{f' ({problem.detail})' if problem.detail else ''}"
        for problem in problems[:EXAMPLES]
    ]
    return "; for example:" + "".join(shown) if shown else ""


def lost_classes(samples: Samples) -> list[str]:
    """Return the names of classes without a sample."""
    present = set(np.unique(samples.labels()).tolist())
    return [name for number, name in enumerate(samples.classes) if number not in present]
