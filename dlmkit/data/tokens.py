"""Tokenizers, and a text as one tensor of their tokens."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from dlmkit.data.cache import locked

__all__ = [
    "UNKNOWN",
    "character_tokenizer",
    "characters_per_token",
    "encode_characters",
    "encode_subwords",
    "subword_tokenizer",
]

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""What stands for a character that the training text does not have; its id is 0."""


def character_tokenizer(text: str) -> Tokenizer:
    """A tokenizer of single characters.

    Args:
        text: The text whose characters are the vocabulary, in the order of their code points after `UNKNOWN`.

    Returns:
        A tokenizer that decodes to the very text it encoded, as long as it knows the characters.
    """
    vocabulary = [UNKNOWN, *sorted(set(text) - {UNKNOWN})]
    model = models.WordLevel({piece: index for index, piece in enumerate(vocabulary)}, unk_token=UNKNOWN)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def encode_characters(tokenizer: Tokenizer, text: str) -> Tensor:
    """What ``tokenizer.encode(text).ids`` gives, by one look-up of all code points: a hundred times as fast.

    Args:
        tokenizer: From `character_tokenizer`.
        text: A text of N characters.

    Returns:
        Ids (N,) of the smallest integer type that holds them.
    """
    vocabulary = tokenizer.get_vocab()
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    size = 1 + max(int(points.max(initial=0)), *map(ord, vocabulary))
    table = np.full(size, vocabulary[UNKNOWN], dtype=_smallest(len(vocabulary)))
    table[[ord(piece) for piece in vocabulary]] = list(vocabulary.values())
    return torch.from_numpy(table[points])


def subword_tokenizer(text: str, pieces: int) -> Tokenizer:
    """A byte-level byte-pair encoding of a text, trained once and then taken from the cache.

    See `dlmkit.data.cache`; a file's name there is a hash of the text, the settings and the library's version.

    References:
        | Neural Machine Translation of Rare Words with Subword Units (Sennrich, Haddow, Birch, 2016), algorithm 1
        | Language Models are Unsupervised Multitask Learners (Radford et al., 2019), section 2.2: bytes

    Args:
        text: The training text.
        pieces: Size of the vocabulary, at least 256; a short text may give fewer.

    Returns:
        A tokenizer that decodes to the very text it encoded, whatever the text.

    Raises:
        UserError: If the cache cannot be written.
    """
    settings = json.dumps({"kind": "byte-level BPE", "pieces": pieces, "tokenizers": tokenizers.__version__})
    key = hashlib.sha256(f"{settings}\n{text}".encode()).hexdigest()
    with locked(f"bpe-{key}") as stem:
        file = stem.with_suffix(".json")
        if not file.exists():
            unfinished = stem.with_suffix(".tmp")
            unfinished.write_text(_train_subwords(text, pieces).to_str(), encoding="utf-8")
            unfinished.replace(file)
        return Tokenizer.from_file(str(file))


def encode_subwords(tokenizer: Tokenizer, text: str) -> Tensor:
    """What ``tokenizer.encode(text).ids`` gives, in pieces that are encoded in parallel.

    Args:
        tokenizer: From `subword_tokenizer`.
        text: A text.

    Returns:
        Ids (N,) of the smallest integer type that holds them.
    """
    encoded = tokenizer.encode_batch_fast(_sections(text), add_special_tokens=False)
    kind = _smallest(tokenizer.get_vocab_size())
    return torch.from_numpy(np.concatenate([np.asarray(part.ids, dtype=kind) for part in encoded]))


def characters_per_token(tokenizer: Tokenizer) -> Tensor:
    """How many characters begin in each piece of a byte-level vocabulary.

    A piece may hold a part of a character only. Every character has exactly one first byte, so that the sum over a
    text's tokens is its number of characters.

    Args:
        tokenizer: From `subword_tokenizer`.

    Returns:
        Counts (V,), int64.
    """
    later = {symbol for byte, symbol in enumerate(_byte_symbols()) if byte & 0b1100_0000 == 0b1000_0000}
    counts = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.int64)
    for piece, index in tokenizer.get_vocab().items():
        counts[index] = sum(symbol not in later for symbol in piece)
    return counts


def _train_subwords(text: str, pieces: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_sections(text), trainer)
    return tokenizer


def _sections(text: str, size: int = 1 << 16) -> list[str]:
    """Cut a text where the byte-level pre-tokenizer cuts too: at a line break between two characters that are none."""
    seams = re.compile(r"(?<=\S\n)(?=\S)")
    cuts = [0]
    while cuts[-1] + size < len(text) and (seam := seams.search(text, cuts[-1] + size)):
        cuts.append(seam.start())
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _byte_symbols() -> list[str]:
    """The printable character by which a byte-level vocabulary writes each of the 256 bytes.

    Printable bytes of Latin-1 stand for themselves, the others for the code points from 256 on, in their order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _smallest(size: int) -> type[npt.NDArray[np.generic]] | type[np.generic]:
    """The smallest integer type, of those that torch and numpy share, for ids below a size."""
    if size <= 1 << 8:
        return np.uint8
    return np.int16 if size <= 1 << 15 else np.int32
