from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutelage.errors import RunError
from tutelage.run import MANIFEST, SCHEMA, Run, fingerprint_of, open_run, write_json, write_whole


class Work:
    """Counts its calls; leaves a file, and remembers what it found in its folder."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self.calls, self.fails = 0, fails
        self.found: set[str] = set()

    def __call__(self, folder: Path):
        self.calls += 1
        self.found = {path.name for path in folder.iterdir()} - {"inputs.json"}
        (folder / "partial.txt").write_text("so far")
        if self.fails:
            raise self.fails
        return {"accuracy": 0.5, "classes": ["a", "b"]}, {"seconds": 1.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def stage(folder: Path, work: Work, inputs=None, **options):
    with open_run(folder) as run:
        return run.stage("fit", {"epochs": 3} if inputs is None else inputs, work, **options)


def test_a_finished_stage_is_not_run_again(folder: Path) -> None:
    stage(folder, Work())
    again = Work()
    assert stage(folder, again).reused
    assert again.calls == 0


def test_a_stage_that_runs_is_not_called_reused(folder: Path) -> None:
    assert not stage(folder, Work()).reused


@pytest.mark.parametrize("part", ["results", "cost", "fingerprint", "folder", "name"])
def test_a_reused_stage_is_what_it_was(folder: Path, part: str) -> None:
    assert getattr(stage(folder, Work()), part) == getattr(stage(folder, Work()), part)


def test_a_changed_input_runs_the_stage_again(folder: Path) -> None:
    stage(folder, Work())
    again = Work()
    stage(folder, again, {"epochs": 4})
    assert again.calls == 1


def test_a_changed_input_clears_the_folder(folder: Path) -> None:
    stage(folder, Work())
    again = Work()
    stage(folder, again, {"epochs": 4})
    assert again.found == set()


def test_an_interrupted_stage_is_run_again(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(folder, Work(KeyboardInterrupt()))
    again = Work()
    assert not stage(folder, again).reused
    assert again.calls == 1


def test_an_interrupted_stage_finds_what_it_left(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(folder, Work(KeyboardInterrupt()))
    again = Work()
    stage(folder, again)
    assert again.found == {"partial.txt"}


def test_an_interrupted_stage_with_other_inputs_finds_nothing(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(folder, Work(KeyboardInterrupt()))
    again = Work()
    stage(folder, again, {"epochs": 4})
    assert again.found == set()


def test_a_rerun_that_is_interrupted_is_not_taken_for_finished(folder: Path) -> None:
    # The first manifest must not survive the second attempt.
    stage(folder, Work())
    with pytest.raises(KeyboardInterrupt):
        stage(folder, Work(KeyboardInterrupt()), {"epochs": 4})
    assert not stage(folder, Work(), {"epochs": 4}).reused
    assert not stage(folder, Work()).reused


def test_a_stage_whose_output_is_gone_is_run_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.bin"
    output.touch()
    stage(folder, Work(), outputs=[output])
    output.unlink()
    assert not stage(folder, Work(), outputs=[output]).reused


def test_a_stage_whose_outputs_are_there_is_not_run_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.bin"
    output.touch()
    stage(folder, Work(), outputs=[output])
    assert stage(folder, Work(), outputs=[output]).reused


def test_stage_folders_are_numbered_in_order(folder: Path) -> None:
    with open_run(folder) as run:
        names = [run.stage(name, {}, Work()).folder.name for name in ("data", "fit")]
    assert names == ["01-data", "02-fit"]


def test_stages_of_another_name_have_another_fingerprint(folder: Path) -> None:
    with open_run(folder) as run:
        assert run.stage("a", {}, Work()).fingerprint != run.stage("b", {}, Work()).fingerprint


def test_a_process_that_does_not_write_leaves_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "01-fit").mkdir()
    Run(tmp_path, writes=False).stage("fit", {}, Work())
    assert not (tmp_path / "01-fit" / MANIFEST).exists()


@pytest.fixture
def locked(folder: Path) -> Iterator[Path]:
    script = (
        "import sys, pathlib, tutelage.run as r\n"
        "with r.open_run(pathlib.Path(sys.argv[1])):\n    print('open', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield folder
        process.stdin.close()
        process.wait()


def test_a_folder_in_which_another_process_writes_is_refused(locked: Path) -> None:
    with pytest.raises(RunError, match="another process is writing here"), open_run(locked):
        pass


def test_a_folder_is_free_again_once_closed(folder: Path) -> None:
    with open_run(folder):
        pass
    with open_run(folder) as run:
        assert run.stages == []


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(RunError, match="not a run folder"), open_run(tmp_path):
        pass


def test_a_folder_that_is_refused_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(RunError), open_run(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="not a run folder"), open_run(tmp_path / "file"):
        pass


def test_an_empty_folder_can_become_a_run(tmp_path: Path) -> None:
    assert not stage(tmp_path, Work()).reused


def test_a_stage_of_a_newer_version_is_refused(folder: Path) -> None:
    manifest = stage(folder, Work()).folder / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": SCHEMA + 1}))
    with pytest.raises(RunError, match="newer version"):
        stage(folder, Work())


@pytest.mark.parametrize("content", ["", '{"schema": 1, "finger', "[]", "{}", "null"])
def test_a_damaged_manifest_is_reported(folder: Path, content: str) -> None:
    manifest = stage(folder, Work()).folder / MANIFEST
    manifest.write_text(content)
    with pytest.raises(RunError, match="remove its folder to run the stage again"):
        stage(folder, Work())


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_with_a_damaged_stamp_a_stage_starts_from_an_empty_folder(folder: Path, content: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage(folder, Work(KeyboardInterrupt()))
    (folder / "01-fit" / "inputs.json").write_text(content)
    again = Work()
    stage(folder, again)
    assert again.found == set()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"\x00new")
    assert (tmp_path / "file").read_bytes() == b"\x00new"


def test_a_file_replaces_the_old_one(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old and long")
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was there before the disk filled up."""
    (tmp_path / "file").write_text("old")

    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    return tmp_path / "file"


def test_a_write_that_fails_keeps_the_old_content(full_disk: Path) -> None:
    with pytest.raises(RunError):
        write_whole(full_disk, "new")
    assert full_disk.read_text() == "old"


def test_a_write_that_fails_leaves_no_temporary_file(full_disk: Path) -> None:
    with pytest.raises(RunError):
        write_whole(full_disk, "new")
    assert list(full_disk.parent.iterdir()) == [full_disk]


def test_a_write_that_fails_says_why(full_disk: Path) -> None:
    with pytest.raises(RunError, match="No space left on device"):
        write_whole(full_disk, "new")


def test_a_rename_that_fails_leaves_things_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")

    def replace(self: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RunError, match="Input/output error"):
        write_whole(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"loss": float("nan")})


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint_of({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint_of({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize("other", [{"a": 2}, {"a": [1]}, {"a": "1"}, {"a": None}, {"b": 1}, {}])
def test_fingerprints_depend_on_everything_else(other) -> None:
    assert fingerprint_of({"a": 1}) != fingerprint_of(other)
