from __future__ import annotations

import datetime
import functools
import http.server
import importlib
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import Pictures


def content(samples: Samples) -> list[bytes]:
    assert samples.images is not None
    return [image.read() for image in samples.images if isinstance(image, Stored)]


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            made.addfile(header, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """One S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an empty bucket, named data."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("data")
    yield store
    store.rm("data", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """Give each store, and the URL of an empty place in it."""
    return request.getfixturevalue(request.param), f"{request.param}://data"


Store = tuple[Any, str]


def put(store: Store, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        store[0].pipe(f"data/{name}" if store[1].startswith("s3") else f"/data/{name}", data)


def test_a_folder_per_class_is_read(store: Store, picture: Pictures) -> None:
    put(store, {"t/dog/1.png": picture(1), "t/cat/x/2.png": picture(2), "t/notes.txt": b"", "t/top.png": b""})
    found = read_samples(f"{store[1]}/t", labeled=True)
    assert (found.ids, found.classes, found.labels().tolist()) == (
        ("cat/x/2.png", "dog/1.png"),
        ("cat", "dog"),
        [0, 1],
    )
    assert content(found) == [picture(2), picture(1)]


def test_any_tree_is_read_without_labels(store: Store) -> None:
    put(store, {"t/b.png": b"2", "t/a/1.png": b"1", "t/.hidden/1.png": b"", "t/a/._1.png": b"", "tt/1.png": b""})
    found = read_samples(f"{store[1]}/t/", labeled=False)
    assert (found.ids, content(found)) == (("a/1.png", "b.png"), [b"1", b"2"])


def test_shards_are_read_in_place(store: Store, picture: Pictures) -> None:
    for shard in range(2):
        put(store, {f"t/{shard}.tar": tar({"1.png": picture(shard), "1.cls": b"ab"[shard : shard + 1]})})
    for form in ("t", "t/*.tar", "t/{0..1}.tar"):
        found = read_samples(f"{store[1]}/{form}", labeled=True)
        assert (found.ids, found.classes) == (("0.tar/1", "1.tar/1"), ("a", "b"))
        assert content(found) == [picture(0), picture(1)]


def test_a_table_is_read_with_the_images_beside_it(store: Store, picture: Pictures) -> None:
    put(store, {"t/x/1.png": picture(1), "t/t.csv": b"image,label\nx/1.png,a\ngone.png,a\n"})
    found = read_samples(f"{store[1]}/t/t.csv", labeled=True)
    assert (found.ids, content(found), kinds(found)) == (("x/1.png",), [picture(1)], [("vanished", "gone.png")])


def test_a_parquet_is_read_in_place(store: Store, picture: Pictures) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [picture(n) for n in range(3)], "label": [1, 0, 1]}), file, row_group_size=2)
    put(store, {"t.parquet": file.getvalue()})
    found = read_samples(f"{store[1]}/t.parquet", labeled=True)
    assert (found.classes, content(found)) == (("0", "1"), [picture(n) for n in range(3)])


def test_a_list_names_images_of_a_store(store: Store, picture: Pictures) -> None:
    put(store, {"lists/train.txt": b"1.png,lake\n1.png,alley\n", "t/lake/1.png": picture(1), "t/alley/1.png": b""})
    found = read_samples(f"list:{store[1]}/lists/train.txt@{store[1]}/t", labeled=True)
    assert (found.ids, content(found)) == (("lake/1.png", "alley/1.png"), [picture(1), b""])


@pytest.mark.parametrize("what", ["none", "none.csv", "none.tar"])
def test_what_is_not_there_is_named(store: Store, what: str) -> None:
    with pytest.raises(DataError, match=rf"{store[1]}/{what}: is not there"):
        check_data(f"{store[1]}/{what}")


def test_what_is_there_passes(store: Store) -> None:
    put(store, {"t/1.png": b"", "t.csv": b"image\n", "t.tar": tar({})})
    for what in ("t", "t.csv", "t.tar"):
        check_data(f"{store[1]}/{what}")


def test_a_changed_image_changes_the_fingerprint(store: Store) -> None:
    put(store, {"t/1.png": b"1", "t/2.png": b"2"})
    before = read_samples(f"{store[1]}/t", labeled=False).fingerprint
    assert read_samples(f"{store[1]}/t", labeled=False).fingerprint == before
    put(store, {"t/2.png": b"3"})
    assert read_samples(f"{store[1]}/t", labeled=False).fingerprint != before


def test_an_image_that_is_gone_is_named(store: Store) -> None:
    put(store, {"t/1.png": b"1"})
    found = read_samples(f"{store[1]}/t", labeled=False)
    store[0].rm(f"{store[1]}/t/1.png")
    with pytest.raises(DataError, match=rf"{store[1]}/t/1\.png: is not there \(any more\)"):
        content(found)


def test_the_marks_that_browsers_leave_for_folders_are_no_images(s3: Any) -> None:
    s3.pipe("data/t/a.png/", b"")
    s3.pipe("data/t/b.png", b"")
    assert read_samples("s3://data/t", labeled=False).ids == ("b.png",)


def test_only_the_bytes_of_an_image_are_fetched_from_a_shard(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/t.tar", tar({"1.png": b"x" * 100}))
    found = read_samples("memory://t.tar", labeled=False)
    asked: list[Any] = []
    fetch = memory.cat_file
    monkeypatch.setattr(
        type(memory), "cat_file", lambda self, path, **span: asked.append(span) or fetch(path, **span)
    )
    content(found)
    assert asked == [{"start": 512, "end": 612}]


def test_labeled_images_without_class_folders_are_refused(memory: Any) -> None:
    memory.pipe("/t/1.png", b"")
    with pytest.raises(DataError, match="memory://t: has no subfolders"):
        read_samples("memory://t", labeled=True)


@pytest.mark.parametrize("cell", ["/etc/passwd", "../x.png", "file:///etc/passwd", "zip://a.png::file:///b.zip"])
def test_a_remote_table_names_nothing_of_this_machine(memory: Any, cell: str) -> None:
    memory.pipe("/t/1.png", b"")
    memory.pipe("/t/t.csv", f"image\n{cell}\n1.png\n".encode())
    found = read_samples("memory://t/t.csv", labeled=False)
    assert (found.ids, kinds(found)) == (("1.png",), [("unsafe path", cell)])


def test_a_local_table_may_name_images_of_a_store(memory: Any, tmp_path: Any, picture: Pictures) -> None:
    memory.pipe("/t/1.png", picture(1))
    (tmp_path / "t.csv").write_text("image\nmemory://t/1.png\n")
    found = read_samples(str(tmp_path / "t.csv"), labeled=False)
    assert (found.ids, content(found)) == (("memory://t/1.png",), [picture(1)])


def test_a_store_nobody_knows_is_answered_with_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown kind of store 's4'; did you mean 's3'"):
        check_data("s4://data")


@pytest.mark.parametrize(("url", "remedy"), [("s3://data", r"pip install 'tutelage\[s3\]'"), ("gs://data", "gcsfs")])
def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch, url: str, remedy: str) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    loaded = importlib.import_module("fsspec.registry")._registry
    for protocol in ("s3", "gs"):
        monkeypatch.delitem(loaded, protocol, raising=False)
    with pytest.raises(DataError, match=f"{url}: the driver for .* is not installed; .*{remedy}"):
        check_data(url)


def test_stamps_without_an_entity_tag_have_size_and_time(memory: Any) -> None:
    memory.pipe("/t/1.png", b"abc")
    found = read_samples("memory://t", labeled=False)
    assert found.images is not None
    assert isinstance(found.images[0], Stored)
    created = memory.info("/t/1.png")["created"]
    assert found.images[0].stamp().startswith("3,")
    assert str(created.timestamp() if isinstance(created, datetime.datetime) else created) in found.images[0].stamp()


def test_a_store_that_refuses_says_so(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError("Access Denied")

    memory.pipe("/t/1.png", b"")
    monkeypatch.setattr(type(memory), "ls", refuse)
    with pytest.raises(DataError, match=r"memory://t: cannot be read \(Access Denied\); check its rights"):
        read_samples("memory://t", labeled=False)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that knows no ranges."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_table_on_the_web_names_images_beside_it(web: tuple[Path, str], picture: Pictures) -> None:
    (web[0] / "1.png").write_bytes(picture(1))
    (web[0] / "t.csv").write_text("image,label\n1.png,a\n")
    found = read_samples(f"{web[1]}/t.csv", labeled=True)
    assert (found.ids, content(found)) == (("1.png",), [picture(1)])


def test_shards_on_a_web_server_without_ranges_are_read(web: tuple[Path, str], picture: Pictures) -> None:
    (web[0] / "t.tar").write_bytes(tar({"1.png": picture(1), "2.png": picture(2)}))
    assert content(read_samples(f"{web[1]}/t.tar", labeled=False)) == [picture(1), picture(2)]


def test_a_folder_listed_by_a_web_server_is_read(web: tuple[Path, str], picture: Pictures) -> None:
    for name in ("a", "b"):
        (web[0] / name).mkdir()
        (web[0] / name / "1.png").write_bytes(picture(1))
    assert read_samples(web[1], labeled=True).classes == ("a", "b")
