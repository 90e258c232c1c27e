"""``dlmkit new``: writes a plugin that trains, is documented and tested as it stands."""

from __future__ import annotations

import keyword
import re
from importlib import metadata, resources
from pathlib import Path
from string import Template

from dlmkit import plugins
from dlmkit.errors import UserError

__all__ = ["write"]

# What is written, and the template that it is made from; placeholders in both.
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "${package}/__init__.py": "__init__.py.txt",
    "${package}/model.py": "model.py.txt",
    "${package}/task.py": "task.py.txt",
    "${package}/recipes/${name}.yaml": "recipe.yaml.txt",
    "tests/test_${module}.py": "test.py.txt",
}
_IMPORTED = frozenset(
    "Any Batch ClassVar Figure MatplotlibFigure Media NGramNetwork SequenceTask State Tensor Text UserError".split()
)


def write(name: str, folder: Path) -> Path:
    """Write a plugin.

    Args:
        name: Lower-case words joined by ``-``; what users will type.
        folder: Where the plugin's own folder goes; it is made if it is not there.

    Returns:
        The plugin's folder, ``folder / name``.

    Raises:
        UserError: If the name cannot be used, or the folder is there already or cannot be written.
    """
    _check(name)
    target = folder / name
    if target.exists():
        raise UserError("is there already", "choose another name, or remove it first", str(target))
    words = _words(name)
    try:
        for path, template in _FILES.items():
            file = target / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(_template(template)).substitute(words), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", "choose another --folder", str(target)) from None
    return target


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
        near = re.sub(r"[^a-z0-9]+", "-", words).lstrip("-0123456789").rstrip("-")
        remedy = f"write {near}" if near else "write lower-case words joined by -, such as my-net"
        raise UserError(f"{name!r} is no name for a plugin", remedy)
    if name.startswith("dlmkit"):
        raise UserError(f"{name} begins with dlmkit, which is put in front anyway", "leave it out")
    if len(name) > 40:
        raise UserError(f"{name} has {len(name)} characters", "give at most 40: people will type it")
    if keyword.iskeyword(name.replace("-", "_")) or keyword.iskeyword(_class_name(name)):
        raise UserError(f"{name} is a word of Python's own", f"write {name}-net")
    taken = next((e for e in plugins.installed() if e.name == name), None)
    if taken:
        raise UserError(f"{taken.package} has the name {name} already", "choose another")
    try:
        metadata.version(f"dlmkit-{name}")
    except metadata.PackageNotFoundError:
        return
    raise UserError(f"a package dlmkit-{name} is installed already", "choose another name")


def _words(name: str) -> dict[str, str]:
    """What the placeholders stand for."""
    module = name.replace("-", "_")
    return {
        "name": name,
        "module": module,
        "package": f"dlmkit_{module}",
        "task": _class_name(name),
        "title": name.replace("-", " ").capitalize(),
    }


def _class_name(name: str) -> str:
    camel = "".join(word.capitalize() for word in name.split("-"))
    return f"{camel}Task" if camel in _IMPORTED else camel


def _template(name: str) -> str:
    return (resources.files(__name__) / "template" / name).read_text(encoding="utf-8")
