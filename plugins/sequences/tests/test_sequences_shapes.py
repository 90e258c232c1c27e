"""The small problems, one for each shape, and the order in which examples come."""

import itertools
from collections import Counter

import pytest
import torch
from dlmkit_sequences.digits import LETTERS, NAMES, Digit, DigitNames
from dlmkit_sequences.languages import Languages, _names
from dlmkit_sequences.long_term import Adding
from dlmkit_sequences.punctuation import LETTERS as OF_WORDS
from dlmkit_sequences.punctuation import MARKS, Punctuation, restore, sentences, strip

from dlmkit.errors import UserError

SPLITS = ("train", "val", "test")


def everything(data, split):
    return data.examples(*data.table(split))


# ---------- every problem


@pytest.mark.parametrize("make", [Digit, DigitNames, Languages, Punctuation, lambda: Adding(length=9)])
def test_what_a_problem_promises(make):
    data = make()
    for split in SPLITS:
        batch = data.batch(split, 0, 0, 0, 1)
        x, y = batch["input"], batch["target"]
        assert x.dtype == torch.float32 and x.shape[2] == data.input_size
        assert y.shape == (x.shape[:1] if data.answer == "last" else x.shape[:2])
        if data.target == "class":
            assert y.dtype == torch.int64 and set(y.unique().tolist()) <= {-100, *range(data.output_size)}
        for row in range(3):
            inputs, outputs = data.steps(x[row], y[row])
            assert len(inputs) == len(outputs) and any(inputs) and any(outputs)
            told = data.tell(x[row], y[row], y[row].clamp(min=0))
            assert len(told) == 3 and all(isinstance(cell, str) for cell in told)
            assert told[1] == told[2]
    assert data.shape in ("one to one", "one to many", "many to one", "many to many, aligned")
    assert all(0 < figure < 1 for methods in data.baselines().values() for figure in methods.values())
    assert "\n" not in data.describe()


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
    data = Adding(length=3, train_size=64, batch_size=8)
    table = data.examples(*data.table("train"))[1].tolist()
    seen = [[y for k in range(8) for y in data.batch("train", epoch, k, 0, 1)["target"].tolist()] for epoch in (0, 1)]
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(table)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("size", [33, 40, 47])
def test_validation_and_test_leave_nothing_out(size):
    data = Adding(length=3, val_size=size, test_size=size, batch_size=8)
    for split in ("val", "test"):
        parts = [data.batch(split, 0, k, 0, 1)["target"] for k in range(data.batches(split))]
        assert torch.equal(torch.cat(parts), data.examples(*data.table(split))[1])
        assert {len(part) for part in parts} <= {8, 9, 10}  # no small one is left over


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(world):
    data = Languages(batch_size=8)
    for split, k in itertools.product(SPLITS, (0, 1)):
        whole = data.batch(split, 3, k, 0, 1)
        parts = [data.batch(split, 3, k, rank, world) for rank in range(world)]
        assert all(len(part["target"]) for part in parts)
        for name, values in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), values)


def test_a_batch_larger_than_the_training_set():
    with pytest.raises(UserError, match="a batch of 32 is more than the 20 training examples"):
        Adding(train_size=20).batches("train")
    with pytest.raises(IndexError):
        Digit().batch("test", 0, 99, 0, 1)


# ---------- digits


def test_every_digit_is_in_one_split():
    data = Digit()
    assert [data.size(split) for split in SPLITS] == [1297, 200, 300]
    pictures = torch.cat([everything(data, split)[0] for split in SPLITS])
    assert pictures.shape == (1797, 1, 64) and pictures.min() == 0 and pictures.max() == 1
    assert data.baselines()["test/accuracy"]["nearest mean picture"] > 0.85


def test_the_name_comes_out_letter_by_letter():
    digits, names = Digit(), DigitNames()
    _, numbers = everything(digits, "test")
    pictures, letters = everything(names, "test")
    assert (pictures[:, 1:] == 0).all() and torch.equal(pictures[:, :1], everything(digits, "test")[0])
    for number, spelt in zip(numbers.tolist(), letters.tolist(), strict=True):
        name = NAMES[number]
        assert "".join(LETTERS[letter] for letter in spelt[: len(name)]) == name
        assert spelt[len(name)] == LETTERS.index("■") and set(spelt[len(name) + 1 :]) <= {-100}
    told = names.tell(pictures[0], letters[0], torch.tensor([LETTERS.index(c) for c in "six■zz"]))
    assert told[1:] == [NAMES[numbers[0]], "six"]


# ---------- languages


def test_names_end_at_the_last_step():
    data = Languages()
    x, y = everything(data, "val")
    used = x.sum(2)
    assert set(used.unique().tolist()) == {0, 1} and (used[:, -1] == 1).all()
    assert (used.diff(dim=1) >= 0).all()  # empty steps stand in front
    known = {(name, language) for name, language in _names(tuple(data.languages), 20).names["val"]}
    told = {(data.tell(row, k, k)[0], int(k)) for row, k in zip(x, y, strict=True)}
    assert len(told & known) > 0.95 * len(known)  # save for a character that training has never seen


