"""Nearest words, analogies, similarity files and word2vec's formats, against loops, scipy and gensim."""

import gzip
import struct

import numpy as np
import pytest
from dlmkit_word2vec.evaluation import analogies, read_pairs, read_questions, similarity, total
from dlmkit_word2vec.formats import read_vectors, write_vectors
from dlmkit_word2vec.groups import chance, purity
from dlmkit_word2vec.relations import known_queries, known_relations
from dlmkit_word2vec.vectors import Vectors, terms

from dlmkit import UserError


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    words = ["king", "queen", "man", "woman", "aunt", "uncle", "naïve", "file", "non-linear", "kings"]
    return Vectors(words, rng.normal(size=(len(words), 6)))


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# -------------------------------------------------------------------------------------------------- nearest words


def test_the_nearest_words_are_those_of_a_loop(vectors):
    unit = {w: r / np.linalg.norm(r) for w, r in zip(vectors.words, vectors.matrix, strict=True)}
    goal = unit["king"] - unit["queen"] + unit["aunt"]
    others = [w for w in vectors.words if w not in ("king", "queen", "aunt")]
    expected = sorted(others, key=lambda w: -cosine(unit[w], goal))[:4]
    found = vectors.nearest("king - queen + aunt", 4)
    assert [n.word for n in found] == expected
    assert [n.likeness for n in found] == pytest.approx([cosine(unit[w], goal) for w in expected], abs=1e-6)


def test_there_are_never_more_than_all_others(vectors):
    assert len(vectors.nearest("king", 100)) == 9
    assert "king" not in [n.word for n in vectors.nearest("king", 100)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("king", [(1, "king")]),
        ("king - queen + aunt", [(1, "king"), (-1, "queen"), (1, "aunt")]),
        ("king − queen", [(1, "king"), (-1, "queen")]),
        ("- king + non-linear", [(-1, "king"), (1, "non-linear")]),
    ],
)
def test_a_sum_of_words(text, found):
    assert terms(text) == found


@pytest.mark.parametrize("text", ["", "king queen", "king -", "king + + queen", "+", "- -"])
def test_no_sum_of_words(text):
    with pytest.raises(UserError, match="write it as in: king - queen"):
        terms(text)


def test_capitals_are_forgiven_and_unknown_words_are_told(vectors):
    assert vectors.nearest("King", 3) == vectors.nearest("king", 3)
    with pytest.raises(UserError, match=r"'kimg' is none of the 10 words.*did you mean king"):
        vectors.nearest("kimg - queen")
    with pytest.raises(UserError, match="learnt from the training text"):
        vectors.nearest("zzz")


# ------------------------------------------------------------------------------------------------------- evaluation


def test_similarity_is_spearmans(vectors, tmp_path):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    pairs = [(vectors.words[a], vectors.words[b], float(rng.integers(0, 4))) for a, b in rng.integers(0, 10, (40, 2))]
    path = tmp_path / "pairs.txt"
    lines = [f"{a.upper()}\t{b}\t{s}" for a, b, s in pairs]
    path.write_text("\n".join(["Word 1\tWord 2\tScore", "# said by people", *lines, "unknown\tking\t3"]))
    found = similarity(vectors, read_pairs(str(path)))
    cosines = [cosine(vectors.matrix[vectors.number[a]], vectors.matrix[vectors.number[b]]) for a, b, _ in pairs]
    expected = stats.spearmanr(np.round(cosines, 6), [s for *_, s in pairs]).statistic
    assert found.correlation == pytest.approx(expected, abs=1e-3)
    assert (found.used, found.pairs) == (40, 41)


def questions(tmp_path, text):
    path = tmp_path / "questions.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_analogies_are_those_of_a_loop(vectors, tmp_path):
    rng = np.random.default_rng(2)
    asked = [[vectors.words[i] for i in rng.permutation(10)[:4]] for _ in range(200)]
    lines = [": first", *(" ".join(q).title() for q in asked[:120]), ": second", *map(" ".join, asked[120:]), "a b c d"]
    sections = analogies(vectors, read_questions(questions(tmp_path, "\n".join(lines))), restrict=8)
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    number = {w: i for i, w in enumerate(vectors.words[:8])}
    for section, part in zip(sections, (asked[:120], asked[120:]), strict=True):
        right = used = 0
        for question in part:
            if all(word in number for word in question):
                a, b, c, d = (number[word] for word in question)
                used += 1
                scores = {w: cosine(unit[w], unit[b] - unit[a] + unit[c]) for w in range(8) if w not in (a, b, c)}
                right += max(scores, key=scores.get) == d
        assert (section.right, section.used) == (right, used)
    everything = total(sections)
    assert everything.questions == 201 and 0 < everything.used < 200
    assert everything.right == sum(s.right for s in sections) > 0


