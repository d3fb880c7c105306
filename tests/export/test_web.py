from __future__ import annotations

import functools
import hashlib
import html.parser
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data.pixels import decode_pixels
from tutelage.errors import ExportError, ModelError
from tutelage.export import export_onnx
from tutelage.export.graph import Deployable
from tutelage.export.web import write_web
from tutelage.export.web_runtime import FILES, PACKAGE, find_runtime
from tutelage.runtime import Classifier, softmax

HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)", 'quote "x"', "Käse")

CLOSE = 1e-4
"""Of probabilities, between two builds of ONNX Runtime."""

JPEG = 0.02
"""Of probabilities, where the browser's decoder may round pixels otherwise than Pillow's."""

# Runs the real page in a frame, hands it one picture after the other as if chosen, and posts what it says. The
# image at the end holds the load event back, so that a screenshot shows the last answer.
HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" style="border:0;display:block;margin:0 auto;width:WIDTH;height:HEIGHTpx"></iframe>
<script type="module">
import { decode, pixels } from "/app.js";
const post = (data) => fetch("/post", { method: "POST", body: JSON.stringify(data) });
addEventListener("unhandledrejection", (event) => post({ error: String(event.reason) }));
addEventListener("error", (event) => post({ error: event.message }));
const frame = document.getElementById("frame");
await new Promise((done) => {
  frame.onload = done;
  frame.src = "/index.html";
});
const page = frame.contentDocument;
const violations = [];
page.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
const answers = {};
const digests = {};
const digest = async (blob) => {
  const { data, height, width } = pixels(await decode(blob));
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [height, width, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")];
};
for (const name of NAMES) {
  const blob = await (await fetch("/" + name)).blob();
  digests[name] = await digest(blob).catch((error) => String(error));
  const files = new DataTransfer();
  files.items.add(new File([blob], name, { type: blob.type }));
  const answer = new Promise((done) => {
    page.addEventListener("tutelage:answer", (event) => done(event.detail), { once: true });
    page.addEventListener("tutelage:failure", (event) => done({ failure: event.detail }), { once: true });
  });
  page.getElementById("file").files = files.files;
  page.getElementById("file").dispatchEvent(new Event("change"));
  answers[name] = { ...(await answer), status: page.getElementById("status").textContent };
}
const bars = [...page.querySelectorAll("#bars li span:first-child")].map((each) => each.textContent);
const elements = [...page.querySelectorAll("body *")].map((each) => each.localName);
const wide = page.documentElement.scrollWidth;
await post({ answers, digests, bars, elements, violations, wide, title: page.title });
</script><img src="/hold" alt="">"""


class Seen(NamedTuple):
    """What the page said, and the pictures that it was shown."""

    page: dict[str, Any]
    expected: np.ndarray
    names: list[str]
    folder: Path


@pytest.fixture(scope="module")
def runtime() -> Path:
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which fetches the runtime")
    return find_runtime()


@pytest.fixture(scope="module")
def web(tiny: Any, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = tiny(interpolation="bicubic", crop=0.9)
    spread(model)
    provenance = json.dumps({"student": "timm:test_efficientnet"})
    export_onnx(model, folder / "model.onnx", classes=HOSTILE, metadata={"provenance": provenance})
    return write_web(folder, runtime=runtime)


def spread(model: Any) -> None:
    """Make answers of random weights depend on the picture: logits about 0, and some apart."""
    with torch.no_grad():
        deployable = Deployable(model.eval())
        logits = torch.cat([deployable(torch.from_numpy(smooth(64, 64, 3, seed))[None]) for seed in range(8)])
        scale = 2 / logits.std(0).max()
        model.head.linear.weight *= scale
        model.head.linear.bias.copy_((model.head.linear.bias - logits.mean(0)) * scale)


def smooth(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Pixels with the slopes of a photo, so that cutting or resizing them elsewhere shows."""
    coarse = np.random.default_rng(seed).random((height // 9 + 2, width // 9 + 2, channels))
    planes = [Image.fromarray(np.uint8(255 * coarse[..., plane])) for plane in range(channels)]
    return np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], 2)


def save_pictures(folder: Path) -> list[str]:
    color = Image.fromarray(smooth(123, 77, 3, 0))
    alpha = Image.fromarray(smooth(64, 99, 4, 1))
    palette = color.quantize(40)
    palette.info["transparency"] = 3
    rotated = Image.Exif()
    rotated[0x0112] = 6
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "color.png": (color, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (palette, {"transparency": 3}),
        "gray.png": (color.convert("L"), {}),
        "gray-alpha.png": (alpha.convert("LA"), {}),
        "bits.png": (color.convert("1"), {}),
        "dot.png": (color.crop((0, 0, 1, 1)), {}),
        "strip.png": (Image.fromarray(smooth(7, 301, 3, 2)), {}),
        "large.png": (Image.fromarray(smooth(2100, 2301, 3, 3)), {"compress_level": 1}),
        "profile.png": (color, {"icc_profile": display_p3()}),
        "turned.png": (color, {"exif": rotated}),
        "photo.jpg": (Image.fromarray(smooth(333, 250, 3, 4)), {"quality": 90, "exif": rotated}),
        "rough.jpg": (Image.fromarray(smooth(97, 131, 3, 5)), {"quality": 40}),
    }
    for name, (picture, how) in pictures.items():
        picture.save(folder / name, **how)
    return list(pictures)


def display_p3() -> bytes:
    """A profile that a page which applied it would show: sRGB with red and blue exchanged."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, and keeps what is posted; ``/hold`` waits for that."""

    posted: dict[str, Any] | None = None
    done = threading.Event()


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.done.set()
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path == "/hold":
            self.server.done.wait(100)
            self.send_error(404)
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., dict[str, Any]]]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs a browser: chromium")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --hide-scrollbars"

    def run(folder: Path, names: list[str], *, width: str = "100%", size: str = "1200,900") -> dict[str, Any]:
        work = tmp_path_factory.mktemp("browser")
        height = size.split(",")[1]
        page = HARNESS.replace("NAMES", json.dumps(names)).replace("WIDTH", width).replace("HEIGHT", height)
        (folder / "harness.html").write_text(page)
        server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        server.done = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            subprocess.run(
                [
                    *(browser, *flags.split(), f"--user-data-dir={work}/profile", f"--screenshot={work}/page.png"),
                    *(f"--window-size={size}", f"http://127.0.0.1:{server.server_port}/harness.html"),
                ],
                capture_output=True,
                timeout=120,
                check=True,
            )
        finally:
            server.shutdown()
            server.server_close()
        assert server.posted is not None, "the page said nothing"
        assert "error" not in server.posted, server.posted
        return {**server.posted, "screenshot": work / "page.png"}

    return run


