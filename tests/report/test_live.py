"""The live page: only what is new is read and sent, on this machine only, by its own name only."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.errors import UsageError
from cupel.lab.files import write_atomically
from cupel.report.live import ReportServer, open_server
from cupel.report.live.page import LivePage
from cupel.report.live.rows import GrowingRows
from cupel.report.live.study import StudyWatch
from cupel.report.view import load_view


def line(step: int, value: float = 0.5) -> str:
    return json.dumps({"step": step, "correct_rate": value}) + "\n"


def test_a_line_counts_when_its_newline_is_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    growing = GrowingRows(path)
    assert not growing.look()
    path.write_text(line(0) + line(1)[:-4])
    assert growing.look()
    assert [row["step"] for row in growing.rows] == [0]
    path.write_text(line(0) + line(1))
    assert growing.look()
    assert [row["step"] for row in growing.rows] == [0, 1]
    assert not growing.look()


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step) for step in range(1000)))
    growing = GrowingRows(path)
    growing.look()
    parsed: list[int] = []
    from cupel.report.live import rows

    parse = rows.parse_json_lines
    monkeypatch.setattr(
        rows, "parse_json_lines", lambda p, data: parsed.append(len(data)) or parse(p, data)
    )
    with path.open("a") as handle:
        handle.write(line(1000))
    assert growing.look()
    assert parsed == [len(line(1000))]
    assert len(growing.rows) == 1001


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(0, 1)), max_size=8),
    st.integers(0, 40),
)
def test_a_resumed_run_is_read_as_its_file_stands(
    changes: list[tuple[int, int, float]], torn: int
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        growing = GrowingRows(path)
        lines: list[str] = []
        for cut, more, value in changes:
            lines = lines[: max(0, len(lines) - cut)]  # back to a checkpoint, and on from there
            lines += [line(len(lines) + step, value) for step in range(more)]
            with path.open("w" if cut else "a") as handle:
                handle.write("".join(lines) if cut else "".join(lines[len(lines) - more :]))
            os.utime(path, ns=(0, id(lines) + len(growing.rows)))
            growing.look()
            assert growing.rows == [json.loads(text) for text in lines]
        if torn and lines:
            path.write_text("".join(lines) + line(99)[: min(torn, len(line(99)) - 1)])
            growing.look()
            assert growing.rows == [json.loads(text) for text in lines]


def test_a_damaged_line_is_told_and_a_repaired_file_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(0) + "{nonsense\n" + line(1))
    growing = GrowingRows(path)
    assert growing.look()
    assert growing.problem is not None
    assert "not strict JSON" in growing.problem
    write_atomically(path, (line(0) + line(1)).encode())
    os.truncate(path, 0)
    growing.look()
    path.write_text(line(0))
    assert growing.look()
    assert growing.problem is None


def test_a_watched_study_is_the_study_that_a_fresh_look_finds(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    folder = synthetic.write_study(tmp_path / "s", running=True, judged=False)
    watch = StudyWatch(folder)
    assert not watch.look()
    run = folder / "runs" / "maxrl+gtpo_sepa_s202"
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    with (run / "metrics.jsonl").open("a") as handle:
        handle.write(rows[-1].replace('"step": 19', '"step": 20'))
    assert watch.look()
    (run / "result.json").write_text('{"values": {}}')
    assert watch.look()
    shown, fresh = watch.view(), load_view(folder)
    assert [(each.status, len(each.rows)) for each in shown.runs] == [
        (each.status, len(each.rows)) for each in fresh.runs
    ]


@pytest.fixture
def running(synthetic: ModuleType, tmp_path: Path) -> Path:
    """A study with a run in the middle."""
    folder: Path = synthetic.write_study(tmp_path / "s", running=True, judged=False)
    return folder


def test_only_what_differs_is_sent(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupel.report.live.page._REST_S", 0.0)
    page = LivePage(running)
    first = json.loads(page.changes({}, {"correct_rate": "", "no-such-figure": ""}))
    assert first["running"] is True
    assert list(first["figures"]) == ["correct_rate"]
    assert set(first["pieces"]) == set(first["order"])
    have = {name: piece["digest"] for name, piece in first["pieces"].items()}
    drawn = {"correct_rate": first["figures"]["correct_rate"]["digest"]}
    again = json.loads(page.changes(have, drawn))
    assert again["pieces"] == {}
    assert again["figures"] == {}
    with (running / "runs" / "maxrl+gtpo_sepa_s202" / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 20, "correct_rate": 0.875}\n')
    news = json.loads(page.changes(have, drawn))
    assert "runs" in news["pieces"]
    assert not {"header", "verdict", "legend", "plan"} & set(news["pieces"])
    found = {
        (run["c"], run["seed"]): run["y"] for run in news["figures"]["correct_rate"]["data"]["runs"]
    }
    assert found["maxrl+gtpo_sepa", 202][-1] == 0.875


def test_a_file_that_cannot_be_read_keeps_the_page(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupel.report.live.page._REST_S", 0.0)
    page = LivePage(running)
    (running / "manifest.json").write_text("{")
    answer = json.loads(page.changes({}, {}))
    assert "not strict JSON" in answer["problem"]
    assert "runs" in answer["pieces"]


@pytest.fixture
def server(running: Path) -> Iterator[ReportServer]:
    """The study served."""
    (running / "secret.txt").write_text("not for everybody")
    found = open_server(running)
    thread = threading.Thread(target=found.serve)
    thread.start()
    yield found
    found.close()
    thread.join()


def ask(server: ReportServer, path: str, *, method: str = "GET", host: str | None = None) -> Any:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    connection.request(method, path, headers={"Host": host or address.netloc})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_serves_the_page_and_forbids_every_other_address(server: ReportServer) -> None:
    status, body, headers = ask(server, "/")
    assert status == 200
    assert "connect-src 'self'" in body
    assert "default-src 'none'" in body
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/changes")[0] == 200
    assert ask(server, "/", method="HEAD")[1] == ""


@pytest.mark.parametrize(
    "path",
    ["/secret.txt", "/runs/", "/runs", "/../secret.txt", "/%2e%2e/study.toml", "/study.toml"],
)
def test_lists_and_gives_no_files(server: ReportServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert "not for everybody" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("localhost.evil.example", 403),
        ("", 403),
    ],
)
def test_answers_only_to_its_own_names(server: ReportServer, host: str, status: int) -> None:
    if host:
        assert ask(server, "/changes", host=host)[0] == status
        return
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=10)
    connection.putrequest("GET", "/", skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_changes_nothing(server: ReportServer, method: str) -> None:
    assert ask(server, "/", method=method)[0] == 501


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_other_machines_only_when_asked_for(running: Path, host: str) -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        open_server(running, host=host)


def test_a_port_that_is_taken_is_told(server: ReportServer, running: Path) -> None:
    with pytest.raises(UsageError, match="give another port"):
        open_server(running, port=int(urlsplit(server.url).port or 0))


def test_writes_nothing(server: ReportServer, running: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in running.rglob("*")}
    for path in ("/", "/changes", "/report.html"):
        assert ask(server, path)[0] == 200
    assert {path: path.stat().st_mtime_ns for path in running.rglob("*")} == before
