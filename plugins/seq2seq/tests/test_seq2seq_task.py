"""Loss and scores against what they are defined by, frozen encoders, translating from a checkpoint alone."""

import pytest
import sacrebleu
import torch
import torch.nn.functional as F
import yaml
from dlmkit_seq2seq.figures import attention_figure, unaligned_figure
from dlmkit_seq2seq.scores import Bleu
from dlmkit_seq2seq.task import EncoderDecoder, Seq2Seq
from dlmkit_seq2seq.vocabulary import PAD, encode, groups, train_tokenizer, words

from dlmkit.cli import main

TEXTS = ["Ein Hund läuft.", "Zwei Männer spielen im Park.", "Eine Frau liest ein langes Buch", "Rot!"]


def batch(pad=0):
    source = [[3, 4, 5, 6], [7, 8], [4, 6, 9]]
    target = [[3, 4, 2], [5, 2], [6, 3, 7, 8, 2]]
    rows = lambda lists: torch.tensor([[*one, *[0] * (max(map(len, lists)) + pad - len(one))] for one in lists])  # noqa: E731
    return {
        "source": rows(source),
        "source_length": torch.tensor([len(one) for one in source]),
        "input": rows([[1, *one[:-1]] for one in target]),
        "target": rows(target),
    }


def tasks():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "embedding_size": 6, "dropout": 0.0}
    return [kind(10, 9, **sizes).double() for kind in (Seq2Seq, EncoderDecoder)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_padded_batch_has_each_sentences_loss(which):
    task = tasks()[which].eval()
    whole, metrics = task.loss(batch())
    torch.testing.assert_close(task.loss(batch(pad=7))[0], whole, atol=1e-12, rtol=0)
    total, right, count = 0.0, 0, 0
    for row in range(3):
        one = {name: tensor[row : row + 1] for name, tensor in batch().items()}
        length = int((one["target"] != PAD).sum())
        source = one["source"][:, : int(one["source_length"])]
        logits = task.net.scores(task.net(source, one["source_length"], one["input"][:, :length])[0])[0]
        total = total + F.cross_entropy(logits, one["target"][0, :length], reduction="sum")
        right += int((logits.argmax(1) == one["target"][0, :length]).sum())
        count += length
    torch.testing.assert_close(whole, total / count, atol=1e-12, rtol=0)
    assert task.count(batch()) == count == 10
    assert float(metrics["token_accuracy"]) == pytest.approx(right / count)


@pytest.mark.parametrize("which", [0, 1])
def test_the_way_back_is_from_the_last_word_to_every_word_of_the_source(which):
    task = tasks()[which].eval()
    task.net.encoder.requires_grad_(False)  # as another run's is
    given = batch() | {"source": torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [4, 6, 9, 5]])}
    given["source_length"] = torch.tensor([4, 2, 4])
    loss, followed = task.way_back(given)
    expected = 0.0
    for row, asked in ((0, 3), (2, 5)):  # the longest sources
        inputs = [given[name][row : row + 1] for name in ("source", "source_length", "input")]
        logits = task.net.scores(task.net(*inputs)[0])[0, asked - 1]
        expected = expected - logits.log_softmax(0)[given["target"][row, asked - 1]]
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(loss, followed)
    assert gradient.shape == (2, 4, 6)
    assert (gradient.abs().sum(2) > 0).all()


