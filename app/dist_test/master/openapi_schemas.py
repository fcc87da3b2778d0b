"""The JSON of `/api/v1` as JSON Schema, with the limits and the words of the code that reads and writes it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dist_test.master.api import MAX_REASON_CHARACTERS, REASON
from dist_test.master.failures import ERROR_STATUSES
from dist_test.master.live import Encoding, StreamName
from dist_test.master.query import CURSOR
from dist_test.model import job as job_format
from dist_test.model.outcome import Outcome
from dist_test.storage.events import KINDS
from dist_test.storage.slaves import LIVE_FOR

Schema = dict[str, Any]


def matching(pattern: re.Pattern[str]) -> str:
    """The pattern for a whole text: in JSON Schema it may match anywhere."""
    return f"^(?:{pattern.pattern})$"


def words(about: str, **keywords: Any) -> Schema:
    """A text."""
    return {"type": "string", "description": about, **keywords}


def one_of(about: str, values: Sequence[str]) -> Schema:
    """One of these texts."""
    return words(about, enum=list(values))


def number(about: str, **keywords: Any) -> Schema:
    """A whole number, from 0 unless `minimum` says otherwise."""
    return {"type": "integer", "minimum": 0, "description": about, **keywords}


def time(about: str) -> Schema:
    """A moment, as documents.moment writes it."""
    return words(about, format="date-time", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def link(about: str) -> Schema:
    """An address."""
    return words(about, format="uri")


def or_null(schema: Schema) -> Schema:
    """That, or null."""
    kinds = {"type": [schema["type"], "null"]}
    return schema | kinds | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def record(about: str, properties: Mapping[str, Schema]) -> Schema:
    """An object of an answer. It has all these keys; more may come with later versions."""
    return {
        "type": "object",
        "description": about,
        "required": list(properties),
        "properties": dict(properties),
    }


def sent(about: str, properties: Mapping[str, Schema], *, required: Sequence[str] = ()) -> Schema:
    """An object of a request. Other keys are refused."""
    schema = record(about, properties) | {"additionalProperties": False, "required": list(required)}
    return schema if required else {name: value for name, value in schema.items() if name != "required"}


def items(about: str, schema: Schema, **keywords: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": schema, "description": about, **keywords}


def of(name: str) -> Schema:
    """The schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


JOB_ID = words(
    "1 to 200 letters, digits and `._:@+=,~-`, not dots alone",
    minLength=1,
    maxLength=200,
    pattern=matching(job_format.JOB_ID),
    **{"not": {"pattern": r"^\.*$"}},
)
_NO_NUL = r"^[^\x00]*$"
_NAME = {"maxLength": 200, "pattern": matching(job_format.NAME)}

NEW_TASK = sent(
    "A test to run.",
    {
        "isolate_hash": words(
            "the package to run, as `dist-test isolate` printed it: 40 lower-case hex digits",
            minLength=40,
            maxLength=40,
            pattern=matching(job_format.DIGEST),
        ),
        "description": words(
            "the test's name; durations are learned by it",
            maxLength=job_format.MAX_DESCRIPTION_CHARACTERS,
            pattern=_NO_NUL,
        ),
        "timeout": number("seconds; 0 for no limit", maximum=job_format.MAX_TIMEOUT_SECONDS, default=0),
        "max_retries": number(
            "how often a failure or a time-out is tried again", maximum=job_format.MAX_RETRIES, default=0
        ),
        "artifact_archive_globs": or_null(
            items(
                "patterns of the files to keep, inside the task's directory",
                {
                    "type": "string",
                    "maxLength": job_format.MAX_GLOB_CHARACTERS,
                    "pattern": _NO_NUL,
                    "not": {"pattern": job_format.OUTSIDE.pattern},
                },
                maxItems=job_format.MAX_GLOBS,
            )
        ),
        "docker_image": or_null(
            words("the container image to run inside of", maxLength=255, pattern=matching(job_format.IMAGE))
        ),
        "env": or_null(
            {
                "type": "object",
                "description": "variables for the command",
                "propertyNames": {"pattern": matching(job_format.ENVIRONMENT_NAME)},
                "additionalProperties": {
                    "type": "string",
                    "maxLength": job_format.MAX_ENVIRONMENT_CHARACTERS,
                    "pattern": _NO_NUL,
                },
            }
        ),
    },
    required=("isolate_hash", "description"),
)

NEW_JOB = sent(
    "A job to run.",
    {
        "job_id": JOB_ID,
        "tasks": items("what to run", of("NewTask"), minItems=1, maxItems=job_format.MAX_TASKS),
        "name": or_null(words("for people", **_NAME)),
        "project": or_null(
            words("tests of one project share their expected durations; the name, unless told", **_NAME)
        ),
        "owner": or_null(
            words("whose share of the cluster it counts against; a user who authenticates is the owner", **_NAME)
        ),
        "max_failed_tasks": or_null(
            number(
                "when more tasks than this have failed, the rest is canceled; null for no limit",
                maximum=job_format.MAX_TASKS,
            )
        ),
    },
    required=("job_id", "tasks"),
)

