"""The members of a package that are a driver's sources."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.package.vendor_manifest import VendorManifest


@dataclass(frozen=True)
class Members:
    """Those below ``folders``; ``.`` is all of the package."""

    folders: tuple[str, ...]

    def __call__(self, name: str) -> str | None:
        """Where ``name`` goes, None for nowhere."""
        for folder in self.folders:
            if folder == ".":
                return name
            if name.startswith(f"{folder}/"):
                return name.removeprefix(f"{folder}/")
        return None

    def listed(self, manifest: VendorManifest | None) -> frozenset[str]:
        """The files among them that a package is known to have; none where that is unknown."""
        return frozenset(
            entry.file
            for entry in (manifest.entries if manifest else ())
            if entry.link is None
            and any(entry.file.startswith(f"{folder}/") for folder in self.folders)
        )
