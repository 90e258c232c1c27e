"""How the parts hang together: read from the source, so that it cannot drift."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "dlmkit"
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file())

# What answers without torch: every verb but those that train, and every fault that the text of a recipe shows.
LIGHT = ["__init__", "cli", "catalogue", "compare", "doctor", "errors", "inspection", "mishaps", "notation", "plugins"]
LIGHT += ["recipe", "records", "resuming", "runs", "verbs", "testing/__init__", "testing/plugin", "scaffold/__init__"]
LIGHT_MAY_IMPORT = {"yaml", "pytest", "packaging"}
BUDGET = 5_750  # lines of code in the core, without kit and scaffold


def sources(*folders):
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if "template" not in path.parts]


def relative(path):
    return str(path.relative_to(ROOT))


def imports(path, top_only=False):
    """The modules that a file imports, but for those that only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()

    def visit(node, top):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: a relative import"
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if not (inside and top_only):
                visit(child, top)

    visit(tree, True)
    return found


def tops(modules):
    return {module.partition(".")[0] for module in modules}


def test_there_is_something_to_read():
    assert len(sources(CORE)) > 20
    assert PLUGINS


# ------------------------------------------------------------------------------------------------------ one direction


@pytest.mark.parametrize("path", sources(CORE), ids=relative)
def test_the_core_imports_no_plugin(path):
    assert not {name for name in tops(imports(path)) if name.startswith("dlmkit_")}


@pytest.mark.parametrize("name", LIGHT)
def test_what_answers_at_once_imports_nothing_heavy(name):
    """At the top of the file; what it needs later it imports where it needs it."""
    import sys

    path = CORE / f"{name}.py"
    foreign = tops(imports(path, top_only=True)) - set(sys.stdlib_module_names) - LIGHT_MAY_IMPORT
    assert foreign <= {"dlmkit"}
    own = {module for module in imports(path, top_only=True) if module.startswith("dlmkit")}
    light = {"dlmkit", *(f"dlmkit.{word.removesuffix('/__init__').replace('/', '.')}" for word in LIGHT)}
    for module in own:
        assert module in light or module.rpartition(".")[0] in light, module


@pytest.mark.parametrize(
    "path", [p for p in sources(CORE) if p.parent in (CORE / "tasks", CORE / "data")], ids=relative
)
def test_what_a_plugin_builds_on_knows_nothing_of_the_command(path):
    """Tasks and data work in plain Lightning."""
    above = {"cli", "verbs", "engine", "recipe", "diagnosis", "runs", "screen", "catalogue", "tracking", "plugins"}
    used = {module.split(".")[1] for module in imports(path) if module.startswith("dlmkit.")}
    assert not used & above
    assert "callbacks" not in used


def test_data_and_tasks_meet_in_the_recipe():
    for path in sources(CORE / "data"):
        assert not {module for module in imports(path) if module.startswith("dlmkit.tasks")}, path
    for path in sources(CORE / "tasks"):
        used = {module for module in imports(path) if module.startswith("dlmkit.data")}
        # the type of a batch, and the name of the symbol that stands for all unknown ones
        assert used <= {"dlmkit.data.module.Batch", "dlmkit.data.tokens.UNKNOWN"}, path


# ---------------------------------------------------------------------------------------------------------- plugins


