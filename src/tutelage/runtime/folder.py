"""Where the exported file of a finished model is."""

from __future__ import annotations

from pathlib import Path

from tutelage.errors import ModelError

EXACT, SMALL = "model.onnx", "model.int8.onnx"


def find_onnx(path: Path, *, int8: bool = False) -> Path:
    """Return the ONNX file that ``path`` names: itself, or the one in a model folder or in a run folder.

    Args:
        path: A run folder, the ``model/`` in it, or a file.
        int8: Whether the quantized file is wanted.

    Raises:
        ModelError: There is none.
    """
    name = SMALL if int8 else EXACT
    if path.suffix == ".onnx":
        found = path.with_name(SMALL) if int8 and path.name == EXACT else path
        if found.is_file():
            return found
        raise ModelError(f"{found}: no such file; give a run folder, its model/ folder, or an .onnx file")
    if not path.is_dir():
        what = "is no .onnx file and no folder" if path.exists() else "no such folder"
        raise ModelError(f"{path}: {what}; give a run folder, its model/ folder, or an .onnx file")
    for folder in (path / "model", path):
        if (folder / name).is_file():
            return folder / name
    if int8 and any((folder / EXACT).is_file() for folder in (path / "model", path)):
        raise ModelError(f"{path}: holds no {SMALL}; make it with: tutelage export {path} --form int8")
    raise ModelError(
        f"{path}: holds no {name}, here or in model/; is the run finished? the command that made it resumes it"
    )
