"""The ``dlmkit`` command: one verb for each thing a user wants; every verb imports what it needs, and no more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dlmkit import __version__
from dlmkit.errors import UserError, did_you_mean
from dlmkit.mishaps import mishap

__all__ = ["main", "parse", "parser"]

_SHOW_EVERY = "show at every Nth validation; 0: at the test only (default: 1, or as before)"
_CHECKPOINT = "best, last, or a file of the checkpoints folder (default: best)"
_ALLOW = "also let the recipe name classes of this package (repeat for several)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words after ``dlmkit``; those of the process when left out.

    Returns:
        0 when all went well, 1 when a check found something, 2 for a user's mistake, 130 after Ctrl-C, 143 after a
        SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parse(words)
        code = int(options.verb(options) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        for line in error.lines():
            print(f"dlmkit: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dlmkit: stopped", file=sys.stderr)
        return 130
    except SystemExit as end:
        if type(end).__name__ != "SIGTERMException":  # Lightning's, outside training, where nothing is to be saved
            raise
        print("dlmkit: stopped", file=sys.stderr)
        return 143
    except BrokenPipeError:  # the reader of `dlmkit list | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing complains at the end
        return 0
    except Exception as error:
        fault = mishap(error)
        if fault is None:
            raise
        print(f"dlmkit: {fault}", file=sys.stderr)
        return 2


def parse(words: list[str]) -> argparse.Namespace:
    """Read the words after ``dlmkit``; what is no option of the verb becomes ``overrides`` where it takes some."""
    # argparse takes an option it does not know for an argument where there is a space in it, and its value for another.
    guarded = [w.replace(" ", "\0") if w.startswith("--") else w for w in _join(words)]
    options, rest = parser().parse_known_args(guarded)
    rest = [w.replace("\0", " ") for w in rest]
    for name, value in vars(options).items():
        if isinstance(value, str):
            setattr(options, name, value.replace("\0", " "))
        elif isinstance(value, list):
            setattr(options, name, [v.replace("\0", " ") for v in value])
    if not hasattr(options, "verb"):
        parser().print_help()
        raise SystemExit(0)
    stray = next((w for w in rest if not _may_override(w, options)), None)
    if stray is not None:
        name = stray.partition("=")[0]
        known = [s for a in options.own._actions for s in a.option_strings]
        otherwise = f"dlmkit {options.verb_name} --help shows its options"
        if options.takes_overrides and name.startswith("--"):
            otherwise = f"is --model.{name[2:]}, --data.{name[2:]} or --trainer.{name[2:]} meant?"
        remedy = did_you_mean(name, known, otherwise)
        where = "command line" if options.takes_overrides else ""
        raise UserError(f"{name} is no option of {options.verb_name}", remedy, where)
    options.overrides = rest
    return options


def _join(words: list[str]) -> list[str]:
    """Write ``--trainer.max_steps 3`` as one word."""
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else ""
        if before.startswith("--") and "." in before and "=" not in before and not word.startswith("--"):
            joined[-1] = f"{before}={word}"
        else:
            joined.append(word)
    return joined


def _may_override(word: str, options: argparse.Namespace) -> bool:
    """Whether a word that argparse does not know can be an option of the recipe, or of a task's ``sample``."""
    name = word.partition("=")[0].removeprefix("--")
    if not options.takes_overrides or not word.startswith("--"):
        return bool(options.takes_overrides)
    return options.verb_name == "sample" or "." in name or name in ("seed_everything", "model", "data", "trainer")


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(message, f"{self.prog} --help shows how it goes")


