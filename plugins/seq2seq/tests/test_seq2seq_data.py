"""Batches, vocabularies, the cache, and what a user can get wrong with files."""

import gzip
import json

import numpy as np
import pytest
import torch
from dlmkit_seq2seq.buckets import buckets
from dlmkit_seq2seq.dates import DatesAndNumbers, formats
from dlmkit_seq2seq.parallel import ParallelText
from dlmkit_seq2seq.vocabulary import BEGIN, END, PAD, decode, encode, seen_pieces, train_tokenizer, unseen

from dlmkit import UserError

DE = [
    "Ein Hund läuft.",
    "Zwei Männer spielen im Park.",
    "Eine Frau liest ein Buch",
    "Der Ball ist rot!",
    "Kinder essen.",
]
EN = ["A dog runs.", "Two men are playing in the park.", "A woman reads a book", "The ball is red!", "Children eat."]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")


def write(folder, name, lines, encoding="utf-8"):
    path = folder / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return str(path)


def corpus(folder, copies=12, **options):
    """Many sentences that differ in a number."""
    de, en = ([f"{s} {n}" for n in range(copies) for s in side] for side in (DE, EN))
    source = [write(folder, "train.de", de), write(folder, "train.en", en)]
    options = {"source_pieces": 300, "target_pieces": 300, "batch_size": 8, "val_fraction": 0.2, **options}
    return ParallelText(source, ["de", "en"], test_fraction=0.2, **options)


def fault(make):
    with pytest.raises(UserError) as caught:
        make()
    [line] = caught.value.lines()
    assert "\n" not in line
    return line


# ---------------------------------------------------------------------------------------------------------- batches


def test_buckets_have_every_pair_once_and_follow_from_their_arguments():
    random = np.random.default_rng(0)
    source, target = random.integers(1, 40, (2, 5003))
    found = buckets(source, target, 16, (1, 0))
    assert sorted(np.concatenate(found)) == list(range(5003))
    assert {len(rows) for rows in found} <= {15, 16}
    again, other = buckets(source, target, 16, (1, 0)), buckets(source, target, 16, (1, 1))
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
    assert any(set(a) != set(b) for a, b in zip(found, other, strict=True))
    padded = sum(len(rows) * target[rows].max() for rows in found)
    assert padded < 1.1 * target.sum()  # in the order of the draw it is nearly twice as much
    assert sorted(np.concatenate(buckets(source, target, 16, None))) == list(range(5003))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_epoch_has_every_sentence_once(tmp_path, split):
    data = corpus(tmp_path)
    for epoch in (0, 1):
        rows = [
            tuple(row[row > PAD].tolist())
            for index in range(data.batches(split))
            for row in data.batch(split, epoch, index, 0, 1)["target"]
        ]
        expected = [(*data._sides[split][1][row].tolist(), END) for row in range(data.size(split))]
        assert sorted(rows) == sorted(expected)


def test_a_batch_is_a_pure_function(tmp_path):
    data, other = corpus(tmp_path), corpus(tmp_path)
    order = [("train", 3, 1), ("val", 0, 0), ("train", 0, 0), ("train", 3, 1)]
    batches = [data.batch(split, epoch, index, 0, 1) for split, epoch, index in order]
    for (split, epoch, index), batch in reversed(list(zip(order, batches, strict=True))):
        again = other.batch(split, epoch, index, 0, 1)
        assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_two_ranks_have_together_what_one_has(tmp_path):
    data = corpus(tmp_path)
    whole = data.batch("train", 0, 0, 0, 1)
    parts = [data.batch("train", 0, 0, rank, 2) for rank in (0, 1)]
    for name, tensor in whole.items():
        merged = torch.empty_like(tensor)
        merged[0::2], merged[1::2] = parts[0][name], parts[1][name]
        assert torch.equal(merged, tensor)


