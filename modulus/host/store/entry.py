"""A module in a store: plain, as an object, or as a patch against one; hashed as it is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from modulus.core.store.manifest import StoredFile
from modulus.errors import IntegrityError
from modulus.host.archive.decompress import Reader
from modulus.host.files.regular import open_regular
from modulus.host.store.delta import PIECE, read_patch
from modulus.host.store.objects import Objects


@dataclass(frozen=True)
class Stored:
    """The module ``file`` of the entry in ``folder``, with the ``objects`` of its store."""

    file: StoredFile
    folder: Path
    objects: Objects

    @property
    def sha256(self) -> str:
        """The sha256 that its content must have."""
        return self.file.sha256

    @property
    def size(self) -> int:
        """The size of its content in bytes."""
        return self.file.size

    def damage(self, *, deep: bool = True) -> str | None:
        """What is wrong with it, or None; without ``deep`` only whether all of it is there."""
        file = self.file
        try:
            for path in self._paths:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    return f"{path.name} is no file"
                if file.object is None and status.st_size != file.size:
                    return f"{path.name} is {status.st_size} bytes, not {file.size}"
            if deep:
                self._read(lambda _: None)
        except OSError as error:
            return f"{file.path} cannot be read ({error.strerror})"
        except ValueError as error:
            return f"{file.path} {error}"
        return None

    def write(self, target: Path, mode: int) -> None:
        """Writes its content to the new file ``target``; IntegrityError for a damaged one. A
        failure leaves no file."""
        with open(target, "xb") as file:
            try:
                self._read(file.write)
                file.flush()
                os.fchmod(file.fileno(), mode)
            except ValueError as error:
                target.unlink()
                raise IntegrityError(
                    f"{self.file.path} of the build in {self.folder} {error}",
                    "run the same command again",
                ) from error
            except BaseException:
                target.unlink()
                raise

    @property
    def _paths(self) -> Iterator[Path]:
        """The files it is made of."""
        if self.file.object is None:
            yield self.folder / self.file.path
        else:
            yield self.objects.path(self.file.object)
            if self.file.patch:
                yield self.folder / self.file.patch

    def _read(self, use: Callable[[bytes], object]) -> None:
        """Calls ``use`` with each piece; ValueError, at the latest at the end, if the content
        is wrong. A thread hashes it meanwhile."""
        digest, left = hashlib.sha256(), self.file.size
        hashed: Future[None] | None = None
        with ThreadPoolExecutor(1) as pool, contextlib.closing(self._pieces()) as pieces:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                if hashed:
                    hashed.result()
                hashed = pool.submit(digest.update, piece)
                use(piece)
        if left:
            raise ValueError(f"is not {self.file.size} bytes, as its manifest says")
        if digest.hexdigest() != self.file.sha256:
            raise ValueError("has another sha256 than its manifest says")

    def _pieces(self) -> Generator[bytes, None, None]:
        with contextlib.ExitStack() as stack:
            content: Reader
            if self.file.object is None:
                content = stack.enter_context(open_regular(self.folder / self.file.path))
            else:
                content = stack.enter_context(self.objects.open(self.file.object))
            if self.file.patch:
                file = open_regular(self.folder / self.file.patch)
                patch = stack.enter_context(BufferedReader(file))
                yield from read_patch(patch, content)
                return
            while piece := content.read(PIECE):
                yield piece