CANCEL = sent(
    "Why a job is canceled.",
    {"reason": or_null(words("one line", maxLength=MAX_REASON_CHARACTERS, pattern=matching(REASON)))},
)

COUNTERS = record(
    "How far a job is. All are numbers.",
    {
        "total_tasks": number("tasks of the job"),
        "finished_tasks": number("tasks that ended, one way or the other"),
        "succeeded_tasks": number("tasks with an attempt that succeeded"),
        "failed_tasks": number("tasks that ended without one, canceled ones included"),
        "canceled_tasks": number("tasks that were canceled"),
        "flaky_tasks": number("tasks that succeeded after a failure"),
        "retrying_tasks": number("tasks that failed and have an attempt to come"),
        "total_attempts": number("attempts so far, queued ones included"),
        "finished_attempts": number("attempts that ended"),
        "succeeded_attempts": number("attempts that succeeded"),
        "failed_attempts": number("attempts that ended without success"),
        "timed_out_attempts": number("attempts that reached their time limit"),
        "retried_attempts": number("attempts that another one followed"),
        "flaky_attempts": number("attempts without success of flaky and retrying tasks"),
    },
)

JOB = record(
    "A job as it stands.",
    {
        "job_id": JOB_ID,
        "name": words("for people"),
        "project": words("whose history of durations counts"),
        "owner": words("whose share of the cluster it counts against"),
        "state": one_of("where it is", ("submitting", "running", "finished")),
        "result": or_null(one_of("null until finished", ("succeeded", "failed", "canceled"))),
        "submitted_at": time("when it came"),
        "enqueued_at": or_null(time("when its last task was in the queue; null before")),
        "finished_at": or_null(time("when it ended; null before")),
        "promoted_at": or_null(time("when an operator let it pass all others; null if nobody did")),
        "cancel_reason": or_null(words("why it was canceled, or null")),
        "max_failed_tasks": or_null(number("the limit, or null")),
        "url": link("its web page"),
        "expected_seconds_left": or_null(
            {
                "type": "number",
                "description": "by history, if all live slots worked for it; up to five seconds old; null when it "
                "has ended or no slave is alive",
                "minimum": 0,
            }
        ),
        "running_attempts": number("attempts that run now"),
        "counters": of("Counters"),
    },
)

ATTEMPT = record(
    "One run of a task.",
    {
        "task_id": words("`ISOLATE_HASH.INDEX`, where the index is the task's place in the job"),
        "attempt": number("0 for the first"),
        "description": words("the test's name"),
        "state": one_of("where it is", ("queued", "running", "finished")),
        "outcome": or_null(one_of("how it ended: see exit-codes.md; null before", list(Outcome))),
        "exit_status": or_null(
            {"type": "integer", "description": "the exit code, or minus the signal's number; null without one"}
        ),
        "status": or_null({"type": "integer", "description": "the same as the original's clients know it"}),
        "duration_seconds": or_null({"type": "number", "minimum": 0, "description": "how long the command ran"}),
        "slave_id": or_null(words("where it ran last")),
        "queued_at": time("since when it waits"),
        "started_at": or_null(time("when it was last taken; null before")),
        "finished_at": or_null(time("when it ended; null before")),
        "message": or_null(words("one line about its end, or null")),
        "logs_lost": {"type": "boolean", "description": "true when they could not be stored"},
        "stdout_url": or_null(link("works for a day; null when none was stored")),
        "stderr_url": or_null(link("works for a day; null when none was stored")),
        "artifacts_url": or_null(link("a zip; works for a day; null when none was stored")),
    },
)

LOG = record(
    "A piece of the output of an attempt. Offsets count what the command has written, from the first byte on.",
    {
        "task_id": words("as in Attempt"),
        "attempt": number("as in Attempt"),
        "latest_attempt": number("of the same task; a higher one than `attempt` means that it is retried"),
        "run": number("changes when another slave takes the attempt: its output begins anew"),
        "state": ATTEMPT["properties"]["state"],
        "outcome": ATTEMPT["properties"]["outcome"],
        "message": ATTEMPT["properties"]["message"],
        "stream": one_of("which of the two", list(StreamName)),
        "offset": number("where `data` begins"),
        "next_offset": number("what to ask for next"),
        "left_out_bytes": number("what is not to be had, between the offset that was asked for and `offset`"),
        "is_final": {"type": "boolean", "description": "whether there is nothing after this"},
        "is_stored": {
            "type": "boolean",
            "description": "whether the log is kept; false for what runs, and for what succeeded",
        },
        "encoding": one_of("of `data`", list(Encoding)),
        "data": words("the piece: whole characters as text, or every byte in base64"),
    },
)

