"""What a job file may hold, and what becomes of it."""

import io
import re
from pathlib import Path
from typing import Any

import pytest

from dist_test.cli.job_file import Submission, generate_job_id, make_job, read_job_file, to_document
from dist_test.errors import InvalidJob
from dist_test.model.job import JOB_ID, Job, parse_job

TASK = {"isolate_hash": "a" * 40, "description": "a test"}


def make(document: Any, warnings: list[str] | None = None, **said: Any) -> Job:
    warned: list[str] = [] if warnings is None else warnings
    return make_job(document, Submission(**said), user="ada", make_id=lambda name: f"id-{name}", warn=warned.append)


def test_the_file_names_the_job() -> None:
    job = make({"tasks": [TASK], "name": "nightly", "project": "kudu", "owner": "ci", "max_failed_tasks": 3})

    assert (job.job_id, job.name, job.project, job.owner, job.max_failed_tasks) == (
        "id-nightly",
        "nightly",
        "kudu",
        "ci",
        3,
    )


def test_the_command_line_wins_over_the_file() -> None:
    job = make(
        {"tasks": [TASK], "name": "nightly", "max_failed_tasks": 3}, name="mine", owner="bob", max_failed_tasks=0
    )

    assert (job.job_id, job.name, job.owner, job.max_failed_tasks) == ("id-mine", "mine", "bob", 0)


def test_the_user_owns_what_nobody_else_does() -> None:
    assert make({"tasks": [TASK]}).owner == "ada"


def test_negative_retries_are_none_with_one_warning() -> None:
    warnings: list[str] = []

    job = make({"tasks": [TASK | {"max_retries": -1}, TASK | {"max_retries": 2}, TASK]}, warnings)

    assert [task.max_retries for task in job.tasks] == [0, 2, 0]
    assert warnings == ["max_retries is negative in 1 of 3 tasks; taken as 0"]


def test_ids_that_the_original_overwrote_are_dropped() -> None:
    job = make({"job_id": "old", "tasks": [TASK | {"job_id": "old", "task_id": "old.0", "attempt": 0}]})

    assert job.job_id == "id-"


def test_what_is_sent_is_the_same_job_again() -> None:
    job = make({"tasks": [TASK | {"timeout": 930.0, "env": {"A": "b"}, "docker_image": "debian"}], "name": "n"})

    assert parse_job(to_document(job)) == job


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([TASK], 'the file holds no JSON object; give one such as {"tasks": [...]}'),
        ({}, "tasks is missing; give a list of at least one task"),
        ({"tasks": "all"}, 'tasks is "all"; give a list of at least one task'),
        ({"tasks": [3]}, "tasks[0] is 3; give a JSON object"),
        ({"tasks": [TASK, TASK | {"timeout": -5}]}, "tasks[1].timeout is -5; give a whole number from 0 to"),
        ({"tasks": [TASK | {"max_retires": 1}]}, "tasks[0].max_retires is not known"),
        ({"tasks": [TASK], "name": 5}, "name is 5; give at most 200 printable characters"),
        ({"tasks": [TASK], "nmae": "x"}, "nmae is not known"),
    ],
)
def test_what_is_wrong_with_a_job_is_named(document: Any, message: str) -> None:
    with pytest.raises(InvalidJob, match="^" + re.escape(message)):
        make(document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"tasks": [\n  {"a": }]}', "is not JSON: line 2, column 9: Expecting value"),
        (b"", "is not JSON: line 1, column 1: Expecting value"),
        (b'{"tasks": "\xff"}', "is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000, "is not JSON: maximum recursion depth exceeded"),
        (b'{"tasks": ' + b"1" * 5_000 + b"}", "is not JSON: Exceeds the limit"),
    ],
)
def test_bad_json_is_told_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(content)

    with pytest.raises(InvalidJob, match="^" + re.escape(f"{path} {message}")):
        read_job_file(str(path))


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing-there.json", "No such file or directory"), ("", "Is a directory")]
)
def test_an_unreadable_file_is_told(name: str, reason: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)

    with pytest.raises(InvalidJob, match=f"^{re.escape(path)} cannot be read: {reason}$"):
        read_job_file(path)


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"tasks": []}')))

    assert read_job_file("-") == {"tasks": []}


@pytest.mark.parametrize(
    ("name", "user", "job_id"),
    [
        ("", "ada", "ada.1700000000.42-beef"),
        ("nightly", "ada", "nightly.ada.1700000000.42-beef"),
        ("a/b c.d", "ada.l", "a_b_c_d.ada_l.1700000000.42-beef"),
        ("ж" * 300, "u" * 300, f"{'_' * 100}.{'u' * 50}.1700000000.42-beef"),
    ],
)
def test_a_job_id_is_made_of_safe_parts(name: str, user: str, job_id: str) -> None:
    made = generate_job_id(name, user=user, unix_time=1_700_000_000, pid=42, random="beef")

    assert made == job_id
    assert JOB_ID.fullmatch(made)
