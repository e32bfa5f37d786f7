"""Signs that a masked prediction isn't learning."""

from __future__ import annotations

import math
from typing import Any

_PATIENCE = 0.2
"""Part of the steps after which something has to have been learnt."""
_LEARNT = 0.05  # nats below that of guessing by how frequent labels are


def first_loss_warning(loss: float, labels: int) -> str | None:
    """Return a warning if the loss before the first step isn't near ln K, that of guessing."""
    expected = math.log(labels)
    if abs(loss - expected) <= 0.05 * expected:
        return None
    return (
        f"the loss before the first step is {loss:.3f} nats, where guessing among {labels} labels has {expected:.3f}: "
        "if the weights are not those of another training, look at labels and settings"
    )


def training_warning(records: list[dict[str, Any]], steps: int, entropy: float) -> str | None:
    """Return a warning if the loss is stuck, or one label is predicted for nearly all frames.

    Args:
        records: of the training.
        steps: that it will have.
        entropy: of the labels, in nats: the loss of whoever knows how frequent they are, and nothing else.
    """
    own = [item for item in records if item["split"] == "train" and item.get("loss_masked") is not None]
    if not own or own[-1]["step"] < _PATIENCE * steps:
        return None
    last = own[-1]
    if last.get("commonest", 0) > 0.9:
        return (
            f"at step {last['step']} one label is predicted for {last['commonest']:.0%} of the masked frames: the model has "
            "collapsed; give a smaller learning_rate, or look at the labels"
        )
    if last["loss_masked"] > entropy - _LEARNT:
        return (
            f"at step {last['step']} the masked loss is {last['loss_masked']:.3f} nats, no better than knowing how frequent "
            f"labels are ({entropy:.3f}): it is stuck; give another learning_rate, or look at whether labels belong to this audio"
        )
    return None


def speaker_warning(records: list[dict[str, Any]], speakers: int) -> str | None:
    """Return a warning if a head tells speakers clearly worse than guessing does.

    An encoder that tells nothing of them leaves a head at ln N; beyond, it is the head that goes wrong.

    Args:
        records: of the training.
        speakers: how many there are.
    """
    own = [item for item in records if item["split"] == "train" and item.get("speaker_loss") is not None]
    if not own or own[-1]["speaker_loss"] <= math.log(speakers) + 1:
        return None
    return (
        f"at step {own[-1]['step']} the speaker head's loss is {own[-1]['speaker_loss']:.3f} nats, where guessing among "
        f"{speakers} speakers has {math.log(speakers):.3f}: the head is broken, the encoder not rid of them; give a smaller "
        "disentanglement.head_rate or reversal"
    )
