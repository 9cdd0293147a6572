"""Slots of requests: never more holders than slots, over threads and processes; none are lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cupel.policy.tinker.slots import Slots, slots_folder

HOLDER = """
import sys, threading, pathlib
from cupel.policy.tinker.slots import Slots
with Slots(pathlib.Path(sys.argv[1]), 2).held(threading.Event()):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_no_more_hold_than_there_are_slots(tmp_path: Path) -> None:
    slots, inside, most = Slots(tmp_path / "s", 3), [], []
    lock = threading.Lock()

    def work(number: int) -> bool:
        with slots.held(threading.Event()) as free:
            with lock:
                inside.append(number)
                most.append(len(inside))
            time.sleep(0.002)
            with lock:
                inside.remove(number)
            return free

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert max(most) == 3


def test_another_process_takes_slots_and_its_death_frees_them(tmp_path: Path) -> None:
    slots, stop = Slots(tmp_path, 2), threading.Event()
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with slots.held(stop) as mine:
            assert mine
            stop.set()
            with slots.held(stop) as third:
                assert not third
            stop.clear()
            child.kill()
            child.wait()
            with slots.held(stop) as freed:
                assert freed
    finally:
        child.kill()
        child.communicate()


def test_every_server_has_slots_of_its_own() -> None:
    assert slots_folder("http://a") != slots_folder("http://b")
    assert slots_folder("http://a") == slots_folder("http://a")
