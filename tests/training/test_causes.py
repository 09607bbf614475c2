"""The cause of what Spark raises, from texts that Spark wrote."""

import pytest

from dkeras_core.errors import ClusterError, DataError, DkerasError
from dkeras_core.training.causes import cause


class PythonException(Exception):
    pass


PythonException.__module__ = "pyspark.errors.exceptions.captured"

TRACE = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "worker.py", line 4222, in process
    serializer.dump_stream(out_iter, outfile)
  File "spool.py", line 99, in append
{last}"""


def test_our_own_error_comes_back_with_its_next_step():
    text = TRACE.format(
        last="dkeras_core.errors.DataError: column 'features' row 7 is null\n  next: preprocess again\n"
    )
    found = cause(PythonException(text))
    assert type(found) is DataError
    assert (found.what, found.next_step) == ("column 'features' row 7 is null", "preprocess again")


def test_any_other_exception_keeps_name_and_message():
    found = cause(PythonException(TRACE.format(last="ModuleNotFoundError: No module named 'numpy'")))
    assert type(found) is DkerasError
    assert "ModuleNotFoundError in an executor: No module named 'numpy'" in found.what


@pytest.mark.parametrize(
    "reason",
    [
        "Container killed by YARN for exceeding physical memory limits. 1.5 GB of 1.4 GB physical memory used.",
        "Container from a bad node: container_1_01_000002 on host: h. Exit status: 137. Diagnostics: killed",
    ],
)
def test_an_executor_killed_for_memory_names_the_setting(reason):
    text = (
        "Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times, most recent failure: Lost task 0.3 in "
        f"stage 3.0 (TID 9) (h executor 5): ExecutorLostFailure (executor 5 exited caused by one of the running tasks)"
        f" Reason: {reason}\nDriver stacktrace:"
    )
    found = cause(PythonException(text))
    assert type(found) is ClusterError
    assert "memory" in found.what and "memory_overhead" in found.next_step


def test_an_error_of_ours_is_left_alone():
    error = DataError("what", "next")
    assert cause(error) is error
    plain = ValueError("dkeras_core.errors.DataError: not from Spark")
    assert cause(plain) is plain