def test_analogies_are_those_of_gensim(tmp_path):
    models = pytest.importorskip("gensim.models", reason="gensim is not installed")
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(40)]
    vectors = Vectors(words, rng.normal(size=(40, 4)))
    lines = [": one"] + [" ".join(words[i] for i in rng.permutation(40)[:4]) for _ in range(300)]
    path = questions(tmp_path, "\n".join(lines))
    peer = models.KeyedVectors(4)
    peer.add_vectors(words, vectors.matrix)
    _, theirs = peer.evaluate_word_analogies(path, restrict_vocab=30)
    ours = total(analogies(vectors, read_questions(path), restrict=30))
    assert ours.right == len(theirs[-1]["correct"])
    assert ours.used == len(theirs[-1]["correct"]) + len(theirs[-1]["incorrect"])


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_pairs, "a\tb\t1\na\tb\n", ":2: this is no pair"),
        (read_pairs, "", "no pairs"),
        (read_questions, ": x\na b c\n", ":2: this is no question"),
        (read_questions, ": x\n", "no questions"),
    ],
)
def test_files_that_are_something_else(tmp_path, read, text, told):
    with pytest.raises(UserError) as fault:
        read(questions(tmp_path, text))
    assert told in str(fault.value)
    with pytest.raises(UserError, match="cannot be read"):
        read(str(tmp_path / "nothing.txt"))


def test_groups_of_words_need_no_file():
    words = ["monday", "tuesday", "red", "green", "blue", "other"]
    apart = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0, 1], [1, 1]], dtype=np.float32)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    assert purity(apart, words) == (1.0, 5)
    assert chance(words) == pytest.approx((2 * 1 + 3 * 2) / (5 * 4))
    assert purity(apart, ["a"] * 6) is None and chance(["a", "monday", "friday"]) == 0


def test_what_is_shown_is_known():
    words = ["king", "queen", "man", "woman", "he", "she", "walking", "walked"]
    vectors = Vectors(words, np.eye(8))
    assert known_relations(vectors) == {"male – female": [("king", "queen"), ("man", "woman"), ("he", "she")]}
    assert known_queries(Vectors(["it", "and", "because"], np.eye(3))) == ["because"]


# ----------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.txt.gz", "v.bin.gz", "v.vec"])
def test_what_is_written_is_read_again_exactly(vectors, tmp_path, name):
    write_vectors(vectors, tmp_path / name)
    again = read_vectors(tmp_path / name)
    assert again.words == vectors.words
    assert np.array_equal(again.matrix, vectors.matrix)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_bytes_are_those_of_the_authors_program(tmp_path):
    vectors = Vectors(["a", "bé"], np.array([[1.5, -2.0], [0.25, 3.0]]))
    write_vectors(vectors, tmp_path / "v.bin")
    expected = b"2 2\na " + struct.pack("<2f", 1.5, -2.0) + b"\nb\xc3\xa9 " + struct.pack("<2f", 0.25, 3.0) + b"\n"
    assert (tmp_path / "v.bin").read_bytes() == expected
    write_vectors(vectors, tmp_path / "v.txt")
    assert (tmp_path / "v.txt").read_text(encoding="utf-8") == "2 2\na 1.5 -2.0\nbé 0.25 3.0\n"


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.txt.gz", "v.bin.gz"])
def test_gensim_reads_what_we_write_and_we_read_what_it_writes(vectors, tmp_path, name):
    models = pytest.importorskip("gensim.models", reason="gensim is not installed")
    binary = ".bin" in name
    write_vectors(vectors, tmp_path / name)
    peer = models.KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
    assert peer.index_to_key == vectors.words
    assert np.array_equal(peer.vectors, vectors.matrix)
    peer.save_word2vec_format(str(tmp_path / f"peer-{name}"), binary=binary)
    ours = read_vectors(tmp_path / f"peer-{name}")
    assert ours.words == vectors.words
    np.testing.assert_allclose(ours.matrix, vectors.matrix, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("v.txt", b"hello\n", "first line is not two numbers"),
        ("v.txt", b"2 2\na 1 2\n", "line 3 has 0 numbers and not 2"),
        ("v.txt", b"1 2\na 1 x\n", "line 2 is not a word and 2 numbers"),
        ("v.txt", b"0 2\n", "0 words of 2 dimensions"),
        ("v.txt", b"2 1\na 1\na 2\n", "the word 'a' twice"),
        ("v.bin", b"2 2\na " + b"\0" * 8 + b"b " + b"\0" * 7, "ends in word 2 of 2"),
        ("v.txt.gz", gzip.compress(b"1 1\na 1\n" * 500, mtime=0)[:-20], "cannot be read"),
    ],
)
def test_a_file_that_is_something_else(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as fault:
        read_vectors(tmp_path / name)
    assert told in str(fault.value)
    assert len(fault.value.lines()) == 1


def test_a_word_with_a_blank_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="white space"):
        write_vectors(Vectors(["new york"], np.eye(1)), tmp_path / "v.txt")
    assert not list(tmp_path.iterdir())