SLAVE = record(
    "A slave as it last described itself.",
    {
        "slave_id": words("its name, unique in the cluster"),
        "instance_id": words("cloud instance; empty outside of a cloud"),
        "zone": words("cloud zone"),
        "mig": words("managed instance group"),
        "template": words("instance template"),
        "slots": number("tasks that it can run at the same time"),
        "version": words("version of dist_test that it runs"),
        "busy": number("tasks that it runs"),
        "state": one_of("what it does", ("up", "draining", "drained", "preempted", "quarantined")),
        "want": one_of("what it is to do; delete: it drains for good", ("run", "drain", "delete")),
        "message": words("why it takes no tasks, when it is quarantined"),
        "idle_since": or_null(time("since when it runs nothing; null while it runs something")),
        "started_at": time("when it last started"),
        "heartbeat": time("when it was last heard of"),
        "is_live": {
            "type": "boolean",
            "description": f"whether it was heard of in the last {LIVE_FOR.total_seconds():.0f} seconds",
        },
        "silent_seconds": {"type": "number", "description": "time since its last heartbeat"},
    },
)

AUDIT = record(
    "What an audit found.",
    {
        "is_clean": {"type": "boolean", "description": "whether no breach was found"},
        "jobs": items("oldest first", of("AuditedJob")),
        "left_out": items(
            "jobs for which there was no time, or that are too large; ask for each by itself", words("a job's id")
        ),
        "ownerless_entries": number(
            "entries in the queue, at least, that are of no unfinished attempt: as many losses may hide from the"
            " queue's totals until the reconciler's sweep"
        ),
    },
)

AUDITED_JOB = record(
    "An account of a job's tasks: `tasks` is the sum of the next three when nothing is lost.",
    {
        "job_id": JOB_ID,
        "tasks": number("tasks of the job"),
        "ended": number("tasks whose last attempt has ended"),
        "running": number("tasks that run under a live lease"),
        "queued": number("tasks that wait and stand in the queue"),
        "unasked": number("of the queued ones, those that were not looked for in the queue"),
        "breaches": items("what cannot be true", of("Breach")),
    },
)

BREACH = record(
    "Something about a job that cannot be true.",
    {
        "reason": words("what is wrong"),
        "task": or_null(number("the task's place in the job; null when it is about the whole job")),
        "attempt": or_null(number("of that task; null when it is about the whole job")),
        "events": items("what happened to that attempt, oldest first", of("Event")),
    },
)

EVENT = record(
    "Something that happened to an attempt.",
    {
        "at": time("when"),
        "kind": one_of("what", KINDS),
        "actor": words("the slave or the master that did it"),
        "claim": or_null(number("under which claim; null where that means nothing")),
        "delivery": or_null(number("of which delivery of its queue entry; null where that means nothing")),
        "detail": or_null(words("one line about it, or null")),
    },
)

ERROR = record(
    "Why a request failed.",
    {
        "error": record(
            "What went wrong.",
            {"code": one_of("a word for programs", list(ERROR_STATUSES)), "message": words("a sentence for people")},
        )
    },
)

STATS = record(
    "How much there is to do, and who is there to do it.",
    {
        "queue": record(
            "What beanstalkd counts.", {name: number(name) for name in ("ready", "reserved", "delayed", "buried")}
        ),
        "attempts": record("By their state.", {"queued": number("attempts"), "running": number("attempts")}),
        "jobs": record("By their state.", {"running": number("jobs"), "submitting": number("jobs")}),
        "slaves": record(
            "Of the live ones.",
            {
                "live": number("slaves"),
                "idle": number("slaves that run nothing"),
                "draining": number("slaves that take no more"),
            },
        ),
    },
)

_NEXT = or_null(words("the cursor of the next page; null on the last one"))

SCHEMAS: Mapping[str, Schema] = {
    "NewJob": NEW_JOB,
    "NewTask": NEW_TASK,
    "Cancel": CANCEL,
    "Job": JOB,
    "Counters": COUNTERS,
    "Jobs": record("A page of jobs.", {"jobs": items("the latest first", of("Job")), "next": _NEXT}),
    "Attempt": ATTEMPT,
    "Attempts": record("A page of attempts.", {"attempts": items("by task and attempt", of("Attempt")), "next": _NEXT}),
    "Log": LOG,
    "Slave": SLAVE,
    "Slaves": record("All slaves.", {"slaves": items("by their names", of("Slave"))}),
    "Audit": AUDIT,
    "AuditedJob": AUDITED_JOB,
    "Breach": BREACH,
    "Event": EVENT,
    "Stats": STATS,
    "Health": record("This master could take a job now.", {"status": one_of("always ok", ("ok",))}),
    "Outage": record(
        "This master could not take a job now.",
        {
            "status": one_of("always unavailable", ("unavailable",)),
            "problems": items("which servers are away", one_of("a server", ("database", "queue")), minItems=1),
        },
    ),
    "Error": ERROR,
    "Document": record("An OpenAPI document.", {"openapi": words("the version of OpenAPI")}),
}

JOB_CURSOR = {"type": "string", "pattern": r"^[0-9]{1,18}$"}
ATTEMPT_CURSOR = {"type": "string", "pattern": matching(CURSOR)}
