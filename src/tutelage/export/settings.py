"""What a run leaves: settings of the exported forms."""

from __future__ import annotations

from pydantic import Field

from tutelage.settings import Settings


class ExportSettings(Settings):
    """Which files a run leaves, and what they are held to.

    Attributes:
        forms: Names of exporters (``tutelage list exporters``); ``onnx`` is always made.
        int8_drop: Largest share of transfer samples on which the INT8 file may name another class than the float
            file; beyond it the INT8 file is not kept.
        latency: Whether student and teacher are timed on this machine.
    """

    forms: tuple[str, ...] = ("onnx",)
    int8_drop: float = Field(default=0.02, ge=0, le=1)
    latency: bool = False
