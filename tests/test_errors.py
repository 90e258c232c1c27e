"""Every mistake a user can make in a recipe or an option: one line each, its place, its remedy; no run folder."""

from __future__ import annotations

import re
import textwrap

import pytest
import torch

RECIPE = """\
model:
  class_path: tiny
  init_args:
    width: 4
data:
  class_path: beats
trainer:
  max_steps: 2
"""


def recipe(old="", new=""):
    """The recipe with one thing changed."""
    assert old in RECIPE
    return RECIPE.replace(old, new) if old else RECIPE + new


@pytest.fixture
def told(refused, write):
    """Runs a recipe that is wrong; returns the lines."""

    def give(text, *words):
        write("my.yaml", text)
        return refused("run", "my.yaml", *words)

    return give


# ---------------------------------------------------------------------------------------- found in the text alone


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (recipe("  max_steps: 2", "  max_steps: [2"), 9, "not valid YAML"),
        (recipe("  max_steps: 2", "\tmax_steps: 2"), 8, "indent with spaces, not tabs"),
        (recipe("    width: 4", "    width: 4\n   depth: 3"), 5, "not valid YAML"),
        (recipe("width: 4", "width: 4: 5"), 4, "not valid YAML"),
        (recipe("width: 4", "width: *nothing"), 4, "undefined alias"),
        (recipe("width: 4", "width: !!python/object:os.system x"), 4, "not valid YAML"),
        (recipe("    width: 4", "    width: 4\n    width: 5"), 5, "width is given twice; it stands in line 4 already"),
        (recipe(new="data: {}\n"), 9, "data is given twice; it stands in line 5 already"),
        (recipe("data:", "dtaa:"), 5, "dtaa is no key of a recipe; did you mean data?"),
        (recipe(new="callbacks: []\n"), 9, "callbacks is no key of a recipe; a recipe has"),
        (recipe("  init_args:\n    width: 4", "  width: 4"), 3, "move width below init_args"),
        (recipe("\n    width: 4", " [1, 2]"), 3, "model.init_args is [1, 2]"),
        (recipe("\n    width: 4", " wide"), 3, "model.init_args is 'wide'"),
        (recipe("class_path: tiny", "class_path: [tiny]"), 1, "model names no class"),
        (recipe("trainer:\n  max_steps: 2", "trainer: fast"), 7, "trainer is not a mapping"),
        (recipe("class_path: tiny", "class_path: tinny"), 2, "no task is called tinny; did you mean tiny?"),
        (recipe("class_path: beats", "class_path: baets"), 6, "no data is called baets; did you mean beats"),
        (recipe("class_path: tiny", "class_path: hopnet"), 2, "no task is called hopnet; if it is a plugin: pip i"),
    ],
)
def test_the_line_of_a_fault_in_the_text(told, text, line, what):
    first = told(text)[0]
    assert first.startswith(f"my.yaml:{line}: "), first
    assert what in first


def test_missing_sections(told):
    assert told("trainer: {max_steps: 2}\n") == [
        "my.yaml: model is missing; add model: {class_path: NAME}",
        "my.yaml: data is missing; add data: {class_path: NAME}",
    ]
    assert "model names no class" in told("model: {init_args: {width: 3}}\ndata: beats\n")[0]


def test_an_unknown_recipe(refused, write):
    (line,) = refused("run", "tinny")
    assert line == "no recipe is called tinny; did you mean tiny?, or if it is a plugin: pip install dlmkit-tinny"
    (line,) = refused("run", "unheard-of-net")
    assert line == "no recipe is called unheard-of-net; if it is a plugin: pip install dlmkit-unheard-of-net"


def test_a_file_that_is_not_there(refused, write):
    write("first.yaml", RECIPE)
    (line,) = refused("run", "frist.yaml")
    assert line == "there is no file frist.yaml; did you mean first.yaml?"
    (line,) = refused("run", "nowhere/my.yaml")
    assert line.startswith("there is no file nowhere/my.yaml; ")
    (line,) = refused("run", "first.yaml", "--config", "over.yaml")
    assert line.startswith("there is no file over.yaml")


