"""What programs can ask for, in the order in which it is told."""

from collections.abc import Sequence

from dist_test.master import openapi_examples as examples
from dist_test.master.api import MAX_ATTEMPT, MAX_ATTEMPTS, MAX_JOBS, MAX_OFFSET, MAX_SEARCH_CHARACTERS
from dist_test.master.audit_desk import MOST_SECONDS
from dist_test.master.live import MAX_PART_BYTES, Encoding, StreamName
from dist_test.master.openapi import Answer, Content, Operation, Parameter
from dist_test.master.openapi_schemas import ATTEMPT_CURSOR, JOB_CURSOR, JOB_ID
from dist_test.storage.jobs import AttemptFilter

_JOB = Content(schema="Job", example=examples.job())
_OF_A_JOB = ("job", "attempts", "cancel")


def _limit(default: int, highest: int) -> Parameter:
    return Parameter(
        name="limit",
        place="query",
        about="how many at most",
        schema={"type": "integer", "minimum": 1, "maximum": highest, "default": default},
        example=min(100, highest),
    )


_JOB_ID = Parameter(name="job_id", place="path", about="the job's id", schema=JOB_ID, example=examples.JOB_ID)

OPERATIONS: Sequence[Operation] = (
    Operation(
        method="POST",
        path="/api/v1/jobs",
        name="submit",
        tag="jobs",
        summary="Submit a job",
        about="Repeating it is safe, also at another master.",
        body=Content(schema="NewJob", example=examples.NEW_JOB),
        answers={
            201: Answer(about="the job is new", content=_JOB, following=_OF_A_JOB),
            200: Answer(about="this very job is there already", content=_JOB, following=_OF_A_JOB),
        },
        errors=(
            *("invalid_job", "invalid_request", "unauthorized", "forbidden"),
            *("conflict", "too_large", "submit_in_progress", "unavailable"),
        ),
        is_open=False,
    ),
    Operation(
        method="GET",
        path="/api/v1/jobs",
        name="jobs",
        tag="jobs",
        summary="List the latest jobs",
        about="The latest first, a page at a time.",
        parameters=(
            _limit(50, MAX_JOBS),
            Parameter(name="before", place="query", about="`next` of an earlier page", schema=JOB_CURSOR, example="42"),
        ),
        answers={
            200: Answer(about="a page", content=Content(schema="Jobs", example={"jobs": [_JOB.example], "next": "42"}))
        },
        errors=("invalid_request", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/api/v1/jobs/{job_id}",
        name="job",
        tag="jobs",
        summary="Show a job",
        about="How far it is, and how it ended.",
        parameters=(_JOB_ID,),
        answers={200: Answer(about="the job", content=_JOB)},
        errors=("not_found", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/api/v1/jobs/{job_id}/cancel",
        name="cancel",
        tag="jobs",
        summary="Cancel a job",
        about="For good. What runs is stopped, what waits never runs. The body may be left out.",
        parameters=(_JOB_ID,),
        body=Content(schema="Cancel", example=examples.CANCEL, is_required=False),
        answers={200: Answer(about="the job", content=_JOB)},
        errors=(
            *("invalid_request", "unauthorized", "forbidden", "not_found"),
            *("job_not_running", "too_large", "unavailable"),
        ),
        is_open=False,
    ),
    Operation(
        method="POST",
        path="/api/v1/jobs/{job_id}/rerun",
        name="rerun",
        tag="jobs",
        summary="Run again what failed in a job",
        about="The tasks without success become a job of their own, with the same options, once the job has ended. Its"
        " id follows from the job's: repeating it is safe. There is no body.",
        parameters=(_JOB_ID,),
        answers={
            201: Answer(about="the new job", content=_JOB, following=_OF_A_JOB),
            200: Answer(about="it is there already", content=_JOB, following=_OF_A_JOB),
        },
        errors=(
            *("invalid_request", "invalid_job", "unauthorized", "forbidden", "not_found"),
            *("conflict", "job_not_rerun", "too_large", "submit_in_progress", "unavailable"),
        ),
        is_open=False,
    ),
    Operation(
        method="GET",
        path="/api/v1/jobs/{job_id}/attempts",
        name="attempts",
        tag="jobs",
        summary="List the attempts of a job",
        about="By task and attempt, a page at a time. `failed` is whatever finished without success.",
        parameters=(
            _JOB_ID,
            Parameter(
                name="state",
                place="query",
                about="which ones; all of them when empty",
                schema={"type": "string", "enum": ["", *AttemptFilter]},
                example=AttemptFilter.FAILED.value,
            ),
            Parameter(
                name="q",
                place="query",
                about="part of a description, or a slave's whole name; case matters",
                schema={"type": "string", "maxLength": MAX_SEARCH_CHARACTERS},
                example="hello-test",
            ),
            _limit(1000, MAX_ATTEMPTS),
            Parameter(
                name="after", place="query", about="`next` of an earlier page", schema=ATTEMPT_CURSOR, example="0.0"
            ),
        ),
        answers={
            200: Answer(
                about="a page",
                content=Content(schema="Attempts", example={"attempts": [examples.attempt()], "next": "0.0"}),
            )
        },
        errors=("invalid_request", "not_found", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/api/v1/jobs/{job_id}/tasks/{task}/log",
        name="log",
        tag="jobs",
        summary="Read the output of an attempt",
        about=f"Up to {MAX_PART_BYTES:,} bytes of it; while it runs, as far as its slave has sent it.",
        parameters=(
            _JOB_ID,
            Parameter(
                name="task",
                place="path",
                about="the task's id, or its place in the job",
                schema={"type": "string", "minLength": 1},
                example=f"{examples.HASH}.0",
            ),
            Parameter(
                name="stream",
                place="query",
                about="which of the two; stdout when empty",
                schema={"type": "string", "enum": ["", *StreamName], "default": StreamName.STDOUT.value},
                example=StreamName.STDOUT.value,
            ),
            Parameter(
                name="attempt",
                place="query",
                about="which attempt; else the latest",
                schema={"type": "integer", "minimum": 0, "maximum": MAX_ATTEMPT},
                example=0,
            ),
            Parameter(
                name="offset",
                place="query",
                about="where to begin: 0, or `next_offset` of an earlier piece",
                schema={"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
                example=0,
            ),
            Parameter(
                name="encoding",
                place="query",
                about="of `data`; text when empty",
                schema={"type": "string", "enum": ["", *Encoding], "default": Encoding.TEXT.value},
                example=Encoding.TEXT.value,
            ),
        ),
        answers={200: Answer(about="the piece", content=Content(schema="Log", example=examples.log()))},
        errors=("invalid_request", "not_found", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/api/v1/audit",
        name="audit",
        tag="operators",
        summary="Audit jobs",
        about="Proves that nothing is lost: the tasks of a job are those that ended, those that run under a live lease,"
        " and those that are queued and stand in beanstalkd. Without `job_id`, of all that run and the last hundred,"
        f" for {MOST_SECONDS:.0f} seconds. `dist-test-master audit` has no bounds.",
        parameters=(
            Parameter(
                name="job_id",
                place="query",
                about="the one job to audit; when empty, all that run and the last hundred",
                schema={"type": "string"},
                example=examples.JOB_ID,
            ),
        ),
        answers={200: Answer(about="what was found", content=Content(schema="Audit", example=examples.audit()))},
        errors=("not_found", "too_large", "audit_in_progress", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/api/v1/slaves",
        name="slaves",
        tag="slaves",
        summary="List the slaves",
        about="Every slave that ever registered.",
        answers={
            200: Answer(about="all slaves", content=Content(schema="Slaves", example={"slaves": [examples.slave()]}))
        },
    ),
    Operation(
        method="GET",
        path="/api/v1/openapi.json",
        name="openapi",
        tag="about",
        summary="Get this description",
        about="The OpenAPI document.",
        answers={200: Answer(about="the document", content=Content(schema="Document", example={"openapi": "3.1.0"}))},
        errors=(),
    ),
    Operation(
        method="GET",
        path="/stats",
        name="stats",
        tag="operators",
        summary="Count what waits and what runs",
        about="The same figures for every master of a cluster.",
        answers={
            200: Answer(
                about="the figures",
                content=Content(
                    schema="Stats",
                    example={
                        "queue": {"ready": 90, "reserved": 8, "delayed": 0, "buried": 0},
                        "attempts": {"queued": 90, "running": 8},
                        "jobs": {"running": 2, "submitting": 0},
                        "slaves": {"live": 4, "idle": 0, "draining": 0},
                    },
                ),
            )
        },
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        tag="operators",
        summary="Ask whether this master could take a job now",
        about="For load balancers: it costs one question to each server.",
        answers={
            200: Answer(about="it could", content=Content(schema="Health", example={"status": "ok"})),
            503: Answer(
                about="these servers are away",
                content=Content(schema="Outage", example={"status": "unavailable", "problems": ["queue"]}),
            ),
        },
        errors=(),
    ),
)
