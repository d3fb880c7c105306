from __future__ import annotations

import socket
import time
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tutelage.errors import ModelError
from tutelage.models import build_encoder
from tutelage.models.sources import hub

WANTED = ["timm:test_vit", "openclip:ViT-B-32/openai", "hf:someone/something"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub address that answers, if only with an error."""

    class Refuse(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield
        server.shutdown()


@pytest.mark.parametrize("name", WANTED)
def test_without_a_network_the_error_is_quick_and_says_what_to_do(name: str, nobody: None) -> None:
    start = time.monotonic()
    with pytest.raises(
        ModelError, match=r"cannot be reached.*hf download .*HF_HOME.*HF_HUB_OFFLINE=1.*bundled:"
    ) as caught:
        build_encoder(name, pretrained=True)
    assert str(caught.value).startswith(name)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", WANTED)
def test_the_users_own_offline_setting_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        build_encoder(name, pretrained=True)


def test_offline_the_hub_is_not_asked(somebody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.reachable()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not hub.reachable()


def test_a_random_start_does_not_ask_the_hub(nobody: None) -> None:
    build_encoder("timm:test_vit", pretrained=False)


def test_what_is_cached_is_used_when_the_hub_cannot_be_reached(nobody: None, empty_cache: Path) -> None:
    snapshot = empty_cache / "models--someone--something" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert not hub.cached("someone/something")
    (snapshot / "model.safetensors").touch()
    assert hub.cache_only("a name", "someone/something")


def test_a_half_filled_cache_is_told_apart_from_a_broken_model(nobody: None) -> None:
    """open_clip hides the hub's error in the context of its own."""

    def download() -> None:
        try:
            raise LocalEntryNotFoundError("not here")
        except LocalEntryNotFoundError:
            raise RuntimeError("Failed to download")  # noqa: B904

    with pytest.raises(ModelError, match="not complete in the local cache"), hub.failures("a name", "some/thing"):
        download()


def test_a_plain_web_address_that_does_not_answer_is_the_network(nobody: None) -> None:
    with pytest.raises(ModelError, match="cannot be reached"), hub.failures("a name", "http://x"):
        raise urllib.error.URLError("no route")


def test_other_failures_keep_their_reason() -> None:
    with (
        pytest.raises(ModelError, match="a name cannot be built: size mismatch for head"),
        hub.failures("a name", "x"),
    ):
        raise RuntimeError("size mismatch for head")