def test_input_is_the_target_one_step_later(tmp_path):
    batch = corpus(tmp_path).batch("train", 0, 0, 0, 1)
    assert (batch["input"][:, 0] == BEGIN).all()
    asked = batch["target"] != PAD
    assert torch.equal(batch["input"][:, 1:][asked[:, 1:]], batch["target"][:, :-1][asked[:, 1:]])
    assert ((batch["target"] == END).sum(1) == 1).all()
    assert torch.equal((batch["source"] > PAD).sum(1), batch["source_length"])


# ------------------------------------------------------------------------------------------------------- vocabularies


def test_every_text_comes_back():
    tokenizer = train_tokenizer(DE, 300, lowercase=False)
    for text in [*DE, "Straße 1998, „Zitat“ 🙂", "<s> kein </s> Zeichen <pad>", "a  b"]:
        ids = encode(tokenizer, [text])[0]
        assert decode(tokenizer, ids.tolist()) == text
        assert min(ids) > END  # a sentence cannot hold what ends it
    small = train_tokenizer(DE, 300, lowercase=True)
    assert decode(small, encode(small, ["Ein HUND, Ä"])[0].tolist()) == "ein hund, ä"


def test_the_vocabulary_is_made_from_the_training_split_alone(tmp_path):
    train = [write(tmp_path, "t.de", DE), write(tmp_path, "t.en", EN)]
    held = [write(tmp_path, "v.de", ["Quarkquarkquark"] * 50), write(tmp_path, "v.en", ["curdcurdcurd"] * 50)]
    options = {"source_pieces": 300, "target_pieces": 300, "batch_size": 2}
    data = ParallelText(train, ["de", "en"], held, held, **options)
    assert data.source_tokenizer.to_str() == train_tokenizer(DE, 300, False).to_str()
    assert data.target_tokenizer.to_str() == train_tokenizer(EN, 300, False).to_str()
    strange = data.batch("val", 0, 0, 0, 1)["source"]
    q = encode(data.source_tokenizer, ["Q"])[0][-1]
    assert not data.source_seen[q] and not (strange == q).any()  # reads as nothing
    assert (strange > PAD).any()


def test_a_piece_that_only_stood_in_longer_ones_is_put_together():
    text = "Telefonat Telefonat Tele Hof an"
    tokenizer = train_tokenizer([text] * 9, 400, lowercase=False)
    (whole,) = encode(tokenizer, ["Telefo"])[0].tolist()  # on the way from Tele to Telefonat
    seen = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.bool)
    seen[encode(tokenizer, [text])[0].tolist()] = True
    assert not seen[whole] and unseen(tokenizer, "Telefo", seen) == ["'Telefo'"]  # f and o have never stood alone
    for letter in "fo":
        seen[tokenizer.token_to_id(letter)] = True
    pieces = seen_pieces(tokenizer, whole, seen)
    assert [tokenizer.id_to_token(index) for index in pieces] == ["ĠTele", "f", "o"]
    assert decode(tokenizer, pieces) == "Telefo" and unseen(tokenizer, "Telefo", seen) == []
    assert seen_pieces(tokenizer, pieces[0], seen) == pieces[:1]


# -------------------------------------------------------------------------------------------------------------- cache


def count_trainings(monkeypatch):
    import dlmkit_seq2seq.pairs as module

    calls = []
    monkeypatch.setattr(module, "train_tokenizer", lambda *a: calls.append(a) or train_tokenizer(*a))
    return calls


def test_a_second_start_reads_the_cache_and_a_changed_setting_never_does(tmp_path, monkeypatch):
    calls = count_trainings(monkeypatch)
    first = corpus(tmp_path)
    batch = first.batch("train", 0, 0, 0, 1)
    assert len(calls) == 2
    again = corpus(tmp_path)
    assert all(torch.equal(batch[name], tensor) for name, tensor in again.batch("train", 0, 0, 0, 1).items())
    assert len(calls) == 2
    changes = [{"source_pieces": 310}, {"target_pieces": 290}, {"lowercase_source": True}, {"lowercase_target": True}]
    changes += [{"max_length": 9}, {"val_fraction": 0.25}, {"copies": 13}]
    for number, change in enumerate(changes, 2):
        corpus(tmp_path, **change).prepare_data()
        assert len(calls) == 2 * number, change


