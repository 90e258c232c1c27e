"""The word relations of the lecture's slides, and some that a corpus without kings and capitals has."""

from __future__ import annotations

from dlmkit_word2vec.vectors import Vectors

__all__ = ["ANALOGIES", "QUERIES", "RELATIONS", "known_analogies", "known_queries", "known_relations"]

QUERIES = """
king aunt paris germany river music war january monday three red left small list error matrix gradient file cpu plot
memory thread maximum dictionary image computer better
""".split()

# a is to b as c is to d, asked as b - a + c; first those of the slides.
ANALOGIES = [
    ("france", "paris", "italy", "rome"),
    ("big", "bigger", "cold", "colder"),
    ("queen", "king", "aunt", "uncle"),
    ("man", "king", "woman", "queen"),
    ("germany", "berlin", "japan", "tokyo"),
    ("walking", "walked", "playing", "played"),
    ("boy", "girl", "son", "daughter"),
    ("row", "rows", "column", "columns"),
    ("max", "maximum", "min", "minimum"),
    ("large", "larger", "small", "smaller"),
    ("sin", "sine", "cos", "cosine"),
    ("array", "arrays", "tensor", "tensors"),
    ("return", "returns", "raise", "raises"),
    ("left", "right", "top", "bottom"),
    ("computed", "compute", "returned", "return"),
]

RELATIONS = {
    "male – female": "king queen man woman father mother son daughter uncle aunt brother sister boy girl he she",
    "country – capital": "france paris germany berlin italy rome spain madrid japan tokyo russia moscow greece athens",
    "verb tense": "walking walked playing played moving moved falling fell writing wrote going went saying said",
    "adjective – comparative": "large larger small smaller fast faster long longer high higher low lower",
    "singular – plural": "row rows column columns array arrays tensor tensors file files error errors node nodes",
    "verb – third person": "return returns raise raises compute computes create creates contain contains use uses",
    "opposites": "left right top bottom first last maximum minimum input output start end true false",
}


def known_queries(vectors: Vectors, most: int = 12) -> list[str]:
    """Words to show the neighbours of: those of `QUERIES` that are not rare, or else the most frequent longer words."""
    common = 0.6 * len(vectors.words)
    found = [word for word in QUERIES if vectors.number.get(word, common) < common]
    return (found or [word for word in vectors.words if len(word) > 3] or vectors.words)[:most]


def known_analogies(vectors: Vectors, most: int = 10) -> list[tuple[str, str, str, str]]:
    """The analogies whose words are all known."""
    return [words for words in ANALOGIES if all(word in vectors for word in words)][:most]


def known_relations(vectors: Vectors, kinds: int = 3, pairs: int = 5) -> dict[str, list[tuple[str, str]]]:
    """The relations of which at least three pairs are known, those of the slides first; at most 2 · 3 · 5 words."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, text in RELATIONS.items():
        words = text.split()
        known = [(a, b) for a, b in zip(words[::2], words[1::2], strict=True) if a in vectors and b in vectors]
        if len(known) >= 3:
            found[name] = known[:pairs]
    return dict(list(found.items())[:kinds])
