"""Texts that are rendered for other programs to read."""

from __future__ import annotations

from modulus.core import userdata
from modulus.pipeline.node import Node


def user_data(node: Node, package_url: str | None, package_sha256: str | None) -> str:
    """cloud-init's user-data that brings a bare cloud image to ``node``'s instance.

    The settings in force here are those of the nodes. Modulus comes from ``package_url``,
    verified by ``package_sha256``, or from a repository that the image has. Raises UsageError
    where only one of the two is given.
    """
    package = userdata.parse_package(package_url, package_sha256)
    return userdata.user_data(node.instance, node.settings, package)
