"""Beam search against every possible sequence, and against taking the likeliest word."""

import itertools

import pytest
import torch
from dlmkit_seq2seq.model import AttentionTranslator
from dlmkit_seq2seq.plain import PlainTranslator
from dlmkit_seq2seq.search import beam_search

BEGIN, END = 1, 2


def make(kind, vocabulary=5, sharpness=4.0):
    torch.manual_seed(3)
    net = AttentionTranslator(9, vocabulary, 4, 6, 5) if kind == "attention" else PlainTranslator(9, vocabulary, 4, 6)
    net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(sharpness)
    source = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [5, 3, 4, 0]])
    return net, source, torch.tensor([4, 2, 3])


def log_probability(net, source, tokens):
    """Of a sequence with its end; padding is never written."""
    inputs = torch.tensor([[BEGIN, *tokens[:-1]]])
    logits = net.scores(net(source[None], torch.tensor([len(source)]), inputs)[0])[0]
    return float(logits.log_softmax(1)[range(len(tokens)), list(tokens)].sum())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["attention", "plain"])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(kind, penalty):
    net, source, lengths = make(kind)
    longest = 4
    words = [1, 3, 4]  # all but padding and the end
    sequences = [(*s, END) for n in range(longest) for s in itertools.product(words, repeat=n)]
    found = beam_search(net, source, lengths, beam=200, penalty=penalty, limit=longest)
    for row, length in enumerate(lengths.tolist()):
        scored = {s: log_probability(net, source[row, :length], s) / len(s) ** penalty for s in sequences}
        ranking = sorted(scored, key=lambda s: -scored[s])
        for place in range(5):
            tokens = found.tokens[row, place]
            assert tuple(tokens[tokens > 0].tolist()) == ranking[place]
            assert float(found.scores[row, place]) == pytest.approx(scored[ranking[place]], abs=1e-10)
        assert int((found.scores[row] > -torch.inf).sum()) == len(sequences)  # each was found, once


@torch.no_grad()
@pytest.mark.parametrize("kind", ["attention", "plain"])
def test_a_beam_of_one_takes_the_likeliest_word(kind):
    for seed in range(5):
        net, source, lengths = make(kind, vocabulary=12, sharpness=2.0 + seed)
        found = beam_search(net, source, lengths, beam=1, limit=8)
        for row, length in enumerate(lengths.tolist()):
            memory = net.encode(source[row : row + 1, :length], lengths[row : row + 1])
            state, token, written = memory.start, torch.tensor([BEGIN]), []
            while len(written) < 7:
                logits, state = net.step(token, memory, state)
                logits[:, 0] = -torch.inf
                token = logits.argmax(1)
                if int(token) == END:
                    break
                written.append(int(token))
            assert found.best()[row] == written


@torch.no_grad()
def test_a_sentence_is_translated_alone_as_in_a_batch():
    net, source, lengths = make("attention", vocabulary=12)
    limit = torch.tensor([9, 5, 7])
    together = beam_search(net, source, lengths, beam=3, limit=limit)
    for row, length in enumerate(lengths.tolist()):
        alone = beam_search(net, source[row : row + 1, :length], lengths[row : row + 1], 3, limit=int(limit[row]))
        assert alone.best()[0] == together.best()[row]
        assert len(together.best()[row]) < int(limit[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row])


@torch.no_grad()
def test_a_wider_beam_is_no_worse_here_and_padding_is_never_written():
    net, source, lengths = make("attention", vocabulary=12)
    with torch.no_grad():
        net.decoder.bias[0] = 50.0
    found = beam_search(net, source, lengths, beam=4, limit=6)
    for row in found.tokens.flatten(0, 1):
        written = int((row > 0).sum())
        assert written and row[written - 1] == END and not row[written:].any()


@torch.no_grad()
def test_a_beam_that_is_wider_than_the_vocabulary_works():
    net, source, lengths = make("plain", vocabulary=4)
    found = beam_search(net, source, lengths, beam=30, limit=1)
    assert found.best() == [[], [], []]  # the limit leaves room for the end alone
