"""What single choices decide, all else equal: the transfer set, a variant, the last finetuning, the teacher."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tutelage.comparison.findings import OURS, Contender, Place, outcomes_by_place
from tutelage.comparison.statistics import Difference, paired
from tutelage.comparison.table import Comparison, Outcome


@dataclass(frozen=True)
class Effect:
    """The difference that one choice makes, all else equal: first minus second (``None``: first's own teacher)."""

    labels: str
    first: Contender
    second: Contender | None
    difference: Difference


def transfer_effects(comparison: Comparison) -> list[Effect]:
    """Return what one transfer set gives over another with the same method, each pair once in the grid's order."""
    # A method that uses no transfer set has but one contender of a kind, and so no pair.
    return _effects(
        itertools.combinations(outcomes_by_place(comparison).items(), 2),
        lambda first, second: second == dataclasses.replace(first, transfer=second.transfer),
    )


def variant_effects(comparison: Comparison) -> list[Effect]:
    """Return what each variant of a method gives over the method's first one, in the grid's order.

    One that changes nothing for a method, whose stages are all the same, is left out.
    """
    places = outcomes_by_place(comparison)
    firsts: dict[Place, Contender] = {}
    found = []
    for (contender, labels), runs in places.items():
        first = firsts.setdefault((unvaried(contender), labels), contender)
        others = places[first, labels]
        difference = paired(runs, others)
        if difference and first != contender and not alike(runs, others):
            found.append(Effect(labels, contender, first, difference))
    return found


def finetuning_effects(comparison: Comparison) -> list[Effect]:
    """Return what the last finetuning on the labels adds to task-oriented transfer."""
    return _method_effects(comparison, OURS, f"{OURS}-no-finetuning")


def teacher_effects(comparison: Comparison) -> list[Effect]:
    """Return a finetuned teacher's student over a linear-probed one's; then each student over its own teacher."""
    found = _method_effects(comparison, f"{OURS}-ft", f"{OURS}-lp")
    for (contender, labels), runs in outcomes_by_place(comparison).items():
        teachers = [dataclasses.replace(run, score=run.teacher_score, right=None) for run in runs]
        difference = paired(runs, teachers)
        if difference:
            found.append(Effect(labels, contender, None, difference))
    return found


def unvaried(contender: Contender) -> Contender:
    """Return what all variants of a contender have in common."""
    return dataclasses.replace(contender, variant="")


def alike(first: Iterable[Outcome], second: Iterable[Outcome]) -> bool:
    """Return whether two contenders' runs found the same in every seed, as those do that share all their stages."""

    def found(runs: Iterable[Outcome]) -> dict[int, tuple[float | None, bytes]]:
        return {run.cell.seed: (run.score, b"" if run.right is None else run.right.tobytes()) for run in runs}

    return found(first) == found(second)


def _method_effects(comparison: Comparison, method: str, other: str) -> list[Effect]:
    return _effects(
        itertools.permutations(outcomes_by_place(comparison).items(), 2),
        lambda first, second: first.method == method and second == dataclasses.replace(first, method=other),
    )


def _effects(
    pairs: Iterable[tuple[tuple[Place, list[Outcome]], tuple[Place, list[Outcome]]]],
    differ: Callable[[Contender, Contender], bool],
) -> list[Effect]:
    found = []
    for ((first, labels), runs), ((second, at), others) in pairs:
        if labels == at and differ(first, second):
            difference = paired(runs, others)
            if difference:
                found.append(Effect(labels, first, second, difference))
    return found