def test_a_changed_file_is_read_anew(tmp_path, monkeypatch):
    calls = count_trainings(monkeypatch)
    corpus(tmp_path).prepare_data()
    data = corpus(tmp_path)
    path = tmp_path / "train.en"
    path.write_text(path.read_text().replace("A dog runs. 3", "A dog runs. 4"))
    data.prepare_data()
    assert len(calls) == 4


def test_a_damaged_cache_is_made_anew(tmp_path):
    batch = corpus(tmp_path).batch("train", 0, 0, 0, 1)
    [file] = (tmp_path / "cache").glob("*.npz")
    file.write_bytes(file.read_bytes()[:200])
    again = corpus(tmp_path).batch("train", 0, 0, 0, 1)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path / "file"))
    assert "DLMKIT_CACHE" in fault(corpus(tmp_path).prepare_data)


# ------------------------------------------------------------------------------------------------------------ sources


def test_gzip_json_lines_and_plain_files_say_the_same(tmp_path):
    plain = [write(tmp_path, "a.de", DE), write(tmp_path, "a.en", EN)]
    for path in plain:
        (tmp_path / f"{path}.gz").write_bytes(gzip.compress((tmp_path / path).read_bytes()))
    flat = [json.dumps({"de": d, "en": e}) for d, e in zip(DE, EN, strict=True)]
    nested = [json.dumps({"translation": {"de": d, "en": e}}) for d, e in zip(DE, EN, strict=True)]
    sources = [
        plain,
        [f"{path}.gz" for path in plain],
        write(tmp_path, "f.jsonl", flat),
        write(tmp_path, "n.jsonl", nested),
    ]
    for source in sources:
        texts = ParallelText(source, ["de", "en"], source, source).texts()
        assert texts["train"].source == texts["test"].source == DE and texts["val"].target == EN


