"""The members of a package that are a driver's sources."""

from __future__ import annotations

from dataclasses import dataclass

from modulus.core.package.vendor_manifest import VendorManifest


@dataclass(frozen=True)
class Members:
    """The members below ``folders``; ``.`` is the whole package."""

    folders: tuple[str, ...]

    def __call__(self, name: str) -> str | None:
        """Where the member ``name`` goes; None to leave it out."""
        for folder in self.folders:
            if folder == ".":
                return name
            if name.startswith(f"{folder}/"):
                return name.removeprefix(f"{folder}/")
        return None

    def listed(self, manifest: VendorManifest | None) -> frozenset[str]:
        """The files among them that ``manifest`` lists; none without a manifest."""
        return frozenset(
            entry.file
            for entry in (manifest.entries if manifest else ())
            if entry.link is None
            and any(entry.file.startswith(f"{folder}/") for folder in self.folders)
        )
