"""Following: backfill, tail, resume, going back, and the ends of a follower."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from cupel.errors import DataError, UsageError
from cupel.report.trackers import FollowOptions, follow
from cupel.report.trackers.names import names_of
from cupel.report.trackers.opening import opener
from cupel.report.trackers.protocol import TrackedRun
from cupel.report.trackers.run_follower import RunFollower
from cupel.report.trackers.state import AlreadyFollowed, take_over
from tests.report.trackers.run_files import (
    end_run,
    line,
    lines,
    make_run,
    row,
    shown_numbers,
    state,
    tensorboard_rows,
)

real = time.sleep
ONCE = FollowOptions(tracker="tensorboard", follow=False)


def send(folder: Path, options: FollowOptions = ONCE) -> list[str]:
    """Follow, and return what was said."""
    said: list[str] = []
    follow(folder, options, say=said.append)
    return said


def steps(folder: Path) -> list[int]:
    return [step for step, _ in tensorboard_rows(folder)]


def test_tensorboard_shows_every_number_under_its_documented_name(tmp_path: Path) -> None:
    rows = [row(step) for step in range(30)]
    folder = make_run(tmp_path / "run", rows, status="done")
    send(folder)
    assert tensorboard_rows(folder) == [(one["step"], shown_numbers(one)) for one in rows]


def test_the_state_file_says_how_far_it_is(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "maxrl_s42", [row(step) for step in range(5)])
    send(folder)
    found = state(folder, "tensorboard")
    size = (folder / "metrics.jsonl").stat().st_size
    assert (found["offset"], found["last_step"], found["rows"]) == (size, 4, 5)
    assert (found["name"], found["ended"], found["pid"]) == ("maxrl_s42", None, os.getpid())


def test_a_second_follower_sends_only_what_is_new_into_the_same_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0), row(1)])
    send(folder)
    first = state(folder, "tensorboard")["run_id"]
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(lines([row(2), row(3)]))
    assert send(folder) == [f"run: tensorboard run {first} continues behind step 1"]
    assert steps(folder) == [0, 1, 2, 3]


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    whole = line(row(1))
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(whole[:-1])
    send(folder)
    assert steps(folder) == [0]
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(whole[-1:])
    send(folder)
    assert steps(folder) == [0, 1]


def test_a_line_longer_than_a_read_is_taken_whole(tmp_path: Path) -> None:
    long = row(1) | {"note": "x" * (3 << 20)}
    folder = make_run(tmp_path / "run", [row(0), long, row(2)])
    send(folder)
    assert steps(folder) == [0, 1, 2]


@pytest.mark.parametrize("step", ["true", "1.5", '"3"', "null"])
def test_a_step_that_is_no_whole_number_is_refused_by_name(tmp_path: Path, step: str) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(f'{{"step":{step}}}\n'.encode())
    with pytest.raises(DataError, match="every row needs a whole number 'step'"):
        send(folder)
    assert steps(folder) == [0]


def test_a_damaged_line_stops_its_run_and_no_other(tmp_path: Path) -> None:
    study = tmp_path / "study"
    bad = make_run(study / "runs" / "a_s1", [row(0)])
    good = make_run(study / "runs" / "b_s1", [row(0), row(1)])
    with (bad / "metrics.jsonl").open("ab") as handle:
        handle.write(b'{"step": 1, "loss":\n' + line(row(2)))
    with pytest.raises(DataError, match=r"a_s1/metrics\.jsonl .*not strict JSON"):
        send(study)
    assert (steps(bad), steps(good)) == ([0], [0, 1])


def test_what_was_sent_is_not_read_again(tmp_path: Path) -> None:
    """All rows but the last become unreadable, and the follower does not see it."""
    folder = make_run(tmp_path / "run", [row(step) for step in range(50)])
    send(folder)
    path = folder / "metrics.jsonl"
    data = path.read_bytes()
    last = data[:-1].rfind(b"\n") + 1
    path.write_bytes(b"?" * last + data[last:] + line(row(50)))
    send(folder)
    assert steps(folder) == list(range(51))


def test_one_name_for_several_runs_is_refused(tmp_path: Path) -> None:
    for name in ("a_s1", "b_s1"):
        make_run(tmp_path / "study" / name, [row(0)])
    with pytest.raises(UsageError, match="2 runs, and one name"):
        send(tmp_path / "study", FollowOptions(tracker="tensorboard", follow=False, run_name="one"))


def rewrite(folder: Path, kept: int, again: list[dict[str, object]]) -> None:
    """Cut a run's rows back to the first `kept` and write others behind, as a resume does."""
    path = folder / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]) + lines(again))