def test_a_folder_of_a_dataset_keeps_its_splits(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number, name in enumerate(("train", "validation", "test")):
        rows = [json.dumps({"translation": {"de": f"{d} {number}", "en": e}}) for d, e in zip(DE, EN, strict=True)]
        write(folder, f"{name}.jsonl", rows)
    texts = ParallelText(str(folder), ["de", "en"]).texts()
    assert [texts[split].source[0] for split in ("train", "val", "test")] == [f"{DE[0]} {n}" for n in range(3)]


def test_only_a_line_feed_ends_a_line(tmp_path):
    de, en = ["eins\u2028zwei", "drei\x0bvier\r"], ["one", "two"]
    texts = ParallelText([write(tmp_path, "a.de", de), write(tmp_path, "a.en", en)], ["de", "en"]).texts()
    assert sum(len(part.source) for part in texts.values()) == 2


def test_files_of_unequal_length(tmp_path):
    source = [write(tmp_path, "a.de", DE), write(tmp_path, "a.en", EN[:4])]
    line = fault(ParallelText(source, ["de", "en"]).texts)
    assert "a.de: it has 5 lines and a.en 4: line 5 has no counterpart ('Kinder essen.')" in line


@pytest.mark.parametrize(
    ("lines", "encoding", "told"),
    [
        (["gut", "schön"], "latin-1", "line 2 is not UTF-8: byte 0xf6 in …schön…"),
        (["gut", "schön"], "utf-16", "holds a NUL"),
    ],
)
def test_another_encoding(tmp_path, lines, encoding, told):
    source = [write(tmp_path, "a.de", lines, encoding), write(tmp_path, "a.en", lines)]
    line = fault(ParallelText(source, ["de", "en"]).texts)
    assert told in line and "iconv" in line


@pytest.mark.parametrize(
    ("changed", "seed"),
    [({"target": "fr"}, 1), ({"train_size": 60}, 1), ({"test_size": 6}, 1), ({}, 2), ({"lowercase_target": True}, 1)],
)
def test_other_dates_and_numbers_are_never_served_from_the_cache(monkeypatch, changed, seed):
    """Through the cache, which is what a run does: a second start with another setting has other sentences."""

    def first(**options):
        sizes = {"train_size": 80, "val_size": 4, "test_size": 4, "batch_size": 4, **options}
        data = DatesAndNumbers(source_pieces=270, target_pieces=270, **sizes)
        said = [
            decode(data.target_tokenizer, row[row > PAD].tolist()) for row in data.batch("test", 0, 0, 0, 1)["target"]
        ]
        return said, [data.size(split) for split in ("train", "val", "test")]

    one = first()
    assert first() == one
    monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
    other = first(**changed)
    assert other != one
    assert other[1] == [changed.get("train_size", 80), 4, changed.get("test_size", 4)]


@pytest.mark.parametrize("nested", [False, True])
def test_mixed_encodings_in_a_table_tell_the_first_row(tmp_path, monkeypatch, nested):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [{"de": f"Satz {n}", "en": f"sentence {n}"} for n in range(2000)]
    text = "\n".join(json.dumps({"translation": row} if nested else row) for row in rows).encode()
    path = tmp_path / "late.jsonl"
    path.write_bytes(text.replace(b"Satz 1500", b"S\xe4tze"))
    said = fault(ParallelText(str(path), ["de", "en"]).texts)
    assert said.startswith(f"{path}: row 1,501 of {'translation' if nested else 'de'} is not UTF-8: byte 0xe4 in …")


def test_mixed_encodings_tell_the_first_line(tmp_path):
    path = tmp_path / "a.de"
    path.write_bytes("schön\n".encode() + "böse\n".encode("latin-1"))
    assert "line 2 is not UTF-8" in fault(ParallelText([str(path), str(path)], ["de", "en"]).texts)


def test_empty_and_endless_lines_are_left_out_and_told(tmp_path):
    de = [*DE * 5, "", "x" * 50_000, "ja " * 60, " "]
    en = [*EN * 5, "nothing", "y", "yes " * 60, "z"]
    path = [write(tmp_path, "a.de", de), write(tmp_path, "a.en", en)]
    held = [write(tmp_path, "v.de", DE), write(tmp_path, "v.en", EN)]
    options = {"source_pieces": 300, "target_pieces": 300, "batch_size": 4, "max_length": 50}
    data = ParallelText(path, ["de", "en"], held, held, **options)
    data.setup("fit")
    assert (
        "left out 2 training pairs empty (line 26 first); 2 training pairs too long (line 27 first)" in data.describe()
    )
    assert data.size("train") == 25
    assert data.source_tokenizer.to_str() == train_tokenizer([*DE * 5, "ja " * 60], 300, False).to_str()


def test_what_else_can_be_wrong_with_a_source(tmp_path):
    here = [write(tmp_path, "train.de", DE), write(tmp_path, "train.en", EN)]
    assert "did you mean train.de" in fault(ParallelText([f"{here[0]}x", here[1]], ["de", "en"]).texts)
    assert "one side only" in fault(ParallelText(here[0], ["de", "en"]).texts)
    assert "3 sources" in fault(ParallelText([*here, here[0]], ["de", "en"]).texts)
    table = write(tmp_path, "t.jsonl", [json.dumps({"de": "x", "en": "y"})])
    assert "there is no column fr but de, en" in fault(ParallelText(table, ["de", "fr"]).texts)
    numbers = write(tmp_path, "n.jsonl", [json.dumps({"de": 3, "en": "y"})])
    assert "row 1 of de holds int" in fault(ParallelText(numbers, ["de", "en"]).texts)
    broken = write(tmp_path, "b.jsonl", ["{"])
    assert "cannot be loaded" in fault(ParallelText(broken, ["de", "en"]).texts)
    for languages in (["de"], ["de", "de"], []):
        assert "give two" in fault(lambda languages=languages: ParallelText(here, languages))
    empty = [write(tmp_path, "e.de", [""] * 3), write(tmp_path, "e.en", [""] * 3)]
    line = fault(ParallelText(here, ["de", "en"], empty, here, source_pieces=300, target_pieces=300).prepare_data)
    assert "the validation split has no pair of sentences" in line and "3 validation pairs empty" in line


def test_figures_out_of_range():
    for name, value in [("source_pieces", 258), ("max_length", 0), ("val_fraction", 0.7), ("batch_size", 0)]:
        assert name in fault(lambda name=name, value=value: ParallelText("x", ["de", "en"], **{name: value}))


def test_more_processes_than_pairs(tmp_path):
    data = corpus(tmp_path, copies=3)
    size = len(data.batch("val", 0, data.batches("val") - 1, 0, 1)["source"])
    assert "processes" in fault(lambda: data.batch("val", 0, data.batches("val") - 1, 0, size + 1))


# --------------------------------------------------------------------------------------------------- dates and numbers


def small(**options):
    return DatesAndNumbers(train_size=300, val_size=40, test_size=60, **options)


@pytest.mark.parametrize("target", ["en", "fr"])
def test_what_is_held_out_is_not_in_training(target):
    texts = small(target=target).texts()
    assert [len(part.source) for part in texts.values()] == [300, 40, 60]
    sources = [set(part.source) for part in texts.values()]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
    assert all(len(part) == len(texts[name].source) for part, name in zip(sources, texts, strict=True))


def test_both_targets_read_the_same_sources():
    english, french = small().texts(), small(target="fr").texts()
    assert all(english[split].source == french[split].source for split in english)


def test_a_date_is_held_out_in_all_its_formats():
    import datetime

    from babel.dates import format_date, get_month_names
    from dlmkit_seq2seq.dates import _split_of

    months = {name: month for month, name in get_month_names("wide", locale="de").items()}
    seen = 0
    for split, part in small().texts().items():
        for source, target in zip(part.source, part.target, strict=True):
            day, month, year = (["", "", *source.split()])[-3:]
            if month in months and ".," not in source:  # the long format, or the full one with its day of the week
                date = datetime.date(int(year), months[month], int(day.rstrip(".")))
                style = "full" if "," in source else "long"
                assert _split_of(date) == split and format_date(date, style, locale="en") == target
                seen += 1
    assert seen > 30


def test_no_two_dates_or_formats_are_written_alike():
    import datetime

    days = [datetime.date(1950, 1, 1) + datetime.timedelta(days=n) for n in range(0, 36_525, 37)]
    for source in ("de", "fr", "en"):
        written = [" ".join(write(day, source).split()) for write in formats(source, "es") for day in days]
        assert len(set(written)) == len(written)


@pytest.mark.parametrize(
    ("code", "told"),
    [("xx", "Babel knows no language 'xx'"), ("german", "Babel knows no"), ("", "Babel knows no"), ("zu", "num2words")],
)
def test_a_language_that_is_not_known(code, told):
    assert told in fault(lambda: DatesAndNumbers(target=code))


def test_a_language_that_yaml_would_misread(tmp_path, capsys):
    from dlmkit.cli import main

    recipe = tmp_path / "nynorsk.yaml"
    recipe.write_text(
        "# dlmkit run nynorsk\nmodel: {class_path: seq2seq, init_args: {hidden_size: 8, embedding_size: 8}}\n"
        "data:\n  class_path: dates-and-numbers\n  init_args: {target: no, train_size: 40, val_size: 8, test_size: 8}\n"
    )
    assert main(["check", str(recipe)]) == 0
    assert "is sound" in capsys.readouterr().out
