"""The encoder, the attention and the decoders, against scalar loops and against torch."""

import math

import pytest
import torch
from dlmkit_seq2seq.model import AdditiveAttention, AttentionTranslator, Encoder
from dlmkit_seq2seq.plain import PlainTranslator
from dlmkit_seq2seq.search import beam_search
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LENGTHS = [5, 2, 4]


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def sources():
    source = torch.randint(3, 20, (3, 5))
    for row, length in enumerate(LENGTHS):
        source[row, length:] = 0
    return source, torch.tensor(LENGTHS)


def translators():
    return [AttentionTranslator(20, 17, 6, 8, 7, 2), PlainTranslator(20, 17, 6, 8, 2)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(weights, vector):
    return sum(float(w) * x for w, x in zip(weights, vector, strict=True))


@torch.no_grad()
def test_attention_is_the_papers_equation():
    attention = AdditiveAttention(4, 6, 5)
    state, annotations = torch.randn(2, 4), torch.randn(2, 3, 6)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = attention(attention.query(state), attention.key(annotations), mask)
    for b in range(2):
        energies = []
        for j in range(int(mask[b].sum())):
            inner = [
                dot(attention.query.weight[a], state[b].tolist())
                + dot(attention.key.weight[a], annotations[b, j].tolist())
                + float(attention.key.bias[a])
                for a in range(5)
            ]
            energies.append(dot(attention.energy.weight[0], [math.tanh(x) for x in inner]))
        total = sum(math.exp(e) for e in energies)
        expected = [math.exp(e) / total for e in energies]
        assert found[b, : len(expected)].tolist() == pytest.approx(expected, abs=1e-12)
    assert found[1, 2] == 0


def slow_decoder(net, source, tokens):
    """One sentence by the paper's equations, scalar by scalar; the logits of each step and the attention."""
    decoder, heads = net.decoder, net.decoder.attention
    annotations, last = net.encoder(source[None], torch.tensor([len(source)]))
    annotations = [row.tolist() for row in annotations[0]]
    state = [
        math.tanh(dot(w, last[0].tolist()) + float(b)) for w, b in zip(net.bridge.weight, net.bridge.bias, strict=True)
    ]
    width, logits, looked = len(state), [], []
    for token in tokens.tolist():
        word = decoder.embedding.weight[token].tolist()
        energies = []
        for h in annotations:
            inner = [
                dot(w, state) + dot(u, h) + float(b)
                for w, u, b in zip(heads.query.weight, heads.key.weight, heads.key.bias, strict=True)
            ]
            energies.append(math.exp(dot(heads.energy.weight[0], [math.tanh(x) for x in inner])))
        alpha = [e / sum(energies) for e in energies]
        context = [sum(a * h[k] for a, h in zip(alpha, annotations, strict=True)) for k in range(2 * width)]
        inputs = [
            dot(w, word) + float(b) + dot(c, context)
            for w, b, c in zip(
                decoder.word_gates.weight, decoder.word_gates.bias, decoder.context_gates.weight, strict=True
            )
        ]
        own = [
            dot(w, state) + float(b) for w, b in zip(decoder.state_gates.weight, decoder.state_gates.bias, strict=True)
        ]
        new = []
        for k in range(width):
            r, z = sigmoid(inputs[k] + own[k]), sigmoid(inputs[width + k] + own[width + k])
            candidate = math.tanh(inputs[2 * width + k] + r * own[2 * width + k])
            new.append((1 - z) * candidate + z * state[k])
        state = new
        seen = [*state, *word, *context]
        readout = [
            math.tanh(dot(w, seen) + float(b))
            for w, b in zip(decoder.readout.weight, decoder.readout.bias, strict=True)
        ]
        logits.append([dot(w, readout) + float(b) for w, b in zip(decoder.embedding.weight, decoder.bias, strict=True)])
        looked.append(alpha)
    return logits, looked


@torch.no_grad()
def test_the_decoder_is_the_papers_equations():
    net = AttentionTranslator(20, 9, 3, 4, 5)
    source, tokens = torch.randint(3, 20, (3,)), torch.tensor([1, 5, 3, 8])
    logits, looked = slow_decoder(net, source, tokens)
    readout, attention = net(source[None], torch.tensor([3]), tokens[None])
    torch.testing.assert_close(net.scores(readout)[0], torch.tensor(logits), atol=1e-12, rtol=0)
    torch.testing.assert_close(attention[0], torch.tensor(looked), atol=1e-12, rtol=0)


@torch.no_grad()
def test_the_encoder_is_torchs_bidirectional_gru():
    encoder = Encoder(20, 6, 8, num_layers=2)
    peer = nn.GRU(6, 8, num_layers=2, batch_first=True, bidirectional=True)
    for layer, (ahead, back) in enumerate(zip(encoder.forwards, encoder.backwards, strict=True)):
        for name, weight in ahead.named_parameters():
            getattr(peer, name.replace("l0", f"l{layer}")).copy_(weight)
        for name, weight in back.named_parameters():
            getattr(peer, name.replace("l0", f"l{layer}_reverse")).copy_(weight)
    source, lengths = sources()
    packed = pack_padded_sequence(encoder.embedding(source), lengths, batch_first=True, enforce_sorted=False)
    expected, last = peer(packed)
    expected, _ = pad_packed_sequence(expected, batch_first=True)
    annotations, ends = encoder(source, lengths)
    inside = (torch.arange(5) < lengths[:, None])[..., None]
    torch.testing.assert_close(annotations * inside, expected * inside, atol=1e-12, rtol=0)
    torch.testing.assert_close(ends, torch.cat((last[2], last[3]), dim=1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("net", range(2), ids=["attention", "plain"])
def test_padding_changes_nothing(net):
    net = translators()[net]
    source, lengths = sources()
    tokens = torch.randint(1, 17, (3, 6))
    readout, attention = net(source, lengths, tokens)
    garbage = torch.where(source == 0, 7, source)
    torch.testing.assert_close(net(garbage, lengths, tokens)[0], readout, atol=0, rtol=0)
    for row, length in enumerate(LENGTHS):
        alone, looked = net(source[row : row + 1, :length], lengths[row : row + 1], tokens[row : row + 1, :4])
        torch.testing.assert_close(alone[0], readout[row, :4], atol=1e-12, rtol=0)
        if attention is not None:
            torch.testing.assert_close(looked[0], attention[row, :4, :length], atol=1e-12, rtol=0)
            assert (attention[row, :, length:] == 0).all()


@pytest.mark.parametrize("net", range(2), ids=["attention", "plain"])
def test_steps_are_what_teacher_forcing_computes(net):
    net = translators()[net]
    source, lengths = sources()
    tokens = torch.randint(1, 17, (3, 6))
    expected = net.scores(net(source, lengths, tokens)[0])
    memory = net.encode(source, lengths)
    state = memory.start
    for place in range(6):
        logits, state = net.step(tokens[:, place], memory, state)
        torch.testing.assert_close(logits, expected[:, place], atol=1e-12, rtol=0)


def test_gradients_reach_what_is_hoisted_out_of_the_loop():
    net = AttentionTranslator(7, 6, 2, 3, 2)
    source, lengths, tokens = torch.tensor([[3, 4, 5], [6, 3, 0]]), torch.tensor([3, 2]), torch.tensor([[1, 3], [1, 4]])
    names = [name for name, _ in net.named_parameters()]

    def score(*weights):
        readout, _ = torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (source, lengths, tokens))
        return readout.sin().sum()

    assert torch.autograd.gradcheck(score, [p.detach().clone().requires_grad_() for p in net.parameters()])


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="hidden_size=0"):
        Encoder(5, 4, 0)


@torch.no_grad()
def test_the_encoders_half_of_the_attention_is_computed_once_for_each_sentence():
    net, calls = AttentionTranslator(20, 17, 6, 8, 7), []
    net.decoder.attention.key.register_forward_hook(lambda _module, given, _output: calls.append(given[0].shape))
    source, lengths = sources()
    net(source, lengths, torch.randint(3, 17, (3, 9)))
    assert calls == [(3, 5, 16)]
    calls.clear()
    beam_search(net, source, lengths, 4, 1.0, torch.tensor([12, 12, 12]))
    assert calls == [(3, 5, 16)]
