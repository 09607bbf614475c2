from dkeras_core.singlenode.logs import explain, tail

LOG = """\
2026-11-22 19:25:40,000 INFO  namenode.NameNode: registered UNIX signal handlers
2026-11-22 19:25:41,000 ERROR namenode.NameNode: an earlier one
2026-11-22 19:25:42,000 ERROR namenode.NameNode: Failed to start namenode.
java.net.BindException: Port in use: 127.0.0.1:20001
\tat org.apache.hadoop.http.HttpServer2.constructBindException(HttpServer2.java:1)
\t... 9 more
Caused by: java.net.BindException: Address already in use
2026-11-22 19:25:43,000 INFO  util.ExitUtil: Exiting with status 1
2026-11-22 19:25:44,000 INFO  namenode.NameNode: SHUTDOWN_MSG:
/************************************************************
SHUTDOWN_MSG: Shutting down NameNode
************************************************************/
"""


def test_last_error_is_shown_without_frames_and_banners(tmp_path):
    (tmp_path / "namenode.log").write_text(LOG)
    assert explain([tmp_path / "namenode.log"]).splitlines() == [
        "  2026-11-22 19:25:42,000 ERROR namenode.NameNode: Failed to start namenode.",
        "  java.net.BindException: Port in use: 127.0.0.1:20001",
        "  Caused by: java.net.BindException: Address already in use",
    ]


def test_without_an_error_the_last_lines_are_shown(tmp_path):
    (tmp_path / "a.log").write_text("".join(f"line {i}\n" for i in range(100)))
    (tmp_path / "a.out").write_text("Error: could not create the Java Virtual Machine\n")
    shown = explain([tmp_path / "a.log", tmp_path / "a.out"], lines=2)
    assert shown.split("\n") == ["  line 98", "  line 99", "  Error: could not create the Java Virtual Machine"]


def test_nothing_was_logged(tmp_path):
    assert explain([tmp_path / "a.log"]) == "  (nothing was logged)"


def test_tail_of_long_lines(tmp_path):
    (tmp_path / "a.log").write_text("".join(f"{i} " + "x" * 5000 + "\n" for i in range(50)))
    assert [line.split()[0] for line in tail(tmp_path / "a.log", 20)] == [str(i) for i in range(30, 50)]
