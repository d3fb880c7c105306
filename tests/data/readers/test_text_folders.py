"""Texts, one a file: in folders, in archives, and in sets of the library datasets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest

from tutelage.data.readers import folders, read_samples
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.runtime.texts import SEPARATOR

if TYPE_CHECKING:
    from conftest import Archives, Pictures


def tree(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def texts(where: object, **wanted: Any) -> Samples:
    return read_samples(str(where), labeled=wanted.pop("labeled", True), modality="text", **wanted)


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


def test_a_folder_per_class_holds_a_text_a_file(tmp_path: Path) -> None:
    tree(tmp_path, {"pos/1.txt": "good 👍\n", "neg/a/2.TXT": "bad\nvery", "README.md": "about", "pos/1.png": "no"})
    found = texts(tmp_path)
    assert (found.ids, found.texts) == (("neg/a/2.TXT", "pos/1.txt"), ["bad\nvery", "good 👍"])
    assert (found.classes, found.labels().tolist()) == (("neg", "pos"), [0, 1])


def test_any_tree_of_texts_is_read_without_labels(tmp_path: Path) -> None:
    tree(tmp_path, {"a.txt": "1", "x/y/b.md": "2", ".hidden/c.txt": "3", "d.rst": "4"})
    found = texts(tmp_path, labeled=False)
    assert (found.ids, found.texts, found.images) == (("a.txt", "x/y/b.md"), ["1", "2"], None)


def test_images_beside_texts_do_not_count_and_their_folder_is_no_root(tmp_path: Path) -> None:
    tree(tmp_path, {"images/a.txt": "1", "labels/b.txt": "2"})
    assert texts(tmp_path, labeled=False).texts == ["1", "2"]


def test_files_that_are_no_text_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGEST_TEXT", 100)
    tree(tmp_path, {"a.txt": b"caf\xe9", "b.txt": "", "c.txt": " \n", "d.txt": "x" * 101, "e.txt": "fine"})
    (tmp_path / "f.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "g.txt")
    found = texts(tmp_path, labeled=False)
    assert found.texts == ["fine"]
    assert sorted(kinds(found)) == [
        ("link", "f.txt"),
        ("no text", "b.txt"),
        ("no text", "c.txt"),
        ("not text", "a.txt"),
        ("special file", "g.txt"),
        ("too large", "d.txt"),
    ]


def test_the_mark_at_the_start_of_a_file_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert texts(tree(tmp_path, {"a.txt": b"\xef\xbb\xbfhello"}), labeled=False).texts == ["hello"]


def test_a_folder_without_texts_says_what_was_looked_for(tmp_path: Path) -> None:
    tree(tmp_path, {"a/1.png": "x"})
    with pytest.raises(DataError, match=r"no texts found; expected files ending in \.md, \.txt"):
        texts(tmp_path, labeled=False)


def test_labeled_texts_without_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no subfolders; labeled texts are expected in a folder per class"):
        texts(tree(tmp_path, {"1.txt": "x"}))


def test_a_folder_of_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs are not read from data of this kind \(folder\)"):
        read_samples(str(tree(tmp_path, {"1.txt": "x"})), labeled=False, modality="pair")


def test_a_folder_of_texts_is_streamed_as_it_is_read(tmp_path: Path) -> None:
    tree(tmp_path, {"a.txt": "x\0y", "b.txt": " ", "c.txt": "z"})
    chunks = list(stream_samples(str(tmp_path), modality="text"))
    assert [text for chunk in chunks for text in chunk.texts or ()] == ["x y", "z"]
    assert [each for chunk in chunks for each in kinds(chunk)] == [("characters", "a.txt"), ("no text", "b.txt")]


def test_a_remote_folder_of_texts_is_read(memory: Any) -> None:
    for name, content in {"pos/1.txt": b"good", "neg/2.txt": b"caf\xe9", "neg/3.txt": b"bad"}.items():
        memory.pipe(f"/set/{name}", content)
    found = texts("memory://set")
    assert (found.ids, found.texts, found.classes) == (("neg/3.txt", "pos/1.txt"), ["bad", "good"], ("neg", "pos"))
    assert kinds(found) == [("not text", "neg/2.txt")]


def test_shards_hold_texts_too(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    where = archive(
        tmp_path / "t.tar",
        [
            ("1.txt", "ein Hündchen".encode()),
            ("1.cls", b"dog"),
            ("2.png", picture(2)),
            ("2.json", b'{"text": "b", "text_pair": "c", "label": "cat"}'),
            ("3.png", picture(3)),
            ("3.cls", b"cat"),
        ],
    )
    found = texts(where)
    assert (found.texts, found.classes, found.images) == (["ein Hündchen", f"b{SEPARATOR}c"], ("cat", "dog"), None)
    assert kinds(found) == [("no text", "t.tar/3")]


def test_shards_of_pairs_need_both(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    members = [("1.txt", b"a"), ("2.png", picture(2)), ("3.png", picture(3)), ("3.txt", b"c")]
    found = read_samples(str(archive(tmp_path / "t.tar", members)), labeled=False, modality="pair")
    assert (found.ids, found.texts) == (("t.tar/3",), ["c"])
    assert kinds(found) == [("no image", "t.tar/1"), ("no text", "t.tar/2")]


def test_fields_of_json_members_are_what_a_recipe_says(tmp_path: Path, archive: Archives) -> None:
    where = archive(tmp_path / "t.tar", [("1.json", b'{"premise": "a", "hypothesis": "b", "gold": 1}')])
    found = texts(where, columns={"text": "premise", "text_pair": "hypothesis", "label": "gold"})
    assert (found.texts, found.classes) == ([f"a{SEPARATOR}b"], ("1",))


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def saved(folder: Path, splits: dict[str, list[int]], **columns: str) -> str:
    names = datasets.ClassLabel(names=["no", "yes"])
    strings = dict.fromkeys(columns, datasets.Value("string"))
    features = datasets.Features({**strings, "label": names})
    parts = {
        split: datasets.Dataset.from_dict(
            {
                **{name: [f"{value} {row}" for row in range(len(labels))] for name, value in columns.items()},
                "label": labels,
            },
            features=features,
        )
        for split, labels in splits.items()
    }
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return f"hf:{folder}"


@pytest.mark.usefixtures("_offline")
def test_a_set_of_texts_gives_texts_and_classes(tmp_path: Path) -> None:
    found = texts(saved(tmp_path / "set", {"train": [1, 0]}, text="t"))
    assert (found.texts, [found.classes[number] for number in found.labels()]) == (["t 0", "t 1"], ["yes", "no"])
    assert (found.ids, found.images) == (("train/00000000", "train/00000001"), None)


@pytest.mark.usefixtures("_offline")
def test_columns_of_a_set_are_what_a_recipe_says(tmp_path: Path) -> None:
    where = saved(tmp_path / "set", {"train": [1, 0]}, question="q", passage="p")
    found = texts(where, columns={"text": "question", "text_pair": "passage"})
    assert found.texts == [f"q {row}{SEPARATOR}p {row}" for row in range(2)]


@pytest.mark.usefixtures("_offline")
def test_a_set_without_a_text_column_says_what_may_be_meant(tmp_path: Path) -> None:
    where = saved(tmp_path / "set", {"train": [1, 0]}, question="q", passage="p")
    remedy = r"set data\.columns=\{text: question, text_pair: passage\}"
    with pytest.raises(DataError, match=rf"has no column 'text'; its columns are question, passage, label; {remedy}"):
        texts(where)


@pytest.mark.usefixtures("_offline")
def test_a_column_that_holds_no_texts_is_refused(tmp_path: Path) -> None:
    where = saved(tmp_path / "set", {"train": [1, 0]}, question="q")
    with pytest.raises(DataError, match=r"column label holds no texts; its columns are question \(Value\), label"):
        texts(where, columns={"text": "label"})


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("hidden", [[-1, -1], [1, -1]])
def test_a_test_split_whose_labels_are_hidden_is_passed_over(tmp_path: Path, hidden: list[int]) -> None:
    where = saved(tmp_path / "set", {"train": [1, 0], "test": hidden, "validation": [0, 1]}, text="t")
    found = texts(where, part="test")
    assert found.origin.endswith("(validation)" if hidden == [-1, -1] else "(test)")


def test_texts_of_a_set_need_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the library datasets"):
        texts("hf:a/b")
