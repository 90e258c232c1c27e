"""The sounds: windows in which every sample has its context, each fault told, and the simple methods."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from dlmkit_wavenet.baselines import LinearPrediction, unigram
from dlmkit_wavenet.codec import SILENCE, mu_law_bounds, mu_law_decode, mu_law_encode
from dlmkit_wavenet.data import Audio
from dlmkit_wavenet.sounds import Sounds
from dlmkit_wavenet.sources import resample
from dlmkit_wavenet.tones import Tones, frequency, pluck

from dlmkit import UserError

RATE = 8000
SPOKEN = {"pattern": "{class}_{speaker}_{index}", "test_indices": [0], "val_indices": [1]}
SMALL = {"context": 100, "length": 150, "batch_size": 4, "tail": 0.01}


def tone(size=1000, pitch=200.0, level=0.5):
    return (level * np.sin(2 * np.pi * pitch * np.arange(size) / RATE)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """Two digits, two speakers, five takes of each, of different lengths."""
    for digit in range(2):
        for speaker in ("ann", "bob"):
            for take in range(5):
                wave = tone(700 + 37 * take + 11 * digit, 150 + 100 * digit, 0.3 + 0.1 * (speaker == "bob"))
                soundfile.write(tmp_path / f"{digit}_{speaker}_{take}.wav", wave, RATE)
    return tmp_path


def spoken(folder, **options):
    return Audio(str(folder), **{**SPOKEN, **SMALL, **options})


def all_batches(data, split, epoch=0, world=1):
    for index in range(data.batches(split)):
        for rank in range(world):
            yield data.batch(split, epoch, index, rank, world)


# --------------------------------------------------------------------------------------------------------- the code


def test_the_code_is_mu_law():
    """Against the formula, sample by sample, and against rounding to the nearest of the 256 values after companding."""
    import math

    x = np.linspace(-1.2, 1.2, 997)
    for value, code in zip(x, mu_law_encode(x), strict=True):
        value = max(-1.0, min(1.0, value))
        companded = math.copysign(math.log(1 + 255 * abs(value)) / math.log(256), value)
        assert code == math.floor((companded + 1) / 2 * 255 + 0.5)
    assert (mu_law_encode(torch.from_numpy(x)).numpy() == mu_law_encode(x)).all()
    assert mu_law_encode(np.zeros(1))[0] == SILENCE


def test_decoding_then_encoding_changes_nothing():
    codes = np.arange(256)
    assert (mu_law_encode(mu_law_decode(codes)) == codes).all()
    assert (mu_law_encode(mu_law_decode(torch.from_numpy(codes))).numpy() == codes).all()
    np.testing.assert_allclose(mu_law_decode(torch.from_numpy(codes)).numpy(), mu_law_decode(codes), atol=1e-6)


def test_the_bounds_lie_between_the_classes():
    bounds = mu_law_bounds()
    assert (mu_law_encode(bounds - 1e-9) == np.arange(255)).all()
    assert (mu_law_encode(bounds + 1e-9) == np.arange(1, 256)).all()


# ------------------------------------------------------------------------------------------------------- the windows


def test_a_target_is_the_sample_after_its_input_and_has_its_context(folder):
    data = spoken(folder)
    for split in ("train", "val", "test"):
        for batch in all_batches(data, split):
            given, target = batch["input"], batch["target"]
            assert given.shape[1] == 100 + 150 - 1 and target.shape[1] == 150
            assert given.dtype == target.dtype == torch.int64
            following = given[:, -149:]
            scored = target[:, :-1] != -100
            assert (target[:, :-1] == following)[scored].all()


@pytest.mark.parametrize("split", ["val", "test"])
def test_each_sample_is_scored_once_and_no_silence_that_was_added(folder, split):
    data = spoken(folder)
    scored = torch.cat([batch["target"].flatten() for batch in all_batches(data, split)])
    scored = np.sort(scored[scored != -100].numpy())
    clips = np.sort(np.concatenate([clip.codes for clip in data.clips[split]]))
    assert (scored == clips).all()


def test_there_is_silence_before_a_clip(folder):
    data = spoken(folder)
    batch = data.batch("test", 0, 0, 0, 1)
    assert (batch["input"][0, :100] == SILENCE).all()
    assert (batch["input"][0, 100:].numpy() == data.clips["test"][0].codes[:149]).all()


def test_training_ends_a_clip_with_silence(folder):
    """Each clip has 80 samples of silence behind it, which are scored, and nothing behind them is."""
    data = spoken(folder, length=2000)
    batch = data.batch("train", 0, 0, 0, 1)
    for row, target in zip(batch["input"], batch["target"], strict=True):
        size = int((target != -100).sum())
        name = next(clip for clip in data.clips["train"] if len(clip.codes) == size - 80)
        assert (target[size - 80 : size] == SILENCE).all()
        assert len(row) == 2099 and name


def test_training_reaches_the_first_and_the_last_samples_as_often_as_the_others(folder):
    data = spoken(folder)
    sizes = [len(clip.codes) + 80 for clip in data.clips["train"]]
    hits = [np.zeros(size) for size in sizes]
    for epoch in range(300):
        for clip, start in data._windows("train", epoch):
            hits[clip][start : start + 150] += 1
    for count in hits:
        assert count.min() > 0.75 * np.median(count)


def test_batches_follow_from_their_place_alone(folder):
    one, other = spoken(folder), spoken(folder)
    _ = one.batch("train", 0, 1, 0, 1)
    a, b = one.batch("train", 3, 2, 0, 1), other.batch("train", 3, 2, 0, 1)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["input"], one.batch("train", 4, 2, 0, 1)["input"])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_processes_share_a_batch(folder, split):
    data = spoken(folder)
    for index in range(data.batches(split)):
        whole = data.batch(split, 0, index, 0, 1)
        parts = [data.batch(split, 0, index, rank, 2) for rank in range(2)]
        for name, values in whole.items():
            assert torch.equal(values, torch.cat([part[name] for part in parts]))


# ------------------------------------------------------------------------------------------- who says what, and splits


def test_names_tell_class_speaker_and_split(folder):
    data = spoken(folder)
    assert (data.classes, data.speakers, data.sample_rate, data.local_classes) == (2, 2, RATE, 0)
    assert data.class_names == ["0", "1"] and data.speaker_names == ["ann", "bob"]
    for split, take in (("test", "0"), ("val", "1")):
        assert [clip.name.split("_")[2] for clip in data.clips[split]] == [f"{take}.wav"] * 4
    assert len(data.clips["train"]) == 12
    for clip in data.clips["train"]:
        digit, speaker, _ = clip.name.split("_")
        assert (str(clip.condition), data.speaker_names[clip.speaker]) == (digit, speaker)
    batch = data.batch("test", 0, 0, 0, 1)
    assert batch["condition"].dtype == batch["speaker"].dtype == torch.int64


def test_classes_that_are_numbers_come_in_their_order(tmp_path):
    for name in ("10_x_0", "9_x_1", "yes_x_2"):
        soundfile.write(tmp_path / f"{name}.wav", tone(), RATE)
    assert Audio(str(tmp_path), pattern="{class}_{any}_{index}", **SMALL).class_names == ["9", "10", "yes"]


def test_a_position_is_the_part_of_the_word_that_follows(folder):
    """In brute force: part k of 5 of class c is 1 + 5 c + k, and silence is 0."""
    data = spoken(folder, positions=5)
    assert data.local_classes == 11 and len(data.local_names) == 11
    assert data.local_names[:2] == ["silence", "0 1/5"]
    batch = data.batch("test", 0, 0, 0, 1)
    clip, row = data.clips["test"][0], batch["local"][0]
    for t in range(len(row)):
        sample = t + 1 - 100  # the one that follows input t
        expected = 0 if sample < 0 else 1 + 5 * clip.condition + sample * 5 // len(clip.codes)
        assert row[t] == expected


def test_prompts_tell_of_whole_clips_of_all_classes(folder):
    data = spoken(folder, positions=5)
    known = data.prompts(6)
    assert known["condition"].tolist() == [0, 1, 0, 1, 0, 1]
    for local, size in zip(known["local"], known["length"], strict=True):
        assert (local[:size] > 0).all() and (local[size:] == 0).all()


def test_no_recording_is_in_two_splits(folder):
    data = spoken(folder, test_indices=[0, 1], val_indices=[1, 2])
    names = [clip.name for clips in data.clips.values() for clip in clips]
    assert len(names) == len(set(names)) == 20


def test_a_name_that_tells_no_class_is_a_fault(folder):
    from dlmkit_wavenet.sources import Recording

    data = spoken(folder)
    data._read[0].append(Recording("odd", tone(), {"index": "3", "speaker": "ann"}))
    with pytest.raises(UserError, match="odd: nothing tells this recording's class"):
        data.prepare_data()


def test_without_indices_fractions_of_the_recordings_are_held_out(folder):
    data = Audio(str(folder), val_fraction=0.1, test_fraction=0.2, **SMALL)
    names = [{clip.name for clip in data.clips[split]} for split in ("train", "val", "test")]
    assert [len(part) for part in names] == [14, 2, 4] and len(set.union(*names)) == 20
    assert names == [
        {
            c.name
            for c in Audio(str(folder / "*.wav"), **{**SMALL, "val_fraction": 0.1, "test_fraction": 0.2}).clips[split]
        }
        for split in ("train", "val", "test")
    ]


def test_one_long_recording_is_cut_along_the_time(tmp_path):
    wave = tone(10000) * np.linspace(0.5, 1, 10000, dtype=np.float32)
    soundfile.write(tmp_path / "long.flac", wave, RATE)
    data = Audio(str(tmp_path / "long.flac"), test_fraction=0.1, val_fraction=0.05, **SMALL)
    parts = [data.clips[split][0].codes for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [8500, 500, 1000]
    codes = mu_law_encode(soundfile.read(tmp_path / "long.flac")[0])
    assert (np.concatenate(parts) == codes).all()


def test_a_dataset_is_read_with_its_columns_and_its_splits(tmp_path, folder):
    """The very loading code of a hub dataset, on a folder of parquet files that holds one."""
    from datasets import Audio as AudioFeature
    from datasets import ClassLabel, Dataset, Features, Value

    sound = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": sound, "label": ClassLabel(names=["zero", "one"]), "speaker": Value("string")})
    home = tmp_path / "set"
    for split, takes in (("train", (1, 2, 3, 4)), ("test", (0,))):
        files = [folder / f"{d}_{s}_{i}.wav" for d in range(2) for s in ("ann", "bob") for i in takes]
        rows = {
            "audio": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [int(file.stem[0]) for file in files],
            "speaker": [file.stem.split("_")[1] for file in files],
        }
        (home / "data").mkdir(parents=True, exist_ok=True)
        table = Dataset.from_dict(rows, features=features).cast_column("audio", AudioFeature(decode=False))
        table.to_parquet(home / "data" / f"{split}-00000-of-00001.parquet")
    data = Audio(str(home), **SMALL)
    assert data.class_names == ["one", "zero"] and data.speaker_names == ["ann", "bob"]
    assert [len(data.clips[split]) for split in ("train", "val", "test")] == [15, 1, 4]
    clip = data.clips["test"][0]
    assert (clip.codes == mu_law_encode(soundfile.read(folder / "0_ann_0.wav", dtype="float32")[0])).all()
    named = Audio(str(home), **{**SMALL, **SPOKEN})  # the recipe's options for files; its own splits are kept
    assert [len(named.clips[split]) for split in ("train", "val", "test")] == [15, 1, 4]
    assert named.class_names == ["0", "1"]
    with pytest.raises(UserError, match="there is no column sound but audio, label, speaker"):
        Audio(str(home), audio_column="sound", **SMALL).prepare_data()


# -------------------------------------------------------------------------------------------------------- bad input


def write(folder, name, wave, rate=RATE):
    soundfile.write(folder / name, wave, rate, subtype="PCM_16")


BROKEN = {
    "unreadable": (lambda f: (f / "0_cid_7.wav").write_bytes(b"no sound"), "cannot be read as sound"),
    "empty": (lambda f: write(f, "0_cid_7.wav", np.zeros(0)), "has no samples"),
    "silent": (lambda f: write(f, "0_cid_7.wav", np.zeros(900)), "silent"),
    "constant": (lambda f: write(f, "0_cid_7.wav", np.full(900, 0.25)), "silent"),
    "clipped": (lambda f: write(f, "0_cid_7.wav", np.clip(tone(level=3.0), -1, 1)), "clipped: 7"),
    "stereo": (lambda f: write(f, "0_cid_7.wav", np.stack([tone(), tone()], 1)), "2 channels"),
    "rate": (lambda f: write(f, "0_cid_7.wav", tone(), 16000), "16,000 samples per second, the recipe 8,000"),
    "name": (lambda f: write(f, "0cid7.wav", tone()), "not of the form {class}_{speaker}_{index}"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_recording_among_many_is_named_in_one_line(folder, kind):
    spoil, what = BROKEN[kind]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        spoken(folder).prepare_data()
    (line,) = caught.value.lines()
    assert what in line and "cid" in line and "data.skip_broken=true" in line
    assert line.startswith(str(folder))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_recording_may_be_left_out_and_is_told(folder, kind):
    BROKEN[kind][0](folder)
    data = spoken(folder, skip_broken=True)
    assert sum(map(len, data.clips.values())) == 20
    assert "left out 1 (0" in data.describe() and "cid" in data.describe()


def test_several_broken_recordings_are_told_at_once_but_not_all(folder):
    for i in range(8):
        (folder / f"1_dan_{i}.wav").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        spoken(folder).prepare_data()
    lines = caught.value.lines()
    assert len(lines) == 6 and "and 3 more recordings" in lines[-1]


def test_when_all_are_broken_that_is_told_too(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 recordings can be used; the first: "):
        Audio(str(tmp_path), skip_broken=True, **SMALL).prepare_data()


def test_what_is_refused_may_be_asked_for(folder):
    write(folder, "0_cid_2.wav", tone(1600, 200), 16000)
    write(folder, "1_cid_2.wav", np.stack([tone(), 0.5 * tone()], 1))
    write(folder, "0_cid_3.wav", np.clip(tone(level=3.0), -1, 1))
    data = spoken(folder, resample=True, mixdown=True, allow_clipped=True)
    sizes = {clip.name: len(clip.codes) for clip in data.clips["train"]}
    assert sizes["0_cid_2.wav"] == 800
    mixed = next(clip for clip in data.clips["train"] if clip.name == "1_cid_2.wav")
    np.testing.assert_allclose(mu_law_decode(mixed.codes), 0.75 * tone(), atol=0.02)


def test_a_peak_can_be_the_same_everywhere(folder):
    data = spoken(folder, normalize=True)
    for clip in data.clips["train"]:
        assert abs(np.abs(mu_law_decode(clip.codes)).max() - 0.9) < 0.02


def test_a_sound_keeps_its_pitch_at_another_rate():
    wave = tone(1600, 200)  # at 8 kHz, 40 whole periods
    up = resample(wave, RATE, 2 * RATE)
    np.testing.assert_allclose(up[::2], wave, atol=1e-5)
    np.testing.assert_allclose(resample(up, 2 * RATE, RATE), wave, atol=1e-5)
    assert len(resample(wave, RATE, 11025)) == 2205


SOURCES = {
    "missing": ("nowhere/at/all", "there is no folder", ""),
    "typo": ("0_ann_O.wav", "there is no such file or folder", "did you mean 0_ann_"),
    "pattern": ("*.ogg", "no file matches this pattern", ""),
    "empty": ("nothing", "there is no sound file in this folder", "give one with"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_is_not_there(folder, kind):
    word, what, remedy = SOURCES[kind]
    (folder / "nothing").mkdir()
    with pytest.raises(UserError) as caught:
        spoken(folder / word).prepare_data()
    (line,) = caught.value.lines()
    assert what in line and remedy in line and str(folder) in line


def test_a_dataset_that_is_not_there_is_told_in_one_line(monkeypatch):
    import datasets

    def refuse(path, name, data_files):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset {path} doesn't exist on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="cannot be loaded: Dataset some/set doesn't exist on the Hub; check"):
        Audio("some/set", **SMALL).prepare_data()


def test_a_context_longer_than_every_clip(folder):
    with pytest.raises(UserError, match=r"the context of 4,093 samples is as long as the longest clip, .*\.wav"):
        spoken(folder, context=4093).prepare_data()
    with pytest.raises(UserError, match="is as long as the longest clip, melody 0 of train, which has 800"):
        Tones(seconds=0.1, melodies=2, context=1000).prepare_data()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"pattern": "{digit}_{speaker}"}, "data.pattern has a field {digit}"),
        ({"pattern": "{class}_{class}"}, "data.pattern is {class}_{class}"),
        ({"pattern": None}, "nothing tells this recording's index"),
        ({"test_indices": [77]}, "the test split has no clip"),
        ({"context": 0}, "context is 0"),
        ({"positions": -1}, "positions is -1"),
        ({"tail": -0.1}, "tail is -0.1"),
        ({"val_fraction": 0.5}, "val_fraction is 0.5"),
    ],
)
def test_options_that_make_no_sense(folder, options, what):
    with pytest.raises(UserError) as caught:
        spoken(folder, **options).prepare_data()
    assert what in str(caught.value) and len(caught.value.lines()) == 1


# ------------------------------------------------------------------------------------------------------- the strings


def test_a_string_is_karplus_and_strongs():
    """Sample by sample, and the fundamental is where it was asked for."""
    for pitch in (130.8, 261.6, 440.0, 523.3):
        y = pluck(pitch, 3000, RATE, np.random.default_rng(1))
        period = RATE / pitch - 0.5
        delay, a = int(period), period - int(period)
        for t in range(delay + 2, len(y)):
            again = 0.5 * ((1 - a) * y[t - delay] + y[t - delay - 1] + a * y[t - delay - 2])
            assert abs(y[t] - again) < 1e-12
        spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 1 << 16))
        near = (np.fft.rfftfreq(1 << 16, 1 / RATE) - pitch).__abs__() < 0.4 * pitch
        found = np.fft.rfftfreq(1 << 16, 1 / RATE)[near][spectrum[near].argmax()]
        assert abs(found / pitch - 1) < 0.004, (found, pitch)


def test_a_melody_says_what_sounds():
    data = Tones(melodies=8, seconds=2.0)
    clip = data.clips["train"][0]
    assert data.local_classes == len(data.local_names) == len(data.frequencies) == 7
    assert data.local_names[0] == "rest" and data.local_names[1] == "C4" and data.local_names[-1] == "C5"
    assert frequency(69) == 440 and abs(data.frequencies[-1] - 523.25) < 0.01
    wave = mu_law_decode(clip.codes)
    assert np.abs(wave[np.asarray(clip.local) == 0]).max(initial=0) < 1e-3
    starts = np.flatnonzero(np.diff(clip.local)) + 1
    for start in starts[clip.local[starts] > 0]:  # a note begins loud
        assert np.abs(wave[start : start + 80]).max() > 0.2


def test_melodies_follow_from_seed_split_and_number(monkeypatch):
    def codes(seed, split, melodies=4):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        return Tones(melodies=melodies, seconds=0.5, context=100).make(split)[1].codes

    assert (codes(1, "train") == codes(1, "train", melodies=9)).all()
    assert (codes(1, "train") != codes(2, "train")).any()
    assert (codes(1, "train") != codes(1, "test")).any()


def test_training_looks_at_the_beginnings_of_notes_each_pitch_as_often():
    data = Tones(melodies=8, seconds=2.0, context=100, length=400, onsets=1.0)
    begun = []
    for epoch in range(40):
        for number, start in data._windows("train", epoch):
            local = np.concatenate([[0], np.asarray(data.clips["train"][number].local)])
            window = local[start : start + 101]  # behind the sample before the first scored one
            notes = window[1:][(np.diff(window) != 0) & (window[1:] > 0)]
            assert len(notes), (number, start)
            begun.append(int(notes[0]))
    counts = np.bincount(begun, minlength=7)
    assert counts[0] == 0 and counts[1:].min() > 0.8 * counts[1:].max()


def test_the_other_windows_lie_anywhere():
    some, none = (Tones(melodies=8, seconds=2.0, context=100, length=400, onsets=share) for share in (0.5, 0.0))
    anywhere, mixed = none._windows("train", 3), some._windows("train", 3)
    assert 0.35 < (anywhere == mixed).all(axis=1).mean() < 0.65
    assert (anywhere == Sounds._windows(some, "train", 3)).all()
    assert (some._windows("train", 3) == mixed).all() and (some._windows("train", 4) != mixed).any()
    assert (some._windows("val", 0) == none._windows("val", 0)).all()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"melodies": 0}, "melodies is 0"),
        ({"onsets": 1.5}, "onsets is 1.5; give a share from 0 to 1"),
        ({"lowest": 60, "highest": 62}, "2 of the scale"),
        ({"highest": 84}, "note 84 has 1047 Hz"),
        ({"gap": 0.2}, "gap is 0.2; give at least 0 and less than 0.1"),
    ],
)
def test_melodies_that_cannot_be(options, what):
    with pytest.raises(UserError, match=what):
        Tones(**options)


# -------------------------------------------------------------------------------------------------- the simple methods


def test_the_unigram_counts():
    """By hand: classes 3, 3, 5 in training, each of 256 counted once more."""
    train, test = [np.array([3, 3, 5], dtype=np.uint8)], [np.array([3, 4], dtype=np.uint8)]
    assert abs(unigram(train, test) + (np.log2(3 / 259) + np.log2(1 / 259)) / 2) < 1e-12


def test_linear_prediction_is_a_distribution():
    """Over the 256 classes of a sample, whatever came before, the probabilities sum to 1."""
    draw = np.random.default_rng(0)
    clip = mu_law_encode(0.3 * np.sin(np.arange(400) / 5) + 0.05 * draw.standard_normal(400)).astype(np.uint8)
    model = LinearPrediction([clip])
    for t in (0, 1, 57, 399):
        for shape in ("Laplace", "logistic", "Gauss"):
            p = [model.probabilities(np.append(clip[:t], c).astype(np.uint8), shape)[t] for c in range(256)]
            assert min(p) > 0 and abs(sum(p) - 1) < 1e-9


def test_linear_prediction_finds_the_weights_of_an_autoregression():
    draw = np.random.default_rng(0)
    y = np.zeros(60000)
    for t in range(2, len(y)):
        y[t] = 1.5 * y[t - 1] - 0.8 * y[t - 2] + 0.03 * draw.standard_normal()
    model = LinearPrediction([mu_law_encode(y).astype(np.uint8)], order=2)
    np.testing.assert_allclose(model.weights, [1.5, -0.8], atol=0.03)
    assert model.shape == "Gauss"


def test_linear_prediction_beats_counting_on_melodies():
    bits = Tones(melodies=8, seconds=2.0).baselines()["test/bits_per_sample"]
    assert bits["linear prediction"] < bits["unigram"] - 2 and 0 < bits["linear prediction"] < 8


# -------------------------------------------------------------------------------------------------------- real data


@pytest.mark.slow
def test_the_free_spoken_digits_are_read(tmp_path):
    """All 3,000 of them, from the archive in the folder that DLMKIT_DATA names."""
    import tarfile

    home = Path(os.environ.get("DLMKIT_DATA", ""), "fsdd", "fsdd_recordings.tar.gz")
    if "DLMKIT_DATA" not in os.environ or not home.is_file():
        pytest.skip("DLMKIT_DATA names no folder with fsdd/fsdd_recordings.tar.gz")
    with tarfile.open(home) as archive:
        archive.extractall(tmp_path, filter="data")
    data = Audio(str(tmp_path), pattern="{class}_{speaker}_{index}", test_indices=[0, 1, 2, 3, 4], val_indices=[5])
    assert (data.classes, data.speakers) == (10, 6)
    assert [len(data.clips[split]) for split in ("train", "val", "test")] == [2640, 60, 300]
    assert sum(len(clip.codes) for clips in data.clips.values() for clip in clips) == 10_498_424
