"""``tutelage doctor``: whether this machine has what Tutelage needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False) -> None:
    """Show versions, devices and bundled models, and say what is missing."""
    import shutil

    import torch

    from tutelage.cli.console import print_json
    from tutelage.errors import ModelError
    from tutelage.models.sources import SOURCES
    from tutelage.run import versions

    found: dict[str, str] = versions()
    found["cpu"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    found["free disk"] = f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB in {Path.cwd()}"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found["gpu"] = ", ".join(gpus) or "none; training runs on the CPU"
    missing = []
    for name in SOURCES["bundled"].names():
        try:
            SOURCES["bundled"].check(name, pretrained=True, size=None)
            found[f"bundled:{name}"] = "installed"
        except ModelError as error:
            found[f"bundled:{name}"] = "not installed"
            missing.append(str(error))
    hub = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    found["model hub"] = "offline (HF_HUB_OFFLINE is set)" if hub else "asked when a model needs it"
    if as_json:
        print_json({"found": found, "optional": missing})
        return
    for name, value in found.items():
        typer.echo(f"{name:26} {value}")
    for line in missing:
        typer.echo(f"optional: {line}")
