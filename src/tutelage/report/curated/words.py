"""What a curation did, in sentences that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.curation.strategies import STRATEGIES
from tutelage.data.problems import USED, in_words
from tutelage.report.numbers import plural, whole
from tutelage.report.words import short_name

QUERY_KINDS = ("images", "texts")
"""What a gallery is asked with: labeled samples of its own kind, or prompts."""


def one(curation: Mapping[str, Any]) -> str:
    """Return what a curation is about: an image, or a text.

    Args:
        curation: The content of ``curation.json``; what an earlier version wrote is about images.
    """
    return str(curation.get("modality", "image"))


def one_of(curation: Mapping[str, Any]) -> str:
    """Return the same with its article."""
    return "a text" if one(curation) == "text" else "an image"


def query_words(curation: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the gallery was asked with, one and several."""
    name = "prompt" if curation["query_kind"] == "texts" else f"labeled {one(curation)}"
    return name, f"{name}s"


def left_out_words(curation: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return why something is left out, of one and of several, by the keys of ``dropped``."""
    name, article = one(curation), one_of(curation)
    return {
        "exact_copies_of_task": (f"exact copy of {article} of the task", f"exact copies of {name}s of the task"),
        "exact_duplicates": (f"exact copy of another retrieved {name}", f"exact copies of other retrieved {name}s"),
        "duplicates": (f"near duplicate of another retrieved {name}", f"near duplicates of other retrieved {name}s"),
        "leaks": (f"possible leak of {article} of the task", f"possible leaks of {name}s of the task"),
    }


def curation_sentences(curation: Mapping[str, Any]) -> list[str]:
    """Return what was done, what was left out and by which rule, and what is not as it should be.

    Args:
        curation: The content of ``curation.json``.
    """
    parts = (done(curation), left_out(curation), rule(curation), suspected(curation), warning(curation))
    return [sentence for sentence in (*parts, broken(curation), sized(curation)) if sentence]


def done(curation: Mapping[str, Any]) -> str:
    """Return how much was retrieved, from what, for what and how."""
    images = plural(curation["gallery_images"], one(curation))
    crops = curation["crops"]
    what = f"{whole(curation['gallery_items'])} crops of {images}" if crops else images
    said = f"{whole(curation['retrieved'])} of {what} were "
    if curation["query_kind"] not in QUERY_KINDS:
        return f"{said}drawn at random."
    name, k = curation["strategy"], curation["k"]
    known = STRATEGIES.get(name)
    asked = plural(curation["queries"], *query_words(curation))
    how = f"{name} with {encoder_names(curation)}"
    summary = f": {known.summary.replace('image', one(curation))}" if known else ""
    depth = "" if k is None else f", k = {whole(k)}"
    return f"{said}retrieved for {asked} by {how}{summary}{depth}."


def encoder_names(curation: Mapping[str, Any]) -> str:
    """Return the names of the encoders, in a sentence."""
    return _listed([short_name(name) for name in curation["encoders"]])


def left_out(curation: Mapping[str, Any]) -> str:
    """Return how many were left out, and why."""
    counts = curation["dropped"]
    reasons = [plural(counts[kind], *words) for kind, words in left_out_words(curation).items() if counts.get(kind)]
    return f"Left out: {_listed(reasons)}." if reasons else "Nothing that was retrieved had to be left out."


def rule(curation: Mapping[str, Any]) -> str:
    """Return above which similarities images were near duplicates, or possible leaks."""
    thresholds = curation["thresholds"]
    above = {kind: [each[kind] for each in thresholds.values()] for kind in ("duplicates", "leaks")}
    known = {kind: values for kind, values in above.items() if values and None not in values}
    parts, blind = [], []
    if "duplicates" in known:
        mean = sum(known["duplicates"]) / len(known["duplicates"])
        parts.append(f"near duplicates are {one(curation)}s more similar than {mean:.3f} to each other")
    else:
        blind.append("near duplicates")
    if "leaks" in known:
        values = _listed([f"{value:.3f}" for value in dict.fromkeys(known["leaks"])])
        verb = "those" if parts else f"are {one(curation)}s"
        parts.append(f"possible leaks {verb} more similar than {values} to {one_of(curation)} of the task")
    else:
        blind.append("possible leaks")
    sentences = [f"{_capital(', '.join(parts))} ({_origins(thresholds)})."] if parts else []
    if blind:
        sentences.append(f"{_capital(_listed(blind))} were not looked for{_why(curation)}; exact copies always go.")
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
        f"Of {plural(found, one(curation))} that may be the task\N{RIGHT SINGLE QUOTATION MARK}s own, "
        f"{whole(dropped)} were left out and {whole(found - dropped)} kept{who}."
    )


def warning(curation: Mapping[str, Any]) -> str:
    """Return what speaks against trusting scores that come of the transfer set; empty where nothing does."""
    kept = curation["suspects"]["kept"]
    if not kept:
        return ""
    they = f"it is {one_of(curation)}" if kept == 1 else f"they are {one(curation)}s"
    them = "it" if kept == 1 else "them"
    return (
        f"The transfer set holds {plural(kept, 'possible leak')} that nobody has looked at: if {they} of the test "
        f"set, whatever learns from {them} scores better than it is. Look at {them} with tutelage review."
    )


def broken(curation: Mapping[str, Any]) -> str:
    """Return what is wrong with images of the gallery; empty where nothing is."""
    problems = curation["problems"]
    lost = {kind: count for kind, count in problems.items() if count and kind not in USED}
    return f"{_capital(one(curation))}s of the gallery that could not be used: {in_words(lost)}." if lost else ""


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


def _why(curation: Mapping[str, Any]) -> str:
    """Return why thresholds are missing; empty where nobody wanted them."""
    thresholds: Mapping[str, Mapping[str, Any]] = curation["thresholds"]
    lacking = {name: each for name, each in thresholds.items() if each["source"] == "none"}
    names = _listed([short_name(name) for name in lacking])
    if any(each["recall"] is None for each in lacking.values()):
        return f", as no threshold is known of {names}, and the gallery is too small to calibrate one"
    return f", as {names} cannot tell copies from other {one(curation)}s" if lacking else ""


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
