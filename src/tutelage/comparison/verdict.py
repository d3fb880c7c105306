"""What a comparison found, in words: who scores best, by how much, and whether distillation helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tutelage.comparison.effects import alike, unvaried
from tutelage.comparison.findings import Contender, Group, Summary, outcomes_by_place, ranked
from tutelage.comparison.statistics import Difference, paired
from tutelage.comparison.table import BEST, Comparison, Outcome
from tutelage.report.intervals import Interval
from tutelage.report.numbers import percent, plural, signed
from tutelage.report.tasks import TASKS

WITHOUT_TEACHER = frozenset(
    {"scratch", "supervised", "clip", "dino", "stl", "pseudo-label", "pseudo-label-supervised", "pseudo-label-dino"}
)
"""Methods that learn from no teacher."""

HELD = frozenset({"aft", "kd", "rkd", "ft", "b-tuning"})
"""Methods whose student is held by teachers' features, and distils nothing."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def verdicts(comparison: Comparison) -> list[str]:
    """Return a paragraph on each group of comparable contenders, then what limits all of them."""
    groups = ranked(comparison)
    sentences = [_group(comparison, group, members) for group, members in groups.items()]
    runs = plural(len(comparison.outcomes), "run")
    failed = _counted(comparison, lambda outcome: outcome.error is not None)
    if failed:
        sentences.append(
            f"{failed.total()} of {runs} failed and left no score ({_who(failed)}); means are over the others."
        )
    collapsed = _counted(comparison, lambda outcome: outcome.collapsed is not None)
    if collapsed:
        why = next(outcome.collapsed for outcome in comparison.outcomes if outcome.collapsed is not None)
        sentences.append(
            f"The pretraining of {collapsed.total()} of {runs} collapsed ({_who(collapsed)}): what was finetuned had "
            f"learned next to nothing. Of the first, {why}."
        )
    if any(sum(member.mean is not None for member in members) > 2 for members in groups.values()):
        sentences.append("The intervals are not corrected for the number of comparisons.")
    return sentences


def _counted(comparison: Comparison, holds: Callable[[Outcome], bool]) -> Counter[str]:
    """Return of how many runs something holds, by contender."""
    return Counter(
        contender_words(contender)
        for (contender, _), outcomes in outcomes_by_place(comparison).items()
        for outcome in outcomes
        if holds(outcome)
    )


def _who(counts: Counter[str]) -> str:
    return ", ".join(f"{words}: {count}" for words, count in counts.items())


def contender_words(contender: Contender) -> str:
    """Return a contender's name: ``task-oriented (related, plain)``, without the transfer set or variant it lacks."""
    parts = ", ".join(part for part in (contender.transfer, contender.variant or None) if part is not None)
    return f"{contender.method} ({parts})" if parts else contender.method


def group_words(group: Group, task: str = "classification") -> str:
    """Return what a group's contenders share: ``5 labels a class, from random weights, each method at its best``.

    Args:
        group: Which.
        task: That was compared on: where every pixel is told, labels are counted in images, whatever those show.
    """
    amount = group.labels.removeprefix("max:")
    if amount.isdecimal() and TASKS[task].dense:
        labels = plural(int(amount), "labeled image")
    elif amount != group.labels:
        labels = f"at most {plural(int(amount), 'label')} a class"
    elif amount.isdecimal():
        labels = f"{plural(int(amount), 'label')} a class"
    else:
        labels = f"{amount} of the labels" if amount.endswith("%") else f"{amount} labels"
    unit = " seconds" if group.compute.endswith("s") else " FLOPs"
    budget = f"{group.compute.rstrip('s')}{unit} for each method"
    compute = "each method at its best" if group.compute == BEST else budget
    return f"{labels}, from {group.start} weights, {compute}"


def _group(comparison: Comparison, group: Group, members: Sequence[Summary]) -> str:
    heading = f"With {group_words(group, comparison.task)}:"
    scored = [member for member in members if member.mean is not None]
    if not scored:
        return f"{heading} no run has a score."
    best, *others = scored
    found = f"{heading} {contender_words(best.contender)} scores best, {_score(best)}."
    if not others:
        return f"{found} It has nothing to be compared with."
    rival = next((other for other in others if other.contender == best.against), others[0])
    if best.gain is None:
        sentences = [f"{found} It has no seed in common with {contender_words(rival.contender)}, the next best."]
    else:
        lead = f"{_lead(rival, best.gain)}{_interval(best, rival, best.gain)}"
        sentences = [f"{found} That is {lead}; {_chance(best.gain)}."]
    taught = [member for member in scored if member.contender.method not in WITHOUT_TEACHER]
    alone = [member for member in scored if member.contender.method in WITHOUT_TEACHER]
    if taught and alone:
        told = [best, rival] in ([taught[0], alone[0]], [alone[0], taught[0]])
        sentences.append(_distillation(comparison, taught[0], alone[0], told))
    sentences += _variants(comparison, group, scored, rival)
    return " ".join(sentences)


