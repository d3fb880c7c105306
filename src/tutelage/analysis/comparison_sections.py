"""What is shown of a comparison's analysis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from tutelage.analysis.correlation import SOURCE, Correlation, TeacherCurve
from tutelage.analysis.noise import NoiseCurve, NoiseLevel
from tutelage.analysis.normalized import BASELINE, NormalizedError
from tutelage.analysis.of_comparison import ComparisonAnalysis
from tutelage.analysis.pictures import marked, over_noise, over_probes
from tutelage.analysis.sections import Picture, Section, Table, between, number, plain_between
from tutelage.comparison.findings import Group
from tutelage.comparison.verdict import contender_words, group_words
from tutelage.report.numbers import MISSING, percent, plural, signed, whole
from tutelage.report.tasks import Metric, named_metric
from tutelage.report.words import short_name

Curve = TypeVar("Curve", NoiseCurve, TeacherCurve)

TITLES = {
    "errors": "Errors beside standard transfer",
    "noise": "Features without meaning",
    "correlation": "Better teachers, better students?",
}
"""Of the parts, in order."""


def comparison_sections(analysis: ComparisonAnalysis) -> list[Section]:
    """Return the sections of a comparison's analysis, those that there are."""
    metric = named_metric(str(analysis.about["metric"]))
    found = []
    if analysis.errors is not None:
        found.append(_errors(analysis.errors, metric))
    if analysis.noise is not None:
        found.append(_noise(analysis.noise, metric))
    if analysis.correlation is not None:
        found.append(_correlation(analysis.correlation, metric))
    return found


def comparison_facts(analysis: ComparisonAnalysis) -> list[tuple[str, str]]:
    """Return what was compared."""
    about = analysis.about
    student = about.get("student")
    rows = [
        ("methods", ", ".join(about["methods"])),
        ("student", short_name(student) if student else None),
        ("seeds", str(about["seeds"])),
    ]
    return [(label, value) for label, value in rows if value is not None]


def _errors(errors: Sequence[NormalizedError], metric: Metric) -> Section:
    groups: dict[tuple[str | None, str, str], list[NormalizedError]] = {}
    for each in errors:
        place = (each.labels, each.contender.start, each.contender.compute)
        groups.setdefault(place, []).append(each)
    sentences, tables = [], []
    for (labels, start, compute), members in groups.items():
        members.sort(key=lambda each: each.mean)
        best, where = members[0], _where(labels, start, compute)
        words = contender_words(best.contender)
        change = abs(1 - best.mean)
        verb = "leaves" if best.mean <= 1 else "makes"
        less = "fewer" if best.mean <= 1 else "more"
        others = f", and no other of the {len(members)} contenders has fewer" if len(members) > 1 else ""
        sentences.append(f"With {where}: {words} {verb} {percent(change)} {less} errors than {BASELINE}{others}.")
        rows = [
            (
                contender_words(each.contender),
                number(each.mean, 3) + ("" if each.standard_error is None else f" ± {each.standard_error:.3f}"),
                whole(len(each.seeds)),
            )
            for each in members
        ]
        title = where[:1].upper() + where[1:]
        tables.append(Table(("Contender", "Normalized error", "Seeds"), rows, title))
    note = (
        f"The error (1 \N{MINUS SIGN} {metric.name}) over that of {BASELINE} with the same labels and seed from the "
        "same weights; mean ± standard error over seeds. Below 1 is better than standard transfer."
    )
    return Section(TITLES["errors"], sentences, tables, note=note)


def _noise(curves: Sequence[NoiseCurve], metric: Metric) -> Section:
    sentences, tables, pictures = [], [], []
    for where, members in _by_place(curves).items():
        rows, names = [], _names(members)
        for name, curve in zip(names, members, strict=True):
            most = curve.levels[-1]
            if most.difference is not None:
                sentences.append(f"{name} {_noise_words(most)}.")
            rows += [(f"{name}, {whole(level.noise)}", *_noise_row(level)) for level in curve.levels]
        columns = ("Method, features of noise", metric.title, "Runs", "Against no noise", "95% over seeds")
        tables.append(Table(columns, rows, where))
        series = [[(level.noise, level.mean, level.std) for level in curve.levels] for curve in members]
        pictures.append(
            Picture(
                f"{where}: {metric.name} over features of noise; bars are standard deviations over seeds",
                over_noise(names, series),
                [(marked(place), name) for place, name in enumerate(names)],
            )
        )
    note = (
        "Each image has its own noise, drawn once from a standard normal distribution and put beside its teachers' "
        "features. Differences are over the same seeds without noise, in points."
    )
    return Section(TITLES["noise"], sentences, tables, pictures, note)


