"""Image files: `file:` and relative links, read from one folder and from nowhere else.

Every part of a path is opened on its own, below the one before, never following a symbolic link.  So no name, link or
race can lead out of the folder; the price is that links inside it are refused too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from models.errors import BadEvent, Unavailable

PART_BYTES = 1 << 16
"""Read at once of a file that is longer than it said."""

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe would block its opener

_NEVER = {
    errno.ENOENT: "is not there",
    errno.ENOTDIR: "leads through something that is not a folder (links are not followed)",
    errno.ELOOP: "is a link, and links are not followed",
    errno.EACCES: "must not be read",
    errno.EPERM: "must not be read",
    errno.ENAMETOOLONG: "has too long a name",
    errno.ENXIO: "is not a file",
}


class ImageRoot:
    """The folder that `file:` and relative links are read from."""

    def __init__(self, folder: Path) -> None:
        given = os.path.abspath(folder)  # noqa: PTH100  (Path.resolve would follow links)
        self._folder = os.path.realpath(given)
        self._names = (given, self._folder)

    def read(self, link: str, bytes_max: int) -> bytes:
        """The file that `link` names; blocks.

        BadEvent: outside the folder, not there, not a plain file, or larger than `bytes_max`.  Unavailable: the folder
        itself is away, or its disk fails.
        """
        parts = self._parts(link)
        shown = f"image file {link[:200]!r}"
        folder = self._open()
        try:
            for part in parts[:-1]:
                folder, above = os.open(part, _FOLDER, dir_fd=folder), folder
                os.close(above)
            content = _content(os.open(parts[-1], _FILE, dir_fd=folder), bytes_max + 1)
        except OSError as error:
            if error.errno in _NEVER:
                raise BadEvent(f"{shown} {_NEVER[error.errno]}") from error
            raise Unavailable(f"{shown} cannot be read now: {error.strerror}") from error
        finally:
            os.close(folder)
        if content is None:
            raise BadEvent(f"{shown} is not a file")
        if len(content) > bytes_max:
            raise BadEvent(f"{shown} has more than the {bytes_max / 1e6:.1f} MB that are accepted")
        return content

    def check(self) -> None:
        """Raise Unavailable if the folder itself is away."""
        os.close(self._open())

    def _open(self) -> int:
        try:
            return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(f"image folder {self._folder} cannot be opened: {error.strerror}") from error

    def _parts(self, link: str) -> list[bytes]:
        """The names on the way from the folder to the file, at least one, none of them `..`."""
        path = _file_path(link) if link[:5].lower() == "file:" else link
        if path.startswith("/"):
            for name in self._names:
                if path.startswith(name.rstrip("/") + "/"):
                    path = path[len(name.rstrip("/")) + 1 :]
                    break
            else:
                raise BadEvent(f"image file {link[:200]!r} is outside the image folder")
        try:
            parts = [part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")]
        except UnicodeEncodeError as error:
            raise BadEvent(f"image link {link[:200]!r} is not a path: {error.reason}") from error
        if not parts or b".." in parts or b"\0" in b"".join(parts):
            raise BadEvent(f"image link {link[:200]!r} is not a path below the image folder")
        return parts


def _content(file: int, bytes_max: int) -> bytes | None:
    """Up to `bytes_max` bytes of an open file, which is closed; None where it is a folder, pipe or device.

    Without a file object: that calls the system twice as often, and after every call this thread may have to wait for
    the others of the process.
    """
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return None
        content = os.read(file, min(bytes_max, found.st_size + 1))
        while len(content) < bytes_max and (more := os.read(file, min(bytes_max - len(content), PART_BYTES))):
            content += more
        return content
    finally:
        os.close(file)


def _file_path(link: str) -> str:
    """The path in a `file:` link (RFC 8089), percent-decoded once."""
    path = link[5:]
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise BadEvent(f"image link {link[:200]!r} names a file of another host")
        path = "/" + path
    if "?" in path or "#" in path:
        raise BadEvent(f"image link {link[:200]!r} has a query or fragment (in a file's name: %3F, %23)")
    return os.fsdecode(unquote_to_bytes(path))
