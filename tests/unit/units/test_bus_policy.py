"""The rules of the system bus about the agents, for every kind of bus."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

FILES = sorted((Path(__file__).parents[3] / "units").glob("org.modulus1*.conf"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_rule_is_left_with_less(file: Path) -> None:
    """dbus-broker drops an attribute that it does not know, and keeps the rest of the rule."""
    policies = ElementTree.parse(file).getroot().findall("policy")
    assert policies
    for policy in policies:
        assert [len(rule.attrib) for rule in policy] == [1] * len(policy)


def test_others_may_send_nothing() -> None:
    rules = {
        (*policy.attrib.items(), rule.tag, *rule.attrib.items())
        for file in FILES
        for policy in ElementTree.parse(file).getroot()
        for rule in policy
    }
    prefix = "org.modulus1"
    assert rules == {
        (("user", "root"), "allow", ("own_prefix", prefix)),
        (("user", "root"), "allow", ("send_destination_prefix", prefix)),
        (("context", "default"), "deny", ("send_destination_prefix", prefix)),
    }
