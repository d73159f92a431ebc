"""What a path that is given for a TIFF stack is instead: an address, a folder, a file of another format."""

from __future__ import annotations

import os
from pathlib import Path

from ..stack import UnreadableStack

__all__ = ["as_path", "existing", "file_at", "refuse_other_formats"]

_EXPORT = "export it as TIFF, in the software of the microscope or in Fiji (File > Import > Bio-Formats)"
_UNPACK = "unpack it, and give the TIFF stack inside"
_NO_COUNTS = "it is made for pictures and does not keep counts; save the recording as TIFF"
#: (where, bytes, what starts so, what to do)
_STARTS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "a gzip file", _UNPACK),
    (0, b"BZh", "a bzip2 file", _UNPACK),
    (0, b"\xfd7zXZ", "an xz file", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"Rar!", "a rar archive", _UNPACK),
    (0, b"\xda\xce\xbe\x0a", "a recording of Nikon NIS-Elements (ND2)", _EXPORT),
    (0, b"ZISRAWFILE", "a recording of Zeiss ZEN (CZI)", _EXPORT),
    (0, b"\x70\x00\x00\x00", "a recording of Leica LAS X (LIF)", _EXPORT),
    (0, b"\x89HDF", "an HDF5 file (as of Imaris)", _EXPORT),
    (0, b"\xd0\xcf\x11\xe0", "a compound file (as of Olympus, OIB)", _EXPORT),
    (0, b"SIMPLE  =", "a FITS file", _EXPORT),
    (128, b"DICM", "a DICOM file", _EXPORT),
    (208, b"MAP ", "an MRC file", _EXPORT),
    (
        0,
        b"\x93NUMPY",
        "a NumPy array",
        "load it with numpy.load and save it with tifffile.imwrite(..., photometric='minisblack')",
    ),
    (0, b"\x89PNG", "a PNG image", _NO_COUNTS),
    (0, b"\xff\xd8\xff", "a JPEG image", _NO_COUNTS),
    (0, b"GIF8", "a GIF image", _NO_COUNTS),
    (0, b"RIFF", "an AVI film or WebP image", _NO_COUNTS),
    (4, b"ftyp", "a film (MP4)", _NO_COUNTS),
    (0, b"%PDF", "a PDF document", "give the TIFF stack itself"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch it with 'git lfs pull'"),
)


def as_path(path: object) -> Path:
    """Return a path, or say what came instead.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path must name a file, as a str or a pathlib.Path, got {type(path).__name__}")
    name = os.fspath(path)
    if not name or "\0" in name:
        raise ValueError(f"path must name a file, got {name!r}")
    if "://" in name:
        raise ValueError(f"{name} is an address; download the file, and give its path on this computer")
    return Path(name)


def existing(path: Path) -> Path:
    """Return a path at which something is.

    Raises
    ------
    FileNotFoundError
        If nothing is.
    OSError
        If the system does not say.
    """
    try:
        found = path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise OSError(error.errno, f"{error.strerror}: {_short(path)}; give the path of the TIFF stack") from None
    if not found:
        raise FileNotFoundError(f"there is no file {_short(path)}")
    return path


def file_at(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises
    ------
    FileNotFoundError, OSError
        As of :func:`existing`.
    ValueError
        If it is a folder, a pipe or a device.
    """
    if not existing(path).is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device"
        raise ValueError(f"{path} is {kind}, not a file; give the TIFF stack itself")
    return path


def refuse_other_formats(path: Path) -> None:
    """Say what a file is that does not start as a TIFF does.

    Raises
    ------
    UnreadableStack
    """
    with path.open("rb") as handle:
        try:
            start = handle.read(512)
        except OSError as error:  # of a disk or a network; the error knows no name
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    if start[:2] in (b"II", b"MM"):
        return
    if not start:
        raise UnreadableStack(f"{path} is empty (0 bytes); copy it again, or save the recording again")
    for where, begins, what, then in _STARTS:
        if start[where : where + len(begins)] == begins:
            raise UnreadableStack(f"{path} is {what}, not a TIFF file: {then}")
    if not any(start):
        raise UnreadableStack(f"{path} starts with {len(start)} zero bytes, and is no TIFF file; copy it again")
    if start.isascii() and b"\0" not in start:
        said = " ".join(start.decode("ascii").split())[:40]
        raise UnreadableStack(f"{path} is text ({said!r}...), not a TIFF file; give the TIFF stack itself")


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 300 else f"{text[:100]}...{text[-100:]} ({len(text)} characters)"
