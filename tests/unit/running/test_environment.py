"""The environment of a task."""

from collections.abc import Mapping

from dist_test.running.environment import operator_environment, task_environment


def environment(*, base: Mapping[str, str] | None = None, own: Mapping[str, str] | None = None) -> dict[str, str]:
    return task_environment(
        base=base or {},
        own=own or {},
        attempt_dir="/w/t",
        user="dist-test-task0",
        job_id="j",
        task_id="h.0",
        attempt=2,
    )


def test_a_task_gets_a_clean_environment() -> None:
    assert environment() == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/w/t/home",
        "TMPDIR": "/w/t/tmp",
        "USER": "dist-test-task0",
        "LOGNAME": "dist-test-task0",
        "LANG": "C.UTF-8",
        "DIST_TEST_JOB_ID": "j",
        "DIST_TEST_TASK_ID": "h.0",
        "DIST_TEST_ATTEMPT": "2",
    }


def test_the_task_wins_over_the_operator_and_the_operator_over_the_defaults() -> None:
    result = environment(base={"LANG": "de_DE.UTF-8", "A": "operator"}, own={"A": "task"})
    assert (result["LANG"], result["A"]) == ("de_DE.UTF-8", "task")


def test_the_operator_passes_variables_by_name_and_sets_others() -> None:
    source = {"JAVA_HOME": "/jdk", "AWS_SECRET_KEY": "secret"}
    passed = operator_environment(pass_environment=["JAVA_HOME", "MISSING"], environment={"X": "1"}, source=source)
    assert passed == {"JAVA_HOME": "/jdk", "X": "1"}
