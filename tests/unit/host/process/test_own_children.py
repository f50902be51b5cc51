"""What our own children get."""

from __future__ import annotations

from modulus.host.process.own_children import passed_on


def test_the_child_gets_what_it_needs_of_the_environment() -> None:
    kept = {"JOURNAL_STREAM": "1:2", "INVOCATION_ID": "i"}
    kept["MODULUS_BUILD__JOBS"] = "4"
    others = {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "SECRET": "s", "MODULUSX": "1"}
    status = {"NOTIFY_SOCKET": "n"}
    assert passed_on({**kept, **others, **status}, status=True) == {**kept, **status}
    # What works ahead, or proves, has no word in the status of the driver.
    assert passed_on({**kept, **others, **status}) == kept