def _noise_words(level: NoiseLevel) -> str:
    difference = level.difference
    assert difference is not None
    change = f"changes by {signed(difference.mean)} points with {plural(level.noise, 'feature')} of noise"
    interval = difference.t_interval
    if interval is None:
        return f"{change}; one seed says nothing about chance"
    sure = "cannot tell that from nothing" if interval.low <= 0 <= interval.high else "can tell that from nothing"
    return f"{change} (95% interval: {between(interval)}); {plural(difference.runs, 'seed')} {sure}"


def _noise_row(level: NoiseLevel) -> tuple[str, ...]:
    deviation = "" if level.std is None else f" ± {100 * level.std:.1f}"
    gain = MISSING if level.difference is None else signed(level.difference.mean)
    interval = "" if level.difference is None else between(level.difference.t_interval)
    return f"{percent(level.mean)}{deviation}", whole(level.runs), gain, interval


def _correlation(curves: Sequence[TeacherCurve], metric: Metric) -> Section:
    sentences, tables, pictures = [], [], []
    for where, members in _by_place(curves).items():
        names = _names(members)
        for name, curve in zip(names, members, strict=True):
            sentences.append(f"{name}: {_correlation_words(curve.found)}.")
        columns = ("Method", "Teachers", "Correlation", "95% interval", "Slope")
        rows = [
            (name, whole(len(curve.points)), *_correlated(curve.found))
            for name, curve in zip(names, members, strict=True)
        ]
        tables.append(Table(columns, rows, where))
        points = [
            (
                f"{name}, {point.variant or 'as it is'}",
                ", ".join(map(short_name, point.teachers)),
                percent(point.probe),
                percent(point.score),
            )
            for name, curve in zip(names, members, strict=True)
            for point in curve.points
        ]
        tables.append(Table(("Student", "Teachers", "Their probe", metric.title), points))
        series = [
            [(point.probe, point.score, ", ".join(map(short_name, point.teachers))) for point in curve.points]
            for curve in members
        ]
        pictures.append(
            Picture(
                f"{where}: {metric.name} of students over the accuracy of a linear probe on their teachers' features",
                over_probes(names, series),
                [(marked(place), name) for place, name in enumerate(names)],
            )
        )
    fewest = min(len(curve.points) for curve in curves)
    few = f" With {fewest} here, an interval is wide." if fewest < SOURCE else ""
    note = (
        "A point is a variant's teachers: the cross-validated accuracy of a linear probe on their features, side by "
        "side, on each seed's labels, and the student's on the test set; means over seeds. Pearson's correlation, "
        "its 95% interval by Fisher's transformation (four teachers or more), and the slope of the least-squares "
        f"line. The source has {SOURCE} teachers or more.{few}"
    )
    return Section(TITLES["correlation"], sentences, tables, pictures, note)


def _correlation_words(found: Correlation | None) -> str:
    if found is None:
        return "all teachers or all students are equally good, so that nothing is correlated"
    sure = f", 95% interval {plain_between(found.interval, 2)}" if found.interval else ""
    unknown = "; so few teachers do not tell whether there is a correlation"
    if found.interval and not found.interval.low <= 0 <= found.interval.high:
        unknown = ""
    return (
        f"correlation {number(found.r, 2)} over {plural(found.n, 'teacher')}{sure}; a point more of the probe goes "
        f"with {number(found.slope, 2)} points of the student{unknown}"
    )


def _correlated(found: Correlation | None) -> tuple[str, str, str]:
    if found is None:
        return MISSING, "", MISSING
    return number(found.r, 2), plain_between(found.interval, 2), number(found.slope, 2)


def _by_place(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Return curves by what those that are comparable share, in words."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        where = _where(curve.labels, curve.contender.start, curve.contender.compute)
        found.setdefault(where[:1].upper() + where[1:], []).append(curve)
    return found


def _where(labels: str | None, start: str, compute: str) -> str:
    if labels is not None:
        return group_words(Group(labels, start, compute))
    return f"all label counts, {group_words(Group('1', start, compute)).partition(', ')[2]}"


def _names(curves: Sequence[NoiseCurve] | Sequence[TeacherCurve]) -> list[str]:
    """Return what comparable curves are called: their methods, with the first variant where that is not enough."""
    methods = Counter(curve.contender.method for curve in curves)
    return [
        contender_words(curve.contender) if methods[curve.contender.method] > 1 else curve.contender.method
        for curve in curves
    ]