def test_a_file_that_is_no_text(refused, workplace):
    (workplace / "my.yaml").write_bytes(b"model: \xff\n")
    (line,) = refused("run", "my.yaml")
    assert line == "my.yaml: not UTF-8 at byte 7; save it as UTF-8"


def test_no_recipe(refused):
    (line,) = refused("run")
    assert "which recipe?" in line
    assert "dlmkit list" in line


# ---------------------------------------------------------------------- unknown options and wrong types, at every depth


@pytest.fixture
def told_as_marked(told):
    """Runs a recipe whose comments say what is wrong with their lines; all of it is told, in this order."""

    def give(text):
        text = textwrap.dedent(text)
        marked = [(n, line.split("# ")[1]) for n, line in enumerate(text.splitlines(), 1) if "# " in line]
        lines = told(text)
        for line, (number, what) in zip(lines, marked, strict=False):
            assert line.startswith(f"my.yaml:{number}: "), (lines, number, what)
            assert what in line, (line, what)
            assert not re.search(r"takes.*(Union|Optional|Namespace)", line), "a type as only a programmer knows it"
        assert len(lines) == len(marked), lines

    return give


WRONG = {
    "unknown options": """\
        model:
          class_path: tiny
          init_args:
            widht: 4  # model.init_args.widht is no option of tiny; did you mean width?
            xyz: 4  # model.init_args.xyz is no option of tiny; dlmkit show tiny lists its options
            optimizer:
              class_path: torch.optim.SGD
              init_args:
                lr: 0.1
                momentun: 0.9  # model.init_args.optimizer.init_args.momentun is no option of SGD; did you mean momentum
            lr_scheduler:
              class_path: dlmkit.WarmupCosine
              init_args: {warmp: 3}  # init_args.warmp is no option of WarmupCosine; did you mean warmup?
        data:
          class_path: beats
          init_args:
            cuont: 3  # data.init_args.cuont is no option of beats; did you mean count?
        trainer:
          max_stps: 2  # trainer.max_stps is no option of Trainer; did you mean max_steps
          callbacks:
          - class_path: lightning.pytorch.callbacks.LearningRateMonitor
          - class_path: lightning.pytorch.callbacks.ModelCheckpoint
            init_args:
              save_topk: 3  # trainer.callbacks.1.init_args.save_topk is no option of ModelCheckpoint; did you mean save
          - class_path: lightning.pytorch.callbacks.EarlyStoping  # did you mean EarlyStopping?
        """,
    "options of the class that is the default": """\
        model:
          class_path: tiny
          init_args:
            optimizer:
              lr: 0.1
              weight_dceay: 0.9  # weight_dceay is no option of AdamW; did you mean weight_decay?
            lr_scheduler:
              class_path: torch.optim.lr_scheduler.StepRL  # there is no class torch.optim.lr_scheduler.StepRL; did you
        data: beats
        """,
    "options beside their class": """\
        model:
          class_path: tiny
          init_args:
            optimizer:
              class_path: torch.optim.Adamw  # there is no class torch.optim.Adamw; did you mean Adam
            lr_scheduler:
              class_path: dlmkit.WarmupCosine
              warmup: 3  # warmup stands beside class_path; move warmup below init_args
        data: beats
        """,
    "words where numbers are wanted": """\
        seed_everything: abc  # seed_everything takes a whole number, not 'abc'
        model:
          class_path: tiny
          init_args:
            width: wide  # model.init_args.width is 'wide'; tiny takes a whole number there
            dropout: much  # model.init_args.dropout is 'much'; tiny takes a number there
            bias: perhaps  # model.init_args.bias is 'perhaps'; tiny takes true or false there
            note: 5  # model.init_args.note is 5; tiny takes a word or null there
            depths: 3  # model.init_args.depths is 3; tiny takes a list of whole numbers or null there
            span: [1]  # model.init_args.span is [1]; tiny takes a list of 2 numbers there
            optimizer: 3  # model.init_args.optimizer is 3; tiny takes an optimiser there
            lr_scheduler: {class_path: dlmkit.WarmupCosine, init_args: {warmup: x}}  # warmup is 'x'; WarmupCosine takes
        data:
          class_path: beats
          init_args: {count: few}  # data.init_args.count is 'few'; beats takes a whole number there
        trainer:
          max_epochs: many  # trainer.max_epochs is 'many'; Trainer takes a whole number or null there
          enable_checkpointing: perhaps  # is 'perhaps'; Trainer takes true or false or null there
          callbacks: 3  # trainer.callbacks is 3; Trainer takes
          precision: 17  # trainer.precision is 17; Trainer takes
        """,
    "numbers where others are wanted": """\
        seed_everything: 1.5  # seed_everything takes a whole number, not 1.5
        model:
          class_path: tiny
          init_args:
            width: 4.5  # model.init_args.width is 4.5; tiny takes a whole number there
            dropout: true  # model.init_args.dropout is True; tiny takes a number there
            depths: [1, two]  # model.init_args.depths is [1, 'two']; tiny takes a list of whole numbers or null there
            optimizer: {lr: fast}  # model.init_args.optimizer.lr is 'fast'; AdamW takes a number
        data: beats
        trainer:
          callbacks:
          - class_path: lightning.pytorch.callbacks.EarlyStopping
            init_args: {monitor: 3}  # monitor is 3
          - class_path: lightning.pytorch.callbacks.EarlyStopping
            init_args: {patience: 2}  # EarlyStopping needs monitor
          - class_path: lightning.pytorch.callbacks.EarlyStopping
            monitor: val/loss  # monitor stands beside class_path; move monitor below init_args
          - class_path: lightning.pytorch.callbacks.ModelCheckpoint
            init_args: {save_top_k: null}  # save_top_k is null
        """,
    "nulls, and nothing else": """\
        seed_everything: null  # seed_everything takes a whole number, not None
        model:
          class_path: tiny
          init_args:
            width: null  # model.init_args.width is null; tiny takes a whole number there
            optimizer: {class_path: torch.optim.SGD, init_args: {lr: null}}  # init_args.lr is null; SGD takes
            lr_scheduler: {class_path: dlmkit.WarmupCosine, init_args: {warmup: null}}  # warmup is null; WarmupCosine
        data: beats
        trainer:
          accumulate_grad_batches: null  # trainer.accumulate_grad_batches is null; Trainer takes a whole number
          callbacks:
          - class_path: lightning.pytorch.callbacks.ModelCheckpoint
            init_args: {save_top_k: null}  # save_top_k is null
        """,
    "lists where numbers are wanted": """\
        model:
          class_path: tiny
          init_args:
            width: [4]  # model.init_args.width is [4]; tiny takes a whole number there
            depths: [1, null]  # model.init_args.depths is [1, None]; tiny takes a list of whole numbers or null there
            optimizer: {class_path: torch.optim.SGD, init_args: 3}  # init_args is 3; give the options of SGD below it
        data: beats
        trainer:
          callbacks:
          - class_path: lightning.pytorch.callbacks.EarlyStopping  # EarlyStopping needs monitor
        """,
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_line(told_as_marked, kind):
    told_as_marked(WRONG[kind])


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--model.optimizer=Adma", "there is no class Adma; did you mean Adamax or Adam"),
        ("--model.lr_scheduler=StepLr", "there is no class StepLr; did you mean StepLR?"),
        (
            "--model.lr_scheduler=StepLR",
            "StepLR needs step_size; give model.init_args.lr_scheduler.init_args.step_size",
        ),
        ("--trainer.callbacks=[EarlyStopping]", "EarlyStopping needs monitor; give trainer.callbacks.0.init_args"),
        ("--trainer.callbacks=EarlyStopping", "EarlyStopping needs monitor; give trainer.callbacks.0.init_args"),
        ("--trainer.callbacks=[EarlyStoping]", "there is no class EarlyStoping; did you mean EarlyStopping?"),
    ],
)
def test_a_class_typed_without_its_module(told, option, what):
    """And the place is that of what was typed, even where the recipe had another one."""
    text = recipe("    width: 4", "    optimizer:\n      class_path: torch.optim.Adam\n      init_args: {lr: 0.1}")
    (line,) = told(text, option)
    assert line.startswith(f"command line: {what}")


