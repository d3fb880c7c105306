"""What a recipe says about the store."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tutelage.cache import cache_folder
from tutelage.settings import Settings

GB = 10**9


class StoreSettings(Settings):
    """Where packed images and teacher targets are kept, and how large they may become.

    Attributes:
        folder: A folder that runs share; the cache folder (``TUTELAGE_CACHE``, or ``~/.cache/tutelage``) if not
            given. ``run`` keeps them beside the run.
        max_gb: Most that the folder may hold, in units of 10⁹ bytes. Stores that no run has open make room, the
            longest unused first; what still does not fit is decoded, or run through the teacher, live.
    """

    folder: str | None = None
    max_gb: float = Field(default=20.0, ge=0)

    @property
    def max_bytes(self) -> int:
        """The budget in bytes."""
        return int(self.max_gb * GB)

    def root(self, run: Path) -> Path:
        """Return the folder of all stores, for a run in the given folder."""
        if self.folder is None:
            return cache_folder("store")
        return run / "store" if self.folder == "run" else Path(self.folder).expanduser()
