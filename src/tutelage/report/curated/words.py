"""What a curation did, in sentences that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.curation.strategies import STRATEGIES
from tutelage.data.problems import USED, in_words
from tutelage.report.numbers import plural, whole
from tutelage.report.words import short_name

LEFT_OUT = {
    "exact_copies_of_task": ("exact copy of an image of the task", "exact copies of images of the task"),
    "exact_duplicates": ("exact copy of another retrieved image", "exact copies of other retrieved images"),
    "duplicates": ("near duplicate of another retrieved image", "near duplicates of other retrieved images"),
    "leaks": ("possible leak of an image of the task", "possible leaks of images of the task"),
}
"""Why images are left out, one and several."""

QUERIES = {"images": ("labeled image", "labeled images"), "texts": ("prompt", "prompts")}
"""What a gallery is asked with, one and several."""


def curation_sentences(curation: Mapping[str, Any]) -> list[str]:
    """Return what was done, what was left out and by which rule, and what is not as it should be.

    Args:
        curation: The content of ``curation.json``.
    """
    parts = (done(curation), left_out(curation), rule(curation), suspected(curation), warning(curation))
    return [sentence for sentence in (*parts, broken(curation), sized(curation)) if sentence]


def done(curation: Mapping[str, Any]) -> str:
    """Return how much was retrieved, from what, for what and how."""
    images = plural(curation["gallery_images"], "image")
    crops = curation["crops"]
    what = f"{whole(curation['gallery_items'])} crops of {images}" if crops else images
    said = f"{whole(curation['retrieved'])} of {what} were "
    if curation["query_kind"] not in QUERIES:
        return f"{said}drawn at random."
    name, k = curation["strategy"], curation["k"]
    known = STRATEGIES.get(name)
    asked = plural(curation["queries"], *QUERIES[curation["query_kind"]])
    how = f"{name} with {encoder_names(curation)}"
    summary = f": {known.summary}" if known else ""
    depth = "" if k is None else f", k = {whole(k)}"
    return f"{said}retrieved for {asked} by {how}{summary}{depth}."


def encoder_names(curation: Mapping[str, Any]) -> str:
    """Return the names of the encoders, in a sentence."""
    return _listed([short_name(name) for name in curation["encoders"]])


def left_out(curation: Mapping[str, Any]) -> str:
    """Return how many images were left out, and why."""
    counts = curation["dropped"]
    reasons = [plural(counts[kind], *words) for kind, words in LEFT_OUT.items() if counts.get(kind)]
    return f"Left out: {_listed(reasons)}." if reasons else "Nothing that was retrieved had to be left out."


def rule(curation: Mapping[str, Any]) -> str:
    """Return above which similarities images were near duplicates, or possible leaks."""
    thresholds = curation["thresholds"]
    above = {kind: [each[kind] for each in thresholds.values()] for kind in ("duplicates", "leaks")}
    known = {kind: values for kind, values in above.items() if values and None not in values}
    parts, blind = [], []
    if "duplicates" in known:
        mean = sum(known["duplicates"]) / len(known["duplicates"])
        parts.append(f"near duplicates are images more similar than {mean:.3f} to each other")
    else:
        blind.append("near duplicates")
    if "leaks" in known:
        values = _listed([f"{value:.3f}" for value in dict.fromkeys(known["leaks"])])
        verb = "those" if parts else "are images"
        parts.append(f"possible leaks {verb} more similar than {values} to an image of the task")
    else:
        blind.append("possible leaks")
    sentences = [f"{_capital(', '.join(parts))} ({_origins(thresholds)})."] if parts else []
    if blind:
        sentences.append(f"{_capital(_listed(blind))} were not looked for{_why(thresholds)}; exact copies always go.")
    return " ".join(sentences)


def suspected(curation: Mapping[str, Any]) -> str:
    """Return what became of the images that may be the task's; empty where all were left out unseen."""
    suspects = curation["suspects"]
    found, dropped = suspects["found"], suspects["dropped"]
    decided = found - suspects["undecided"]
    if not decided and dropped == found:
        return ""
    who = "" if not decided else f"; a person decided on {'all' if decided == found else whole(decided)} of them"
    return (
        f"Of {plural(found, 'image')} that may be the task\N{RIGHT SINGLE QUOTATION MARK}s own, "
        f"{whole(dropped)} were left out and {whole(found - dropped)} kept{who}."
    )


def warning(curation: Mapping[str, Any]) -> str:
    """Return what speaks against trusting scores that come of the transfer set; empty where nothing does."""
    kept = curation["suspects"]["kept"]
    if not kept:
        return ""
    one = kept == 1
    return (
        f"The transfer set holds {plural(kept, 'possible leak')} that nobody has looked at: "
        f"if {'it is an image' if one else 'they are images'} of the test set, whatever learns from "
        f"{'it' if one else 'them'} scores better than it is. Look at {'it' if one else 'them'} with tutelage review."
    )


def broken(curation: Mapping[str, Any]) -> str:
    """Return what is wrong with images of the gallery; empty where nothing is."""
    problems = curation["problems"]
    lost = {kind: count for kind, count in problems.items() if count and kind not in USED}
    return f"Images of the gallery that could not be used: {in_words(lost)}." if lost else ""


def sized(curation: Mapping[str, Any]) -> str:
    """Return why so many were retrieved, by trainings on several sizes; empty where none were tried."""
    quality = curation.get("quality")
    return f"{whole(quality['chosen'])} were chosen: {quality['why']}." if quality else ""


def _origins(thresholds: Mapping[str, Mapping[str, Any]]) -> str:
    words = {
        "known": "known of {}",
        "calibrated": "calibrated on changed copies of the gallery with {}",
        "given": "as the recipe says",
    }
    origins: dict[str, list[str]] = {}
    for name, each in thresholds.items():
        origins.setdefault(words.get(each["source"], "as the recipe says"), []).append(short_name(name))
    return _listed([text.format(_listed(names)) for text, names in origins.items()])


def _why(thresholds: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why thresholds are missing; empty where nobody wanted them."""
    lacking = {name: each for name, each in thresholds.items() if each["source"] == "none"}
    names = _listed([short_name(name) for name in lacking])
    if any(each["recall"] is None for each in lacking.values()):
        return f", as no threshold is known of {names}, and the gallery is too small to calibrate one"
    return f", as {names} cannot tell copies from other images" if lacking else ""


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
