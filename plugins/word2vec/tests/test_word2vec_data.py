"""What is drawn at random against its probabilities; the corpus, its cache, and faults in it."""

import gzip
import lzma

import numpy as np
import pytest
import torch
from dlmkit_word2vec.corpus import Reading, read_corpus
from dlmkit_word2vec.data import Words
from dlmkit_word2vec.sampling import BLOCK, PAD, Noise, compact, draw_windows, keep_probability, pairs
from dlmkit_word2vec.sources import Files, PythonDocs, _pieces, prose

from dlmkit import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def sentences(words, size, seed=0):
    """Text in which word number n occurs about in proportion to 1/(n + 1)."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, words + 1)
    names = np.array(["".join(chr(97 + int(d)) for d in f"{n:03}") for n in range(words)])
    return " ".join(names[rng.choice(words, size, p=p / p.sum())])


def data(tmp_path, text=None, **options):
    path = write(tmp_path / "text.txt", sentences(50, 20_000) if text is None else text)
    return Words(str(path), **({"length": 100, "batch_size": 8} | options))


# ------------------------------------------------------------------------------------------------------- draws


def test_keep_probability_is_that_of_the_authors_program():
    counts = np.array([900, 90, 9, 1])
    for count, got in zip(counts, keep_probability(counts, 0.01), strict=True):
        share = count / 1000
        assert got == pytest.approx(min(1.0, ((share / 0.01) ** 0.5 + 1) * 0.01 / share), abs=1e-12)
    assert (keep_probability(counts, 0) == 1).all()


def test_words_are_passed_over_as_often_as_they_should(tmp_path):
    words = data(tmp_path, sample=0.01)
    seen = np.zeros(words.vocab_size)
    epochs = 20
    for epoch in range(epochs):
        for index in range(words.batches("train")):
            tokens = words.batch("train", epoch, index, 0, 1)["input"]
            seen += np.bincount(tokens[tokens != PAD], minlength=words.vocab_size)
    start, end = words._span("train")
    there = epochs * np.bincount(words.corpus.tokens[start:end], minlength=words.vocab_size)
    p = keep_probability(words.counts, 0.01)
    deviation = np.sqrt(there * p * (1 - p)) + 1e-9
    assert (np.abs(seen - there * p) < 5 * deviation + 1e-6).all()
    assert p[0] < 0.5 and p[-1] == 1


def test_windows_are_drawn_evenly():
    windows = draw_windows((1000, 60), 5, np.random.default_rng(0))
    shares = np.bincount(windows.ravel(), minlength=7)[1:] / windows.size
    np.testing.assert_allclose(shares, [0.2] * 5 + [0], atol=5 * (0.16 / windows.size) ** 0.5)


@pytest.mark.parametrize("counts", [[5], [7, 7, 7], [1000, 100, 10, 1], list(range(1, 200))])
def test_the_noise_table_is_exact_and_draws_what_it_says(counts):
    counts = np.array(counts)
    noise = Noise.of(counts)
    expected = counts**0.75 / (counts**0.75).sum()
    np.testing.assert_allclose(noise.probabilities(), expected, rtol=1e-4, atol=1e-7)
    drawn = np.bincount(noise.draw((400, 500), np.random.default_rng(1)).ravel(), minlength=len(counts))
    deviation = np.sqrt(200_000 * expected * (1 - expected))
    assert (np.abs(drawn - 200_000 * expected) < 5 * deviation + 1).all()


def test_compact_moves_left_what_is_kept():
    tokens = np.array([[1, 2, 3, 4], [5, 6, 7, PAD]])
    out = compact(tokens, np.array([[True, False, True, False], [False, True, True, False]]))
    assert out.shape == (2, BLOCK)
    assert out[:, :3].tolist() == [[1, 3, PAD], [6, 7, PAD]]
    assert (compact(tokens, np.zeros((2, 4), bool)) == PAD).all()


def test_pairs_are_counted():
    rng = np.random.default_rng(0)
    tokens = np.full((3, 20), PAD)
    sizes = (20, 7, 0)
    for row, size in zip(tokens, sizes, strict=True):
        row[:size] = 1
    windows = rng.integers(1, 5, tokens.shape)
    for row, size in enumerate(sizes):
        expected = sum(1 for i in range(size) for j in range(size) if j != i and abs(i - j) <= windows[row, i])
        assert pairs(tokens, windows)[row] == expected


# -------------------------------------------------------------------------------------------------- data module


def test_an_epoch_holds_every_word_once_in_a_new_order(tmp_path):
    words = data(tmp_path, sample=0.0)
    start, end = words._span("train")
    orders = []
    for epoch in (0, 1):
        batches = [words.batch("train", epoch, i, 0, 1) for i in range(words.batches("train"))]
        tokens = np.concatenate([b["input"][b["input"] != PAD].numpy() for b in batches])
        assert sum(int(b["words"].sum()) for b in batches) == end - start
        np.testing.assert_array_equal(np.bincount(tokens), np.bincount(words.corpus.tokens[start:end]))
        orders.append(tokens)
    assert not np.array_equal(*orders)


def test_a_batch_follows_from_its_place_and_two_processes_share_it(tmp_path):
    words = data(tmp_path)
    whole = words.batch("train", 3, 2, 0, 1)
    again = data(tmp_path).batch("train", 3, 2, 0, 1)
    parts = [words.batch("train", 3, 2, rank, 2) for rank in (0, 1)]
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor, torch.cat([part[name] for part in parts]))
    assert not torch.equal(whole["noise"], words.batch("train", 4, 2, 0, 1)["noise"][:, : whole["noise"].shape[1]])


def test_what_frequency_alone_reaches_is_the_best_such_answer(tmp_path):
    """No other score for each word does better on the expected loss."""
    words = data(tmp_path, sample=0.0)
    p = words.counts / words.counts.sum()
    q = 5 * p**0.75 / (p**0.75).sum()

    def expected(scores):
        return float(p @ np.log1p(np.exp(-scores)) + q @ np.log1p(np.exp(scores)))

    best = np.log(p / q)
    rng = np.random.default_rng(0)
    assert all(expected(best) < expected(best + 0.1 * rng.normal(size=len(p))) for _ in range(20))
    assert words.frequency_loss("train") == pytest.approx(expected(best), rel=0.02)


def test_the_splits_do_not_overlap(tmp_path):
    words = data(tmp_path, val_fraction=0.1, test_fraction=0.2)
    spans = [words._span(split) for split in ("train", "val", "test")]
    assert spans[0][0] == 0 and spans[2][1] == len(words.corpus.tokens)
    assert spans[0][1] == spans[1][0] and spans[1][1] == spans[2][0]
    assert all(start < end for start, end in spans)


# -------------------------------------------------------------------------------------------- corpus and its cache


def test_the_corpus_is_the_text(tmp_path):
    text = "The cat saw the dog. The DOG'S cat; 7 dogs\nsaw the cat a-b"
    corpus = read_corpus(Files([write(tmp_path / "t.txt", text)]), Reading(min_count=2))
    assert corpus.words == ["the", "cat", "saw"]
    assert corpus.counts.tolist() == [4, 3, 2]
    assert [corpus.words[i] for i in corpus.tokens] == ["the", "cat", "saw", "the", "the", "cat", "saw", "the", "cat"]
    assert corpus.total == 14


def test_words_as_they_stand(tmp_path):
    source = Files([write(tmp_path / "t.txt", "A-b a-B  7\tA-b\n7 é")])
    reading = Reading(split="spaces", lowercase=False, min_count=1, max_words=3)
    assert read_corpus(source, reading).words == ["7", "A-b", "a-B"]


def test_a_second_start_reads_the_cache(tmp_path, monkeypatch):
    path = write(tmp_path / "t.txt", sentences(20, 500))
    first = read_corpus(Files([path]), Reading())
    monkeypatch.setattr(Files, "texts", lambda self: pytest.fail("it reads the text again"))
    second = read_corpus(Files([path]), Reading())
    assert second.words == first.words
    assert np.array_equal(second.tokens, first.tokens) and isinstance(second.tokens, np.memmap)


@pytest.mark.parametrize(
    "other", [{"min_count": 2}, {"lowercase": False}, {"split": "spaces"}, {"max_words": 3}], ids=str
)
def test_other_settings_are_never_served_from_the_cache(tmp_path, other):
    path = write(tmp_path / "t.txt", "A a a a a a bb bb b-c " * 5 + sentences(20, 300))
    plain, changed = (read_corpus(Files([path]), Reading(**options)) for options in ({}, other))
    alone = read_corpus(Files([write(tmp_path / "copy.txt", path.read_bytes() + b" ")]), Reading(**other))
    assert changed.words == alone.words and np.array_equal(changed.tokens, alone.tokens)
    assert changed.words != plain.words or not np.array_equal(changed.tokens, plain.tokens)


def test_another_content_is_never_served_from_the_cache(tmp_path):
    path = write(tmp_path / "t.txt", "a b " * 300)
    read_corpus(Files([path]), Reading())
    write(path, "a c " * 300)
    assert read_corpus(Files([path]), Reading()).words == ["a", "c"]


def test_a_reading_that_is_broken_off_leaves_nothing(tmp_path, cache):
    class Broken(Files):
        def texts(self):
            yield "a b c " * 100
            raise KeyboardInterrupt

    path = write(tmp_path / "t.txt", "a b c " * 200)
    with pytest.raises(KeyboardInterrupt):
        read_corpus(Broken([path]), Reading())
    assert {p.suffix for p in cache.iterdir()} <= {".lock"}
    assert len(read_corpus(Files([path]), Reading()).tokens) == 600


def test_blocks_are_cut_between_words():
    text = "one two\nthree  four" * 3 + "x" * 50
    for size in (1, 2, 3, 7, 1000):
        blocks = [text[i : i + size] for i in range(0, len(text), size)]
        pieces = list(_pieces(iter(blocks)))
        assert "".join(pieces) == text
        assert [w for piece in pieces for w in piece.split()] == text.split()


def test_packed_files_are_unpacked(tmp_path):
    text = sentences(20, 500).encode()
    plain = write(tmp_path / "t.txt", text)
    packed = [write(tmp_path / "t.gz", gzip.compress(text)), write(tmp_path / "t.txt.xz", lzma.compress(text))]
    expected = read_corpus(Files([plain]), Reading())
    for path in packed:
        assert np.array_equal(read_corpus(Files([path]), Reading()).tokens, expected.tokens)


def test_the_prose_of_a_module_has_no_code():
    code = '''
def f(x):
    """Return the sum of all values in ``x.y``, or `None` if there are none.

    >>> f(3)
    4

    .. note:: this is markup
    See https://example.com/page for numpy.ndarray(3) and the words after it.
    """
    # The first comment goes
    # over two lines of text.
    return "a short string"
'''
    text = " ".join(" ".join(prose(code)).split())
    assert text.startswith("Return the sum of all values in , or if there are none.")
    assert "The first comment goes over two lines of text." in text
    for gone in ("x.y", "f(3)", "note", "example", "ndarray", "short"):
        assert gone not in text


def test_the_python_docs_are_files_in_a_fixed_order():
    names = [name for name, _ in PythonDocs().files]
    assert names == [name for name, _ in PythonDocs().files]
    assert len(names) == len(set(names)) > 1000
    assert names != sorted(names)


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"good line\nbad \xe9 line\n", "not UTF-8: byte 14 (0xe9) in line 2"),
        (b"good line\nbad \0 line\n", "binary: line 2 has a NUL"),
        (b"", "has 0 words"),
        (b"a b c", "3 words, and 0 of them occur often enough"),
        (b"a b " * 20, "has 40 words that occur often enough"),
    ],
)
def test_a_text_that_cannot_be_used(tmp_path, content, told):
    with pytest.raises(UserError, match=r".") as fault:
        _ = data(tmp_path, content).vocab_size
    assert told in str(fault.value)
    assert len(fault.value.lines()) == 1


def test_a_folders_row_in_another_encoding_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = b"".join(b'{"text": "a b c"}\n' for _ in range(1200))
    (folder / "a.jsonl").write_bytes(rows + b'{"text": "caf\xe9 noir"}\n')
    with pytest.raises(UserError) as fault:
        _ = Words(str(folder)).vocab_size
    assert str(fault.value).startswith(f"{folder}: row 1,201 of text is not UTF-8: byte 0xe9 in …caf")


def test_a_packed_file_that_is_cut_short(tmp_path):
    path = write(tmp_path / "t.gz", gzip.compress(sentences(20, 5000).encode())[:-500])
    with pytest.raises(UserError, match=r"t\.gz: cannot be read"):
        _ = Words(str(path)).vocab_size


def test_a_file_that_is_not_there(tmp_path):
    write(tmp_path / "text.txt", "a")
    with pytest.raises(UserError, match=r"no such file.*did you mean text\.txt"):
        _ = Words(str(tmp_path / "texd.txt")).vocab_size
    with pytest.raises(UserError, match="no file matches this pattern"):
        _ = Words(str(tmp_path / "*.md")).vocab_size


def test_a_folder_of_files_is_a_dataset(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder / "a.txt", sentences(20, 500))
    write(folder / "b.txt", sentences(20, 500, 1))
    together = Words([str(folder / "a.txt"), str(folder / "b.txt")])
    assert Words(str(folder)).counts.tolist() == together.counts.tolist()
    with pytest.raises(UserError, match="no column x but text"):
        _ = Words(str(folder), column="x").vocab_size
    (folder / "a.txt").unlink()
    (folder / "b.txt").unlink()
    with pytest.raises(UserError, match=r"cannot be loaded.*add /\*\.txt"):
        _ = Words(str(folder)).vocab_size


def test_a_very_long_line_and_a_very_long_word(tmp_path):
    words = data(tmp_path, f"{sentences(20, 9000)} {'x' * 50_000} {sentences(20, 9000, 1)}")
    assert words.corpus.total == 18_001
    assert all(len(word) < 10 for word in words.vocabulary)


@pytest.mark.parametrize(
    "option", [{"window": 0}, {"negatives": 0}, {"sample": -1.0}, {"length": 1}, {"power": 2.0}, {"val_fraction": 0.7}]
)
def test_a_figure_out_of_range(tmp_path, option):
    with pytest.raises(UserError, match=f"data.{next(iter(option))}"):
        data(tmp_path, **option)