def test_labels_are_smoothed_in_training_only():
    task = tasks()[0]
    task.label_smoothing = 0.3
    smoothed, plain = task.train().loss(batch()), task.eval().loss(batch())[0]
    asked = batch()["target"] != PAD
    logits = task.net.scores(task.net(*(batch()[n] for n in ("source", "source_length", "input")))[0])[asked]
    expected = 0.7 * plain + 0.3 * -logits.log_softmax(1).mean(1).mean()
    torch.testing.assert_close(smoothed, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_of_parts_is_the_corpus_bleu(lowercase):
    said = ["a dog runs in the Park .", "two men are playing", "the ball", "A woman reads a long book today."]
    right = ["A dog runs in the park.", "Two men are playing here", "The ball is red", "A woman reads a long book."]
    bleu = Bleu(lowercase)
    for row in range(4):
        bleu.update(said[row : row + 1], right[row : row + 1])
    expected = sacrebleu.corpus_bleu(said, [right], lowercase=lowercase).score
    assert float(bleu.compute()) == pytest.approx(expected, abs=1e-4)
    assert f"case:{'lc' if lowercase else 'mixed'}" in bleu.signature


def test_attention_between_words_is_that_between_their_pieces():
    tokenizer = train_tokenizer(TEXTS * 3, 290, False)
    source, target = (encode(tokenizer, [text])[0].tolist() for text in ("Zwei Hunde lesen.", "Ein Buch"))
    attention = torch.rand(len(target), len(source)).softmax(1)
    grid, read, written = words(attention, (tokenizer, source), (tokenizer, target))
    assert read == ["Zwei", "Hunde", "lesen", "."] and written == ["Ein", "Buch"]
    assert grid.shape == (2, 4)
    torch.testing.assert_close(grid.sum(1), torch.ones(2))
    long = encode(tokenizer, ["Zweiundzwanzigtausendhundertzwölf"])[0].tolist()
    parts = groups(tokenizer, long)
    assert len(parts) > 1 and "".join(word for word, _ in parts) == "Zweiundzwanzigtausendhundertzwölf"
    assert [place for _, places in parts for place in places] == list(range(len(long)))


def test_pictures_are_of_the_size_of_what_they_show():
    figure = attention_figure(torch.eye(3), ["ein", "$Hund$", "läuft"], ["a", "dog", "runs"], "x")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["ein", "$Hund$", "läuft"]
    shape = unaligned_figure(["ein", "Hund"], ["a", "dog", "END"], "many to many, unaligned")
    assert [t.get_text() for t in shape.axes[0].texts if t.get_text()] == ["ein", "Hund", "a", "dog", "END"]


def test_pictures_of_what_an_untrained_net_writes_can_be_drawn(tmp_path):
    strange = ["x" * 300, "\x00\n", "犬🙂", "�", "", "ok"]
    for size in (1, 6):
        figure = attention_figure(torch.eye(size), strange[:size], strange[:size], "x")
        figure.savefig(tmp_path / "a.png")  # a warning would be an error here
        unaligned_figure(strange[:size], [*strange[:size], "END"], "x").savefig(tmp_path / "b.png")
        assert (tmp_path / "a.png").stat().st_size > 1000 and (tmp_path / "b.png").stat().st_size > 1000


# ------------------------------------------------------------------------------------------------------ whole commands

SMALL = ["--model.hidden_size=12", "--model.embedding_size=8", "--data.batch_size=8", "--trainer.val_check_interval=4"]
SMALL += ["--data.train_size=80", "--data.val_size=8", "--data.test_size=8", "--trainer.max_steps=4"]
SMALL += ["--data.source_pieces=300", "--data.target_pieces=300"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seq2seq")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLMKIT_CACHE", str(folder / "cache"))
        assert main(["run", "seq2seq", "--runs", str(folder), "--name", "one", *SMALL]) == 0
        yield folder / "one"


def answer(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    return code, out.out.strip(), out.err.strip()


def test_the_run_translates_without_its_data(trained, capsys, monkeypatch):
    from dlmkit_seq2seq.dates import DatesAndNumbers

    monkeypatch.setattr(DatesAndNumbers, "__init__", None)
    assert answer(capsys, "sample", trained, "--prompt", "Mo., 5. Jan. 2004", "--beam=2", "-n", 2)[0] == 0
    code, out, _ = answer(capsys, "sample", trained)
    assert code == 0 and out.count(" → ") == 4
    code, out, _ = answer(
        capsys, "sample", trained, "--prompt", "zwei", "--picture=true", "--out", trained / "pictures"
    )
    assert code == 0 and out.endswith(".png")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prompt", " "], "the prompt is empty"),
        (["--prompt", "zwei 🙂"], "the training text has no '🙂'"),
        (["--prompt", "zwei " * 10_000], "the prompt has 50,000 characters, which are"),
        (["--prompt", "zwei", "--beam=2", "-n", 3], "beam is 2"),
    ],
)
def test_a_prompt_that_cannot_be_translated(trained, capsys, words, told):
    code, _, error = answer(capsys, "sample", trained, *words)
    assert code == 2 and told in error and error.count("\n") == 0


