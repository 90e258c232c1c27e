"""Equations for the terminal: the LaTeX of a docstring as Unicode text."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["in_words", "plain_equation", "plain_prose", "plain_type"]

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)

_SYMBOLS = {
    "cdot": "·",
    "times": "×",
    "odot": "⊙",
    "otimes": "⊗",
    "oplus": "⊕",
    "ast": "∗",
    "circ": "∘",
    "pm": "±",
    "mid": "|",
    "vert": "|",
    "Vert": "‖",
    "lvert": "|",
    "rvert": "|",
    "lVert": "‖",
    "rVert": "‖",
    "|": "‖",
    "in": "∈",
    "notin": "∉",
    "subset": "⊂",
    "cup": "∪",
    "cap": "∩",
    "forall": "∀",
    "exists": "∃",
    "sim": "∼",
    "approx": "≈",
    "propto": "∝",
    "equiv": "≡",
    "neq": "≠",
    "ne": "≠",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "ll": "≪",
    "gg": "≫",
    "to": "→",
    "rightarrow": "→",
    "leftarrow": "←",
    "gets": "←",
    "mapsto": "↦",
    "Rightarrow": "⇒",
    "infty": "∞",
    "partial": "∂",
    "nabla": "∇",
    "sum": "∑",
    "prod": "∏",
    "int": "∫",
    "top": "⊤",
    "dots": "…",
    "ldots": "…",
    "cdots": "⋯",
    "langle": "⟨",
    "rangle": "⟩",
    "lfloor": "⌊",
    "rfloor": "⌋",
    "lceil": "⌈",
    "rceil": "⌉",
    "ell": "ℓ",
    "varepsilon": "ε",
    "vartheta": "ϑ",
    "varphi": "φ",
    "lambda": "λ",  # Unicode spells it lamda
    "Lambda": "Λ",
    "colon": ":",
    "quad": " ",
    "qquad": " ",
    ",": " ",
    ";": " ",
    ":": " ",
    " ": " ",
    "!": "",
    "{": "{",
    "}": "}",
    "%": "%",
    "_": "_",
    "&": "&",
    "#": "#",
}
_FUNCTIONS = frozenset(
    "arg argmax argmin cos det diag dim exp inf lim ln log max min mod Pr sgn sin softmax sup tan tanh".split()
)
_STYLES = frozenset("mathcal mathrm mathbf mathit mathsf boldsymbol bm text textbf operatorname operatorname*".split())
_SIZES = frozenset("left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle limits nolimits".split())
_ACCENTS = {"tilde": "\u0303", "hat": "\u0302", "bar": "\u0304", "dot": "\u0307", "vec": "\u20d7", "check": "\u030c"}
_ACCENTS |= {"overrightarrow": "\u20d7", "overleftarrow": "\u20d6"}  # as wide as one symbol
_DOUBLE_STRUCK = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "Q": "ℚ", "C": "ℂ", "E": "𝔼", "P": "ℙ", "1": "𝟙"}
_FRACTIONS = frozenset(("frac", "tfrac", "dfrac"))


def plain_equation(source: str) -> str:
    r"""A displayed equation as text.

    Greek letters, operators and accents become the characters they mean, a fraction becomes ``(a)/(b)``, subscripts
    stay as they are, and ``\\`` or an empty line begins a new line. A command that is not known stays as it is.

    Args:
        source: LaTeX of mathematics, as in a ``.. math::`` block.

    Returns:
        One line for each line of the equation.
    """
    text = _Converter(re.sub(r"\n[ \t]*\n", r" \\\\ ", source)).sequence("")
    lines = (re.sub(r"\s+(?=[,;] )", "", " ".join(line.split())) for line in text.split("\v"))
    return "\n".join(line for line in lines if line)


def plain_prose(text: str) -> str:
    """A docstring's text without its markup: roles, backquotes, and mathematics within a line.

    Args:
        text: reStructuredText as docstrings have it.
    """
    text = re.sub(r":math:`([^`]*)`", lambda m: plain_equation(m[1]), text)
    text = re.sub(r":[a-z:]+:`~(?:[\w.]*\.)?(\w+)`", r"\1", text)  # ~ shows the last part of a path
    text = re.sub(r":[a-z:]+:`([^`]*)`", r"\1", text)
    return re.sub(r"(`{1,2})(.+?)\1", r"\2", text, flags=re.DOTALL)


class _Converter:
    """Reads LaTeX token by token; a vertical tab stands for a line break until the end."""

    def __init__(self, source: str) -> None:
        self.tokens = _TOKEN.findall(source)
        self.position = 0
        self.environments: list[str] = []

    def sequence(self, end: str) -> str:
        """Everything up to a closing token, which is taken too."""
        parts = []
        while self.position < len(self.tokens):
            token = self._next()
            if token == end:
                break
            parts.append(self._convert(token))
        return "".join(parts)

    def _next(self) -> str:
        token: str = self.tokens[self.position]
        self.position += 1
        return token

    def _argument(self) -> str:
        """What a command applies to: the next group in braces, or else the next token."""
        while self.position < len(self.tokens) and self.tokens[self.position].isspace():
            self.position += 1
        if self.position == len(self.tokens):
            return ""
        return self._convert(self._next())

    def _convert(self, token: str) -> str:
        if token == "{":
            return self.sequence("}")
        if token in "_^":
            inner = self._argument()
            return token + (inner if len(inner) == 1 else f"{{{inner}}}")
        if token == "&":
            return ", " if "cases" in self.environments else ""
        if token == "\\\\":
            return "; " if "cases" in self.environments else "\v"
        return self._command(token) if token.startswith("\\") else token

    def _command(self, token: str) -> str:
        name = token[1:]
        if name in ("begin", "end"):
            return self._environment(name)
        if name in _FRACTIONS:
            return f"{_operand(self._argument())}/{_operand(self._argument())}"
        if name == "sqrt":
            return f"√{_operand(self._argument())}"
        if name == "underbrace":  # what stands below it follows as a subscript
            return f"({self._argument()})"
        if name == "mathbb":
            inner = self._argument()
            return _DOUBLE_STRUCK.get(inner, inner)
        if name in _ACCENTS:
            inner = self._argument()
            return inner + _ACCENTS[name] if len(inner) == 1 else f"{token}{{{inner}}}"
        if name in _STYLES:
            return self._argument()
        if name in _SIZES:
            return self._delimiter()
        known = name if name in _FUNCTIONS else _SYMBOLS.get(name, _greek(name))
        return known if known or name in _SYMBOLS else self._unknown(token)

    def _unknown(self, token: str) -> str:
        """A command as it was written, its arguments in their braces."""
        while self.position < len(self.tokens) and self.tokens[self.position] == "{":
            token += f"{{{self._argument()}}}"
        return token

    def _delimiter(self) -> str:
        r"""What follows ``\left`` and its like; a point stands for none."""
        if self.position < len(self.tokens) and self.tokens[self.position] == ".":
            self.position += 1
        return ""

    def _environment(self, name: str) -> str:
        kind = self._argument()
        if name == "begin":
            self.environments.append(kind)
            return "{ " if kind == "cases" else ""
        if kind in self.environments:
            self.environments.remove(kind)
        return " }" if kind == "cases" else ""


def _operand(text: str) -> str:
    """A numerator, denominator or radicand, in brackets where it is more than one symbol."""
    text = text.strip()
    return text if len(text) == 1 or text.isdigit() else f"({text})"


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name.upper()}")
    except KeyError:
        return ""


_WORDS = {
    "OptimizerCallable": "an optimiser",
    "LRSchedulerCallable": "a schedule",
    "None": "null",
    "NoneType": "null",
    "Any": "anything",
}


def plain_type(written: str) -> str:
    """An annotation in a recipe's words: ``int | null``, ``an optimiser``.

    Args:
        written: As in the signature.
    """
    text = re.sub(r"\bOptional\[(.*)\]$", r"\1 | None", written)
    text = re.sub(r"\bUnion\[(.*)\]$", lambda m: " | ".join(_split(m[1])), text)
    text = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text)
    text = re.sub(r"\bLiteral\[([^]]*)\]", lambda m: " | ".join(item.strip("'\"") for item in _split(m[1])), text)
    return re.sub(r"\w+", lambda m: _WORDS.get(m[0], m[0]), text)


def in_words(kind: str) -> str:
    """A type as :func:`plain_type` gives it, as a person says it: ``a whole number or null``."""
    parts = [_in_words(part) for part in _split(kind, "|")]
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _in_words(kind: str) -> str:
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "tuple": "a list"}
    several = {"int": "whole numbers", "float": "numbers", "str": 'words, such as ["one", "other"]'}
    found = re.fullmatch(r"(list|tuple)\[(.*)\]", kind)
    items = _split(found[2]) if found else []
    if not found or len(set(items) - {"..."}) != 1 or items[0] not in several:
        return words.get(kind, kind)
    count = f"{len(items)} " if found[1] == "tuple" and items[-1] != "..." else ""
    return f"a list of {count}{several[items[0]]}"


def _split(text: str, at: str = ",") -> list[str]:
    """The parts between the commas, or other signs, that stand in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == at and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
