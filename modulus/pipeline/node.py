"""One driver on one system: settings, profile and the services that a build uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modulus.core.config.settings import Settings
from modulus.core.gpu.census import Census
from modulus.core.instance import Instance
from modulus.core.kernel.identity import KernelId
from modulus.core.profile.profile import Profile
from modulus.errors import ToolchainError, UsageError
from modulus.host.config.load import load_profile
from modulus.host.files.driver_paths import DriverPaths
from modulus.host.gpu.census import take_census
from modulus.host.kernel.probe import probe, running_kernel
from modulus.host.report.reporter import Reporter
from modulus.pipeline.site import Site

if TYPE_CHECKING:
    # What only a build needs is imported where it is used.
    from modulus.core.distribution.families import Distribution
    from modulus.core.kernel.release import Compiler
    from modulus.host.distribution.provisioner import Provisioner
    from modulus.host.distribution.toolchain import Toolchain
    from modulus.host.fetch.fetcher import Fetcher


class Node:
    """A driver's instance on a site."""

    def __init__(self, site: Site, instance: Instance) -> None:
        self.site = replace(site, driver=instance.profile)
        self.instance = instance

    @property
    def settings(self) -> Settings:
        """The settings in force for this driver."""
        return self.site.settings

    @property
    def paths(self) -> DriverPaths:
        """Where the driver's files lie."""
        return DriverPaths(self.site.root, self.instance.profile)

    @cached_property
    def profile(self) -> Profile:
        """What the driver is."""
        return load_profile(self.site.root, self.instance.profile)

    @property
    def arch(self) -> str:
        """What ``uname -m`` says."""
        return self.site.host.machine

    @cached_property
    def kernel(self) -> KernelId:
        """The running kernel; UsageError where the root shows none."""
        running = running_kernel(self.site.root)
        if running is None:
            raise UsageError(
                f"no kernel runs below {self.site.root}",
                "give --root a running system; build and plan take --kernel RELEASE",
            )
        return running

    @cached_property
    def census(self) -> Census:
        """The GPUs as they were found first."""
        return take_census(self.site.root, self.profile, self.site.host.pci)

    def installed_kernels(self) -> tuple[str, ...]:
        """Every installed kernel; ToolchainError for none, since that cannot be all."""
        if not self.site.host.kernels:
            raise ToolchainError(
                f"no kernel is installed below {self.site.root}/lib/modules",
                "name one with --kernel RELEASE",
            )
        return self.site.host.kernels

    @cached_property
    def distribution(self) -> Distribution | None:
        """The root's distribution; that of the running system for a root without any."""
        if self.site.host.os_release:
            return self.site.host.distribution
        from modulus.core.distribution.families import identify

        return identify(probe(Path("/")).os_release, self.arch)

    @cached_property
    def provisioner(self) -> Provisioner:
        """Headers, toolchains and source packages."""
        from modulus.host.distribution.provisioner import Provisioner

        bundle = self.settings.ca_bundle
        return Provisioner(
            self.site.cache,
            self.site.root,
            self.distribution,
            self.site.stores,
            proxy=self.settings.proxy,
            ca_bundle=Path(bundle) if bundle else None,
            offline=self.settings.offline,
            lock_timeout=self.site.lock_timeout,
            kernel_sources=self.settings.kernel_sources,
        )

    def toolchain(self, compiler: Compiler, reporter: Reporter) -> Toolchain:
        """The toolchain that builds with ``compiler`` run in."""
        if self.on_host:
            return _host_toolchain(compiler)
        return self.provisioner.toolchain(compiler, reporter)

    def toolchain_recorded(self, compiler: Compiler) -> Toolchain | None:
        """The same if it is at hand."""
        if self.on_host:
            return _host_toolchain(compiler)
        return self.provisioner.toolchain_recorded(compiler)

    @property
    def on_host(self) -> bool:
        """Whether builds run on the host itself, without a container."""
        return self.settings.build.container == "none"

    def fetcher(
        self, reporter: Reporter, sleep: Callable[[float], None] = time.sleep
    ) -> Fetcher:
        """Downloads, with ``sleep`` between tries."""
        from modulus.host.fetch.fetcher import Fetcher
        from modulus.host.fetch.http import ClientOptions
        from modulus.host.fetch.retry import Pace

        return Fetcher(
            ClientOptions(proxy=self.settings.proxy, ca_bundle=self.settings.ca_bundle),
            self.site.cache / "downloads",
            reporter,
            stores=self.site.stores,
            offline=self.settings.offline,
            allow_unverified=self.settings.allow_unverified,
            network_wait=self.settings.network_wait,
            lock_timeout=self.site.lock_timeout,
            pace=Pace(sleep=sleep),
        )


def _host_toolchain(compiler: Compiler) -> Toolchain:
    from modulus.host.distribution.host_tools import host_toolchain

    return host_toolchain(compiler)
