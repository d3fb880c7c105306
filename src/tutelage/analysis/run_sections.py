"""What is shown of a run's analysis."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.analysis.inference import Inference, PassTime
from tutelage.analysis.of_run import RunAnalysis
from tutelage.analysis.overhead import StepTimes
from tutelage.analysis.pictures import histogram, outline
from tutelage.analysis.probes import Probed, ProbeGain
from tutelage.analysis.sections import Picture, Section, Table, between, number, plain_between
from tutelage.analysis.weights import START, WeightSummary
from tutelage.methods.features import NOISE
from tutelage.report.numbers import MISSING, milliseconds, parameters, percent, plural, signed, times, whole
from tutelage.report.tasks import noun
from tutelage.report.words import short_name

TITLES = {
    "weights": "What features weigh",
    "probes": "A linear probe on weighted features",
    "training": "What it costs in training",
    "inference": "What the student saves afterwards",
}
"""Of the parts, in order."""


def run_sections(analysis: RunAnalysis) -> list[Section]:
    """Return the sections of a run's analysis, those that there are."""
    found, one = [], noun(analysis.about)
    if analysis.weights is not None:
        found.append(_weights(analysis.weights))
    if analysis.probes is not None:
        found.append(_probes(analysis.probes, one))
    if analysis.training is not None:
        found.append(_training(analysis.training, str(analysis.about["method"]), one))
    if analysis.inference is not None:
        found.append(_inference(analysis.inference))
    return found


def run_facts(analysis: RunAnalysis) -> list[tuple[str, str]]:
    """Return what the run was."""
    about = analysis.about
    teachers = ", ".join(map(short_name, about["teachers"]))
    rows = [
        ("method", about["method"]),
        ("student", short_name(about["student"])),
        ("teacher" if len(about["teachers"]) == 1 else "teachers", teachers or None),
        (f"labeled {noun(about)}s", whole(about["labels"])),
        ("weight of the regularizer", None if about["beta"] is None else f"{about['beta']:g}"),
        ("seed", str(about["seed"])),
        ("device", about["device"]),
    ]
    return [(label, value) for label, value in rows if value is not None]


def _weights(weights: Mapping[str, WeightSummary]) -> Section:
    teachers = {name: each for name, each in weights.items() if name != NOISE}
    means = ", ".join(f"{number(each.mean, 2)} ({short_name(name)})" for name, each in teachers.items())
    sentences = [f"Features began at a weight of {START:g}; training left mean weights of {means}."]
    if NOISE in weights:
        noise, rest = weights[NOISE], sum(each.mean * each.features for each in teachers.values())
        mean = rest / sum(each.features for each in teachers.values())
        verb = "tells noise from features" if noise.mean < mean else "does not tell noise from features"
        sentences.append(
            f"Noise weighs {number(noise.mean, 2)}, against {number(mean, 2)} of all other features: by its mean "
            f"weights, training {verb}."
        )
    rows = [
        (
            short_name(name),
            whole(each.features),
            number(each.mean, 3),
            *(number(quartile, 3) for quartile in each.quartiles),
            percent(each.below_start),
        )
        for name, each in weights.items()
    ]
    columns = ("Features of", "Count", "Mean", "25%", "50%", "75%", f"Below {START:g}")
    picture = Picture(
        "Weights of the features; the height is the share of a teacher's features",
        histogram({short_name(name): each.histogram for name, each in weights.items()}),
        [(outline(place), short_name(name)) for place, name in enumerate(weights)],
    )
    return Section(TITLES["weights"], sentences, [Table(columns, rows)], [picture])


