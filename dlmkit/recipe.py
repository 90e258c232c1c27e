"""Finds and reads a recipe, and knows the file and line of every key in it.

A recipe is LightningCLI's YAML with two additions: ``class_path`` also takes a registered name, and ``extends`` names
a recipe to build on. As in LightningCLI, ``callbacks+`` adds to a list that ``callbacks`` would replace. Nothing here
imports torch, so a fault that the text alone shows is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dlmkit import plugins
from dlmkit.errors import Faults, UserError, did_you_mean

__all__ = [
    "CLASS_KEYS",
    "COMMAND_LINE",
    "Key",
    "Recipe",
    "beside_class_path",
    "from_config",
    "is_overlay",
    "locate",
    "parse_overrides",
    "read",
    "split_overrides",
    "typed",
]

Key = tuple[str, ...]
COMMAND_LINE = "command line"
TOP_LEVEL = ("seed_everything", "model", "data", "trainer")
_KINDS = {"model": "tasks", "data": "data"}
CLASS_KEYS = frozenset(("class_path", "init_args", "dict_kwargs"))


@dataclass
class Recipe:
    """A recipe with its overrides merged and its names resolved.

    Args:
        name: What the run is called after.
        path: The file that was named.
        text: That file as written.
        config: The merged configuration, import paths in place of names.
        places: Where each key was written: ``file:line``, or the command line.
        used: The registered tasks and data modules that it names.
        saved: Whether it is what a run saved, where what follows from the data was written in by the run.
    """

    name: str
    path: Path
    text: str
    config: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)
    used: list[plugins.Entry] = field(default_factory=list)
    saved: bool = False

    def place(self, key: Key) -> str:
        """Where a key, or else the nearest key above it, was written; ``init_args`` may have been left out."""
        short = {tuple(w for w in k if w != "init_args"): place for k, place in self.places.items()}
        while key and key not in self.places:
            brief = tuple(w for w in key if w != "init_args")
            if brief in short and key[-1] != "init_args":
                return short[brief]
            key = key[:-1]
        return self.places.get(key, str(self.path))

    def forget(self, key: Key) -> None:
        """What stood below a key stands there no more: something else has been put in its place."""
        for gone in [k for k in self.places if k[: len(key)] == key and len(k) > len(key)]:
            del self.places[gone]

    def typed(self, key: Key) -> dict[str, Any]:
        """The options directly below a key (``init_args`` aside) that were typed, or laid over a saved run."""
        found, saved = {}, f"{_short(self.path)}:"
        for full, place in self.places.items():
            brief = tuple(w for w in full if w != "init_args")
            given = place == COMMAND_LINE or (self.saved and not place.startswith(saved))
            if given and brief[:-1] == key and brief[-1] != "class_path":
                found[brief[-1]] = _at(self.config, full)
        return found

    def fault(self, key: Key, what: str, remedy: str = "") -> UserError:
        """An error at the place of a key."""
        return UserError(what, remedy, self.place(key))

    def located(self, fault: UserError) -> UserError:
        """A fault that names an option (``model.width``), with the file and line where the recipe has that option."""
        if isinstance(fault, Faults):
            return Faults(self.located(single) for single in fault.faults)
        key = tuple(fault.where.split("."))
        named = {tuple(w for w in k if w != "init_args") for k in self.places}
        while len(key) > 1 and key not in named:
            key = key[:-1]  # such as trainer.callbacks of trainer.callbacks.decay
        place = self.place(key)
        if len(key) < 2 or key[0] not in TOP_LEVEL or place == COMMAND_LINE:
            return fault
        return UserError(fault.what, fault.remedy, f"{place}: {fault.where}")


def locate(name: str, where: str = "") -> Path:
    """The file of a recipe.

    Args:
        name: A file, or the name of an installed recipe or plugin.
        where: Where it was named, for the error.

    Raises:
        UserError: If there is no such file or recipe.
    """
    path = Path(name).expanduser()
    looks_like_file = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if not looks_like_file or name.rpartition(":")[2] in plugins.names("recipes"):
        return Path(plugins.find("recipes", name, where).value)
    if path.is_file():
        return path
    near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    remedy = did_you_mean(path.name, near) or did_you_mean(name, plugins.names("recipes"))
    remedy = remedy or "dlmkit list shows the installed recipes, dlmkit copy makes one your own"
    raise UserError(f"there is no file {path}", remedy, where)


def read(name: str, overrides: Sequence[str] = (), overlays: Sequence[str] = ()) -> Recipe:
    """Read a recipe, what it extends, what is laid over it, and what was typed.

    Args:
        name: A file, or the name of an installed recipe or plugin.
        overrides: Command-line words such as ``--model.hidden_size=512``; they win over the recipe.
        overlays: Further recipes, merged on top in order.

    Raises:
        UserError: For a recipe that is not there, malformed or inconsistent; all faults found at once.
    """
    path = locate(name)
    recipe = Recipe(path.stem, path, _text(path))
    for overlay in (name, *overlays):
        _merge_file(recipe, locate(overlay), ())
    for key, value in parse_overrides(overrides):
        _override(recipe, key, value)
    _check_top_level(recipe)
    _resolve(recipe)
    return recipe


def is_overlay(path: Path) -> bool:
    """Whether a recipe names neither model nor data of its own, and is there to be laid over another.

    Raises:
        UserError: If the file is malformed.
    """
    config, _ = _load(_text(path), _short(path))
    return not {"model", "data", "extends"} & config.keys()


def from_config(path: Path, name: str, overrides: Sequence[str] = (), overlays: Sequence[str] = ()) -> Recipe:
    """The recipe of a finished or interrupted run: its saved configuration, with what is laid over or typed now."""
    recipe = Recipe(name, path, _text(path), saved=True)
    for file in (path, *map(locate, overlays)):
        _merge_file(recipe, file, ())
    for key, value in parse_overrides(overrides):
        _override(recipe, key, value)
    _check_top_level(recipe)
    _resolve(recipe)
    return recipe


# ---------------------------------------------------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans, words stay words, and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), None)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
    None,
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""))  # 010 is ten here, not eight


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", "save it as UTF-8", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", "check the path and its permissions", str(path)) from None


def _merge_file(recipe: Recipe, path: Path, chain: tuple[Path, ...]) -> None:
    if path.resolve() in chain:
        trail = " → ".join(p.name for p in (*chain, path))
        raise UserError(f"extends itself: {trail}", "break the circle", str(path))
    config, places = _load(_text(path), _short(path))
    for word in ("model", "data"):
        if isinstance(config.get(word), str):  # a class alone, short for its class_path
            config[word] = {"class_path": config[word]}
            places[word, "class_path"] = places[word,]
    base = config.pop("extends", None)
    if base is not None:
        where = places[("extends",)]
        if not isinstance(base, str):
            raise UserError(f"extends is {base!r}", "name one recipe or file", where)
        sibling = path.parent / base
        parent = sibling if sibling.is_file() else locate(base, where)
        _merge_file(recipe, parent, (*chain, path.resolve()))
    _merge(recipe, config, places, ())


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _load(text: str, name: str) -> tuple[dict[str, Any], dict[Key, str]]:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)  # which refuses what cannot be printed
        node = loader.get_single_node()
        places: dict[Key, str] = {}
        faults: list[UserError] = []
        config = _build(loader, node, name, (), places, faults, ()) if node else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise UserError(f"not valid YAML: {error.problem or error.context}", _yaml_remedy(error), where) from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", "check this line's spelling", name) from None
    finally:
        if loader is not None:
            loader.dispose()
    if faults:
        raise Faults(faults)
    if not isinstance(config, dict):
        raise UserError("not a recipe", "it needs the keys model and data; dlmkit copy lstm makes one", f"{name}:1")
    return config, places


def _yaml_remedy(error: yaml.MarkedYAMLError) -> str:
    if "\\t" in str(error.problem):
        return "indent with spaces, not tabs"
    return "check the indentation, colons and brackets here and on the line above"


def _build(
    loader: _Loader,
    node: yaml.Node,
    name: str,
    key: Key,
    places: dict[Key, str],
    faults: list[UserError],
    above: tuple[int, ...],
) -> Any:
    """Turn a node into plain values, noting the place of every key and refusing duplicates."""
    if id(node) in above:
        raise UserError("an alias contains itself", "write the value out", f"{name}:{node.start_mark.line + 1}")
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return [
            _build(loader, n, name, _note(places, (*key, str(i)), name, n), places, faults, above) for i, n in items
        ]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node, deep=True)
    seen: dict[str, int] = {}
    for child, _ in node.value:
        word, line = str(child.value), child.start_mark.line + 1
        if word in seen and word != "<<":
            remedy = f"it stands in line {seen[word]} already; keep one"
            faults.append(UserError(f"the key {word} is given twice", remedy, f"{name}:{line}"))
        seen[word] = line
    loader.flatten_mapping(node)
    out = {}
    for child, value in node.value:
        below = _note(places, (*key, str(child.value)), name, child)
        out[str(child.value)] = _build(loader, value, name, below, places, faults, above)
    return out


def _note(places: dict[Key, str], key: Key, name: str, node: yaml.Node) -> Key:
    places[key] = f"{name}:{node.start_mark.line + 1}"
    return key


# ---------------------------------------------------------------------------------------------------------- merging


def _merge(recipe: Recipe, over: dict[str, Any], places: dict[Key, str], key: Key) -> None:
    """Merge a mapping into the recipe: mappings merge, ``word+`` adds to the list ``word``, all else replaces."""
    base = _at(recipe.config, key)
    if len(key) > 1 and "class_path" in base and not CLASS_KEYS & over.keys():  # optimizer: {lr: 0.1}
        over = {"init_args": over}
        places = {(*key, "init_args", *k[len(key) :]) if k[: len(key)] == key else k: p for k, p in places.items()}
    elif len(key) > 1 and CLASS_KEYS & over.keys() and not CLASS_KEYS & base.keys():  # the long form laid over that
        kept = {} if "class_path" in over else dict(base)
        base.clear()
        base.update({"init_args": kept} if kept else {})
    path = over.get("class_path")
    if path is not None and not _may_be_same(key, path, base.get("class_path", path)):
        base.pop("init_args", None)  # they belonged to the other class
        recipe.forget((*key, "init_args"))
    for word, value in over.items():
        below = (*key, word)
        if word.endswith("+"):
            _append(recipe, below, value, places)
            continue
        for noted in [k for k in places if k == below]:
            recipe.places[noted] = places[noted]
        if isinstance(value, dict) and isinstance(base.get(word), dict):
            _merge(recipe, value, places, below)
        elif value is None and word == "init_args":
            base.setdefault(word, {})
        else:
            base[word] = value
            recipe.forget(below)
            recipe.places.update({k: p for k, p in places.items() if k[: len(below)] == below})


def _append(recipe: Recipe, key: Key, value: Any, places: dict[Key, str]) -> None:
    """Add to the list whose name is the last word of the key without its ``+``, as LightningCLI does."""
    parent, listed = _at(recipe.config, key[:-1]), (*key[:-1], key[-1].removesuffix("+"))
    there, more = (v if isinstance(v, list) else [v] for v in (parent.get(listed[-1]) or [], value))
    parent[listed[-1]] = [*there, *more]
    for noted, place in places.items():
        if noted[: len(key)] == key and len(noted) > len(key):
            index = str(int(noted[len(key)]) + len(there)) if noted[len(key)].isdigit() else str(len(there))
            below = noted[len(key) + 1 :] if noted[len(key)].isdigit() else noted[len(key) :]
            recipe.places[*listed, index, *below] = place
    recipe.places.setdefault(listed, places.get(key, COMMAND_LINE))


def _may_be_same(key: Key, one: Any, other: Any) -> bool:
    """Whether two class paths may mean one class; ``AdamW`` is the short name of ``torch.optim.AdamW``."""
    if _classes(key, one) & _classes(key, other):
        return True
    ends = [str(path).rpartition(".") for path in (one, other)]
    return len(key) > 1 and ends[0][2] == ends[1][2] and not all(package for package, *_ in ends)


def _classes(key: Key, word: Any) -> set[str]:
    """The import paths that a ``class_path`` may mean; whether it means exactly one is told later."""
    kind = _KINDS.get(key[0]) if len(key) == 1 else None
    package, _, name = str(word).rpartition(":")
    entries = [e for e in plugins.installed() if e.kind == kind and e.name == name and package in ("", e.package)]
    return {e.path for e in entries} or {str(word)}


def _at(config: Any, key: Key) -> Any:
    for word in key:
        config = config[word]
    return config


def parse_overrides(words: Sequence[str]) -> list[tuple[Key, Any]]:
    """Turn ``--a.b=1`` and ``--a.b 1`` into keys and values."""
    return [(key, typed(text)) for key, text in split_overrides(words)]


def typed(text: str) -> Any:
    """What was typed, as YAML reads it."""
    try:
        parsed = yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text
    return text if parsed is None and text else parsed


def split_overrides(words: Sequence[str]) -> list[tuple[Key, str]]:
    """Turn ``--a.b=1`` and ``--a.b 1`` into keys and what was typed."""
    out = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            raise UserError(f"{word} is no option", "options look like --model.hidden_size=512", COMMAND_LINE)
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{name} needs a value", f"write {name}=VALUE", COMMAND_LINE)
            value = rest.pop(0)
        out.append((tuple(name.removeprefix("--").split(".")), value))
    return out


def _override(recipe: Recipe, key: Key, value: Any) -> None:
    """Set one typed value; ``init_args`` may be left out, as with LightningCLI."""
    node: Any = recipe.config
    full: Key = ()
    for position, word in enumerate(key):
        if isinstance(node, str):
            node = {"class_path": node}
            parent = _at(recipe.config, full[:-1])
            parent[full[-1]] = node
        elif not isinstance(node, dict):
            raise UserError(f"--{'.'.join(key)}: {'.'.join(full)} has no keys below it", "", COMMAND_LINE)
        if "class_path" in node and word not in CLASS_KEYS:
            node = _below(node, "init_args")
            full = (*full, "init_args")
        full = (*full, word)
        recipe.places[(*full[:-1], word.removesuffix("+"))] = COMMAND_LINE
        if position < len(key) - 1:
            node = _below(node, word)
            continue
        if key in (("model",), ("data",)) and isinstance(value, str):
            recipe.places[(*full, "class_path")] = COMMAND_LINE
            _merge(recipe, {word: {"class_path": value}}, {}, ())
        elif isinstance(value, dict) and isinstance(node.get(word), dict):
            _merge(recipe, value, _typed_places(value, full), full)
        elif word.endswith("+"):
            _append(recipe, full, value, {})
        else:
            node[word] = value
            recipe.forget(full)
            recipe.places.update(_typed_places(value, full))


def _typed_places(value: Any, key: Key) -> dict[Key, str]:
    """That all of a mapping was typed."""
    places: dict[Key, str] = {}
    for word, below in value.items() if isinstance(value, dict) else ():
        places |= {(*key, word): COMMAND_LINE} | _typed_places(below, (*key, word))
    return places


def _below(node: dict[str, Any], word: str) -> Any:
    """The mapping below a key, made where there is nothing yet."""
    if node.get(word) is None:
        node[word] = {}
    return node[word]


def _check_top_level(recipe: Recipe) -> None:
    faults = []
    for word in recipe.config:
        if word not in TOP_LEVEL:
            remedy = did_you_mean(word, TOP_LEVEL, f"a recipe has {', '.join(TOP_LEVEL)} and extends")
            faults.append(recipe.fault((word,), f"{word} is no key of a recipe", remedy))
    for word in ("model", "data"):
        part = recipe.config.get(word)
        if part is None:
            faults.append(recipe.fault((word,), f"{word} is missing", f"add {word}: {{class_path: NAME}}"))
        elif not isinstance(part, dict) or not isinstance(part.get("class_path"), str):
            faults.append(recipe.fault((word,), f"{word} names no class", "add class_path: NAME below it"))
        else:
            faults += beside_class_path(recipe, part, (word,))
            if not isinstance(part.get("init_args") or {}, dict):
                what = f"{word}.init_args is {part['init_args']!r}"
                faults.append(recipe.fault((word, "init_args"), what, "give options below it, such as batch_size: 32"))
    if not isinstance(_below(recipe.config, "trainer"), dict):
        faults.append(recipe.fault(("trainer",), "trainer is not a mapping", "give options such as max_steps below it"))
    if faults:
        raise Faults(faults)


def beside_class_path(recipe: Recipe, part: dict[str, Any], key: Key) -> list[UserError]:
    """Options that stand beside ``class_path`` where they belong below ``init_args``."""
    dotted = ".".join(key)
    return [
        recipe.fault((*key, k), f"{dotted}.{k} stands beside class_path", f"move {k} below init_args")
        for k in part
        if k not in CLASS_KEYS
    ]


def _resolve(recipe: Recipe) -> None:
    """Put import paths in place of registered names; keep which plugins are used."""
    for word, kind in _KINDS.items():
        part = recipe.config[word]
        name = part["class_path"]
        if "." in name:
            recipe.used += [e for e in plugins.installed() if e.kind == kind and e.path == name]
            continue
        entry = plugins.find(kind, name, recipe.place((word, "class_path")))
        part["class_path"] = entry.path
        recipe.used.append(entry)
