"""The errors that dist_test raises: one class for each thing that a caller can act on."""

MAX_SHOWN_CHARACTERS = 100


def shown(value: object) -> str:
    """A value that somebody else wrote, as a message shows it: as Python writes it, cut short. Never fails.

    repr alone does, on lists in lists in lists and on whole numbers of thousands of digits.
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return "a value too large to show"
    return shortened(text)


def shortened(text: str) -> str:
    """A name that somebody else gave, as a message shows it: cut short."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."


class DistTestError(Exception):
    """Something that dist_test can explain in one sentence. Programs print it and exit 1."""


class ConfigurationError(DistTestError):
    """The configuration file or the environment holds something that dist_test cannot use."""


class InvalidJob(DistTestError):
    """A job, a task or one of its fields is not what the job format allows."""


class JobNotFound(DistTestError):
    """No job has this id."""


class TaskNotFound(DistTestError):
    """The job has no such task or attempt."""


class SlaveNotFound(DistTestError):
    """No slave has this id."""


class SlaveNotReady(DistTestError):
    """This host's slave does not take tasks, though nobody asked it to drain."""


class JobConflict(DistTestError):
    """A job with this id is there already, with other tasks."""


class SubmitInProgress(DistTestError):
    """Another master is submitting this very job at the moment; the same request succeeds a little later."""


class AuditInProgress(DistTestError):
    """This master audits for somebody else at the moment; the same request succeeds a little later."""


class AuditTooLarge(DistTestError):
    """The job has more attempts than a master looks at while somebody waits for the answer."""


class JobNotRerun(DistTestError):
    """The job has not ended yet, or no task of it failed: there is nothing to run again."""


class JobNotRunning(DistTestError):
    """The job has already ended, so there is nothing left to change about it."""


class DatabaseUnavailable(DistTestError):
    """MySQL did not answer, or kept failing, for as long as we were willing to try."""


class DatabaseRefused(DistTestError):
    """MySQL understood a statement and refused it: trying it again would change nothing."""


class SchemaMismatch(DistTestError):
    """The database's schema is not the one that this version of dist_test was written for."""


class QueueUnavailable(DistTestError):
    """beanstalkd did not answer for as long as we were willing to try."""


class QueueEntryGone(DistTestError):
    """The queue entry is no longer there, or no longer reserved by this connection."""


class QueueEntryTooBig(DistTestError):
    """beanstalkd refused an entry because its body is larger than the server's `-z` limit."""


class ResultStoreUnavailable(DistTestError):
    """The S3 bucket for logs and artifacts refused, or did not answer, for as long as we were willing to try."""


class ResultNotFound(DistTestError):
    """The S3 bucket holds no object of this key."""


class UnsafeArchive(DistTestError):
    """A zip of artifacts is damaged, or unpacking it would write outside of its directory or fill the disk."""


class IsolateError(DistTestError):
    """Packaging, storing or fetching a test's files failed."""


class InvalidIsolated(IsolateError):
    """An `.isolated` document is not what the format allows, or leads out of its directory."""


class InvalidIsolate(IsolateError):
    """An `.isolate` or `.isolated.gen.json` file is not what the format allows."""


class DigestMismatch(IsolateError):
    """A blob's content does not have the digest or size that it was announced with."""


class BlobNotFound(IsolateError):
    """The isolate server does not hold this digest."""


class IsolateServerUnavailable(IsolateError):
    """The isolate server did not answer, or kept failing, for as long as we were willing to try."""


class CacheFull(IsolateError):
    """The task's files do not fit into the cache's limits or on the disk."""


class RunError(DistTestError):
    """A task could not be started, for a reason that is not the test's own."""


class MasterUnavailable(DistTestError):
    """The master did not answer, or kept failing, for as long as we were willing to try."""


class MasterRefused(DistTestError):
    """The master understood the request and refused it; the message is the master's own."""


class NotLeader(DistTestError):
    """Another autoscaler decides: this one must not change anything."""


class InvalidSnapshot(DistTestError):
    """A snapshot that the autoscaler shall decide from is not what the format allows."""


class MetadataUnavailable(DistTestError):
    """The cloud's metadata server did not answer, or not like one, for as long as we were willing to try."""


class CloudError(DistTestError):
    """Compute Engine did not do what the autoscaler asked of it."""


class CloudUnavailable(CloudError):
    """Compute Engine did not answer, or kept failing, for as long as we were willing to try."""


class CloudThrottled(CloudError):
    """Compute Engine takes no more requests of this project for the rest of the minute."""


class CloudForbidden(CloudError):
    """The service's account may not do this, or could not log in at all."""


class CloudQuotaExceeded(CloudError):
    """The project's quota has no room for more instances: another group may have."""


class CloudRefused(CloudError):
    """Compute Engine understood a request and refused it; the next reading of the group tells what is true."""


class GroupNotFound(CloudError):
    """The project has no managed instance group of this name in this place."""


class GroupAutoscaled(CloudError):
    """An autoscaler of Google's is attached to the group: two of them must not size it."""


class GroupPaused(CloudError):
    """Calls about this group failed lately; it is left alone for a while."""


class LocalClusterError(DistTestError):
    """A program of the local cluster is missing, did not start, or died."""


class DeadlineSoon(DistTestError):
    """beanstalkd says that an entry held by this connection runs out within a second: touch everything held."""