def test_a_class_that_is_misspelt_by_its_path(told):
    (line,) = told(recipe("class_path: tiny", "class_path: dlmkit_tiny.task.Tinny"))
    assert line.startswith("my.yaml:2: ")
    assert "Tinny" in line


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("--model.widht=3", "model.init_args.widht is no option of tiny; did you mean width?"),
        ("--modle.width=3", "modle is no key of a recipe; did you mean model?"),
        ("--nmae=first", "did you mean --name"),
        ("--wandb-projet=x", "did you mean --wandb-project"),
        ("--wandbb", "did you mean --wandb"),
        ("extra", "extra is no option; options look like"),
    ],
)
def test_an_unknown_option_typed(refused, word, what):
    (line,) = refused("run", "tiny", word)
    assert what in line
    assert line.startswith("command line: ")


def test_a_word_where_a_truth_is_wanted(train, write):
    """``no`` is a word; an option that takes true or false understands it, one that takes a word keeps it."""
    import yaml

    write("my.yaml", recipe("width: 4", "bias: no\n    note: on\n    depths: [010]\n    dropout: 1e-3"))
    saved = yaml.safe_load((train("my.yaml") / "config.yaml").read_text())["model"]["init_args"]
    assert (saved["bias"], saved["note"], saved["depths"], saved["dropout"]) == (False, "on", [10], 0.001)


