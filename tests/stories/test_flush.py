"""Early attempts: what waits for one destination, one message, all mail. The whole system, started by ``pyfix up``."""

import pytest
from stories.test_delivery import next_host, submit
from system_under_test import SystemUnderTest, free_port

pytestmark = pytest.mark.system


def deferred(system, recipient):
    """Sends a message that cannot be delivered now; its queue ID."""
    submit(system, recipient)
    line = system.wait_log(rf"(\w+): to=<{recipient}>, .*status=deferred")
    system.wait_until(lambda: line[1] in system.queue_ids("deferred"), "the message in deferred/")
    return line[1]


def test_what_waits_for_a_destination_and_then_the_rest(tmp_path):
    port = free_port()
    settings = (
        f"relayhost = [127.0.0.1]:{port}\nminimal_backoff_time = 1000s\nqueue_run_delay = 1000s\n"
        "fast_flush_domains = remote.example\n"
    )
    with SystemUnderTest(tmp_path / "system", settings) as system:
        here = deferred(system, "a@remote.example")
        below = deferred(system, "b@sub.remote.example")
        elsewhere = [deferred(system, f"{name}@elsewhere.example") for name in "cd"]
        log = system.spool / "flush/remote_example"
        assert log.read_text() == f"{here}\n"
        shown = system.run("mailq").stdout
        assert shown.count(f"(connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused)") == 4
        refused = system.run("postqueue", "-s", "elsewhere.example")
        assert refused.returncode == 69
        assert refused.stderr.endswith('Flush service is not configured for destination "elsewhere.example"\n')
        with next_host(port):
            for command, gone in (
                (("postqueue", "-s", "remote.example"), [here]),
                (("sendmail", "-qRsub.remote.example"), [below]),
                (("postqueue", "-i", elsewhere[0]), elsewhere[:1]),
                (("sendmail", "-q"), elsewhere[1:]),
            ):
                waiting = set(system.queue_ids("deferred"))
                done = system.run(*command)
                assert (done.returncode, done.stderr) == (0, "")
                for queue_id in gone:
                    system.wait_log(f"{queue_id}: removed")
                assert set(system.queue_ids()) == waiting - set(gone)
        assert log.read_text() == ""
        assert system.run("mailq").stdout == "Mail queue is empty\n"
