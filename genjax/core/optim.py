"""Optimisers as config targets: optax with a schedule, warm-up, clipping and decay in one flat node.

Any optax factory is a valid target too (`node("optax.lion", learning_rate=1e-4)`); these three add what configs need
most and spell out the reference frameworks' defaults (PyTorch's RMSprop differs from optax's).
"""

from typing import Literal

import optax

from genjax.errors import UserError
from genjax.losses import adversarial

Schedule = Literal["constant", "cosine", "linear", "exponential", "step"]


def make_schedule(learning_rate: float, schedule: Schedule, warmup_steps: int, decay_steps: int,
                  end_factor: float) -> optax.Schedule:
    """Learning rate against step: linear warm-up from 0, then the schedule over `decay_steps` down to
    `end_factor * learning_rate` ("step" multiplies by `end_factor` every `decay_steps`)."""
    if schedule != "constant" and decay_steps <= 0:
        raise UserError(f"schedule {schedule!r} needs decay_steps > 0")
    end = end_factor * learning_rate
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, decay_steps, alpha=end_factor),
        "linear": lambda: optax.linear_schedule(learning_rate, end, decay_steps),
        "exponential": lambda: optax.exponential_decay(learning_rate, decay_steps, end_factor, end_value=end),
        "step": lambda: optax.exponential_decay(learning_rate, decay_steps, end_factor, staircase=True),
    }[schedule]()
    if warmup_steps <= 0:
        return main
    warm = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warm, main], [warmup_steps])


def _rate(learning_rate, schedule, warmup_steps, decay_steps, end_factor):
    if learning_rate < 0:
        raise UserError(f"learning_rate must not be negative, got {learning_rate}")
    if schedule == "constant" and warmup_steps <= 0:
        return learning_rate
    return make_schedule(learning_rate, schedule, warmup_steps, decay_steps, end_factor)


def _clipped(tx, clip_norm, clip_value):
    parts = []
    if clip_value > 0:
        parts.append(optax.clip(clip_value))
    if clip_norm > 0:
        parts.append(optax.clip_by_global_norm(clip_norm))
    return optax.chain(*parts, tx) if parts else tx


def adam(learning_rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
         weight_decay: float = 0.0, l2: float = 0.0, schedule: Schedule = "constant", warmup_steps: int = 0,
         decay_steps: int = 0, end_factor: float = 0.0, clip_norm: float = 0.0,
         clip_value: float = 0.0) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015); with `weight_decay` > 0 AdamW (decoupled decay), with `l2` > 0 l2 * parameter is added
    to the gradient (PyTorch's and Theano's weight decay). Clipping is off at 0."""
    rate = _rate(learning_rate, schedule, warmup_steps, decay_steps, end_factor)
    if weight_decay > 0:
        tx = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    else:
        tx = optax.adam(rate, b1=b1, b2=b2, eps=eps)
    if l2 > 0:
        tx = optax.chain(optax.add_decayed_weights(l2), tx)
    return _clipped(tx, clip_norm, clip_value)


def sgd(learning_rate: float = 1e-2, momentum: float = 0.0, nesterov: bool = False, schedule: Schedule = "constant",
        warmup_steps: int = 0, decay_steps: int = 0, end_factor: float = 0.0, clip_norm: float = 0.0,
        clip_value: float = 0.0) -> optax.GradientTransformation:
    """Stochastic gradient descent with optional (Nesterov) momentum."""
    rate = _rate(learning_rate, schedule, warmup_steps, decay_steps, end_factor)
    tx = optax.sgd(rate, momentum=momentum if momentum > 0 else None, nesterov=nesterov)
    return _clipped(tx, clip_norm, clip_value)


def rmsprop(learning_rate: float = 1e-2, decay: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
            schedule: Schedule = "constant", warmup_steps: int = 0, decay_steps: int = 0, end_factor: float = 0.0,
            clip_norm: float = 0.0, clip_value: float = 0.0,
            halve_at: tuple[int, ...] = ()) -> optax.GradientTransformation:
    """RMSprop with PyTorch's conventions: decay .99 and eps outside the square root. `halve_at`: steps at each of which
    the learning rate is halved."""
    rate = _rate(learning_rate, schedule, warmup_steps, decay_steps, end_factor)
    if halve_at:
        if schedule != "constant" or warmup_steps > 0:
            raise UserError("halve_at goes with a constant schedule without warm-up")
        rate = optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(halve_at, 0.5))
    tx = optax.rmsprop(rate, decay=decay, eps=eps, eps_in_sqrt=False, momentum=momentum if momentum > 0 else None)
    return _clipped(tx, clip_norm, clip_value)


def lazy_adam(learning_rate: float = 0.002, b1: float = 0.0, b2: float = 0.99, eps: float = 1e-8,
              every: int = 16) -> optax.GradientTransformation:
    """Adam for a network with lazy regularisation: settings corrected for one more step in every `every` (0: none).

    See `genjax.losses.adversarial.lazy_adam`.
    """
    rate, b1, b2 = adversarial.lazy_adam(learning_rate, b1, b2, every)
    return optax.adam(rate, b1=b1, b2=b2, eps=eps)
