"""The cache of scores: what was written comes back bit for bit, or the file is named as damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cupel.errors import DataError
from cupel.policy.distribution_cache import DistributionCache, key_of

WRITER = """
import sys
from pathlib import Path
import numpy as np
from cupel.policy.distribution_cache import DistributionCache, key_of
cache = DistributionCache(Path(sys.argv[1]))
for at in range(int(sys.argv[2])):
    keys = [key_of("shared", str(at * 20 + each), ()) for each in range(20)]
    cache.put_many({key: np.array([float(at), 1.5]) for key in keys})
    print(at, flush=True)
"""


def entries(count: int, *, seed: int = 0) -> dict[bytes, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        key_of("space", f"prompt {at}", ("a", "b")): rng.normal(size=int(rng.integers(1, 9)))
        for at in range(count)
    }


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_put_comes_back(tmp_path: Path, on_disk: bool) -> None:
    cache = DistributionCache(tmp_path / "deep" / "scores.sqlite" if on_disk else None)
    put = entries(1200)
    assert cache.get_many(list(put)) == [None] * 1200
    cache.put_many(put)
    for found, want in zip(cache.get_many(list(put)), put.values(), strict=True):
        assert found is not None
        assert found.tobytes() == want.tobytes()
    assert len(cache) == 1200
    assert cache.get_many([b"unknown"]) == [None]


def test_another_process_finds_it_and_a_small_memory_loses_nothing(tmp_path: Path) -> None:
    path, put = tmp_path / "scores.sqlite", entries(50)
    first = DistributionCache(path, memory_entries=7)
    first.put_many(put)
    first.close()
    second = DistributionCache(path, memory_entries=3)
    keys = list(put)
    found = second.get_many([*keys, *keys])
    assert [each.tobytes() for each in found if each is not None] == [
        put[key].tobytes() for key in [*keys, *keys]
    ]


def test_arrays_cannot_be_changed_behind_its_back() -> None:
    cache = DistributionCache(None)
    mine = np.array([1.0, 2.0])
    cache.put_many({b"key": mine})
    mine[0] = 9.0
    [found] = cache.get_many([b"key"])
    assert found is not None
    assert found.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 3.0


def test_the_first_writer_keeps_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    one, other = DistributionCache(path), DistributionCache(path)
    one.put_many({b"key": np.array([1.0])})
    other.put_many({b"key": np.array([2.0])})
    [found] = DistributionCache(path).get_many([b"key"])
    assert found is not None
    assert found.tolist() == [1.0]


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    command = [sys.executable, "-c", WRITER, str(path), "40"]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    cache = DistributionCache(path)
    assert len(cache) == 800
    [found] = cache.get_many([key_of("shared", "799", ())])
    assert found is not None
    assert found.tolist() == [39.0, 1.5]


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    command = [sys.executable, "-c", WRITER, str(path), "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    cache = DistributionCache(path)
    assert len(cache) >= 100
    assert len(cache) % 20 == 0
    cache.put_many(entries(3))


def test_keys_tell_texts_and_their_borders_apart() -> None:
    made = {
        key_of("s", "ab", ("c",)),
        key_of("s", "a", ("bc",)),
        key_of("s", "a", ("b", "c")),
        key_of("sa", "b", ("c",)),
        key_of("s", "ab", ("c", "")),
        key_of("s", "abc", ()),
    }
    assert len(made) == 6
    assert {len(key) for key in made} == {16}


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    cache = DistributionCache(path)
    cache.put_many(entries(3))
    cache.close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE scores SET scores = zeroblob(16)")
    with pytest.raises(DataError, match=r"scores\.sqlite: entry [0-9a-f]{32} is damaged; delete"):
        DistributionCache(path).get_many(list(entries(3)))


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"x" * 9]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"scores\.sqlite: cannot be used as a cache"):
        DistributionCache(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE theirs (value)")
    with pytest.raises(DataError, match="of another program"):
        DistributionCache(path)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be used as a cache"):
        DistributionCache(tmp_path)