def parser() -> argparse.ArgumentParser:
    """The command's grammar."""
    top = _Parser(
        prog="dlmkit",
        description="The architectures of a deep-learning lecture: train them, look at them, build on them.",
        epilog="Begin with: dlmkit run lstm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"dlmkit {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser)
    _add_training(verbs)
    _add_using(verbs)
    _add_comparing(verbs)
    _add_catalogue(verbs)
    _add_authoring(verbs)
    return top


def _verb(verbs: argparse._SubParsersAction, name: str, function: str, text: str, examples: str) -> _Parser:  # type: ignore[type-arg]
    own: _Parser = verbs.add_parser(
        name,
        help=text.partition(".")[0],
        description=text,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module, _, attribute = function.partition(":")

    def call(options: argparse.Namespace) -> int | None:
        import importlib

        result: int | None = getattr(importlib.import_module(f"dlmkit.{module}"), attribute)(options)
        return result

    own.set_defaults(verb=call, takes_overrides=False, verb_name=name, own=own)
    return own


def _add_training(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    run = _verb(
        verbs,
        "run",
        "verbs:run",
        "Train, test and show a recipe. Options of the recipe are given as --model.x=…, --data.x=… or --trainer.x=…; "
        "what is typed wins over the recipe.",
        "  dlmkit run lstm                                      a plugin's own recipe\n"
        "  dlmkit run lstm --model.hidden_size=512 --trainer.max_steps=2000\n"
        "  dlmkit run lstm --data.source=my-text.txt            on a text of your own\n"
        "  dlmkit run my.yaml --name first-try --wandb          your recipe, tracked in Weights & Biases\n"
        "  dlmkit run --resume runs/first-try                   go on where it stopped\n"
        "  dlmkit run --resume runs/first-try --trainer.max_steps=5000",
    )
    run.add_argument("recipe", metavar="RECIPE", nargs="?", help="a plugin, a recipe, or a YAML file")
    run.add_argument("--resume", metavar="RUN", help="go on with this run folder; nothing else is needed")
    run.add_argument("--config", metavar="RECIPE", action="append", default=[], help="lay another recipe on top")
    run.add_argument("--name", help="name of the run (default: recipe, date and time)")
    run.add_argument("--runs", metavar="DIR", default="runs", help="where run folders go (default: runs)")
    run.add_argument("--wandb", action="store_true", help="track in Weights & Biases; without an account, offline")
    run.add_argument(
        "--wandb-project", metavar="NAME", help="the project to track in (default: dlmkit); implies --wandb"
    )
    run.add_argument("--wandb-checkpoints", action="store_true", help="keep checkpoints as artifacts; implies --wandb")
    run.add_argument("--show-every", metavar="N", type=int, help=_SHOW_EVERY)
    _take_recipe_options(run)


def _take_run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("run", metavar="RUN", help="the run's folder")
    verb.add_argument("--checkpoint", metavar="FILE", default="best", help=_CHECKPOINT)


def _take_recipe_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--allow", metavar="PACKAGE", action="append", default=[], help=_ALLOW)
    verb.set_defaults(takes_overrides=True)


def _add_using(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    test = _verb(
        verbs,
        "test",
        "verbs:test",
        "Test a finished run again, with its best checkpoint or another.",
        "  dlmkit test runs/lstm-20261124-101500\n  dlmkit test runs/first-try --data.source=other.txt",
    )
    _take_run(test)
    _take_recipe_options(test)

    sample = _verb(
        verbs,
        "sample",
        "verbs:sample",
        "Generate from a trained run. Further options are those of the task's sample method (dlmkit show NAME).",
        "  dlmkit sample runs/first-try\n"
        '  dlmkit sample runs/first-try --prompt "def " -n 3 --temperature=0.5 --length=200',
    )
    _take_run(sample)
    sample.add_argument("--prompt", help="what to begin with")
    sample.add_argument("-n", type=int, metavar="N", help="how many (default: the task's own)")
    sample.add_argument("--out", metavar="DIR", help="where pictures and sounds go (default: RUN/samples)")
    _take_recipe_options(sample)


def _add_comparing(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    compare = _verb(
        verbs,
        "compare",
        "compare:compare",
        "Compare runs. A table of what came out and of the options that differ, and a figure of the same curve of "
        "each over steps and over seconds; tables of numbers that several of them wrote, such as gradient-flow, are "
        "drawn too.",
        "  dlmkit compare runs/rnn runs/lstm runs/gru\n"
        "  dlmkit compare 'runs/adding-*' --sort val/loss       the best first\n"
        "  dlmkit compare runs/* --metric train/loss --out slides/training.pdf\n"
        "  dlmkit compare runs/* --json                         for programs",
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run folders, or a pattern such as 'runs/*'")
    compare.add_argument("--metric", metavar="NAME", help="the curve to draw (default: a val/ one that all runs have)")
    compare.add_argument("--sort", metavar="METRIC", help="the best first by this figure, or by seconds or parameters")
    compare.add_argument("--out", metavar="FILE", help="the figure, .png, .pdf or .svg (default: compare.png here)")
    compare.add_argument("--json", action="store_true", help="for programs; draws only where --out is given")

    check = _verb(
        verbs,
        "check",
        "verbs:check",
        "Check a recipe, or with --plugin an installed plugin. A recipe is resolved, checked, built and taken through "
        "one batch of training, validation and test; nothing is left behind.",
        "  dlmkit check my.yaml\n  dlmkit check lstm --model.hidden_size=8\n  dlmkit check --plugin lstm",
    )
    check.add_argument("recipe", metavar="RECIPE", nargs="?", help="a plugin, a recipe, or a YAML file")
    check.add_argument("--plugin", metavar="NAME", help="run the conformance kit on this plugin")
    check.add_argument("--slow", action="store_true", help="with --plugin: also what starts several processes")
    check.add_argument("--config", metavar="RECIPE", action="append", default=[], help="lay another recipe on top")
    _take_recipe_options(check)


def _add_catalogue(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    listing = _verb(
        verbs,
        "list",
        "catalogue:list_installed",
        "List what is installed: plugins, data and recipes, and what is broken about them.",
        "  dlmkit list\n  dlmkit list --verify     import each, tell what raises\n  dlmkit list --json",
    )
    listing.add_argument("--verify", action="store_true", help="import each and report what raises (takes seconds)")
    listing.add_argument("--json", action="store_true", help="for programs")

    show = _verb(
        verbs,
        "show",
        "inspection:show",
        "Show what a plugin is. Its paper, its equations, every option with type, default and meaning, its recipes.",
        "  dlmkit show lstm\n  dlmkit show characters",
    )
    show.add_argument("name", metavar="NAME", help="a task, data module or recipe of dlmkit list")

    copy = _verb(
        verbs,
        "copy",
        "catalogue:copy",
        "Copy a recipe to edit it.",
        "  dlmkit copy lstm my.yaml\n  dlmkit copy lstm         to lstm.yaml in this folder",
    )
    copy.add_argument("recipe", metavar="RECIPE", help="an installed recipe")
    copy.add_argument("file", metavar="FILE", nargs="?", type=Path, help="where to (default: NAME.yaml here)")

    schema = _verb(
        verbs,
        "schema",
        "schema:schema",
        "Print the JSON Schema of a recipe, for editors that complete and check YAML.",
        "  dlmkit schema lstm > lstm.schema.json\n"
        "  then, as the recipe's first line: # yaml-language-server: $schema=lstm.schema.json",
    )
    schema.add_argument("recipe", metavar="RECIPE", help="a plugin, a recipe, or a YAML file")

    completion = _verb(
        verbs,
        "completion",
        "catalogue:completion",
        "Print the shell's completion script.",
        '  dlmkit completion bash >> ~/.bashrc\n  dlmkit completion zsh > "${fpath[1]}/_dlmkit"',
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def _add_authoring(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    new = _verb(
        verbs,
        "new",
        "catalogue:new",
        "Write a plugin of your own: package, recipe, README and tests that pass as they stand.",
        "  dlmkit new my-net\n  pip install -e my-net && dlmkit run my-net && dlmkit check --plugin my-net",
    )
    new.add_argument("name", metavar="NAME", help="lower-case words joined by -, such as my-net")
    new.add_argument("--folder", type=Path, default=Path(), help="where to write it (default: here)")

    _verb(
        verbs,
        "doctor",
        "doctor:doctor",
        "Look at the installation: torch, devices, plugins, versions, Weights & Biases.",
        "  dlmkit doctor",
    )


if __name__ == "__main__":
    sys.exit(main())
