"""The recipes of CLIP pretraining pass the check on pairs laid out as downloads leave them."""

from __future__ import annotations

import io
import itertools
import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tutelage.checks import check
from tutelage.methods import METHODS
from tutelage.recipe_reading import headline, load_recipe, parse_setting

FOLDER = Path(__file__).parents[2] / "recipes" / "vfm_kt" / "clip"
PAIRS = {"cc3m": "cc3m_pairs", "yfcc15m": "yfcc15m", "datacomp": "datacomp_small/shards"}
SHARDS, ROWS = 2, 3


def jpeg(generator: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (18, 16, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def about(key: str, caption: str) -> dict[str, Any]:
    """What img2dataset writes beside an image, in part."""
    return {"caption": caption, "url": f"https://somewhere/{key}.jpg", "key": key, "status": "success", "width": 16}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out a little of EuroSAT and of every set of pairs, as README.md says, and go there."""
    generator = np.random.default_rng(0)
    eurosat = tmp_path / "data" / "eurosat"
    (eurosat / "splits").mkdir(parents=True)
    for part, rows in (("train_full", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        lines = []
        for label, row in itertools.product(("Forest", "River"), rows):
            path = eurosat / "images" / label / f"{label}_{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(generator))
            lines.append(f"{path.name},{label}\n")
        (eurosat / "splits" / f"{part}.txt").write_text("".join(lines))
    for place in (*PAIRS.values(), "cc3m_parquet"):
        folder = tmp_path / "data" / place
        folder.mkdir(parents=True)
        for shard in range(SHARDS):
            keys = [f"{shard:05d}{row:04d}" for row in range(ROWS)]
            rows = [(about(key, f"a caption of {key}"), jpeg(generator)) for key in keys]
            table = pa.table({name: [row[name] for row, _ in rows] for name in rows[0][0]})
            if place == "cc3m_parquet":
                table = table.append_column("jpg", pa.array([image for _, image in rows], pa.binary()))
            else:
                with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
                    for row, image in rows:
                        parts = {"jpg": image, "txt": row["caption"].encode(), "json": json.dumps(row).encode()}
                        for ending, content in parts.items():
                            member = tarfile.TarInfo(f"{row['key']}.{ending}")
                            member.size = len(content)
                            tar.addfile(member, io.BytesIO(content))
            pq.write_table(table, folder / f"{shard:05d}.parquet")
            (folder / f"{shard:05d}_stats.json").write_text('{"successes": 3}')
    monkeypatch.chdir(tmp_path)


def commands(name: str) -> list[list[str]]:
    """Return the words of the commands that a recipe's comments print, after its path."""
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    comments = "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    words = [shlex.split(line) for line in comments.replace("\\\n", "").splitlines() if line.startswith("tutelage ")]
    assert all(each[:3] == ["tutelage", "compare", f"recipes/vfm_kt/clip/{name}.yaml"] for each in words)
    return [each[3:] for each in words]


def test_every_recipe_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == PAIRS.keys()


@pytest.mark.parametrize("name", PAIRS)
def test_a_recipe_has_what_the_source_states(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    assert (recipe.clip.steps, recipe.clip.batch_size, recipe.clip.learning_rate) == (200_000, 65_536, 5e-4)
    assert (recipe.method, recipe.start, recipe.student) == ("clip-mimic", "random", "timm:fastvit_s12")


@pytest.mark.parametrize("method", ["clip-mimic", "clip"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_recipe_passes_the_check_on_pairs_laid_out_as_stated(name: str, method: str, layout: None) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", headline(labels=2, device="cpu", method=method)))
    assert data.pairs is not None
    assert data.pairs.texts is not None
    assert (len(data.pairs), data.pairs.texts[0]) == (SHARDS * ROWS, "a caption of 000000000")
    assert "pairs" not in data.problems
    assert (recipe.views.student_size, recipe.views.teacher_size, recipe.views.size) == (256, 224, 256)


def test_cc3m_may_be_parquet(layout: None) -> None:
    changes = headline(labels=2, device="cpu") | {"data.pairs": "data/cc3m_parquet/*.parquet"}
    data, _ = check(load_recipe(FOLDER / "cc3m.yaml", changes))
    assert data.pairs is not None
    assert data.pairs.texts is not None
    assert (len(data.pairs), data.pairs.texts[-1]) == (SHARDS * ROWS, "a caption of 000010002")


@pytest.mark.parametrize("name", PAIRS)
def test_commands_teach_each_student_as_the_source_does(name: str) -> None:
    found = {}
    for words in commands(name):
        flags = dict(zip(words[::2], words[1::2], strict=True))
        settings = dict([parse_setting(flags["--set"])]) if "--set" in flags else {}
        recipe = load_recipe(FOLDER / f"{name}.yaml", {**settings, "method": flags["--methods"]})
        found[recipe.student] = recipe.method
        assert METHODS[recipe.method].pairing is not None
    assert found == {"timm:fastvit_s12": "clip-mimic", "timm:mobilevitv2_100": "clip"}