def _distillation(comparison: Comparison, taught: Summary, alone: Summary, told: bool) -> str:
    """Return whether the best of those that learn from a teacher is better than the best of those that do not.

    Args:
        comparison: Where their runs are.
        taught: The one that learns from a teacher.
        alone: The one that does not.
        told: How sure their difference is has been said already.
    """
    first, second = contender_words(taught.contender), contender_words(alone.contender)
    what = "the teacher" if taught.contender.method in HELD else "distillation"
    outcomes = outcomes_by_place(comparison)
    difference = paired(outcomes[taught.contender, taught.labels], outcomes[alone.contender, alone.labels])
    if difference is None:
        return f"Nothing here tells whether {what} helped: {first} and {second} have no seed in common."
    intervals = (difference.t_interval, difference.bootstrap)
    # The claim that we would like to make needs more than its opposite does: seeds that agree.
    if difference.t_interval is not None and difference.t_interval.low > 0:
        claim = f"{what.capitalize()} helped here"
    elif any(interval is not None and interval.high <= 0 for interval in intervals):
        claim = f"{what.capitalize()} did not help here"
    else:
        claim = f"{_seeds(difference.runs).capitalize()} cannot tell whether {what} helped here"
    sure = "" if told else f"{_interval(taught, alone, difference)}{_test_items(difference)}"
    return f"{claim}: {first} has {_lead(alone, difference)}{sure}."


def _variants(comparison: Comparison, group: Group, scored: Sequence[Summary], rival: Summary) -> list[str]:
    """Return for each method with several variants which is best, and how sure its lead over the first one is.

    Args:
        comparison: Where their runs are.
        group: That they are compared in.
        scored: Those with a score, the best one first.
        rival: Whom the best one has been set against already.
    """
    places = outcomes_by_place(comparison)
    firsts: dict[Contender, Contender] = {}
    for contender, labels in places:
        if labels == group.labels:
            firsts.setdefault(unvaried(contender), contender)
    kin: dict[Contender, list[Summary]] = {}
    for member in scored:
        kin.setdefault(unvaried(member.contender), []).append(member)
    sentences = []
    for common, members in kin.items():
        best, first = members[0], firsts[common]
        runs = {member.contender: places[member.contender, group.labels] for member in members}
        if len(members) < 2 or all(alike(each, runs[best.contender]) for each in runs.values()):
            continue
        heading = f"Of the {_number(len(members))} variants of {contender_words(common)},"
        plain = next((member for member in members if member.contender == first), None)
        if plain is None:
            sentences.append(f"{heading} {best.contender.variant} is best; {first.variant} has no score.")
        elif plain is best and best is not scored[0]:
            sentences.append(f"{heading} {first.variant}, the first, is best.")
        elif plain is not best and [best, plain] != [scored[0], rival]:
            sentences.append(f"{heading} {best.contender.variant} is best, {_over_first(best, plain, runs)}.")
    return sentences


def _over_first(best: Summary, first: Summary, runs: Mapping[Contender, Sequence[Outcome]]) -> str:
    difference = paired(runs[best.contender], runs[first.contender])
    words = first.contender.variant
    if difference is None:
        return f"with no seed in common with {words}"
    lead = f"{signed(difference.mean)} points against {words}"
    return f"{lead}{_interval(best, first, difference)}; {_chance(difference)}"


def _lead(rival: Summary, difference: Difference) -> str:
    return f"{signed(difference.mean)} points against {contender_words(rival.contender)}"


def _interval(first: Summary, second: Summary, difference: Difference) -> str:
    """Return the interval over seeds, or for one seed what there is: the one over test items."""
    shared = " that both have" if difference.runs < max(first.runs, second.runs) else ""
    seeds = f"{'the ' if shared else ''}{_seeds(difference.runs)}{shared}"
    if difference.t_interval is not None:
        return f" (95% interval over {seeds}: {_range(difference.t_interval)})"
    notes = [f"over {seeds}"] if shared else []
    if difference.bootstrap is not None:
        notes.append(f"95% interval over test items: {_range(difference.bootstrap)}")
    return f" ({'; '.join(notes)})" if notes else ""


def _chance(difference: Difference) -> str:
    if difference.t_interval is None:
        return "one seed says nothing about chance"
    verb = "cannot tell" if _includes_zero(difference.t_interval) else "tell"
    return f"{_seeds(difference.runs)} {verb} these apart{_test_items(difference)}"


def _test_items(difference: Difference) -> str:
    """Return what resampled test items say, where that is not what the seeds say."""
    seeds, items = difference.t_interval, difference.bootstrap
    if seeds is None or items is None or _includes_zero(seeds) == _includes_zero(items):
        return ""
    over = f"95% interval over test items: {_range(items)}"
    if _includes_zero(seeds):
        return f"; the difference is real on these test items ({over}), but another draw of labels may turn it around"
    return f"; other test items may turn it around ({over})"


def _score(summary: Summary) -> str:
    if summary.std is None:
        return f"{percent(summary.mean)} (one seed)"
    return f"{percent(summary.mean)} ± {100 * summary.std:.1f}"


def _seeds(count: int) -> str:
    return f"{_number(count)} {'seed' if count == 1 else 'seeds'}"


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _range(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def _includes_zero(interval: Interval) -> bool:
    return interval.low <= 0 <= interval.high
