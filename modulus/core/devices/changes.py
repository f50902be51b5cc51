"""The changes that /dev needs, as data: wanted nodes compared with those that are there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from modulus.core.devices.wanted import (
    DEV,
    DeviceNode,
    NodeFacts,
    NodeRule,
    Seen,
    hands_off,
    number,
    wanted_nodes,
)
from modulus.core.findings import Finding

CHAR = f"{DEV}/char"
"""Where container runtimes look devices up by number, with a link for every node."""

RIGHT, MISSING, STALE, FOREIGN, UNWANTED = "right", "missing", "stale", "foreign", "unwanted"


@dataclass(frozen=True)
class Change:
    """A path below /dev and its ``state``; ``what`` says what differs, or is in the way.

    ``node`` is the node that should be there, ``target`` the target of the link that should.
    """

    path: str
    state: str
    what: str = ""
    node: DeviceNode | None = None
    target: str | None = None

    @property
    def due(self) -> bool:
        """Whether something is to be done here, and may be."""
        managed = self.node is None or self.node.managed
        return managed and self.state in (MISSING, STALE, UNWANTED)


@dataclass(frozen=True)
class NodePlan:
    """The nodes that should be there, and a Change for every path, right ones included."""

    wanted: tuple[DeviceNode, ...] = ()
    changes: tuple[Change, ...] = ()


def plan_nodes(rules: tuple[NodeRule, ...], facts: NodeFacts) -> NodePlan:
    """The changes that bring /dev to what the rules and the driver say, in order."""
    wanted = wanted_nodes(rules, facts)
    nodes = (*compare(wanted, facts.seen), *_unwanted(rules, facts, wanted))
    return NodePlan(wanted, (*nodes, *_links(rules, facts, wanted, nodes)))


def compare(wanted: Iterable[DeviceNode], seen: Mapping[str, Seen]) -> tuple[Change, ...]:
    """Each wanted node against what is at its path."""
    return tuple(_compare(node, seen) for node in wanted)


def node_findings(changes: Iterable[Change]) -> tuple[Finding, ...]:
    """What is wrong with the paths of ``changes``, and how to mend it."""
    return tuple(_finding(change) for change in changes if change.state != RIGHT)


def removable(
    rules: tuple[NodeRule, ...], now: NodeFacts, before: NodeFacts
) -> tuple[str, ...]:
    """The nodes and links to remove with the driver: all that the rules make, whatever their
    numbers, unless the driver said ``before`` its unload to leave them alone."""
    own = [rule for rule in rules if rule.makes and not hands_off(rule, before)]

    def ours(path: str) -> bool:
        return any(rule.matches(path) for rule in own)

    nodes = [path for path, seen in now.seen.items() if not seen.kind and ours(path)]
    links = [
        f"{CHAR}/{name}"
        for name, target in now.links.items()
        if target and ours(leads := leads_to(target))
        if leads in nodes or leads not in now.seen
    ]
    return (*nodes, *links)


def link_path(major: int, minor: int) -> str:
    """The path of the link to the node of these numbers."""
    return f"{CHAR}/{major}:{minor}"


def link_target(path: str) -> str:
    """The target of the link to the node at ``path``: relative, so it holds in any root."""
    return "../" + posixpath.relpath(path, DEV)


def leads_to(target: str) -> str:
    """The path to which a link in /dev/char with ``target`` leads, followed no further."""
    return posixpath.normpath(posixpath.join(CHAR, target))


def _compare(node: DeviceNode, seen: Mapping[str, Seen]) -> Change:
    folder = posixpath.dirname(node.path)
    if folder in seen:
        return Change(node.path, FOREIGN, f"{folder} is a {seen[folder].kind}", node)
    there = seen.get(node.path)
    if there is None:
        return Change(node.path, MISSING, "", node)
    if there.kind:
        return Change(node.path, FOREIGN, f"a {there.kind} is there", node)
    pairs = (
        ("major", str(there.major), str(node.major)),
        ("minor", str(there.minor), str(node.minor)),
        ("mode", f"{there.mode:04o}", f"{node.mode:04o}"),
        ("owner", f"{there.uid}:{there.gid}", f"{node.uid}:{node.gid}"),
    )
    wrong = [f"{name} {old} instead of {new}" for name, old, new in pairs if old != new]
    return Change(node.path, STALE if wrong else RIGHT, ", ".join(wrong), node)


def _unwanted(
    rules: tuple[NodeRule, ...], facts: NodeFacts, wanted: tuple[DeviceNode, ...]
) -> Iterator[Change]:
    """Nodes whose device is gone: at a rule's path, with its major or one no driver has."""
    paths = {node.path for node in wanted}
    for rule in rules:
        major = facts.major(rule)
        if major is None or not _all_known(rule, facts) or hands_off(rule, facts):
            continue
        for path, seen in facts.seen.items():
            if path in paths or seen.kind or not rule.matches(path):
                continue
            if seen.major == major or not facts.devices.is_taken(seen.major):
                paths.add(path)
                what = f"no device has {seen.major}:{seen.minor}"
                yield Change(path, UNWANTED, what)