# ---------- missing, and contradicting the data


def test_what_the_data_does_not_tell_must_be_given(told, train):
    (line,) = told(recipe("class_path: beats", "class_path: bare"))
    remedy = "give model.init_args.vocab_size (int), or data that tell it, which bare does not"
    assert line == f"my.yaml:3: tiny needs vocab_size; {remedy}"
    train("my.yaml", "--model.vocab_size=6")


def test_a_value_that_contradicts_the_data(told, train):
    (line,) = told(recipe("width: 4", "vocab_size: 7"))
    assert line == "my.yaml:4: vocab_size is 7, but the data says 6; leave it out: it follows the data"
    (line,) = told(RECIPE, "--model.vocab_size=5")
    assert line.startswith("command line: vocab_size is 5, but the data says 6")
    train("my.yaml", "--model.vocab_size=6")


def test_a_model_where_data_is_wanted(told):
    (line,) = told(recipe("class_path: beats", "class_path: dlmkit_tiny.task.Tiny"))
    assert line.startswith("my.yaml:6: dlmkit_tiny.task.Tiny is no LightningDataModule")
    (line,) = told(recipe("class_path: tiny", "class_path: torch.nn.Linear"))
    assert line.startswith("my.yaml:2: torch.nn.Linear is no LightningModule")


# ---------- found when something is built


def test_values_that_a_constructor_refuses(told):
    (line,) = told(RECIPE, "--data.batch_size=0")
    assert line == "data.batch_size: batch_size is 0; give at least 1"
    (line,) = told(recipe("class_path: beats", "class_path: beats\n  init_args:\n    batch_size: 0"))
    assert line == "my.yaml:8: data.batch_size: batch_size is 0; give at least 1"
    averaging = "callbacks:\n  - class_path: dlmkit.GeneratorAveraging\n    init_args: {decay: 1}"
    (line,) = told(recipe("  max_steps: 2", f"  {averaging}"))
    assert line.startswith("my.yaml:8: trainer.callbacks.decay: decay is 1")
    (line,) = told(recipe("width: 4", "width: -1"))
    assert line.startswith("my.yaml:")
    assert "negative dimension" in line