def test_a_name_has_one_language_and_a_thing_one_split():
    found = _names(("de", "en", "sv"), 20).names
    names = [name for split in SPLITS for name, _ in found[split]]
    assert len(set(names)) == len(names) > 500
    assert not set(names) & {"japan", "april"}  # the same in two of them
    splits = {name: split for split in SPLITS for name, _ in found[split]}
    assert splits["deutschland"] == splits["germany"] == splits["tyskland"]
    assert "januari" in splits and "january" in splits and "januar" in splits


def test_letters_tell_more_than_chance():
    found = Languages().baselines()["test/accuracy"]
    assert found["letters counted"] > 2 * found["commonest language"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"languages": ["de"]}, "languages are de; give two or more"),
        ({"languages": []}, "languages are none"),
        ({"languages": ["de", "de"]}, "each once"),
        ({"languages": ["de", "xx"]}, "xx is no language of CLDR"),
        ({"length": 1}, "of names up to 1 characters some language has too few"),
    ],
)
def test_languages_that_make_no_problem(options, words):
    with pytest.raises(UserError, match=words):
        Languages(**options)


# ---------- punctuation


def test_what_is_stripped_can_be_restored():
    text = "Foreign Minister. Well, is it: SO? I'm 3-fold; yes."
    words, classes = zip(*map(strip, text.split(" ")), strict=True)
    assert " ".join(words) == "foreign minister well is it so i'm 3-fold yes"
    assert " ".join(map(restore, words, classes)) == text
    assert classes[:2] == (1, 3 * MARKS.index(".") + 1) and classes[5] == 3 * MARKS.index("?") + 2
    assert strip("PyTorch") == ("pytorch", 1) and strip("A") == ("a", 1)


def test_the_text_is_english_prose_and_the_splits_are_apart():
    parts = {split: sentences(split) for split in SPLITS}
    assert sum(map(len, parts.values())) > 2000
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
    for text in parts["train"]:
        assert {letter for word in text.split(" ") for letter in strip(word)[0]} <= set(OF_WORDS)
        assert text[0].isupper() and text[-1] in ".?"


@pytest.mark.parametrize(("length", "delay"), [(40, 2), (30, 0), (20, 7)])
def test_every_word_is_asked_for_once_and_later(length, delay):
    data = Punctuation(length=length, delay=delay)
    words, classes = zip(*(strip(word) for text in sentences("test") for word in text.split(" ")), strict=True)
    read, asked, same = [], [], 0
    for inputs, targets in zip(*everything(data, "test"), strict=True):
        assert (targets[:delay] == -100).all() and (targets[delay:] >= 0).all()
        assert inputs.shape == (length, data.input_size) and inputs.sum().item() == 7 * length + inputs[:, -1].sum()
        piece = data._read(inputs)
        whole = words[len(read) : len(read) + length]  # with what follows, of which `delay` is seen in time
        alike = [(word[:3], word[3:][-3:], len(word) > 6) for word in whole]
        assert alike == [(word[:3], word[3:][-3:], len(word) > 6) for word in piece]
        same += sum(map(str.__eq__, piece, whole))
        read += piece[: length - delay]
        asked += targets[delay:].tolist()
    assert asked == list(classes[: len(asked)]) and len(words) - len(read) < length
    assert same > 0.95 * len(read)  # others are spelt as a more frequent word that looks alike to the net


def test_frequent_words_have_numbers_of_their_own():
    data = Punctuation(frequent=50)
    counted = Counter(strip(word)[0] for text in sentences("train") for word in text.split(" "))
    known = {word: number for number, (word, _) in enumerate(counted.most_common(50))}
    test = [strip(word)[0] for text in sentences("test") for word in text.split(" ")]
    inputs = everything(data, "test")[0][:, : data.length - data.delay, :51].argmax(2).flatten().tolist()
    assert inputs == [known.get(word, 50) for word in test[: len(inputs)]]
    assert 0.2 < inputs.count(50) / len(inputs) < 0.9


def test_restoring_in_words():
    data = Punctuation(delay=0)
    x, y = everything(data, "test")
    shown, outputs = data.steps(x[0], y[0])
    assert [strip(word)[0] for word in outputs] == shown
    plain, right, said = data.tell(x[0], y[0], torch.zeros_like(y[0]))
    assert said == plain and right != plain and [strip(word)[0] for word in right.split(" ")] == plain.split(" ")
    assert right.split(" ")[:3] == sentences("test")[0].split(" ")[:3]


def test_habits_beat_nothing():
    found = Punctuation().baselines()["test/accuracy"]
    assert 0.6 < found["nothing restored"] < found["each word as usual"] < 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": -1}, "delay is -1"),
        ({"length": 3, "delay": 3}, "leaves no word besides the delay of 3"),
        ({"frequent": 0}, "frequent is 0"),
    ],
)
def test_pieces_that_are_too_short(options, words):
    with pytest.raises(UserError, match=words):
        Punctuation(**options)
