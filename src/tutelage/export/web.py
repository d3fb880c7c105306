"""The web form: a page that runs the model in any browser, from any server of files, and sends nothing anywhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tutelage.errors import ExportError
from tutelage.export.web_runtime import FILES, VERSION, find_runtime
from tutelage.run import write_json, write_whole
from tutelage.runtime import Classifier, Segmenter, open_model

PAGE = ("style.css", "app.js", "index.html")
"""The page; what makes it one comes last."""

LICENSES = f"""\
The model (model.onnx): see MODEL_CARD.md in the folder that this one was made in.

The page (index.html, style.css, app.js): Tutelage, Apache License 2.0.

ONNX Runtime Web {VERSION} ({", ".join(FILES)}): MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_web(folder: Path, *, runtime: Path | None = None) -> Path:
    """Write ``web/`` into a model folder: a page, the model and what runs it; serve it with any server of files.

    Args:
        folder: The model folder, with ``model.onnx``.
        runtime: A folder with onnxruntime-web; fetched by npm, once, where not given.

    Returns:
        The folder ``web/``.

    Raises:
        ModelError: There is no ``model.onnx``, or it is damaged.
        ExportError: The model gives masks or reads texts, what runs it cannot be had, or ``web/`` cannot be made.
        RunError: A file cannot be written.
    """
    model = open_model(folder / "model.onnx", threads=1)
    if isinstance(model, Segmenter):
        raise ExportError(
            f"{model.file}: tells the class of every pixel, and the page shows those of whole images; leave web out, "
            "and use model.onnx with ONNX Runtime"
        )
    if model.modality != "image":
        raise ExportError(
            f"{model.file}: reads texts, and the page shows images; leave web out, and use model.onnx with ONNX "
            "Runtime and the tokenizer beside it"
        )
    found = find_runtime(runtime)
    web = folder / "web"
    try:
        web.mkdir(exist_ok=True)
        # An older page must not meet newer files.
        (web / "index.html").unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{web}: cannot be written ({error.strerror}); choose another --out") from error
    for name in FILES:
        write_whole(web / name, (found / name).read_bytes())
    write_whole(web / "model.onnx", model.file.read_bytes())
    write_whole(web / "LICENSES.txt", LICENSES)
    write_json(web / "about.json", {"title": _title(model), "classes": list(model.classes)})
    for name in PAGE:
        write_whole(web / name, (files("tutelage.export") / "web_page" / name).read_bytes())
    return web


def _title(model: Classifier) -> str:
    student = model.provenance.get("student")
    return student.rsplit(":", 1)[-1] if isinstance(student, str) and student else "Classifier"