def _probes(gain: ProbeGain, one: str) -> Section:
    tested = gain.difference is not None
    sentences = []
    if gain.difference is not None:
        sentences.append(
            f"On {plural(gain.images, f'test {one}')}, a linear probe reaches {percent(gain.weighted.test)} with "
            f"weighted features and {percent(gain.plain.test)} with plain ones: {signed(gain.difference)} points "
            f"(95% interval over test items: {between(gain.interval)}), {_chance(gain)}."
        )
    else:
        gained = signed(gain.weighted.held_out - gain.plain.held_out)
        sentences.append(
            f"On held-out labels, a linear probe gains {gained} points by the weights. There are no test data, and "
            "the weights have learned from these labels, so that this says little."
        )
    for name, each in (("plain", gain.plain), ("weighted", gain.weighted)):
        if each.edge is not None:
            sentences.append(
                f"For {name} features the {each.edge} penalty was chosen; a better one may lie beyond the grid."
            )
    columns = ("Features", "Held-out labels", *(["Test"] if tested else []), "Penalty")

    def row(name: str, each: Probed) -> tuple[str, ...]:
        return (name, percent(each.held_out), *([percent(each.test)] if tested else []), f"{each.penalty:.2g}")

    rows = [row("as they are", gain.plain), row("times their weights", gain.weighted)]
    note = (
        f"Logistic regression on the teachers' features of the whole {one}, with an L2 penalty and without "
        "standardization, which would undo the weights. The penalty is chosen on held-out labels, from the same grid "
        "for both, and the test set is looked at once. The weights have learned from all labels, so that held-out "
        "labels flatter them; test data do not."
    )
    return Section(TITLES["probes"], sentences, [Table(columns, rows)], note=note)


def _chance(gain: ProbeGain) -> str:
    if gain.interval is None or gain.interval.low <= 0 <= gain.interval.high:
        return "which these test items cannot tell from nothing"
    return "more than chance in these test items makes"


def _training(found: StepTimes, method: str, one: str) -> Section:
    ratio = found.ratio
    sure = f" (95% interval: {plain_between(ratio.interval, 3)})" if ratio.interval else ""
    if ratio.interval and ratio.interval.low <= 1 <= ratio.interval.high:
        sure += ", which this machine cannot tell from no difference"
    sentence = (
        f"A training step takes {number(ratio.median, 3)} times as long with {method} as on the labels alone{sure}."
    )
    rows = [
        ("on the labels alone", milliseconds(1e3 * found.alone), ""),
        (f"with {method}", milliseconds(1e3 * found.held), f"{number(ratio.median, 3)}\N{MULTIPLICATION SIGN}"),
    ]
    note = (
        f"Steps of {plural(found.batch_size, one)} on this machine, preparing batches and reading stored features "
        f"included, in {plural(ratio.rounds, 'pair')} of short trainings in turn; medians. Storing the features "
        "comes before, once, and is not counted here."
    )
    return Section(TITLES["training"], [sentence], [Table(("A step", "Time", "Ratio"), rows)], note=note)


def _inference(found: list[Inference]) -> Section:
    student, *teachers = found
    size = max(student.passes)
    largest = max(teachers, key=lambda each: each.params)
    ratio = largest.passes[size].ratio
    assert ratio is not None
    sentence = (
        f"{short_name(largest.name)} has {_factor(largest.params / student.params)} the student's parameters and "
        f"takes {_factor(ratio.median)} its time in batches of {size}."
    )
    sizes = [
        (
            short_name(each.name),
            " and ".join(_sizes(each)),
            parameters(each.params),
            "" if each is student else _factor(each.params / student.params),
        )
        for each in found
    ]
    passes = [
        (short_name(each.name), whole(batch), *_pass(taken))
        for batch in student.passes
        for each in found
        for taken in [each.passes[batch]]
    ]
    tables = [
        Table(("Model", "Input", "Parameters", "Ratio"), sizes),
        Table(("Model", "Batch", "Time", "Ratio", "95% interval"), passes),
    ]
    note = (
        "Forward passes in torch on this machine, each model on its own input, student and teacher in turn; "
        "medians, and an interval of the ratio where there are enough turns."
    )
    return Section(TITLES["inference"], [sentence], tables, note=note)


def _sizes(found: Inference) -> list[str]:
    """Return how much of a sample a model reads: pixels of an image's side, tokens of a text."""
    pixels = [] if found.size is None else [f"{found.size} px"]
    return pixels if found.tokens is None else [*pixels, plural(found.tokens, "token")]


def _pass(found: PassTime) -> tuple[str, str, str]:
    taken = milliseconds(1e3 * found.seconds)
    if found.ratio is None:
        return taken, "", ""
    return taken, _factor(found.ratio.median), plain_between(found.ratio.interval, 1)


def _factor(value: float) -> str:
    """Return a factor as it is said after a number: 12, or 0.85, and a multiplication sign."""
    words = times(value) if value >= 1 else f"{value:.2f}" if value > 0 else MISSING
    return f"{words}\N{MULTIPLICATION SIGN}"
