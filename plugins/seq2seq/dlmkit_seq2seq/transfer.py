"""The encoder of a finished run, taken over by another."""

from __future__ import annotations

from torch import nn

from dlmkit.errors import UserError

__all__ = ["take_encoder"]

_PREFIX = "net.encoder."


def take_encoder(encoder: nn.Module, vocabulary: str, run: str) -> None:
    """Put a finished run's encoder weights into an encoder of the same size and vocabulary.

    Args:
        encoder: Is changed.
        vocabulary: The saved tokenizer of the source that the encoder shall read.
        run: The run's folder.

    Raises:
        UserError: If there is no such run, or its encoder is none, or of another size or vocabulary.
    """
    from dlmkit.engine import read_checkpoint
    from dlmkit.runs import Run

    where = "model.encoder_from"
    checkpoint = read_checkpoint(Run(run).best())
    weights = checkpoint["state_dict"]
    theirs = {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}
    known = checkpoint.get("translation")
    if not theirs or known is None:
        raise UserError(f"the run {run} has no encoder of a translator", "give a run of seq2seq", where)
    if known["tokenizers"][0] != vocabulary:
        what = f"the encoder of {run} was trained on another source vocabulary than this data makes"
        remedy = "give the same source text, data.source_pieces and data.lowercase_source"
        raise UserError(what, remedy, where)
    ours = encoder.state_dict()
    other = [name for name in {**ours, **theirs} if _shape(ours, name) != _shape(theirs, name)]
    if other:
        name = other[0]
        what = f"the encoder of {run} is of another size: {name} is {_shape(theirs, name)}, here {_shape(ours, name)}"
        remedy = "give the hidden_size, embedding_size and encoder_layers that the run was trained with"
        raise UserError(what, remedy, where)
    encoder.load_state_dict(theirs)


def _shape(weights: dict[str, object], name: str) -> str:
    return " × ".join(map(str, weights[name].shape)) if name in weights else "missing"  # type: ignore[attr-defined]
