"""Adversarial losses on logits, and the gradient penalties that go with them.

Letters: a = D(x) logits [N] (the probability of "real" is sigmoid(a)), x images [N,...], g the gradient of a sample's
logit with respect to its image, z and w latents. Losses are means over the batch, minimised by the network they are
named after. Sources: Goodfellow et al. 2014 (arXiv:1406.2661) eq. 1 and section 3; Mao et al. 2017 (1611.04076) eq. 9;
Lim and Ye 2017 (1705.02894); Arjovsky et al. 2017 (1701.07875) eq. 2; Gulrajani et al. 2017 (1704.00028) eq. 3;
Mescheder et al. 2018 (1801.04406) eq. 9, 10; Karras et al. 2018 (1710.10196) appendix A.1; Karras et al. 2020
(1912.04958) section 3.2 and appendix B; and the authors' code where named.
"""

import importlib
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax.errors import UserError, unknown

Convention = Literal["half", "whole", "pixels"]

softplus = jax.nn.softplus


class AdversarialLoss(NamedTuple):
    """What the two networks minimise.

    Attributes:
      discriminator: (real, fake) -> scalar, logits [N] each; the i-th real and the i-th fake one are a pair.
      generator: (fake) -> scalar, or (real, fake) -> scalar where `paired`.
      paired: the generator's loss is a function of both networks' pictures, as relativistic ones are.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[..., jax.Array]
    paired: bool = False


def _jensen_shannon(real, fake):
    return softplus(-real).mean() + softplus(fake).mean()


_BUILTIN = {
    "minimax": AdversarialLoss(_jensen_shannon, lambda fake: -softplus(fake).mean()),
    "non_saturating": AdversarialLoss(_jensen_shannon, lambda fake: softplus(-fake).mean()),
    "least_squares": AdversarialLoss(lambda real, fake: (jnp.square(real - 1).mean() + jnp.square(fake).mean()) / 2,
                                     lambda fake: jnp.square(fake - 1).mean() / 2),
    "hinge": AdversarialLoss(lambda real, fake: jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean(),
                             lambda fake: -fake.mean()),
    "wasserstein": AdversarialLoss(lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}
_LOSSES = dict(_BUILTIN)


def register(name: str, discriminator: Callable[[jax.Array, jax.Array], jax.Array], generator: Callable[..., jax.Array],
             paired: bool = False) -> None:
    """Adds a loss that configs can name; a module anywhere may call it when it is imported.

    `config.task.loss = "my_losses.relativistic"` imports the module `my_losses`, which registers "relativistic", and so
    does every later verb on the run. The bare name is enough where the module is imported anyhow.

    Args:
      name: of the loss, without a dot. Registering it again replaces it.
      discriminator, generator, paired: see `AdversarialLoss`.

    Raises:
      UserError: a name with a dot, or that of a built-in loss.
    """
    if name in _BUILTIN or "." in name:
        raise UserError(f"cannot register an adversarial loss as {name!r}: it must be a new name without a dot")
    _LOSSES[name] = AdversarialLoss(discriminator, generator, paired)


def find(loss: str) -> AdversarialLoss:
    """The loss of a name, or of MODULE.NAME, whose module is imported first.

    Raises:
      UserError: nothing of this name is registered, or there is no such module.
    """
    module, _, name = loss.rpartition(".")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as e:
            if not (e.name and (module == e.name or module.startswith(e.name + "."))):
                raise
            raise UserError(f"adversarial loss {loss!r}: no module named {e.name!r}; it is looked for where Python"
                            " imports from") from None
    if name not in _LOSSES:
        raise UserError(f"{unknown('adversarial loss', name, _LOSSES)} One of your own: call genjax.losses.adversarial."
                        "register(NAME, discriminator, generator) in a module and set config.task.loss=MODULE.NAME")
    return _LOSSES[name]


LossName = Annotated[str, find]  # a config's value that is checked as soon as it is read


def discriminator_loss(loss: str, real: jax.Array, fake: jax.Array) -> jax.Array:
    """What the discriminator (or critic) minimises, a scalar.

    minimax and non_saturating: -E log D(x) - E log(1 - D(G(z))) = E softplus(-a_real) + E softplus(a_fake).
    least_squares: (E (a_real - 1)^2 + E a_fake^2) / 2. hinge: E relu(1 - a_real) + E relu(1 + a_fake).
    wasserstein: E a_fake - E a_real.

    Args:
      loss: which one, see `find`.
      real, fake: logits of the two batches, any shape.
    """
    return find(loss).discriminator(real, fake)


def generator_loss(loss: str, fake: jax.Array, real: Callable[[], jax.Array] | None = None) -> jax.Array:
    """What the generator minimises, a scalar.

    minimax (saturating): E log(1 - D(G(z))) = -E softplus(a); non_saturating: -E log D(G(z)) = E softplus(-a);
    least_squares: E (a - 1)^2 / 2; hinge and wasserstein: -E a. For an a that is confidently fake the saturating loss
    has a gradient of -sigmoid(a), near 0, the non-saturating one of -sigmoid(-a), near -1: 148 times more at a = -5.

    Args:
      loss: which one, see `find`.
      fake: logits of the generated batch.
      real: computes the logits of the real batch; called only for a `paired` loss, which needs it.
    """
    found = find(loss)
    if not found.paired:
        return found.generator(fake)
    if real is None:
        raise UserError(f"the adversarial loss {loss!r} needs real logits for the generator, which this task does not"
                        " give")
    return found.generator(real(), fake)


def _squared(g: jax.Array) -> jax.Array:
    return jnp.square(g.astype(jnp.promote_types(g.dtype, jnp.float32))).sum(tuple(range(1, g.ndim)))


def squared_gradient(logits: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """|g|^2 of each sample, summed over its pixels: [N].

    Args:
      logits: x [N,...] -> [N], sample by sample (a discriminator that mixes samples gives the sum's gradient, as
        everywhere in the field).
      x: where: real images for R1, generated ones for R2.
    """
    return squared_gradient_and_logits(logits, x)[0]


def squared_gradient_and_logits(logits: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`squared_gradient` [N], and the logits [N] that were differentiated."""
    def total(x):
        a = logits(x)
        return a.sum(), a

    g, a = jax.grad(total, has_aux=True)(x)
    return _squared(g), a