@pytest.fixture(scope="module")
def seen(web: Path, browse: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(web, folder, dirs_exist_ok=True)
    names = save_pictures(folder)
    (folder / "broken.png").write_bytes((folder / "color.png").read_bytes()[:60])
    page = browse(folder, ["broken.png", *names])
    expected = softmax(Classifier(web / "model.onnx", threads=1).logits([folder / name for name in names]))
    return Seen(page, expected, names, folder)


def difference(seen: Seen, suffix: str) -> dict[str, float]:
    pairs = zip(seen.names, seen.expected, strict=True)
    return {
        name: float(np.abs(np.array(seen.page["answers"][name]["probabilities"]) - row).max())
        for name, row in pairs
        if name.endswith(suffix)
    }


def middle(pixels: np.ndarray) -> list[Any]:
    """The square in the middle, or one pixel more where that leaves an even rest on both sides."""
    short = min(pixels.shape[:2])
    height, width = (short + (side - short) % 2 for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    square = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    return [height, width, hashlib.sha256(square).hexdigest()]


def test_pixels_of_every_png_are_those_of_python(seen: Seen) -> None:
    expected = {name: middle(decode_pixels(seen.folder / name)) for name in seen.names if name.endswith(".png")}
    assert {name: seen.page["digests"][name] for name in expected} == expected


def test_every_png_is_answered_as_python_does(seen: Seen) -> None:
    assert {name: gap for name, gap in difference(seen, ".png").items() if gap > CLOSE} == {}


def test_jpegs_are_answered_nearly_so(seen: Seen) -> None:
    assert {name: gap for name, gap in difference(seen, ".jpg").items() if gap > JPEG} == {}


def test_the_pictures_are_told_apart(seen: Seen) -> None:
    # Otherwise the page could answer anything and be close.
    assert np.ptp(seen.expected, axis=0).max() > 0.1


def test_class_names_are_only_text(seen: Seen) -> None:
    assert sorted(seen.page["bars"]) == sorted(HOSTILE)
    assert not {"img", "script"} & set(seen.page["elements"])


def test_the_page_keeps_to_its_own_policy(seen: Seen) -> None:
    assert seen.page["violations"] == []


def test_a_broken_picture_is_told(seen: Seen) -> None:
    assert seen.page["answers"]["broken.png"]["status"].startswith("broken.png: this browser cannot read it")


def test_the_page_is_called_like_the_model(seen: Seen) -> None:
    assert seen.page["title"] == "test_efficientnet"


def test_a_phone_shows_it_without_scrolling_sideways(
    web: Path, browse: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(web, tmp_path, dirs_exist_ok=True)
    save_pictures(tmp_path)
    assert browse(tmp_path, ["color.png"], width="390px", size="600,1100")["wide"] <= 390


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value is not None]


def test_all_that_the_page_names_lies_beside_it(web: Path) -> None:
    links = Links()
    links.feed((web / "index.html").read_text())
    assert [link for link in links.found if link != "data:," and not (web / link).is_file()] == []
    assert all((web / name).is_file() for name in (*FILES, "model.onnx", "about.json"))


def test_a_folder_with_the_package_needs_no_npm(runtime: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "")
    installed = tmp_path / "node_modules" / PACKAGE / "dist"
    shutil.copytree(runtime, installed)
    assert find_runtime(tmp_path) == installed


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match=r"needs npm.*install npm, or.*--runtime"):
        find_runtime()


def test_another_package_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text('#!/bin/sh\nwhile [ "$1" != --pack-destination ]; do shift; done\necho other > "$2/other.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ExportError, match="SHA-512"):
        find_runtime()
    assert list((tmp_path / "cache" / "web").iterdir()) == []


def test_an_empty_folder_is_no_runtime(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"npm install {PACKAGE}"):
        find_runtime(tmp_path)


def test_a_folder_without_a_model_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx: no such file"):
        write_web(tmp_path)
    assert list(tmp_path.iterdir()) == []
