"""The server of the review page: for one person at this machine, and for no other page that the browser has open."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import socketserver
import sys
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, get_args

from tutelage.curation.review.state import Review
from tutelage.curation.suspects import Decision
from tutelage.errors import DataError, RunError

ADDRESS = "127.0.0.1"

LARGEST = 1024
"""Bytes that a decision may take."""

PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "review.js": ("review.js", "text/javascript; charset=utf-8"),
}
"""The page's files by what is asked for, and their types."""

PICTURE = re.compile(r"pictures/([0-9]{1,8})(?:/([0-9]{1,2}))?")
"""A suspect by its number, or one of the images that it is like."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # The address holds the token.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""


class ReviewServer(ThreadingHTTPServer):
    """Serves a review on the loopback interface alone.

    Args:
        review: What is served.
        port: 0 for any that is free.

    Attributes:
        review: What is served.
        token: Every request's path begins with it.
        hosts: What the browser may take this server for; a name of someone else's that leads here (DNS rebinding) is
            not among them.

    Raises:
        RunError: The port cannot be had.
    """

    daemon_threads = True

    def __init__(self, review: Review, port: int = 0) -> None:
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise RunError(
                f"port {port} cannot be had ({error.strerror}); choose another --port, or 0 for any that is free"
            ) from error
        self.review = review
        self.token = secrets.token_urlsafe(24)
        # Browsers leave the port of plain HTTP out.
        suffix = "" if self.server_port == 80 else f":{self.server_port}"
        self.hosts = (f"{ADDRESS}{suffix}", f"localhost{suffix}")

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind, without asking name servers for this machine's name as the library would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a page that was closed before its answer came."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ReviewServer
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page, what it shows, or a picture."""
        place = self._place()
        if place is None:
            return
        review = self.server.review
        if place in PAGE:
            name, kind = PAGE[place]
            self._answer(HTTPStatus.OK, (files(__package__) / "page" / name).read_bytes(), kind)
        elif place == "review.json":
            suspects = [asdict(suspect) for suspect in review.suspects]
            self._json({"run": str(review.run), "suspects": suspects, "decisions": review.decisions()})
        elif match := PICTURE.fullmatch(place):
            self._picture(int(match[1]), None if match[2] is None else int(match[2]))
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:
        """Save a decision, or end the review."""
        # Read whatever is answered: a connection that is closed with something unread loses the answer.
        body = self._body()
        place = self._place()
        if place is None:
            return
        origins = self.headers.get_all("Origin", [])
        if len(origins) != 1 or origins[0] not in [f"http://{host}" for host in self.server.hosts]:
            self._say(HTTPStatus.FORBIDDEN, "Only the review page itself may decide.")
        elif place not in ("decisions", "done"):
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
        elif body is None:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {LARGEST} bytes, with their number, are read.")
        elif self.headers.get_content_type() != "application/json":
            self._say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON.")
        elif place == "done":
            self._end()
        else:
            self._decide(body)

    def _place(self) -> str | None:
        """Return what is asked for, below the token; or refuse, and return ``None``."""
        hosts = self.headers.get_all("Host", [])
        token, slash, place = self.path.removeprefix("/").partition("/")
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            self._say(HTTPStatus.FORBIDDEN, "This server answers to its own address alone.")
        elif not (slash and hmac.compare_digest(token.encode(), self.server.token.encode())):
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here; use the whole address that the command shows.")
        else:
            return place
        return None

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LARGEST:
            return None
        return self.rfile.read(int(length))

    def _picture(self, number: int, near: int | None) -> None:
        suspects = self.server.review.suspects
        if number >= len(suspects) or (near is not None and near >= len(suspects[number].nearest)):
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
            return
        suspect = suspects[number]
        try:
            content, kind = self.server.review.pictures.of(suspect if near is None else suspect.nearest[near])
        except DataError as error:
            self._say(HTTPStatus.NOT_FOUND, str(error))
            return
        self._answer(HTTPStatus.OK, content, kind)

    def _decide(self, body: bytes) -> None:
        review = self.server.review
        decision = _decision(body, len(review.suspects))
        if decision is None:
            self._say(HTTPStatus.BAD_REQUEST, 'Send {"suspect": its number, "decision": "leak", "fine" or null}.')
            return
        try:
            review.decide(*decision)
        except RunError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        self._json({"decisions": review.decisions()})

    def _end(self) -> None:
        if left := self.server.review.count()["left"]:
            self._say(HTTPStatus.CONFLICT, f"{left} are left to decide.")
            return
        self._json({})
        self.server.shutdown()

    def _json(self, data: object) -> None:
        self._answer(HTTPStatus.OK, json.dumps(data).encode(), "application/json")

    def _say(self, status: HTTPStatus, text: str) -> None:
        content = text.encode("utf-8", "backslashreplace")
        self._answer(status, content, "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request for this server, in plain text as all else."""
        self._say(HTTPStatus(code), HTTPStatus(code).phrase)

    def version_string(self) -> str:
        """Return the name of the server, without versions."""
        return "tutelage"

    def log_message(self, *_: object) -> None:
        """Keep quiet: the terminal is for what the person at it should know."""


def _decision(body: bytes, suspects: int) -> tuple[int, Decision | None] | None:
    """Return the number of a suspect and what was decided, or ``None`` if this is no decision."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.keys() != {"suspect", "decision"}:
        return None
    number, decision = data["suspect"], data["decision"]
    if type(number) is not int or not 0 <= number < suspects:
        return None
    if decision is not None and decision not in get_args(Decision):
        return None
    return number, decision


def serve(review: Review, *, port: int = 0, ready: Callable[[str], None]) -> None:
    """Serve the review page until all is decided and the person says so.

    Args:
        review: What is served.
        port: 0 for any that is free.
        ready: Called with the page's address, once it answers there.

    Raises:
        RunError: The port cannot be had.
        KeyboardInterrupt: The person ended it before; all that was decided is saved.
    """
    with ReviewServer(review, port) as server:
        ready(server.url)
        server.serve_forever(poll_interval=0.1)