@pytest.mark.parametrize("shorter_first", [True, False])
@pytest.mark.parametrize(
    ("again", "told"),
    [
        ([row(step) for step in range(3, 9)], None),
        (
            [row(step, attempt=1) for step in range(3, 9)],
            "0 are the same, 3 differ in timings, 0 in results",
        ),
        (
            [row(step) | {"loss": 7.0} for step in range(3, 9)],
            "0 are the same, 0 differ in timings, 3 in results; --restart sends the run anew",
        ),
    ],
    ids=["same bytes", "other timings", "other results"],
)
def test_rows_written_again_by_a_resumed_run_are_compared_and_not_sent_twice(
    tmp_path: Path, again: list[dict[str, object]], told: str | None, shorter_first: bool
) -> None:
    folder = make_run(tmp_path / "run", [row(step) for step in range(6)])
    send(folder)
    sent = tensorboard_rows(folder)
    if shorter_first:
        rewrite(folder, 3, [])
        send(folder)
        assert tensorboard_rows(folder) == sent
        again = again[:3]
        told = None  # a follower that ended in between has nothing left to compare with
    rewrite(folder, 3, again)
    said = " ".join(send(folder))
    assert tensorboard_rows(folder)[:6] == sent
    assert steps(folder) == list(range(6 if shorter_first else 9))
    assert (told in said) if told is not None else "written again" not in said
    size = (folder / "metrics.jsonl").stat().st_size
    assert state(folder, "tensorboard")["offset"] == size


def test_a_follower_that_sees_the_cut_compares_what_is_written_afterwards(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(step) for step in range(6)])
    run = TrackedRun(folder=folder, name="run", run_id="id", project="p")
    held = take_over(folder, "tensorboard", {"project": "p", "entity": None, "mode": "local"})
    follower = RunFollower(
        run,
        held,
        opener("tensorboard"),
        metrics=folder / "metrics.jsonl",
        names=names_of("rlvr.train"),
    )
    assert follower.poll() == 6
    rewrite(folder, 2, [])
    assert follower.poll() == 0
    rewrite(folder, 2, [row(2), row(3, attempt=1), row(4) | {"loss": 7.0}])
    assert follower.poll() == 0
    seen = follower.rewritten
    assert (seen.same, seen.timing, seen.other) == (1, 1, 1)
    rewrite(folder, 5, [row(5), row(6)])
    assert follower.poll() == 1
    assert follower.rewritten.same == 2
    follower.close(ended=None)
    assert steps(folder) == list(range(7))


def test_a_file_cut_and_grown_between_two_looks_is_noticed(tmp_path: Path) -> None:
    """The file is longer than before, so its size alone does not tell."""
    folder = make_run(tmp_path / "run", [row(step) for step in range(6)])
    send(folder)
    rewrite(folder, 2, [row(step, attempt=1) for step in range(2, 20)])
    said = " ".join(send(folder))
    assert "4 differ in timings" in said
    assert steps(folder) == list(range(20))


def test_a_step_that_comes_again_in_the_same_file_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0), row(1), row(0), row(1), row(2)])
    assert "2 rows repeat a step of the file" in " ".join(send(folder))
    assert steps(folder) == [0, 1, 2]


def test_a_restart_begins_another_run_with_all_rows(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0), row(1)])
    send(folder)
    first = state(folder, "tensorboard")["run_id"]
    send(folder, FollowOptions(tracker="tensorboard", follow=False, restart=True))
    second = state(folder, "tensorboard")["run_id"]
    assert second != first
    files = sorted((folder / "tensorboard").iterdir())
    assert len(files) == 2
    files = [path for path in files if first in path.name]
    files[0].unlink()
    assert steps(folder) == [0, 1]


def test_evaluations_ride_on_the_row_of_their_step_and_the_last_follows_the_end(
    tmp_path: Path,
) -> None:
    folder = make_run(tmp_path / "run", [row(0), row(1)])
    evaluations = [{"step": 0, "seed": 42, "accuracy": 0.25}, {"step": 2, "accuracy": 0.5}]
    (folder / "evaluations.jsonl").write_bytes(lines(evaluations))
    send(folder)
    assert [values.get("eval/accuracy") for _, values in tensorboard_rows(folder)] == [0.25, None]
    end_run(folder)
    send(folder)
    send(folder)
    assert tensorboard_rows(folder)[2:] == [(2, {"step": 2.0, "eval/accuracy": 0.5})]


