"""Sub-word vocabularies with the four tokens that a translator needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

__all__ = [
    "BEGIN",
    "END",
    "PAD",
    "SPECIALS",
    "decode",
    "encode",
    "groups",
    "read_tokenizer",
    "seen_pieces",
    "train_tokenizer",
    "unseen",
    "words",
]

SPECIALS = ("<pad>", "<s>", "</s>")
PAD, BEGIN, END = range(3)


def train_tokenizer(texts: Iterable[str], pieces: int, lowercase: bool) -> Tokenizer:
    """A byte-level byte-pair encoding of some sentences.

    Words, punctuation and single digits are told apart first; then the most frequent neighbours are joined until
    there are enough pieces. Text is put into Unicode's composed form (NFC). Every text can be encoded, and decoding
    gives it back.

    References:
        | Neural Machine Translation of Rare Words with Subword Units (Sennrich, Haddow & Birch, 2016), algorithm 1

    Args:
        texts: Training sentences.
        pieces: Size of the vocabulary with its three special tokens and 256 bytes; short texts may give fewer.
        lowercase: Whether capitals become small letters.
    """
    tokenizer = Tokenizer(models.BPE())
    folding = [normalizers.Lowercase()] if lowercase else []
    # A space before the first word makes it the same piece as elsewhere.
    steps = [normalizers.NFC(), *folding, normalizers.Strip(), normalizers.Prepend(" ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=[AddedToken(word, normalized=False, special=True) for word in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return read_tokenizer(tokenizer.to_str())


def read_tokenizer(saved: str) -> Tokenizer:
    """A tokenizer from its saved form; a sentence that holds ``</s>`` holds four characters, and no end."""
    tokenizer = Tokenizer.from_str(saved)
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[npt.NDArray[np.int32]]:
    """The ids of each text, without special tokens."""
    found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.asarray(one.ids, dtype=np.int32) for one in found]


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of some tokens, without special ones and the space before the first word."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text.removeprefix(" ")


def seen_pieces(tokenizer: Tokenizer, index: int, seen: Tensor) -> list[int]:
    """The fewest tokens that training had and that make up one which it had not; that one itself where there are none.

    A piece that only ever stood in longer ones is in the vocabulary, and in no training sentence.

    Args:
        tokenizer: Of the language.
        index: A token.
        seen: Which tokens training had (V,), bool.
    """
    piece = "" if seen[index] else tokenizer.id_to_token(index) or ""
    fewest: dict[int, list[int]] = {0: []}  # of the first characters of the piece, as many as the key says
    for end in range(1, len(piece) + 1):
        ways = [
            [*before, last]
            for start, before in fewest.items()
            if (last := tokenizer.token_to_id(piece[start:end])) is not None and last > END and seen[last]
        ]
        if ways:
            fewest[end] = min(ways, key=len)
    return fewest.get(len(piece)) or [index]


def unseen(tokenizer: Tokenizer, text: str, seen: Tensor) -> list[str]:
    """The characters or words of a text that are not made of tokens that were seen, each once.

    Args:
        tokenizer: Of the text's language.
        text: A sentence.
        seen: Which tokens training had (V,), bool.
    """
    found = tokenizer.encode(text, add_special_tokens=False)
    normal = tokenizer.normalizer.normalize_str(text)
    strange: dict[str, None] = {}
    for index, (start, end) in zip(found.ids, found.offsets, strict=True):
        if not seen[seen_pieces(tokenizer, index, seen)[0]]:
            strange[repr(text[start:end].strip() or normal.strip())] = None
    return list(strange)


def words(
    attention: Tensor, source: tuple[Tokenizer, Sequence[int]], target: tuple[Tokenizer, Sequence[int]]
) -> tuple[Tensor, list[str], list[str]]:
    """Attention between words in place of attention between pieces of words.

    What a word is given is the sum over its pieces, and what it gives the mean.

    Args:
        attention: Weights (T, S).
        source: The tokenizer and the S tokens of the source.
        target: The tokenizer and the T tokens of the target.

    Returns:
        Weights (words of the target, words of the source), and the words of both.
    """
    read, written = groups(*source), groups(*target)
    rows = torch.stack([attention[places].mean(dim=0) for _, places in written])
    grid = torch.stack([rows[:, places].sum(dim=1) for _, places in read], dim=1)
    return grid, [word for word, _ in read], [word for word, _ in written]


def groups(tokenizer: Tokenizer, ids: Sequence[int], longest: int = 14) -> list[tuple[str, list[int]]]:
    """Each word and the places of its pieces; long words stay in pieces, each of which is a word here.

    Args:
        tokenizer: Of the language.
        ids: Tokens.
        longest: Characters that a word of several pieces may have.
    """
    found: list[list[int]] = []
    for place, index in enumerate(ids):
        piece = tokenizer.id_to_token(index) or ""
        starts = piece.startswith("Ġ") or (len(piece) == 1 and not piece.isalnum() and ord(piece) < 128)
        if not found or starts:
            found.append([])
        found[-1].append(place)
    split = [part for group in found for part in _parts(tokenizer, ids, group, longest)]
    return [(decode(tokenizer, [ids[place] for place in group]).strip(), group) for group in split]


def _parts(tokenizer: Tokenizer, ids: Sequence[int], group: list[int], longest: int) -> list[list[int]]:
    """A word as it is, or its pieces, of which those that are parts of one character stay together."""
    if len(decode(tokenizer, [ids[place] for place in group])) <= longest:
        return [group]
    parts: list[list[int]] = []
    for place in group:
        whole = parts and "\N{REPLACEMENT CHARACTER}" not in decode(tokenizer, [ids[at] for at in parts[-1]])
        if whole or not parts:
            parts.append([])
        parts[-1].append(place)
    return parts
