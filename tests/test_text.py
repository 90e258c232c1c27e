"""Text as streams: what a batch holds, what the tokenizers promise, and what a user is told."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from dlmkit.data import sources, tokens
from dlmkit.data.hub import load_splits
from dlmkit.data.ngrams import NGrams
from dlmkit.data.text import Characters, Subwords
from dlmkit.errors import UserError


def prose(size: int, seed: int = 0) -> str:
    """Reproducible text of words, lines, empty lines, indents and characters of one to four bytes."""
    draw = random.Random(seed)
    words = ["the", "cat", "sat", "on", "naïve", "mats", "größer", "x=1", "if", "return", "日本", "🙂"]
    gaps = [" ", " ", " ", ", ", "\n", "\n\n", "\n    ", "\t"]
    return "".join(draw.choice(words) + draw.choice(gaps) for _ in range(size))[:size]


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    folder = str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("DLMKIT_CACHE", folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prose.txt"
    path.write_text(prose(8000), encoding="utf-8")
    return str(path)


def epoch(data, split, number=0):
    return [data.batch(split, number, index, 0, 1) for index in range(data.batches(split))]


def rows(batches, key):
    """The batches of one epoch joined in time, (B, all steps)."""
    return torch.cat([batch[key] for batch in batches], dim=1)


def split_text(data, split):
    """The text of a split of ``file``, cut here once more."""
    start, end = {"train": (0, 6400), "val": (6400, 7200), "test": (7200, 8000)}[split]
    with open(data.source, encoding="utf-8") as opened:
        return opened.read()[start:end]


def encoded(data, split):
    return data.tokenizer.encode(split_text(data, split))


@pytest.mark.parametrize("kind", [Characters, Subwords])
def test_a_row_goes_on_where_it_stopped(file, kind):
    data = kind(file, batch_size=4, length=16)
    text = torch.tensor(encoded(data, "train").ids)
    batches = epoch(data, "train", 3)
    assert all(batch["input"].shape == batch["target"].shape == (4, 16) for batch in batches)
    assert all(batch[key].dtype == torch.int64 for batch in batches for key in ("input", "target", "characters"))
    assert [batch["reset"].tolist() for batch in batches] == [[index == 0] * 4 for index in range(len(batches))]
    joined, target = rows(batches, "input"), rows(batches, "target")
    assert torch.equal(joined[:, 1:], target[:, :-1])
    starts = [next(at for at in range(len(text)) if torch.equal(text[at : at + row.numel()], row)) for row in joined]
    assert np.ptp(np.diff(starts)) == 0 and np.diff(starts)[0] >= joined.shape[1]


@pytest.mark.parametrize("kind", [Characters, Subwords])
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(("batch_size", "length"), [(1, 7), (4, 16), (6, 50), (12, 1), (8, 150)])
def test_validation_and_test_score_every_token_once(file, kind, split, batch_size, length):
    data = kind(file, batch_size=batch_size, length=length)
    whole, batches = encoded(data, split), epoch(data, split)
    text = torch.tensor(whole.ids)
    streams = len(batches[0]["input"])
    scored = rows(batches, "target").flatten()
    assert torch.equal(scored, text[1 : 1 + len(scored)])
    assert 0 <= len(text) - 1 - len(scored) < streams and batch_size % streams == 0
    starts = [start for start, _ in whole.offsets] + [len(split_text(data, split))]
    assert sum(batch["characters"].sum() for batch in batches) == starts[1 + len(scored)] - starts[1]


@pytest.mark.parametrize("kind", [Characters, Subwords])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_parts_of_all_processes_are_the_batch_of_one(file, kind, split):
    data = kind(file, batch_size=8, length=16)
    for index, whole in enumerate(epoch(data, split, 2)):
        for world in (2, 4):
            parts = [data.batch(split, 2, index, rank, world) for rank in range(world)]
            assert all(torch.equal(torch.cat([part[key] for part in parts]), whole[key]) for key in whole)


def test_a_short_split_has_fewer_streams_that_still_divide_among_the_processes(file):
    data = Characters(file, batch_size=24, length=200)
    for world, streams in ((1, 3), (2, 2), (4, 4)):  # of 800 characters, 3 x 266
        parts = [data.batch("test", 0, 0, rank, world)["input"] for rank in range(world)]
        assert [len(part) for part in parts] == [streams // world] * world


def test_an_epoch_follows_from_seed_and_number(file, monkeypatch):
    data = Characters(file, batch_size=4, length=64)
    first = {number: data.batch("train", number, 0, 0, 1)["input"] for number in range(50)}
    assert torch.equal(first[7], Characters(file, batch_size=4, length=64).batch("train", 7, 0, 0, 1)["input"])
    assert len({tuple(batch.flatten().tolist()) for batch in first.values()}) > 25
    for number in first:
        assert all(batch["target"].shape == (4, 64) for batch in epoch(data, "train", number))
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    assert any(not torch.equal(data.batch("train", number, 0, 0, 1)["input"], first[number]) for number in range(3))
    with pytest.raises(IndexError, match="batch 1000 of"):
        data.batch("train", 0, 1000, 0, 1)


def test_the_loader_gives_the_batches(file):
    data = Characters(file, batch_size=4, length=64)
    batches = zip(data.train_dataloader(), epoch(data, "train"), strict=True)
    assert [torch.equal(got["target"], want["target"]) for got, want in batches] == [True] * 24


def test_characters_are_encoded_as_their_tokenizer_does():
    text = prose(3000)
    tokenizer = tokens.character_tokenizer(text)
    strange = text + "ÿ\0\r☃𝄞" + tokens.UNKNOWN
    ids = tokens.encode_characters(tokenizer, strange)
    assert ids.dtype == torch.uint8 and ids.tolist() == tokenizer.encode(strange).ids
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.decode(ids.tolist()) == text + tokens.UNKNOWN * 6
    assert len(tokens.encode_characters(tokenizer, "")) == 0


def test_many_characters_need_a_larger_integer():
    text = "".join(map(chr, range(0x20000, 0x20000 + 40_000)))
    tokenizer = tokens.character_tokenizer(text)
    ids = tokens.encode_characters(tokenizer, text)
    assert ids.dtype == torch.int32 and ids.tolist() == list(range(1, 40_001))
    assert tokens.encode_characters(tokens.character_tokenizer(text[:300]), text).dtype == torch.int16


def test_the_vocabulary_is_that_of_the_training_text_and_is_saved(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab\n" * 270 + "abé" * 30)
    data = Characters(str(path), batch_size=2, length=8)
    assert data.vocab_size == 4
    assert 0 in rows(epoch(data, "test"), "target")
    data.save(str(tmp_path))
    for tokenizer in (data.tokenizer, Tokenizer.from_file(str(tmp_path / "tokenizer.json"))):
        assert [tokenizer.id_to_token(index) for index in range(5)] == [tokens.UNKNOWN, "\n", "a", "b", None]


@pytest.mark.parametrize("size", [100, 1 << 16])
def test_subwords_are_encoded_as_their_tokenizer_does(monkeypatch, size):
    text = prose(20_000)
    monkeypatch.setattr(tokens._sections, "__defaults__", (size,))
    assert (len(tokens._sections(text)) > 50) == (size == 100) and "".join(tokens._sections(text)) == text
    tokenizer = tokens.subword_tokenizer(text, 300)
    other = text + "\n\n  unheard-of ☃\n"
    ids = tokens.encode_subwords(tokenizer, other)
    assert ids.tolist() == tokenizer.encode(other).ids
    assert tokenizer.decode(ids.tolist()) == other
    assert tokens.characters_per_token(tokenizer)[ids.long()].sum() == len(other)


def test_a_vocabulary_is_trained_once_and_by_one(monkeypatch):
    trained = []
    train = tokens._train_subwords
    monkeypatch.setattr(tokens, "_train_subwords", lambda *args: trained.append(args) or train(*args))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: tokens.subword_tokenizer("low lower lowest " * 9, 260).to_str(), range(8)))
    assert len(trained) == 1 and len(set(made)) == 1


def test_another_text_or_setting_is_not_taken_from_the_cache(monkeypatch):
    assert [tokens.subword_tokenizer(prose(2000), size).get_vocab_size() for size in (260, 300, 260)] == [260, 300, 260]
    other = tokens.subword_tokenizer(prose(2000, seed=1), 300).to_str()
    assert other != tokens.subword_tokenizer(prose(2000), 300).to_str()
    monkeypatch.setattr(tokens, "_train_subwords", lambda *args: pytest.fail("trained again"))
    assert tokens.subword_tokenizer(prose(2000, seed=1), 300).to_str() == other


def brute_force(text, order, size):
    """Witten-Bell by dictionaries of strings, straight from the definition."""
    after = defaultdict(Counter)
    for n in range(order):
        for at in range(n, len(text)):
            after[text[at - n : at]][text[at]] += 1

    def probability(symbol, context):
        lower = probability(symbol, context[1:]) if context else 1 / size
        seen = after.get(context)
        return (seen[symbol] + len(seen) * lower) / (seen.total() + len(seen)) if seen else lower

    return probability


def test_n_grams_agree_with_a_brute_force_count():
    train, test = "abracadabra, abra cadabra" * 3, "cabra dab, c"
    symbols = sorted(set(train))
    ids = {symbol: index for index, symbol in enumerate(symbols)}
    encode = lambda text: np.array([ids[symbol] for symbol in text], dtype=np.uint8)  # noqa: E731
    model = NGrams(encode(train), len(symbols), order=3)
    for order in (1, 2, 3):
        expected = brute_force(train, order, len(symbols))
        wanted = [expected(symbol, test[max(0, at - order + 1) : at]) for at, symbol in enumerate(test)]
        assert model.probabilities(encode(test), order) == pytest.approx(wanted, rel=1e-12)
        assert model.bits(encode(test), 2, order) == pytest.approx(-np.log2(wanted[2:]).mean())


def test_the_probabilities_of_all_symbols_sum_to_one():
    size = 7
    model = NGrams(np.random.default_rng(0).integers(0, size - 1, 200), size)  # the last symbol is never seen
    for context in np.ndindex(size, size):
        total = sum(model.probabilities(np.array([*context, symbol]))[2] for symbol in range(size))
        assert total == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="do not fit"):
        NGrams(np.arange(3), 10_000_000, order=3)


def test_baselines_and_description(file):
    for data in (Characters(file, batch_size=4, length=16), Subwords(file, batch_size=4, length=16, pieces=300)):
        (bits,) = data.baselines().values()
        assert 0 < bits["trigram"] < bits["unigram"] < np.log2(100)
    size = len(set(split_text(data, "train"))) + 1
    expected = brute_force(split_text(data, "train"), 3, size)
    test = split_text(data, "test")
    wanted = -np.mean([np.log2(expected(test[at], test[max(0, at - 2) : at])) for at in range(1, 800)])
    bits = Characters(file, batch_size=1, length=16).baselines()["test/bits_per_character"]
    assert bits["trigram"] == pytest.approx(wanted)
    shares = "; 80 % train, 10 % validation, 10 % test"
    assert Characters(file).describe() == f"prose.txt: 8,000 characters, {size} symbols{shares}"
    assert data.describe() == f"prose.txt: 8,000 characters, 300 pieces{shares}"


def test_the_standard_library_is_found():
    rows = sources.python_stdlib_dataset()
    text = sources.python_stdlib()
    assert 2_500_000 < len(text) < 3_500_000 and "\n\n\n" in text
    assert len(rows) > 90 and {"asyncio/tasks.py", "heapq.py"} < set(rows["name"])
    assert sum(not character.isascii() for character in text) < 20
    assert text == "".join(rows["text"])


def test_a_python_without_its_library_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    data = Characters()  # which reads nothing yet
    with pytest.raises(UserError, match=r"0 of 1.. files are there; give a text file as data.source"):
        data.prepare_data()


def test_files_are_joined_in_order(tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_bytes(b"two\r\nlines")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.read_corpus("~/*.txt", None, "text").texts == {"train": "one\ntwo\nlines"}
    corpus = sources.read_corpus([str(tmp_path / "b.txt"), "~/a.txt"], None, "text")
    assert corpus.texts == {"train": "two\nlines\none\n"} and corpus.label == "2 files"


def test_a_folder_keeps_its_own_splits(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"body": "ab"}\n{"body": null}\n{"body": "cd\\n"}\n' * 300)
    (tmp_path / "test.jsonl").write_text('{"body": "ef"}\n' * 100)
    texts = Characters(str(tmp_path), column="body", val_fraction=0.5)._texts
    assert texts["train"] == ("ab\n\ncd\n" * 150) and texts["val"] == texts["train"]
    assert texts["test"] == "ef\n" * 99 + "ef"
    assert sources.read_corpus(str(tmp_path / "test.jsonl"), None, "body").texts == {"train": texts["test"]}


@pytest.mark.parametrize(
    ("place", "train", "val"), [("end", slice(0, 700), slice(700, 900)), ("start", slice(200, 900), slice(0, 200))]
)
def test_validation_is_cut_off_either_end_of_the_training_text(tmp_path, place, train, val):
    text = "".join(chr(97 + n % 23) for n in range(1000))
    (tmp_path / "a.txt").write_text(text)
    texts = Characters(str(tmp_path / "a.txt"), val_fraction=0.2, val_place=place)._texts
    assert texts == {"train": text[train], "val": text[val], "test": text[900:]}


def test_validation_at_the_start_of_a_text_whose_test_split_is_its_own(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "abcdefghi"}\n' * 2)
    (tmp_path / "test.jsonl").write_text('{"text": "xyz"}\n')
    texts = Characters(str(tmp_path), val_fraction=0.5, val_place="start")._texts
    assert texts["val"] + texts["train"] == "abcdefghi\nabcdefghi" and len(texts["val"]) == 10
    assert texts["test"] == "xyz"


def test_a_dataset_out_of_reach_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^owner/name: this dataset cannot be loaded: .*; check the spelling, .*file$"):
        sources.read_corpus("owner/name", None, "text")
    with pytest.raises(UserError, match="did you mean python-stdlib"):
        sources.read_corpus("python_stdlib", None, "text")


@pytest.mark.parametrize("proxy", ["", "http://proxy:3128"])
def test_without_a_connection_only_the_cache_is_asked(monkeypatch, proxy):
    """At once, where the library would try for half a minute; and a proxy may know names that are not known here."""
    import datasets
    from huggingface_hub import constants

    asked = []

    def load(path, **options):
        asked.append((path, constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        raise ConnectionError("no route")

    def unknown(host, port):
        raise OSError("Name or service not known")

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("dlmkit.data.hub.getproxies", lambda: {"https": proxy} if proxy else {})
    for switch in (constants, datasets.config):
        monkeypatch.setattr(switch, "HF_HUB_OFFLINE", False)
    reason = (
        "no route" if proxy else f"{constants.ENDPOINT.split('/')[-1]} cannot be reached, and nothing of that name was"
    )
    with pytest.raises(UserError, match=f"^owner/name: this dataset cannot be loaded: {reason}"):
        sources.read_corpus("owner/name", None, "text")
    assert asked == [("owner/name", not proxy, not proxy)]
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def message(path, content=None, **options):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        _ = Characters(str(path), **options).vocab_size
    assert caught.value.where == str(path) and caught.value.remedy
    assert len(caught.value.lines()) == 1
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_faulty_file_is_told(tmp_path):
    (tmp_path / "novel.txt").write_text("text")
    assert message(tmp_path / "novle.txt") == "there is no such file; did you mean novel.txt?"
    assert message(tmp_path / "x" / "novel.txt").startswith(f"there is no folder {tmp_path / 'x'};")
    assert message(tmp_path / "*.md").startswith("no file matches this pattern;")
    assert message(tmp_path / "empty.txt", b"").startswith("this file is empty;")
    assert message(tmp_path / "binary.txt", b"PK\0\1").startswith("this is no text but binary: byte 2 is NUL; ")
    latin = message(tmp_path / "latin.txt", "ok\ncafé au lait\n".encode("latin1"))
    assert latin.startswith("this is not UTF-8: byte 6 (0xe9) in line 2; convert it, say with iconv")
    marked = message(tmp_path / "marked.txt", b"\xef\xbb\xbfok\n\xff")
    assert marked.startswith("this is not UTF-8: byte 6 (0xff) in line 2;")
    assert message(tmp_path / "no.jsonl", b'{"text" oops').endswith("check that the files hold what their ending says")


def test_a_text_too_short_is_told(tmp_path):
    short = message(tmp_path / "short.txt", b"ab" * 500, batch_size=16, length=64)
    assert short.startswith("the training split has 800 characters; 16 streams of 64 need 1,088; ")
    assert short.endswith("; give data.batch_size up to 11 or data.length up to 47 or more text")
    for options in ({"batch_size": 11, "length": 64}, {"batch_size": 16, "length": 47}):
        assert Characters(str(tmp_path / "short.txt"), **options).batches("train") >= 1
    assert message(tmp_path / "tiny.txt", b"abc", batch_size=8, length=2).endswith("need 18; give more text")
    few = message(tmp_path / "few.txt", b"ab" * 50, batch_size=1, length=2, val_fraction=0.001)
    assert few == "the validation split has 0 characters; 2 are needed; give more text or a larger data.val_fraction"


def test_a_missing_column_is_told(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert (
        message(path, b'{"title": "a", "words": 3}\n')
        == "there is no column text but title, words; name one of them as data.column"
    )
    assert message(path, column="tilte").endswith("did you mean title?")
    assert message(path, column="words").startswith("the column words holds int and no text; name a column of text")


@pytest.mark.parametrize(
    ("kind", "options", "where"),
    [
        (Characters, {"length": 0}, "data.length"),
        (Characters, {"val_fraction": 0.0}, "data.val_fraction"),
        (Characters, {"test_fraction": 1.5}, "data.test_fraction"),
        (Characters, {"val_fraction": 0.5, "test_fraction": 0.5}, "data.val_fraction"),
        (Characters, {"source": []}, "data.source"),
        (Subwords, {"pieces": 255}, "data.pieces"),
    ],
)
def test_a_figure_out_of_range_is_told_at_once(kind, options, where):
    with pytest.raises(UserError) as caught:
        kind(**options)
    assert caught.value.where == where and caught.value.remedy


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "taken"))
    with pytest.raises(UserError, match=r"the cache cannot be written: .*DLMKIT_CACHE"):
        tokens.subword_tokenizer("text", 256)


def test_a_path_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "file.txt").write_text("x")
    for name, message in (
        ("file.txt", "file.txt: this is a file, not a folder; give the folder that it lies in"),
        ("./pictrues", "./pictrues: there is no such folder; did you mean pictures"),
        ("/nowhere/at/all", "/nowhere/at/all: there is no such folder; give another"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            load_splits(name, "give another")
