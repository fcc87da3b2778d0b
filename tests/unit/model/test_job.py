"""What a client may submit: every refusal, where it points, and what the original's clients get away with."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.errors import InvalidJob
from dist_test.model import job as rules
from dist_test.model.job import ORIGINAL_MAX_FAILED_TASKS, Job, parse_job, parse_job_id, parse_original_job

HASH = "0123456789abcdef0123456789abcdef01234567"


def task(**fields: Any) -> dict[str, Any]:
    """A task with what is required, and these."""
    return {"isolate_hash": HASH, "description": "FooTest", **fields}


def document(**fields: Any) -> dict[str, Any]:
    """A job of one task, and these."""
    return {"job_id": "job", "tasks": [task()], **fields}


def with_task(**fields: Any) -> dict[str, Any]:
    """A job whose second task has these fields."""
    return document(tasks=[task(), task(**fields)])


def without(name: str) -> dict[str, Any]:
    """A job whose second task lacks a field."""
    fields = task()
    del fields[name]
    return document(tasks=[task(), fields])


def test_a_job_with_everything_is_read() -> None:
    parsed = parse_job(
        document(
            name="demo",
            project="kudu",
            owner="ann",
            max_failed_tasks=5,
            tasks=[
                task(
                    timeout=930,
                    max_retries=2,
                    artifact_archive_globs=["build/*/test-logs/**/*"],
                    docker_image="debian:12",
                    env={"TZ": "UTC"},
                )
            ],
        )
    )

    (only,) = parsed.tasks
    assert (parsed.job_id, parsed.name, parsed.project, parsed.owner) == ("job", "demo", "kudu", "ann")
    assert parsed.max_failed_tasks == 5
    assert (only.timeout_seconds, only.max_retries) == (930, 2)
    assert only.artifact_globs == ("build/*/test-logs/**/*",)
    assert (only.docker_image, only.env) == ("debian:12", (("TZ", "UTC"),))


def test_what_is_left_out_has_the_originals_defaults() -> None:
    parsed = parse_job(document())

    (only,) = parsed.tasks
    assert (only.timeout_seconds, only.max_retries, only.artifact_globs, only.docker_image, only.env) == (
        0,
        0,
        (),
        None,
        (),
    )
    assert (parsed.name, parsed.project, parsed.owner, parsed.max_failed_tasks) == ("", "", "", None)


def test_the_project_is_the_name_unless_it_is_given() -> None:
    assert parse_job(document(name="demo")).project == "demo"


def test_the_same_task_may_be_there_many_times() -> None:
    assert len(parse_job(document(tasks=[task()] * 100)).tasks) == 100


def test_a_number_may_be_written_as_a_float() -> None:
    # JSON knows no integers.
    assert parse_job(with_task(timeout=930.0)).tasks[1].timeout_seconds == 930


@pytest.mark.parametrize(
    ("given_document", "path"),
    [
        pytest.param(None, "the job is missing", id="nothing"),
        pytest.param([], "the job is []", id="a list"),
        pytest.param("x", 'the job is "x"', id="a text"),
        pytest.param({}, "job_id is missing", id="no id"),
        pytest.param(document(job_id=""), 'job_id is ""', id="empty id"),
        pytest.param(document(job_id=7), "job_id is 7", id="id is a number"),
        pytest.param(document(job_id="a/b"), 'job_id is "a/b"', id="id with a slash"),
        pytest.param(document(job_id="a b"), 'job_id is "a b"', id="id with a space"),
        pytest.param(document(job_id="a\n"), "job_id is", id="id with a newline"),
        pytest.param(document(job_id=".."), 'job_id is ".."', id="id of dots"),
        pytest.param(document(job_id="x" * 201), "job_id is", id="id too long"),
        pytest.param(document(priority=1), "priority is not known", id="unknown key"),
        pytest.param(document(tasks=None), "tasks is missing", id="no tasks"),
        pytest.param(document(tasks=[]), "tasks is []", id="empty tasks"),
        pytest.param(document(tasks={}), "tasks is {}", id="tasks are an object"),
        pytest.param(document(tasks=[task(), 3]), "tasks[1] is 3", id="task is a number"),
        pytest.param(document(name=3), "name is 3", id="name is a number"),
        pytest.param(document(name="a\x07"), "name is", id="name with a bell"),
        pytest.param(document(name="\ud800"), "name is", id="name with half a character"),
        pytest.param(document(name="x" * 201), "name is", id="name too long"),
        pytest.param(document(project=[]), "project is []", id="project is a list"),
        pytest.param(document(owner={}), "owner is {}", id="owner is an object"),
        pytest.param(document(max_failed_tasks=-1), "max_failed_tasks is -1", id="negative limit"),
        pytest.param(document(max_failed_tasks=True), "max_failed_tasks is true", id="limit is a boolean"),
        pytest.param(document(max_failed_tasks="5"), 'max_failed_tasks is "5"', id="limit is a text"),
        pytest.param(with_task(color="red"), "tasks[1].color is not known", id="unknown key of a task"),
        pytest.param(with_task(task_id="x"), "tasks[1].task_id is not known", id="task id is not for clients"),
        pytest.param(without("isolate_hash"), "tasks[1].isolate_hash is missing", id="no hash"),
        pytest.param(with_task(isolate_hash="abc"), 'tasks[1].isolate_hash is "abc"', id="hash too short"),
        pytest.param(with_task(isolate_hash=HASH.upper()), "tasks[1].isolate_hash is", id="hash in capitals"),
        pytest.param(with_task(isolate_hash=HASH + "\n"), "tasks[1].isolate_hash is", id="hash with a newline"),
        pytest.param(with_task(isolate_hash=5), "tasks[1].isolate_hash is 5", id="hash is a number"),
        pytest.param(without("description"), "tasks[1].description is missing", id="no description"),
        pytest.param(with_task(description=5), "tasks[1].description is 5", id="description is a number"),
        pytest.param(with_task(description="x" * 2001), "tasks[1].description has 2001", id="description too long"),
        pytest.param(with_task(description="a\0"), "tasks[1].description is", id="description with NUL"),
        pytest.param(with_task(description="\udfff"), "tasks[1].description is", id="half a character"),
        pytest.param(with_task(timeout=-5), "tasks[1].timeout is -5", id="negative timeout"),
        pytest.param(with_task(timeout=0.5), "tasks[1].timeout is 0.5", id="half a second"),
        pytest.param(with_task(timeout="9"), 'tasks[1].timeout is "9"', id="timeout is a text"),
        pytest.param(with_task(timeout=None), "tasks[1].timeout is missing", id="timeout is null"),
        pytest.param(with_task(timeout=float("nan")), "tasks[1].timeout is NaN", id="timeout is no number"),
        pytest.param(with_task(timeout=float("inf")), "tasks[1].timeout is Infinity", id="timeout is endless"),
        pytest.param(with_task(timeout=10**9), "tasks[1].timeout is 1000000000", id="timeout of years"),
        pytest.param(with_task(max_retries=-1), "tasks[1].max_retries is -1", id="negative retries"),
        pytest.param(with_task(max_retries=1001), "tasks[1].max_retries is 1001", id="too many retries"),
        pytest.param(with_task(max_retries=False), "tasks[1].max_retries is false", id="retries are a boolean"),
        pytest.param(
            with_task(artifact_archive_globs=""), 'tasks[1].artifact_archive_globs is ""', id="no list of globs"
        ),
        pytest.param(with_task(env=False), "tasks[1].env is false", id="no object of variables"),
        pytest.param(with_task(docker_image="dé"), "tasks[1].docker_image is", id="image of another alphabet"),
        pytest.param(
            with_task(artifact_archive_globs="*"), 'tasks[1].artifact_archive_globs is "*"', id="globs are a text"
        ),
        pytest.param(
            with_task(artifact_archive_globs=["a", 1]), "tasks[1].artifact_archive_globs[1] is 1", id="glob is a number"
        ),
        pytest.param(
            with_task(artifact_archive_globs=["/etc/*"]),
            'tasks[1].artifact_archive_globs[0] is "/etc/*"',
            id="absolute glob",
        ),
        pytest.param(
            with_task(artifact_archive_globs=["a/../../b"]),
            'tasks[1].artifact_archive_globs[0] is "a/../../b"',
            id="glob leads outside",
        ),
        pytest.param(
            with_task(artifact_archive_globs=["x"] * 101), "tasks[1].artifact_archive_globs is", id="too many globs"
        ),
        pytest.param(
            with_task(artifact_archive_globs=["x" * 1001]),
            "tasks[1].artifact_archive_globs[0] has 1001",
            id="glob too long",
        ),
        pytest.param(with_task(docker_image=""), 'tasks[1].docker_image is ""', id="empty image"),
        pytest.param(with_task(docker_image="--privileged"), "tasks[1].docker_image is", id="image is an option"),
        pytest.param(with_task(docker_image="a b"), 'tasks[1].docker_image is "a b"', id="image with a space"),
        pytest.param(with_task(docker_image=1), "tasks[1].docker_image is 1", id="image is a number"),
        pytest.param(with_task(env=["A"]), 'tasks[1].env is ["A"]', id="env is a list"),
        pytest.param(with_task(env={"A-B": "1"}), 'tasks[1].env has the name "A-B"', id="bad variable"),
        pytest.param(with_task(env={"": "1"}), 'tasks[1].env has the name ""', id="empty variable"),
        pytest.param(with_task(env={"A": 1}), "tasks[1].env.A is 1", id="variable is a number"),
        pytest.param(with_task(env={"A": "x" * 32_001}), "tasks[1].env.A has 32001", id="variable too long"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(given_document: Any, path: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        parse_job(given_document)

    assert str(refused.value).startswith(path)


def test_a_refusal_says_what_to_give_and_does_not_repeat_a_long_value() -> None:
    with pytest.raises(InvalidJob) as refused:
        parse_job(with_task(timeout="x" * 10_000))

    assert "give a whole number from 0 to 604800" in str(refused.value)
    assert len(str(refused.value)) < 200


def test_too_many_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_TASKS", 2)

    with pytest.raises(InvalidJob, match="tasks has 3 items; the limit is 2"):
        parse_job(document(tasks=[task()] * 3))


@pytest.mark.parametrize("job_id", ["a", "demo.ann.1700000000.12", "x" * 200, "A_b-c:d@e+f=g,h~i"])
def test_ids_that_are_safe_everywhere_are_taken(job_id: str) -> None:
    assert parse_job_id(job_id) == job_id


def original(job_id: str = "demo.ann.1700000000.12", **fields: Any) -> Job:
    """A job read as the original's clients send it."""
    return parse_original_job(job_id, json.dumps({"tasks": [task()], **fields}))