def _all_known(rule: NodeRule, facts: NodeFacts) -> bool:
    """Whether the driver has told all minors; only then can a node be unwanted."""
    if rule.minors is None:
        return False
    texts = [facts.files.get(pattern) for pattern in rule.minors.files]
    return any(found is not None for found in texts) and not any(
        rule.minors.field and number(text, rule.minors.field) is None
        for found in texts
        for text in found or ()
    )


def _links(
    rules: tuple[NodeRule, ...],
    facts: NodeFacts,
    wanted: tuple[DeviceNode, ...],
    nodes: tuple[Change, ...],
) -> Iterator[Change]:
    """Links to the nodes as they will be; links to the rules' paths with other numbers go."""
    numbers = {p: (s.major, s.minor) for p, s in facts.seen.items() if not s.kind}
    for change in nodes:
        if change.due and change.node:
            numbers[change.path] = change.node.number
        elif change.due:
            del numbers[change.path]
    ours = set()
    for node in wanted:
        if numbers.get(node.path) == node.number:
            path = link_path(*node.number)
            ours.add(path)
            yield _link(path, link_target(node.path), facts)
    for name, target in facts.links.items():
        path, leads = f"{CHAR}/{name}", leads_to(target or "")
        right = link_path(*numbers[leads]) if leads in numbers else None
        if path != right and path not in ours and any(rule.matches(leads) for rule in rules):
            yield Change(path, UNWANTED, f"leads to {leads}, which has another number")


def _link(path: str, target: str, facts: NodeFacts) -> Change:
    name = posixpath.basename(path)
    if name not in facts.links:
        return Change(path, MISSING, "", target=target)
    there = facts.links[name]
    if there is None:
        return Change(path, FOREIGN, "what is there is no symbolic link", target=target)
    if there != target:
        return Change(path, STALE, f"leads to {there} instead of {target}", target=target)
    return Change(path, RIGHT, target=target)


def _finding(change: Change) -> Finding:
    """Containers can do without links for a while; programs cannot do without nodes."""
    link = change.path.startswith(f"{CHAR}/")
    state, path = change.state, change.path
    severity, fix = "warning" if link else "error", "run modulus up again"
    if state == FOREIGN:
        message = f"{path} cannot be made: {change.what}"
        cause = "something other than Modulus or the driver put it there"
        fix = f"move it away, then {fix}"
    elif state == MISSING:
        message = f"{path} is missing"
        cause = "it was removed, or something other than Modulus loaded the driver"
    else:
        message = f"{path} is wrong: {change.what}"
        cause = "the driver was loaded again since it was made, or something changed it"
    if state == UNWANTED:
        state, severity = STALE, "warning"
    elif state != FOREIGN and change.node and not change.node.managed:
        state, severity = "unmanaged", "warning"
        cause = "the driver's parameters say that its nodes are not to be made or changed"
        fix = f"make it as it should be ({_mknod(change.node)}), or change the parameters"
    return Finding(
        f"{state}-{'link' if link else 'node'}", "nodes", severity, message, cause, fix
    )


def _mknod(node: DeviceNode) -> str:
    return f"mknod -m {node.mode:o} {node.path} c {node.major} {node.minor}"