def package(plugin):
    return plugin / f"dlmkit_{plugin.name.replace('-', '_')}"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_one_word_names_everything_of_a_plugin(plugin):
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"dlmkit-{plugin.name}"
    assert (package(plugin) / "__init__.py").is_file()
    points = project["entry-points"]
    assert plugin.name in points.get("dlmkit.tasks", [plugin.name])  # a plugin of data alone names each of its sets
    assert points.get("dlmkit.tasks") or points.get("dlmkit.data")
    for values in points.values():
        assert {value.partition(":")[0].partition(".")[0] for value in values.values()} == {package(plugin).name}
    if "dlmkit.recipes" in points:
        assert (package(plugin) / "recipes" / f"{plugin.name}.yaml").is_file()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_importing_a_plugin_is_cheap(plugin):
    assert not imports(package(plugin) / "__init__.py") - {"__future__.annotations"}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_a_model_is_readable_alone(plugin):
    """It imports neither Lightning nor dlmkit, and its data does not know it."""
    own = package(plugin)
    if (own / "model.py").is_file():
        used = imports(own / "model.py")
        assert not tops(used) & {"lightning", "pytorch_lightning", "dlmkit"}
        for forbidden in ("data", "task"):
            assert not {module for module in used if module.startswith(f"{own.name}.{forbidden}")}
    if (own / "data.py").is_file():
        used = imports(own / "data.py")
        for forbidden in ("model", "task"):
            assert not {module for module in used if module.startswith(f"{own.name}.{forbidden}")}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_a_plugin_imports_no_other_unless_it_says_so(plugin):
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", need)[0].replace("-", "_") for need in project["dependencies"]}
    for path in sources(package(plugin)):
        others = {name for name in tops(imports(path)) if name.startswith("dlmkit_")} - {package(plugin).name}
        assert others <= declared, path


# ---------- the core names no plugin


def words_of_code(path):
    """The string literals of a file that do something: no docstrings, help, errors' remedies, or examples."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_the_core_names_no_plugin():
    """Prose may give one as an example; nothing may depend on one."""
    names = set()
    for plugin in PLUGINS:
        points = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]["entry-points"]
        names |= {name for group in ("dlmkit.tasks", "dlmkit.data") for name in points.get(group, {})}
        names |= {package(plugin).name, f"dlmkit-{plugin.name}"}
    assert names
    for path in sources(CORE):
        for line, text in words_of_code(path):
            assert text not in names, f"{relative(path)}:{line} names the plugin {text}"


# ---------- size


def code_lines(path):
    """Lines with code: no comments, no docstrings, no blank lines."""
    text = path.read_text(encoding="utf-8")
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip and token.type != tokenize.ENDMARKER:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_the_core_is_small():
    parts = [p for p in sources(CORE) if not {"testing", "scaffold"} & set(p.relative_to(CORE).parts)]
    sizes = {relative(path): code_lines(path) for path in parts}
    total = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
    assert total <= BUDGET, f"{total} lines of code; the largest: {largest}"


@pytest.mark.parametrize("path", sources(CORE, *map(package, PLUGINS)), ids=relative)
def test_a_file_is_read_in_one_sitting(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 500


@pytest.mark.parametrize("path", sources(CORE, *map(package, PLUGINS)), ids=relative)
def test_a_function_is_seen_at_a_glance(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            size = node.end_lineno - node.lineno + 1
            documented = ast.get_docstring(node)
            assert size - (documented or "").count("\n") <= 60, f"{node.name} in line {node.lineno} has {size} lines"


def test_no_failure_is_swallowed():
    """No ``except:``, and nowhere an ``except Exception`` that does nothing."""
    for path in sources(CORE, *map(package, PLUGINS)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                where = f"{relative(path)}:{node.lineno}"
                assert node.type is not None, where
                broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                assert not (broad and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)), where


# ---------- recipes


def recipes():
    return sorted([*(ROOT / "recipes").rglob("*.yaml"), *(path for p in PLUGINS for path in p.rglob("recipes/*.yaml"))])


@pytest.mark.parametrize("path", recipes(), ids=relative)
def test_a_recipe_opens_with_its_command_and_what_to_expect(path):
    from dlmkit import cli

    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# dlmkit run ")
    options = cli.parse(lines[0].removeprefix("# dlmkit ").split())
    names = [path.stem, f"{path.parent.name}/{path.stem}"]
    assert options.recipe in names or set(names) & set(options.config)
    assert len([line for line in lines if line.startswith("# ")]) >= 2


@pytest.mark.parametrize("path", recipes(), ids=relative)
def test_a_recipe_can_be_read(path):
    from dlmkit import recipe

    if any(line.startswith(("model:", "extends:")) for line in path.read_text(encoding="utf-8").splitlines()):
        assert recipe.read(str(path)).used
