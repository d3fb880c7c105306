"""A text task for ``tutelage compare``: descriptions of Debian's packages, and the section that each is filed under.

    apt-get -o Acquire::Languages=en update                          # whole texts, not their first lines alone
    python benchmarks/text_data.py runs/text-data                    # seconds

``train.csv`` and ``test.csv`` have the columns id, text, label. A quarter of the *sources* is test data, by a hash of
their names, so that packages built from one source do not straddle; of each source only one package is taken, the one
called like it, or else the one with the longest description.

The section is a subject here: packages filed by their form (libraries, their headers, documentation, debugging
symbols, translations, transitional ones), by the programming language that nearly all of their texts name, or under
``misc`` are left out, and so are sections with fewer than 150 sources.
What gives a section away is left out of the texts: paragraphs that five sources or more share, such as those that
every package of some language ends with, web addresses, and the names of package and source. The same lists give the
same files; counts are printed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

LISTS = Path("/var/lib/apt/lists")

FORMS = {"cli-mono", "debian-installer", "debug", "doc", "introspection", "kernel", "libdevel", "libs"}
FORMS |= {"localization", "metapackages", "oldlibs", "tasks"}
"""Sections that say what a package is made of, not what it is for."""

LANGUAGES = {"gnu-r", "golang", "haskell", "java", "javascript", "lisp", "ocaml", "perl", "php", "python", "ruby"}
LANGUAGES |= {"rust"}
"""Sections whose name is in nearly every text."""

LEFT_OUT = FORMS | LANGUAGES | {"misc"}

FEWEST = 150
"""Sources that a section has at least."""

SHARED = 5
"""Sources that share a paragraph which is left out."""

SHORTEST = 80
"""Characters that a text has at least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where train.csv and test.csv are written")
    parser.add_argument("--lists", type=Path, default=LISTS, help=f"apt's lists; {LISTS} if not given")
    asked = parser.parse_args()
    rows = make(asked.lists)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name, held in (("train", False), ("test", True)):
        part = [row for row in rows if is_held_out(row[0]) == held]
        with (asked.folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "label"])
            writer.writerows(part)
        counts = Counter(label for _, _, label in part)
        print(f"{name}: {len(part):,} texts, {sum(len(text) for _, text, _ in part) / len(part):.0f} characters each")
        print("  " + ", ".join(f"{label} {count}" for label, count in counts.most_common()))


def make(lists: Path) -> list[tuple[str, str, str]]:
    """Return (source, text, section) of one package of each source, in the order of the sources."""
    texts = {
        stanza["Description-md5"]: stanza["Description-en"]
        for stanza in stanzas(lists, "*Translation-en*")
        if "Description-en" in stanza
    }
    packages: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for stanza in stanzas(lists, "*_Packages*"):
        section = stanza.get("Section", "").rpartition("/")[2]
        text = texts.get(stanza.get("Description-md5", ""))
        if section and section not in LEFT_OUT and text is not None:
            source = stanza.get("Source", stanza["Package"]).partition(" ")[0]
            packages[source].append((stanza["Package"], section, text))
    chosen = {source: chosen_of(source, found) for source, found in sorted(packages.items())}
    shared = Counter(each for _, _, text in chosen.values() for each in set(paragraphs(text)))
    rows = []
    for source, (package, section, text) in chosen.items():
        kept = " ".join(each for each in paragraphs(text) if shared[each] < SHARED)
        plain = without_names(kept, {source, package})
        if len(plain) >= SHORTEST:
            rows.append((source, plain, section))
    counts = Counter(section for _, _, section in rows)
    return [row for row in rows if counts[row[2]] >= FEWEST]


def chosen_of(source: str, found: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    """Return the package that stands for a source."""
    return next((each for each in found if each[0] == source), max(found, key=lambda each: (len(each[2]), each[0])))


def is_held_out(source: str) -> bool:
    """Return whether a source is test data."""
    return hashlib.sha256(source.encode()).digest()[0] < 64


def paragraphs(text: str) -> list[str]:
    """Return a description's first line and its paragraphs, each on one line."""
    first, _, rest = text.partition("\n")
    return [" ".join(each.split()) for each in (first, *re.split(r"\n *\.\n", rest)) if each.strip()]


def without_names(text: str, names: set[str]) -> str:
    """Return a text without web addresses, and with ``it`` in place of some names."""
    text = re.sub(r"\w+://\S+", "", text)
    pattern = "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))
    return " ".join(re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", "it", text, flags=re.IGNORECASE).split())


def stanzas(lists: Path, pattern: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of all of apt's lists of that name, each as its fields.

    Raises:
        SystemExit: There is none.
    """
    files = sorted(lists.glob(pattern))
    if not files:
        raise SystemExit(f"{lists}: no {pattern}; run apt-get -o Acquire::Languages=en update")
    for file in files:
        done = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(file)], check=True, stdout=subprocess.PIPE)
        for block in done.stdout.decode("utf-8", "replace").split("\n\n"):
            fields: dict[str, str] = {}
            key = ""
            for line in block.split("\n"):
                if line[:1] in (" ", "\t"):
                    fields[key] += "\n" + line[1:]
                elif line:
                    key, _, value = line.partition(": ")
                    fields[key] = value
            if "Package" in fields:
                yield fields


if __name__ == "__main__":
    main()
