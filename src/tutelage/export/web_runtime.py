"""ONNX Runtime Web, which runs a model in the browser: fetched once by npm, its hash checked, and kept."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tutelage.cache import cache_folder
from tutelage.errors import ExportError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as npm's lock files give it."""

FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page with one thread on the CPU needs of it."""

PATIENCE = 600.0
"""Seconds that npm may take."""


def find_runtime(given: Path | None = None) -> Path:
    """Return the folder that holds ``FILES``.

    Args:
        given: A folder with the package: installed (``node_modules``), unpacked, or its ``dist``. Where not given,
            npm fetches the version that Tutelage was tested with into ``$TUTELAGE_CACHE`` (``~/.cache/tutelage``).

    Raises:
        ExportError: The package is not in ``given``, cannot be fetched, or is not the one expected.
    """
    if given is not None:
        for folder in (given / "node_modules" / PACKAGE / "dist", given / "dist", given):
            if _is_whole(folder):
                return folder
        raise ExportError(f"{given}: holds no {PACKAGE}; run there: npm install {PACKAGE}@{VERSION}")
    cache = cache_folder("web")
    kept = cache / f"{PACKAGE}-{VERSION}"
    if not _is_whole(kept):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as work:
                unpacked = _fetch(Path(work))
                if not _is_whole(kept):  # another process may have been faster, and be reading there
                    shutil.rmtree(kept, ignore_errors=True)
                    unpacked.replace(kept)
        except OSError as error:
            if not _is_whole(kept):
                raise ExportError(
                    f"{cache}: cannot be written ({error.strerror}); set TUTELAGE_CACHE to a folder that can"
                ) from error
    return kept


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _fetch(work: Path) -> Path:
    """Fetch, check and unpack the package in ``work``; return the folder with its files."""
    npm = shutil.which("npm")
    instead = f"or install {PACKAGE}@{VERSION} on another machine and name its folder (--runtime)"
    if npm is None:
        raise ExportError(f"the web form needs npm, which fetches {PACKAGE}; install npm, {instead}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent", "--pack-destination", str(work)]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"npm could not fetch {PACKAGE} in {PATIENCE:.0f} s; try again, {instead}") from error
    archives = list(work.glob("*.tgz"))
    if done.returncode or not archives:
        said = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
        raise ExportError(f"npm could not fetch {PACKAGE} ({said}); is there a network? try again, {instead}")
    content = archives[0].read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise ExportError(
            f"npm's {PACKAGE}-{VERSION} is not the package that Tutelage knows (SHA-512); do not use it"
        )
    unpacked = work / "unpacked"
    unpacked.mkdir()
    with tarfile.open(archives[0]) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise ExportError(f"{PACKAGE}-{VERSION}: dist/{name} is no file")
            (unpacked / name).write_bytes(member.read())
    return unpacked