@pytest.mark.parametrize(("sent", "taken"), [(-1, 0), (-5, 0), (0, 0), (3, 3)])
def test_kudus_negative_retries_are_none(sent: int, taken: int) -> None:
    assert original(tasks=[task(max_retries=sent)]).tasks[0].max_retries == taken


def test_the_originals_clients_may_send_what_nobody_knows() -> None:
    parsed = original(color="red", tasks=[task(job_id="x", task_id="y", attempt=3, color="red")])

    assert parsed.tasks[0].description == "FooTest"
    assert parsed.job_id == "demo.ann.1700000000.12"


@pytest.mark.parametrize(
    ("job_id", "owner", "project"),
    [
        pytest.param("demo.ann.1700000000.12", "ann", "demo", id="prefix"),
        pytest.param("ann.1700000000.12", "ann", "", id="no prefix"),
        pytest.param("a.b.ann.1700000000.12", "ann", "a.b", id="prefix with dots"),
        pytest.param("demo.ann.1700000000.12-66d8", "ann", "demo", id="our own client's"),
        pytest.param("nightly", "", "", id="something else"),
    ],
)
def test_owner_and_project_are_read_from_the_originals_job_id(job_id: str, owner: str, project: str) -> None:
    parsed = original(job_id)

    assert (parsed.owner, parsed.project) == (owner, project)