def test_values_that_the_optimiser_refuses(told):
    (line,) = told(recipe("width: 4", "optimizer: {class_path: torch.optim.SGD, init_args: {lr: -1}}"))
    assert "Invalid learning rate: -1" in line
    (line,) = told(RECIPE, "--model.lr_scheduler=torch.optim.lr_scheduler.CyclicLR", "--model.lr_scheduler.base_lr=0.1")
    assert "needs max_lr" in line


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("max_steps=-7", "max_steps"),
        ("limit_train_batches=2.5", "limit_train_batches"),
        ("accelerator=warp", "warp"),
        ("strategy=dpp", "dpp"),
        ("devices=0", "devices"),
        ("val_check_interval=500", "val_check_interval"),
        ("precision=16-false", "precision"),
    ],
)
def test_values_that_the_trainer_refuses(told, option, what):
    (line,) = told(RECIPE, f"--trainer.{option}")
    assert line.startswith("command line: ")
    assert what in line
    assert ".; " not in line


def test_a_gpu_that_is_not_there(told):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    (line,) = told(recipe(new="  accelerator: gpu\n"))
    assert line.startswith("my.yaml:9: no gpu is to be found here; leave accelerator out")
    (line,) = told(RECIPE, "--trainer.accelerator=cuda")
    assert line.startswith("command line: no cuda is to be found here")


@pytest.mark.parametrize("option", ["limit_val_batches: 0.001", "overfit_batches: 1", "limit_train_batches: 0.0001"])
def test_what_lightning_refuses_when_training_starts(told, option):
    (line,) = told(recipe(new=f"  {option}\n"))
    assert line.startswith("my.yaml:") and "the trainer cannot be made: " in line


def test_a_metric_that_nobody_logs(command, write):
    """Only a validation shows it; by then there is a run folder, but still no traceback."""
    write("my.yaml", recipe(new="  val_check_interval: 1\n"))
    stopping = "{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val/los}}"
    outcome = command("run", "my.yaml", f"--trainer.callbacks=[{stopping}]")
    assert outcome.code == 2
    (line,) = outcome.faults
    assert "val/los" in line
    assert "val/loss" in line


@pytest.mark.parametrize("verb", ["run", "check"])
def test_data_of_another_kind_than_the_model_reads(command, write, monkeypatch, verb):
    """What the model would be told by its own data can be typed; the batches then differ."""
    from dlmkit_tiny.task import Tiny

    monkeypatch.setattr(Tiny, "loss", lambda task, batch: (batch["picture"].mean(), {}))
    write("my.yaml", RECIPE)
    outcome = command(verb, "my.yaml")
    assert outcome.code == 2
    (line,) = outcome.faults
    assert re.match(
        r"my.yaml:6: data.class_path: the model reads 'picture' of a batch \(tests/test_errors.py:\d+\), and these ",
        line,
    )
    assert line.endswith("give data that the model is made for; dlmkit show MODEL lists recipes")


def test_an_error_in_a_task_is_its_authors_and_keeps_its_traceback(train, monkeypatch):
    from dlmkit_tiny.task import Tiny

    def loss(task, batch):
        raise ZeroDivisionError("in the task")

    monkeypatch.setattr(Tiny, "loss", loss)
    with pytest.raises(ZeroDivisionError, match="in the task"):
        train("tiny")