def state(run):
    from dlmkit.engine import read_checkpoint

    return read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]


def test_another_decoder_learns_on_the_frozen_encoder(trained, capsys):
    words = ["--data.target=fr", f"--model.encoder_from={trained}", "--runs", trained.parent, "--name", "two"]
    assert answer(capsys, "run", "seq2seq", *SMALL, *words)[0] == 0
    before, after = state(trained), state(trained.parent / "two")
    names = [name for name in before if name.startswith("net.encoder.")]
    assert names and all(torch.equal(before[name], after[name]) for name in names)
    assert not torch.equal(before["net.decoder.state_gates.weight"], after["net.decoder.state_gates.weight"])
    config = yaml.safe_load((trained.parent / "two" / "config.yaml").read_text())
    assert config["model"]["init_args"]["encoder_from"] == str(trained)
    hidden = trained.rename(trained.parent / "gone")  # the run stands on its own feet
    try:
        assert answer(capsys, "test", trained.parent / "two")[0] == 0
        assert answer(capsys, "run", "--resume", trained.parent / "two", "--trainer.max_steps=6")[0] == 0
        code, _, error = answer(capsys, "run", "seq2seq", *SMALL, *words[:4], "--name", "three")
        assert code == 2 and "there is no such run" in error and not (trained.parent / "three").exists()
    finally:
        hidden.rename(trained)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model.hidden_size=10"], "is of another size: forwards.0.weight_ih_l0 is 36 × 8, here 30 × 8"),
        (["--model.encoder_layers=2"], "is of another size"),
        (["--data.source_pieces=310"], "another source vocabulary"),
    ],
)
def test_an_encoder_that_does_not_fit(trained, capsys, words, told):
    given = [*SMALL, f"--model.encoder_from={trained}", *words, "--runs", trained.parent, "--name", "bad"]
    code, _, error = answer(capsys, "run", "seq2seq", *given)
    assert code == 2 and told in error and error.count("\n") == 0
    assert not (trained.parent / "bad").exists()


def test_a_checkpoint_of_other_tokens_is_refused(trained, capsys):
    code, _, error = answer(capsys, "test", trained, "--data.train_size=70")
    assert code == 2 and "tokens" in error


# ------------------------------------------------------------------------------------------------ what takes its time


@pytest.mark.slow
def test_the_default_recipe_translates_what_it_has_not_seen(tmp_path, capsys):
    import json

    assert answer(capsys, "run", "seq2seq", "--runs", tmp_path, "--name", "whole")[0] == 0
    metrics = json.loads((tmp_path / "whole" / "summary.json").read_text())["metrics"]
    assert metrics["test/exact_match"] >= 0.99


@pytest.mark.slow
def test_the_references_of_multi30k_come_back_from_their_tokens(monkeypatch, tmp_path):
    """So the score on decoded references is that on the files."""
    import os
    from pathlib import Path

    from dlmkit_seq2seq.parallel import ParallelText
    from dlmkit_seq2seq.vocabulary import decode

    if "DLMKIT_DATA" not in os.environ:
        pytest.skip("DLMKIT_DATA does not name the folder with the data sets")
    monkeypatch.setenv("DLMKIT_CACHE", str(tmp_path))
    folder = Path(os.environ["DLMKIT_DATA"]) / "multi30k"
    parts = [[str(folder / f"{n}.{s}.gz") for s in ("de", "en")] for n in ("train", "val", "test_2016_flickr")]
    data = ParallelText(parts[0], ["de", "en"], *parts[1:], source_pieces=4000, target_pieces=4000)
    texts, side = data.texts()["test"], data._sides["test"][1]
    assert [decode(data.target_tokenizer, side[row].tolist()) for row in range(1000)] == texts.target


@pytest.mark.parametrize(
    "name", ["seq2seq", "encoder-decoder", "seq2seq-multi30k-de-en", "seq2seq-multi30k-de-fr-frozen"]
)
def test_gradients_are_clipped_in_every_recipe(name):
    from dlmkit import recipe as recipes

    assert 0 < recipes.read(name, []).config["trainer"]["gradient_clip_val"] <= 5