def test_an_original_job_is_canceled_after_a_hundred_failures() -> None:
    assert original().max_failed_tasks == ORIGINAL_MAX_FAILED_TASKS == 100


@pytest.mark.parametrize(
    ("job_id", "text", "path"),
    [
        pytest.param("job", "{", "job_json is not JSON", id="no JSON"),
        pytest.param("job", "[]", "job_json is []", id="a list"),
        pytest.param("a/b", "{}", 'job_id is "a/b"', id="bad id"),
        pytest.param("job", "{}", "tasks is missing", id="no tasks"),
    ],
)
def test_a_malformed_original_job_is_refused(job_id: str, text: str, path: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        parse_original_job(job_id, text)

    assert str(refused.value).startswith(path)


def test_the_fingerprint_tells_other_tasks_but_not_another_owner() -> None:
    one = parse_job(document())

    assert parse_job(document(owner="bob", name="x", project="")).fingerprint != one.fingerprint  # another project
    assert parse_job(document(owner="bob")).fingerprint == one.fingerprint
    assert parse_job(with_task()).fingerprint != one.fingerprint
    assert parse_job(document(max_failed_tasks=1)).fingerprint != one.fingerprint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(HASH),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["A", "B_1"]), inner),
    max_leaves=10,
)
TASKS = st.dictionaries(st.sampled_from(sorted([*rules._TASK_KEYS, "other"])), JSON, max_size=8)
JOBS = st.fixed_dictionaries(
    {"job_id": st.just("job"), "tasks": st.lists(st.builds(lambda fields: task(**fields), TASKS), min_size=1)},
    optional=dict.fromkeys(("name", "project", "owner", "max_failed_tasks", "other"), JSON),
)


@given(JSON | JOBS)
def test_a_job_is_read_or_refused_and_nothing_else(anything: Any) -> None:
    try:
        parsed = parse_job(anything)
    except InvalidJob:
        return
    assert parsed.tasks
    assert len(parsed.fingerprint) == 64


@given(JOBS)
def test_an_original_job_is_read_or_refused_and_nothing_else(anything: Any) -> None:
    try:
        parsed = parse_original_job("job", json.dumps(anything))
    except InvalidJob:
        return
    assert all(read.max_retries >= 0 for read in parsed.tasks)


def test_a_task_survives_its_own_json() -> None:
    (read,) = parse_job(document(tasks=[task(timeout=5, env={"A": "b"}, docker_image="x", max_retries=1)])).tasks

    assert type(read).from_json(read.to_json()) == read