def zero_centred_penalty(squared: jax.Array, gamma: float, convention: Convention, pixels: int = 1) -> jax.Array:
    """R1 (at real images) or R2 (at generated ones) from `squared_gradient`, a scalar.

    Three conventions share the name gamma: "half", gamma / 2 E|g|^2, is that of Mescheder et al. and of StyleGAN;
    "whole", gamma E|g|^2, is that of the GAN_stability code and GIRAFFE, whose 10 is the other's 20; "pixels",
    gamma E|g|^2 / pixels, is that of the GRAF code, which hands GAN_stability's penalty a batch of rays, so that its
    mean runs over all pixels of all patches.

    Args:
      squared: [N].
      gamma, convention: the weight and what it means.
      pixels: of one image, for "pixels".
    """
    factors = {"half": gamma / 2, "whole": gamma, "pixels": gamma / pixels}
    if convention not in factors:
        raise unknown("convention of R1", convention, factors)
    return factors[convention] * squared.mean()


def gradient_penalty(logits: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, rng: jax.Array,
                     weight: float = 10.0, target: float = 1.0) -> jax.Array:
    """WGAN-GP: weight E (|g| - target)^2 / target^2 at points between the pairs (real_i, fake_i), a scalar.

    Args:
      logits: as in `squared_gradient`.
      real, fake: [N,...] each.
      rng: draws one place per pair, uniformly.
      weight: lambda.
      target: the norm asked for; the division is Progressive GAN's.
    """
    t = jax.random.uniform(rng, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    squared = squared_gradient(logits, real + t * (fake - real))
    norm = jnp.sqrt(squared + 1e-12)  # its gradient is finite where the critic is flat
    return weight * jnp.square(norm - target).mean() / target**2


def drift(real: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Progressive GAN's epsilon E a_real^2, which keeps a Wasserstein critic near zero."""
    return epsilon * jnp.square(real).mean()


def path_lengths(synthesis: Callable[[jax.Array], jax.Array], w: jax.Array, rng: jax.Array) -> jax.Array:
    """|J_w^T y| of each sample with y a random image: how far the image moves when w does; [N].

    Args:
      synthesis: w -> images [N,H,W,C].
      w: latents [N,L,d], one per layer (norms are taken over d and averaged in squares over L), or [N,d].
      rng: draws y, normal with variance 1/(H W): sum over all pixels of y * image is differentiated.
    """
    images, pull = jax.vjp(synthesis, w)
    y = jax.random.normal(rng, images.shape, images.dtype) / jnp.sqrt(images.shape[1] * images.shape[2])
    (g,) = pull(y)
    g = jnp.square(g.astype(jnp.promote_types(g.dtype, jnp.float32))).sum(-1)
    return jnp.sqrt((g.mean(1) if g.ndim > 1 else g) + 1e-12)


def path_length_penalty(lengths: jax.Array, mean: jax.Array, decay: float = 0.01) -> tuple[jax.Array, jax.Array]:
    """E (length - a)^2 with a the running mean of lengths, and the new a.

    The mean is moved first, a <- a + decay (E length - a). The penalty's gradient flows through this a too, of which
    `decay` is the lengths' own; only the a to keep is cut off from it. Source: NVlabs/stylegan2-ada-pytorch,
    training/loss.py.

    Args:
      lengths: of `path_lengths`.
      mean: a so far, a scalar that is kept in the training state; starts at 0.
      decay: how fast a follows.

    Returns:
      (penalty, a), scalars.
    """
    mean = mean + decay * (lengths.mean() - mean)
    return jnp.square(lengths - mean).mean(), jax.lax.stop_gradient(mean)


def lazy_adam(learning_rate: float, b1: float, b2: float, every: int) -> tuple[float, float, float]:
    """Adam's settings for a network regularised only at every k-th step: (lr c, b1^c, b2^c), c = k / (k + 1).

    Training behaves as if the k main steps and the regularising one were k + 1 steps of Adam. 0 changes nothing.
    Source: Karras et al. 2020, appendix B, "lazy regularization".
    """
    if every <= 0:
        return learning_rate, b1, b2
    c = every / (every + 1)
    return learning_rate * c, b1**c, b2**c
