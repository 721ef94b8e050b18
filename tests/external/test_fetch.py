"""Downloads that break off, servers that do not keep their word, and folders instead of them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from pcb.cli.main import main
from pcb.config import Files
from pcb.config.paths import PINS
from pcb.external import download
from pcb.external.catalog import CATALOG
from pcb.external.fetch import fetch
from pcb.external.files import external_file
from tests.file_server import Serving, serve
from tests.tasks import ROOT

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "llamagen"
TARGET = Path("external") / CATALOG[NAME].path
PART = TARGET.with_name(f"{TARGET.name}.part")


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A server of the file that a name of the catalog stands for; nobody waits."""
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(download, "CHUNK", 1024)
    with serve(CONTENT) as serving:
        publish(monkeypatch, serving.url, sha256=SHA256)
        yield serving


def publish(monkeypatch: pytest.MonkeyPatch, url: str, **facts: object) -> None:
    monkeypatch.setitem(CATALOG, NAME, replace(CATALOG[NAME], url=url, **{"bytes": None, **facts}))


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Fetch what cannot be fetched; return the one line that says why."""
    assert fetch(Files(), [NAME]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"pcb: {TARGET}: ")
    assert not TARGET.exists()
    return lines[0]


def test_file_is_downloaded_checked_and_found_again(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(Files(), [NAME]) == 0
    assert TARGET.read_bytes() == CONTENT
    assert external_file(Files(), NAME) == TARGET
    assert [path.name for path in TARGET.parent.iterdir()] == [TARGET.name]
    assert re.search(r"fetch llamagen: 1 MiB in 0:00", capsys.readouterr().out)
    assert fetch(Files(), [NAME]) == 0
    assert len(server.asked) == 1


def test_broken_connections_go_on_where_they_broke(server: Serving) -> None:
    server.cuts += [1000, 0, 3000]
    assert fetch(Files(), [NAME]) == 0
    assert TARGET.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=1000-", "bytes=4000-"]


def test_server_that_keeps_breaking_off_is_given_up(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    server.cuts += [1000] + [0] * 20
    assert "the download broke off (it ended early); the same command resumes" in error_of(capsys)
    assert len(server.asked) == 1 + download.TRIES
    server.cuts.clear()
    assert fetch(Files(), [NAME]) == 0
    assert server.asked[-1] == "bytes=1000-"
    assert TARGET.read_bytes() == CONTENT


def test_server_that_begins_anew_and_breaks_off_is_given_up(server: Serving) -> None:
    server.ranges = False
    server.cuts += [1000, 2000] * 20
    assert fetch(Files(), [NAME]) == 1
    assert len(server.asked) == 2 + download.TRIES


def test_killed_download_goes_on(server: Serving) -> None:
    server.stall = Event()
    code = (
        "from pcb.external import download; import dataclasses\n"
        "from pcb.external.catalog import CATALOG\n"
        "from pcb.external.fetch import fetch; from pcb.config import Files\n"
        "download.CHUNK = 512\n"
        f"source = dataclasses.replace(CATALOG[{NAME!r}], url={server.url!r}, bytes=None)\n"
        f"CATALOG[{NAME!r}] = source; fetch(Files(), [{NAME!r}])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-u", "-c", code], env=environment)
    deadline = time.monotonic() + 20
    while download.size_of(PART) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    server.stall.set()
    server.stall = None
    assert not TARGET.exists()
    start = PART.stat().st_size
    assert 0 < start < len(CONTENT)
    assert fetch(Files(), [NAME]) == 0
    assert TARGET.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={start}-"]


def leave_a_part(server: Serving, bytes: int = 1000) -> None:
    """Break a download off for good."""
    server.cuts += [bytes] + [0] * download.TRIES
    assert fetch(Files(), [NAME]) == 1
    assert PART.stat().st_size == bytes
    server.asked.clear()
    server.cuts.clear()


def test_another_version_on_the_server_is_fetched_from_its_start(server: Serving) -> None:
    leave_a_part(server)
    PART.write_bytes(b"x" * 1000)
    server.tag = '"2"'
    assert fetch(Files(), [NAME]) == 0
    assert server.asked == ["bytes=1000-"]
    assert TARGET.read_bytes() == CONTENT


@pytest.mark.parametrize("lack", ["ranges", "tag"])
def test_server_that_cannot_go_on_sends_the_whole_file(server: Serving, lack: str) -> None:
    if lack == "ranges":
        server.ranges = False
    else:
        server.tag = None
    server.cuts += [1000]
    assert fetch(Files(), [NAME]) == 0
    assert len(server.asked) == 2
    assert TARGET.read_bytes() == CONTENT


def test_part_that_is_too_long_is_dropped(server: Serving) -> None:
    leave_a_part(server)
    PART.write_bytes(b"x" * 2 * len(CONTENT))
    assert fetch(Files(), [NAME]) == 0
    assert TARGET.read_bytes() == CONTENT


def test_whole_part_needs_no_server(server: Serving) -> None:
    leave_a_part(server)
    PART.write_bytes(CONTENT)
    assert fetch(Files(), [NAME]) == 0
    assert server.asked == []
    assert TARGET.read_bytes() == CONTENT


def test_busy_server_is_asked_again(server: Serving) -> None:
    server.statuses += [503, 429]
    assert fetch(Files(), [NAME]) == 0
    assert len(server.asked) == 3


def test_wrong_content_is_refused_and_deleted(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = CONTENT[::-1]
    line = error_of(capsys)
    assert hashlib.sha256(server.content).hexdigest() in line
    assert SHA256 in line
    assert not PART.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"statuses": [404]}, "the server says 404 Not Found"),
        ({"headers": {"Content-Type": "text/html"}}, "the server answers with a web page"),
        ({"length": False}, "the server does not say how long the file is"),
    ],
)
def test_refusal_is_one_line_with_the_ways_out(
    server: Serving,
    options: dict[str, object],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in options.items():
        setattr(server, name, value)
    line = error_of(capsys)
    assert reason in line
    assert f"put there what {server.url} holds (size not published)" in line
    assert f"`pcb fetch {NAME} --from DIR`" in line
    assert len(server.asked) == 1


def test_file_of_another_size_is_not_even_downloaded(
    server: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, server.url, bytes=5)
    assert f"has {len(CONTENT)} bytes where 5 are expected" in error_of(capsys)
    assert PART.exists() is False


def test_first_download_of_a_file_without_hash_is_pinned(
    server: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, server.url, sha256=None)
    assert fetch(Files(), [NAME]) == 0
    assert json.loads(PINS.read_text())[NAME] == {"bytes": len(CONTENT), "sha256": SHA256}
    TARGET.unlink()
    server.content = CONTENT[::-1]
    assert f"delete {NAME} from {PINS}" in error_of(capsys)


def test_without_network_each_file_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT", 60.0)
    with serve(CONTENT) as closed:
        pass
    for name in (NAME, "autoenc"):
        source = replace(CATALOG[name], url=closed.url, bytes=95_600_000)
        monkeypatch.setitem(CATALOG, name, source)
    assert fetch(Files(), [NAME, "autoenc"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, (NAME, "autoenc"), strict=True):
        assert line.startswith(f"pcb: external/{CATALOG[name].path}: 127.0.0.1:")
        assert "cannot be reached" in line
        assert f"{closed.url} holds (95.6 MB)" in line


def test_damaged_file_is_fetched_again(server: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(Files(), [NAME])
    TARGET.write_bytes(CONTENT[::-1])
    assert fetch(Files(), [NAME]) == 0
    assert TARGET.read_bytes() == CONTENT
    assert "fetching it again" in capsys.readouterr().out


def test_full_disk_is_one_line_and_keeps_the_part(
    server: Serving,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.content = b"x" * 300_000
    assert fetch(Files(folder=str(small_disk)), [NAME]) == 1
    assert "300000 more bytes do not fit on this disk" in capsys.readouterr().err
    usage = shutil.disk_usage(small_disk)._replace(free=1 << 30)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert fetch(Files(folder=str(small_disk)), [NAME]) == 1
    line = capsys.readouterr().err
    assert re.match(r"pcb: \S+\.part: no space left; free some, then give the same", line)
    assert (small_disk / CATALOG[NAME].path).with_name(PART.name).stat().st_size > 0


# ---- from a folder ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "some/where", "checkerboardgen/autoenc"])
def test_file_is_found_in_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source = replace(CATALOG["autoenc"], sha256=SHA256)
    monkeypatch.setitem(CATALOG, "autoenc", source)
    for other in ("a", "z", "checkerboard-L-2x"):
        (Path("usb") / other).mkdir(parents=True)
        (Path("usb") / other / source.path.name).write_bytes(b"another file of this name")
    (Path("usb") / place).mkdir(parents=True, exist_ok=True)
    (Path("usb") / place / source.path.name).write_bytes(CONTENT)
    assert fetch(Files(), ["autoenc"], Path("usb")) == 0
    assert external_file(Files(), "autoenc").read_bytes() == CONTENT


def test_released_layout_decides_between_files_of_one_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkerboard-L-2x", "checkerboard-L-4x"):
        monkeypatch.setitem(CATALOG, name, replace(CATALOG[name], sha256=None))
        (Path("usb") / name).mkdir(parents=True)
        (Path("usb") / name / "checkpoint-last.pth").write_text(name)
    assert fetch(Files(), ["checkerboard-L-4x", "checkerboard-L-2x"], Path("usb")) == 0
    for name in ("checkerboard-L-2x", "checkerboard-L-4x"):
        assert external_file(Files(), name).read_text() == name


def test_folder_without_the_right_file_is_one_line(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("usb").mkdir()
    assert fetch(Files(), [NAME], Path("usb")) == 1
    assert f"usb holds no {TARGET.name}; put there what" in capsys.readouterr().err
    (Path("usb") / TARGET.name).write_bytes(CONTENT[::-1])
    assert fetch(Files(), [NAME], Path("usb")) == 1
    line = capsys.readouterr().err
    assert f"usb/{TARGET.name} is another file: its SHA-256 is" in line
    assert not TARGET.exists()
    assert server.asked == []


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def project(folder: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


def test_command_fetches_what_the_preset_needs(
    project: Path, server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "--preset", "mini"]) == 0
    assert capsys.readouterr().out == "preset mini needs no external files\n"
    assert main(["fetch", NAME]) == 0
    assert TARGET.read_bytes() == CONTENT
    assert main(["fetch", "--preset", "paper", "--from", "results"]) == 1
    assert capsys.readouterr().err == "pcb: results: no such folder\n"
    assert main(["fetch", "nothing"]) == 1
    assert "no file 'nothing' is known; there are inception" in capsys.readouterr().err


def test_command_lists_what_is_known(
    project: Path, server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fetch", NAME])
    Path("mine").write_bytes(b"1")
    Path("params.local.yaml").write_text("files: {own: {autoenc: mine}}")
    capsys.readouterr()
    assert main(["fetch", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {*CATALOG, "unreleased:"}
    assert re.search(rf"present +262\.1 kB +{TARGET}  {server.url}", lines[NAME])
    assert re.search(r"own +1 bytes +mine ", lines["autoenc"])
    assert "missing" in lines["inception"]


@pytest.mark.parametrize("length", ["-5", "-0", "1e3", "12 34", "\u0663", "", "0x10"])
def test_length_that_is_no_number_of_bytes_is_refused_at_once(
    server: Serving, capsys: pytest.CaptureFixture[str], length: str
) -> None:
    server.length = False
    server.headers["Content-Length"] = length.encode().decode("latin-1")
    assert "the server does not say how long the file is" in error_of(capsys)
    assert len(server.asked) == 1


def test_pointer_instead_of_a_file_without_published_hash_is_refused(
    server: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, server.url, sha256=None)
    server.content = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    assert "gave another file: is not the file: a Git-LFS pointer" in error_of(capsys)
    assert not PINS.exists()
