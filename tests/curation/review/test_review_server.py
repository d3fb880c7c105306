"""What the server refuses, and what it never says."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tutelage.curation.review.server import LARGEST, ReviewServer
from tutelage.errors import RunError

if TYPE_CHECKING:
    from tests.curation.review.conftest import Made, Served

    Make, Serve = Callable[..., Made], Callable[[Made], Served]


@pytest.fixture
def found(make: Make, served: Serve) -> Served:
    return served(make())


def test_it_listens_on_loopback_alone(found: Served) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", found.server.server_port))


def test_a_port_that_is_taken_is_told(found: Served) -> None:
    with pytest.raises(RunError, match=r"cannot be had.*--port"):
        ReviewServer(found.review, found.server.server_port)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", None, "two"])
def test_it_answers_to_its_own_address_alone(found: Served, host: str | None) -> None:
    own = found.server.hosts[0]
    given = f"{own}\nevil.example" if host == "two" else host and host.format(port=found.server.server_port)
    assert found.ask("GET", "review.json", Host=given)[0] == 403
    assert found.decide(0, "leak", Host=given) == 403
    assert found.review.decisions() == [None] * 4


def test_localhost_is_its_address_too(found: Served) -> None:
    assert found.ask("GET", "", Host=f"localhost:{found.server.server_port}")[0] == 200


@pytest.mark.parametrize("place", ["", "review.json", "review.js", "pictures/0"])
@pytest.mark.parametrize("root", ["/", "//", "/wrong/", "/{token}x/", "/{short}/", "/x/{token}/", "/%C3/", "/\xe9/"])
def test_nothing_is_told_without_the_token(found: Served, root: str, place: str) -> None:
    token = found.server.token
    assert found.ask("GET", place, root=root.format(token=token, short=token[:-1]))[0] == 404


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://{own}", "http://localhost", "two"])
def test_only_its_own_page_decides(found: Served, origin: str | None) -> None:
    own = found.server.hosts[0]
    given = f"http://{own}\nhttp://evil.example" if origin == "two" else origin and origin.format(own=own)
    assert found.decide(0, "leak", Origin=given) == 403
    assert found.review.decisions() == [None] * 4


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b" " * (LARGEST + 1), {}, 413),
        (b"{}", {"Content_Length": None}, 413),
        (b"{}", {"Content_Length": "-1"}, 413),
        (b"{}", {"Content_Length": "x"}, 413),
        (b'{"suspect": 0, "decision": "leak"}', {"Content_Type": "text/plain"}, 415),
        (b'{"suspect": 0, "decision": "leak"}', {"Content_Type": None}, 415),
        (b"", {}, 400),
        (b"[" * LARGEST, {}, 400),
        (b"\xff", {}, 400),
        (b"[]", {}, 400),
        (b'{"suspect": 0}', {}, 400),
        (b'{"suspect": 0, "decision": "leak", "more": 1}', {}, 400),
        (b'{"suspect": 4, "decision": "leak"}', {}, 400),
        (b'{"suspect": -1, "decision": "leak"}', {}, 400),
        (b'{"suspect": true, "decision": "leak"}', {}, 400),
        (b'{"suspect": 0.0, "decision": "leak"}', {}, 400),
        (b'{"suspect": "0", "decision": "leak"}', {}, 400),
        (b'{"suspect": 0, "decision": "maybe"}', {}, 400),
        (b'{"suspect": 0, "decision": ["leak"]}', {}, 400),
    ],
)
def test_what_is_no_decision_is_refused(
    found: Served, body: bytes, headers: dict[str, str | None], status: int
) -> None:
    assert found.ask("POST", "decisions", body, **headers)[0] == status
    assert found.review.decisions() == [None] * 4


@pytest.mark.parametrize(
    "place",
    [
        *("pictures", "pictures/", "pictures/4", "pictures/-1", "pictures/0/5", "pictures/0/0/0", "pictures/%30"),
        *("pictures/../review.json", "../review.js", "..%2freview.js", "page/review.js", "server.py", "decisions"),
        *("/etc/passwd", "review.json?x", "index.html", "pictures/a.png"),
    ],
)
def test_what_is_not_part_of_the_page_is_not_there(found: Served, place: str) -> None:
    assert found.ask("GET", place)[0] == 404


def test_a_review_ends_when_all_is_decided_and_not_before(found: Served) -> None:
    assert found.ask("POST", "done", b"{}")[0] == 409
    assert found.thread.is_alive()
    for number in range(4):
        assert found.decide(number, "fine") == 200
    assert found.ask("POST", "done", b"{}")[0] == 200
    found.thread.join(30)
    assert not found.thread.is_alive()


@pytest.mark.parametrize(
    ("method", "place"), [("GET", ""), ("GET", "pictures/0"), ("GET", "nothing"), ("PUT", ""), ("POST", "nothing")]
)
def test_every_answer_says_how_it_may_be_used(found: Served, method: str, place: str) -> None:
    _, _, headers = found.ask(method, place)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Server"] == "tutelage"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")


def test_pictures_are_small(make: Make, served: Serve) -> None:
    from tests.curation.review.conftest import save_image

    made = make()
    save_image(made.folder.parent / "gallery" / "a.png", (1600, 800))
    status, content, headers = served(made).ask("GET", "pictures/0")
    assert (status, headers["Content-Type"], content[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    assert len(content) < 100_000


def test_the_page_gets_the_suspects_and_what_is_decided(found: Served) -> None:
    found.decide(1, "leak")
    data = json.loads(found.ask("GET", "review.json")[1])
    assert [suspect["id"] for suspect in data["suspects"]] == ["a.png", "b.png", "c.png", "d.png"]
    assert data["decisions"] == [None, "leak", None, None]