@pytest.mark.parametrize("part, name", [(0, "the loss"), (1, "share")])
def test_a_loss_or_metric_for_each_example(command, monkeypatch, part, name):
    from dlmkit_tiny.task import Tiny

    loss, share = torch.zeros((), requires_grad=True), torch.ones(())
    out = [loss, {"share": share}] if part else [loss.expand(3), {}]
    monkeypatch.setattr(Tiny, "loss", lambda task, batch: (out[0], {n: v.expand(3) for n, v in out[1].items()}))
    outcome = command("run", "tiny")
    assert (outcome.code, outcome.err) == (2, f"dlmkit: {name} has the shape (3,); return its mean\n")


def test_a_loss_that_is_no_number_from_the_start(command, monkeypatch):
    from dlmkit_tiny.task import Tiny

    whole = Tiny.loss
    monkeypatch.setattr(Tiny, "loss", lambda task, batch: whole(task, batch) * float("nan"))
    (line,) = command("run", "tiny", "--trainer.limit_val_batches=0").faults
    assert line == "the loss is nan at step 1; look at the loss and at the data"


def test_a_loss_that_is_no_number_stops_the_run(command, monkeypatch):
    from dlmkit_tiny.task import Tiny

    whole = Tiny.loss

    def loss(task, batch):
        return whole(task, batch) * (float("nan") if task.trainer.global_step == 2 else 1.0)

    monkeypatch.setattr(Tiny, "loss", loss)
    outcome = command("run", "tiny", "--trainer.limit_val_batches=0")
    assert outcome.code == 2
    (line,) = outcome.faults
    assert re.match(r"the loss is nan at step \d+; lower the learning rate, or clip gradients", line)


# ------------------------------------------------------------------------------------------------ several at once


def test_what_is_missing_is_told_with_the_rest(told):
    lines = told(
        """\
        model:
          class_path: needy
          init_args:
            widht: 3
        data: beats
        trainer:
          max_stps: 3
        """
    )
    assert [re.match(r"my.yaml:(\d+): ", line)[1] for line in lines] == ["4", "3", "7"]
    assert lines[1].startswith("my.yaml:3: needy needs needed; give model.init_args.needed (int), or data that tell it")


def test_all_faults_of_the_top_level_are_told_at_once(told):
    lines = told("modle: tiny\ntrainer: 3\nseeds: 1\n")
    assert len(lines) == 5
    assert [line.split(": ")[0] for line in lines[:2]] == ["my.yaml:1", "my.yaml:3"]


def test_all_keys_given_twice_are_told_at_once(told):
    lines = told(recipe("    width: 4", "    width: 4\n    width: 5\n    width: 6"))
    assert [line.partition(": ")[0] for line in lines] == ["my.yaml:5", "my.yaml:6"]


# ---------- classes that a recipe may not name

REFUSED = "is in none of the packages that a recipe may name; if you trust it, add --allow "


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (recipe("class_path: tiny", "class_path: torch.utils.collect_env.run"), 2, "torch.utils.collect_env.run"),
        (recipe("class_path: beats", "class_path: subprocess.Popen"), 6, "subprocess.Popen"),
        (recipe("width: 4", "optimizer: torch.utils.collect_env.run"), 4, "torch.utils.collect_env.run"),
    ],
)
def test_a_class_outside_the_allowed_packages(told, text, line, what):
    """Not even one of torch's: this one runs a command of the shell."""
    (told_line,) = told(text)
    assert told_line == f"my.yaml:{line}: {what} {REFUSED}{what.partition('.')[0]}"


def test_classes_outside_the_allowed_packages_at_any_depth(told_as_marked, workplace):
    told_as_marked(
        f"""\
        model:
          class_path: tiny
          init_args:
            optimizer: {{class_path: torch.utils.collect_env.run}}  # torch.utils.collect_env.run {REFUSED}torch
            lr_scheduler: {{class_path: os.system, init_args: {{command: touch harm}}}}  # os.system {REFUSED}os
        data: beats
        trainer:
          logger:
            class_path: subprocess.Popen  # subprocess.Popen {REFUSED}subprocess
            init_args: {{args: [touch, harm]}}
          callbacks:
          - class_path: torch.utils.collect_env.run  # torch.utils.collect_env.run {REFUSED}torch
          - class_path: subprocess.Popen  # subprocess.Popen {REFUSED}subprocess
            init_args: {{args: [touch, harm]}}
          - class_path: lightning.pytorch.callbacks.LambdaCallback
            init_args:
              on_fit_start: torch.utils.collect_env.run  # torch.utils.collect_env.run {REFUSED}torch
              on_fit_end: lightning.pytorch.trainer.trainer.os.abort  # trainer.os.abort {REFUSED}
        """
    )
    assert not (workplace / "harm").exists()