def test_a_study_is_followed_run_by_run_and_new_runs_join(tmp_path: Path) -> None:
    study = tmp_path / "study"
    make_run(study / "runs" / "a_s1", [row(0), row(1)], status="done")
    options = FollowOptions(tracker="tensorboard", poll_seconds=0.01, idle_timeout_seconds=0.2)
    late = study / "runs" / "b_s1"
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("a_s1"):  # a run appears while the study is followed
            make_run(study / "runs" / "c_s1", [])
            make_run(late, [row(0), row(1), row(2)], status="done")

    found = follow(study, options, say=say)
    assert [(run.folder.name, run.sent, run.ended) for run in found] == [
        ("a_s1", 2, "done"),
        ("b_s1", 3, "done"),
    ]
    assert said[-1] == "nothing new for 0.2 s; stopping"


def test_a_follower_ends_with_its_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)], status="done")
    began = time.monotonic()
    (run,) = follow(folder, FollowOptions(tracker="tensorboard"), say=print)
    assert run.ended == "done"
    assert time.monotonic() - began < 4.0  # neither a poll of 5 s nor the idle timeout


def test_a_complete_run_is_left_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)], status="done")
    send(folder)
    (path,) = (folder / "tensorboard").iterdir()
    before = path.stat().st_mtime_ns
    assert send(folder) == []
    assert path.stat().st_mtime_ns == before


def test_a_run_that_failed_a_while_ago_ends_its_follower_and_a_new_attempt_continues(
    tmp_path: Path,
) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    failed = {"status": "failed", "ended_at": "2020-01-01T00:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps(failed))
    (run,) = follow(folder, FollowOptions(tracker="tensorboard"), say=print)
    assert run.ended == "failed"
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(line(row(1)))
    end_run(folder)
    (run,) = follow(folder, FollowOptions(tracker="tensorboard"), say=print)
    assert (run.ended, steps(folder)) == ("done", [0, 1])


def test_a_sign_of_life_is_no_idleness(tmp_path: Path) -> None:
    """A step of a quarter of an hour must not end the follower."""
    folder = make_run(tmp_path / "run", [row(0)])
    beat = folder / "heartbeat.json"
    beat.write_text("{}")
    options = FollowOptions(
        tracker="tensorboard", poll_seconds=0.01, idle_timeout_seconds=0.05, until_exit_of=None
    )
    polls = []

    def sleep_and_age(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 20:  # far beyond the idle timeout
            os.utime(beat, (0, 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: (sleep_and_age(seconds), real(seconds)))
        follow(folder, options, say=print)
    assert len(polls) > 20


def test_a_run_of_an_earlier_system_is_followed_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "other" / "rows.jsonl"
    path.parent.mkdir()
    path.write_bytes(lines([row(0), row(1)]))
    follow(path, ONCE, metrics=True, say=print)
    assert steps(path.parent) == [0, 1]


def test_one_run_has_one_follower_a_tracker(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    about = {"project": "p", "entity": None, "mode": "local"}
    held = take_over(folder, "tensorboard", about)
    with pytest.raises(AlreadyFollowed, match=f"by process {os.getpid()} already"):
        take_over(folder, "tensorboard", about)
    with pytest.raises(AlreadyFollowed):
        send(folder)
    held.close()
    send(folder)


def test_a_process_does_not_wait_for_itself(tmp_path: Path) -> None:
    """A run that is tried again is opened again by the follower that has its service still."""
    folder = make_run(tmp_path / "run", [row(0)])
    send(folder)
    about = {"project": "textpolicy-tinker", "entity": None, "mode": "local"}
    held = take_over(folder, "tensorboard", about)
    assert held.found["pid"] == os.getpid()
    assert held.predecessor is None
    held.close()


def test_another_project_needs_a_restart(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    take_over(folder, "wandb", {"project": "a", "entity": None, "mode": "offline"}).close()
    with pytest.raises(UsageError, match=r"wandb project 'a', not 'b'.*--restart"):
        take_over(folder, "wandb", {"project": "b", "entity": None, "mode": "offline"})


def test_an_unwritable_folder_is_told_by_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    (folder / "follow").write_text("in the way")
    with pytest.raises(UsageError, match="run/follow: cannot be written"):
        send(folder)


def test_a_folder_without_runs_and_a_missing_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in it"):
        send(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        send(tmp_path / "nowhere")
    with pytest.raises(DataError, match="--metrics-path wants the file"):
        follow(tmp_path, ONCE, metrics=True, say=print)


def test_a_run_that_never_begins_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [], status="planned")
    options = FollowOptions(tracker="tensorboard", poll_seconds=0.01, idle_timeout_seconds=0.05)
    with pytest.raises(DataError, match=r"no row within 0\.05 s"):
        send(folder, options)
