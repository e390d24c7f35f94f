"""The learning rate, as a function of the update."""

import math

from bcdzoo.train.recipe import Stage


def learning_rate(stage: Stage, done: int) -> float:
    """Return the learning rate of the update after ``done`` others.

    It rises linearly from ``warmup_from`` to ``lr``, then falls by a cosine or linearly to 0 after the last update.
    """
    if done < stage.warmup:
        return stage.warmup_from + (stage.lr - stage.warmup_from) * done / stage.warmup
    progress = (done - stage.warmup) / (stage.iterations - stage.warmup)
    return stage.lr * (1 - progress if stage.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2)