def test_what_the_user_allows(refused, train, install):
    task = "from dlmkit_tiny.task import Tiny\nclass Net(Tiny):\n    'A net that no package registers.'\n"
    optimiser = "from torch.optim import SGD\nclass Own(SGD):\n    'An optimiser of my own.'\n"
    install("unregistered", {}, their_net=task, their_optimiser=optimiser)
    (line,) = refused("run", "tiny", "--model=their_net.Net")
    assert line.endswith("if you trust it, add --allow their_net")
    (line,) = refused("run", "tiny", "--model.optimizer=their_optimiser.Own")
    assert line.endswith("if you trust it, add --allow their_optimiser")
    allowed = ["--allow", "their_net", "--allow", "their_optimiser"]
    folder = train("tiny", "--model=their_net.Net", "--model.optimizer=their_optimiser.Own", *allowed)
    (line,) = refused("run", "--resume", folder, "--trainer.max_steps=9")
    assert line.endswith("if you trust it, add --allow their_net"), "allowing once is not allowing for ever"
    train("--resume", folder, "--trainer.max_steps=9", *allowed)


def test_a_class_of_a_registered_package_need_not_be_registered(train, install):
    task = """
        from dlmkit_tiny.task import Tiny

        class Listed(Tiny):
            "The one that is registered."

        class Unlisted(Tiny):
            "One that is not."
        """
    install("dlmkit-family", {"dlmkit.tasks": {"listed": "family:Listed"}}, family=task)
    train("tiny", "--model=family.Unlisted")


# -------------------------------------------------------------------------------------------------- where runs go


def test_a_runs_folder_that_cannot_be_written(refused, write):
    write("file", "")
    for place in ("file", "file/below"):
        (line,) = refused("run", "tiny", "--runs", place)
        assert line == f"{place}: run folders cannot be written here; choose another place with --runs DIR"


def test_a_name_that_is_taken(refused, train):
    train("tiny", name="first")
    (line,) = refused("run", "tiny", "--name", "first")
    assert line.startswith("runs/first: a run called first is there already; choose another --name")
    assert line.endswith("dlmkit run --resume runs/first")


@pytest.mark.parametrize("name", ["a/b", "..", "."])
def test_a_name_that_is_none(refused, name):
    (line,) = refused("run", "tiny", "--name", name)
    assert line.startswith("--name: ")


def test_a_mistake_that_a_task_finds_when_it_is_set_up_leaves_no_folder(refused, install):
    task = """
        from dlmkit.errors import UserError
        from dlmkit_tiny.task import Tiny

        class Late(Tiny):
            "Finds a mistake late."

            def setup(self, stage):
                raise UserError("the encoder has 3 units", "give 3", "model.width")
        """
    install("dlmkit-late", {"dlmkit.tasks": {"late": "late:Late"}}, late=task)
    (line,) = refused("run", "tiny", "--model=late")
    assert line.endswith("the encoder has 3 units; give 3")


def test_bad_options_of_the_command(refused):
    (line,) = refused("run", "tiny", "--show-every=often")
    assert line.startswith("argument --show-every: invalid int value: 'often'")
    (line,) = refused("rnu", "tiny")
    assert "'rnu'" in line
    (line,) = refused("list", "--jsno")
    assert line == "--jsno is no option of list; did you mean --json?"
    (line,) = refused("test")
    assert "RUN" in line
