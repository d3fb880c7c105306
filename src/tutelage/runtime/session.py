"""ONNX Runtime sessions: the one place that opens an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.errors import ModelError


def open_session(file: Path, threads: int | None = None) -> Any:
    """Open an ONNX file on the CPU.

    Args:
        file: The file; it is read whole, and may go away afterwards.
        threads: How many threads compute; ONNX Runtime's choice where not given.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors share no root but Exception.
    except Exception as error:
        raise ModelError(f"{file}: no ONNX model, or damaged ({first_line(error)}); export it again") from error


def first_line(error: Exception) -> str:
    """Return the beginning of what a library says, which may run over many lines."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
