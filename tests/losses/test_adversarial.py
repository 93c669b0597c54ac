"""Adversarial losses: closed forms of the specification, penalties on networks whose gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.losses import adversarial as adv

LOSSES = ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein")


def test_values_at_equilibrium():
    zero = jnp.zeros(4)
    assert adv.discriminator_loss("minimax", zero, zero) == pytest.approx(1.3862943611, rel=1e-6)
    assert adv.generator_loss("non_saturating", zero) == pytest.approx(0.6931471806, rel=1e-6)
    assert adv.generator_loss("minimax", zero) == pytest.approx(-0.6931471806, rel=1e-6)


def test_the_best_discriminator_reaches_the_jensen_shannon_value():
    """V(D*) = -log 4 + 2 JSD: p = (.5, .5), q = (.9, .1)."""
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    a = jnp.log(p / q)  # the logit of p / (p + q)
    real = jnp.repeat(a, jnp.array([5, 5]))
    fake = jnp.repeat(a, jnp.array([9, 1]))
    assert -adv.discriminator_loss("minimax", real, fake) == pytest.approx(-1.1827959110, rel=1e-6)


def test_gradients_of_a_confident_discriminator():
    a = jnp.array([-5.0])
    saturating = jax.grad(lambda a: adv.generator_loss("minimax", a))(a)[0]
    not_saturating = jax.grad(lambda a: adv.generator_loss("non_saturating", a))(a)[0]
    assert saturating == pytest.approx(-0.0066928509, rel=1e-5)
    assert not_saturating == pytest.approx(-0.9933071491, rel=1e-6)
    assert not_saturating / saturating == pytest.approx(148.4, rel=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_each_network_wants_what_it_should(name):
    """Lower where the discriminator tells right, and where the generator fools it."""
    right, wrong = (jnp.array([1.0]), jnp.array([-1.0])), (jnp.array([-1.0]), jnp.array([1.0]))
    assert adv.discriminator_loss(name, *right) < adv.discriminator_loss(name, *wrong)
    assert adv.generator_loss(name, jnp.array([0.9])) < adv.generator_loss(name, jnp.array([-1.0]))


def test_values_of_the_others():
    real, fake = jnp.array([2.0, 0.0]), jnp.array([0.5, -3.0])
    assert adv.discriminator_loss("least_squares", real, fake) == pytest.approx((1 + (0.25 + 9) / 2) / 2)
    assert adv.generator_loss("least_squares", fake) == pytest.approx((0.25 + 16) / 4)
    assert adv.discriminator_loss("hinge", real, fake) == pytest.approx(0.5 + 0.75)
    assert adv.discriminator_loss("wasserstein", real, fake) == pytest.approx(-2.25)
    assert adv.generator_loss("hinge", fake) == adv.generator_loss("wasserstein", fake) == pytest.approx(1.25)


def test_names_are_checked():
    with pytest.raises(UserError, match=r"did you mean 'hinge'\? .*register\(NAME.*loss=MODULE.NAME"):
        adv.generator_loss("hing", jnp.zeros(1))
    with pytest.raises(UserError, match="'no_such_module.hinge': no module named 'no_such_module'"):
        adv.generator_loss("no_such_module.hinge", jnp.zeros(1))
    with pytest.raises(UserError, match="convention"):
        adv.zero_centred_penalty(jnp.ones(1), 1.0, "double")


def _relativistic():
    """The paired loss of R3GAN: softplus of how much more real the other's picture of the pair looks."""
    return (lambda real, fake: jnp.logaddexp(0, fake - real).mean(),
            lambda real, fake: jnp.logaddexp(0, real - fake).mean())


@pytest.fixture
def registered(monkeypatch):
    """The relativistic loss under this name, for one test."""
    monkeypatch.setattr(adv, "_LOSSES", dict(adv._LOSSES))
    adv.register("relativistic", *_relativistic(), paired=True)
    return "relativistic"


def test_a_registered_loss_sees_the_pairs(registered):
    """Recorded from brownvc/R3GAN, R3GAN/Trainer.py: AdversarialTraining's losses and gradients with G(z) = .7 z,
    D(x) = 1.5 x, gamma 0, z = cos(0..3) and x = sin(0..3)."""
    z, x = jnp.cos(jnp.arange(4.0)), jnp.sin(jnp.arange(4.0))

    def generator(g):
        return adv.generator_loss(registered, 1.5 * g * z, lambda: 1.5 * x)

    def discriminator(d):
        return adv.discriminator_loss(registered, d * x, d * 0.7 * z)

    for loss, at, value, slope in ((generator, 0.7, 1.21410573, 0.19021788),
                                   (discriminator, 1.5, 0.53986531, 0.00213468)):
        assert loss(at) == pytest.approx(value, rel=1e-5)
        assert jax.grad(loss)(at) == pytest.approx(slope, rel=1e-4, abs=1e-7)
    with pytest.raises(UserError, match="'relativistic' needs real logits"):
        adv.generator_loss(registered, z)


def test_others_are_not_asked_for_real_logits():
    def never():
        raise AssertionError

    assert np.isfinite(adv.generator_loss("hinge", jnp.ones(2), never))


def test_names_that_cannot_be_registered(registered):
    for name in ("hinge", "a.b"):
        with pytest.raises(UserError, match="must be a new name without a dot"):
            adv.register(name, *_relativistic(), paired=True)
    adv.register(registered, lambda real, fake: fake.sum(), lambda fake: 5.0)  # a module that is imported again
    assert adv.generator_loss(registered, jnp.zeros(1)) == 5


def _critic(w):
    return lambda x: jnp.tanh(x.reshape(x.shape[0], -1) @ w) @ jnp.arange(1.0, 4.0)


def test_squared_gradient_and_its_gradient_against_finite_differences():
    with jax.enable_x64(True):
        w = jax.random.normal(jax.random.key(0), (8, 3), jnp.float64)
        x = jax.random.normal(jax.random.key(1), (2, 2, 4, 1), jnp.float64)

        def r1(w):
            return adv.zero_centred_penalty(adv.squared_gradient(_critic(w), x), 10.0, "half")

        step, eye = 1e-5, np.eye(x[0].size).reshape(-1, *x.shape[1:])
        slopes = np.array([[(_critic(w)(x[i:i + 1] + step * e) - _critic(w)(x[i:i + 1] - step * e))[0] / (2 * step)
                            for e in eye] for i in range(2)])
        assert np.allclose(adv.squared_gradient(_critic(w), x), (slopes**2).sum(1), rtol=1e-7)
        assert r1(w) == pytest.approx(5 * (slopes**2).sum(1).mean(), rel=1e-7)
        grad = jax.grad(r1)(w)
        for at in ((0, 0), (5, 2)):
            bump = jnp.zeros_like(w).at[at].set(step)
            assert grad[at] == pytest.approx(float(r1(w + bump) - r1(w - bump)) / (2 * step), rel=1e-6)


def test_the_conventions_of_gamma():
    s = jnp.array([1.0, 3.0])
    assert adv.zero_centred_penalty(s, 10.0, "whole") == adv.zero_centred_penalty(s, 20.0, "half") == 20.0
    assert adv.zero_centred_penalty(s, 10.0, "pixels", 16) == 1.25


def test_wgan_penalty_of_a_linear_critic():
    """Its gradient is (3, 4) everywhere, of norm 5."""
    real, fake = jax.random.normal(jax.random.key(0), (2, 6, 2))
    got = adv.gradient_penalty(lambda x: x @ jnp.array([3.0, 4.0]), real, fake, jax.random.key(1), 10.0)
    assert got == pytest.approx(160.0, rel=1e-5)
    assert adv.gradient_penalty(lambda x: x @ jnp.array([3.0, 4.0]), real, fake, jax.random.key(1), 10.0,
                                750.0) == pytest.approx(10 * 745**2 / 750**2, rel=1e-5)
    flat = jax.grad(lambda c: adv.gradient_penalty(lambda x: c * x.sum(1), real, fake, jax.random.key(1)))(0.0)
    assert np.isfinite(flat)


def test_wgan_penalty_is_taken_between_the_pairs():
    seen = []

    def critic(x):
        seen.append(x)
        return x.sum(1)

    adv.gradient_penalty(critic, jnp.zeros((50, 1)), jnp.ones((50, 1)), jax.random.key(0))
    t = np.asarray(jax.lax.stop_gradient(seen[0].primal if hasattr(seen[0], "primal") else seen[0]))
    assert t.min() > 0 and t.max() < 1 and t.std() > 0.2


def test_drift():
    assert adv.drift(jnp.array([3.0, -1.0])) == pytest.approx(5e-3)


def test_path_lengths_of_a_linear_generator():
    """images = A w: E |A^T y|^2 = tr(A^T A) / (H W)."""
    h = w = 16
    d, n = 8, 400
    a = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (h * w, d)))[0] * 3.0
    latents = jax.random.normal(jax.random.key(1), (n, d))
    lengths = adv.path_lengths(lambda w: (w @ a.T).reshape(n, 16, 16, 1), latents, jax.random.key(2))
    assert lengths.shape == (n,)
    assert jnp.square(lengths).mean() == pytest.approx(9 * d / (h * w), rel=0.1)
    layers = adv.path_lengths(lambda w: (w.sum(1) @ a.T).reshape(n, 16, 16, 1),
                              jnp.repeat(latents[:, None], 5, 1), jax.random.key(2))
    assert np.allclose(layers, lengths, rtol=1e-5), "the mean over layers, each of which moves the image alike"


def test_path_length_penalty_of_the_authors_and_its_gradient(monkeypatch):
    """Recorded from NVlabs/stylegan2-ada-pytorch, training/loss.py: StyleGAN2Loss.accumulate_gradients("Greg") with
    pl_weight 2, gain 4, pl_mean .3, two latents on three layers, images tanh((w_1 + 2 w_2 + 3 w_3) a) of 2 x 2 pixels
    and a fixed pattern for the random images."""
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype: jnp.cos(jnp.arange(8.0)).reshape(shape))
    z = jnp.cos(0.5 * jnp.arange(4.0)).reshape(2, 2)
    ws, a = jnp.repeat(z[:, None], 3, 1), jnp.sin(1 + jnp.arange(8.0)).reshape(2, 4)

    def weighted(a):
        def images(w):
            return jnp.tanh(jnp.einsum("nld,l->nd", w, jnp.arange(1.0, 4.0)) @ a).reshape(2, 2, 2, 1)

        penalty, mean = adv.path_length_penalty(adv.path_lengths(images, ws, jax.random.key(0)), jnp.float32(0.3))
        return 2 * 4 * penalty, (penalty, mean)

    grad, (penalty, mean) = jax.grad(weighted, has_aux=True)(a)
    assert penalty == pytest.approx(1.9067721, rel=1e-5) and mean == pytest.approx(0.3107367, rel=1e-5)
    assert np.allclose(grad, [[10.576127, -0.10253608, -2.3001292, -101.60533],
                              [-12.819805, -0.10736834, 0.53656065, -74.926827]], rtol=1e-4)


def test_path_length_penalty_moves_its_mean_first_and_keeps_a_copy_without_gradient():
    lengths, mean = jnp.array([1.0, 3.0]), jnp.float32(1.0)
    penalty, new = adv.path_length_penalty(lengths, mean)
    assert new == pytest.approx(1.01) and penalty == pytest.approx((0.01**2 + 1.99**2) / 2, rel=1e-5)
    grad = jax.grad(lambda x: adv.path_length_penalty(x, mean)[0])(lengths)
    assert np.allclose(grad, [-0.01 - 0.0099, 1.99 - 0.0099], atol=1e-6), "of each length's two ways"
    assert (jax.grad(lambda x: adv.path_length_penalty(x, mean)[1])(lengths) == 0).all()


def test_gradient_of_the_path_length_against_finite_differences():
    with jax.enable_x64(True):
        w = jax.random.normal(jax.random.key(0), (2, 3), jnp.float64)
        a = jax.random.normal(jax.random.key(1), (3, 4), jnp.float64)

        def penalty(a):
            lengths = adv.path_lengths(lambda w: jnp.tanh(w @ a).reshape(2, 2, 2, 1), w, jax.random.key(3))
            return adv.path_length_penalty(lengths, jnp.float64(0.3))[0]

        grad, step = jax.grad(penalty)(a), 1e-6
        bump = jnp.zeros_like(a).at[1, 2].set(step)
        want = float(penalty(a + bump) - penalty(a - bump)) / (2 * step)
        assert grad[1, 2] == pytest.approx(want, rel=1e-6)


def test_lazy_adam():
    assert adv.lazy_adam(0.0025, 0.0, 0.99, 16) == pytest.approx((0.00235294, 0.0, 0.9905854573), rel=1e-5)
    assert adv.lazy_adam(0.0025, 0.0, 0.99, 4) == pytest.approx((0.002, 0.0, 0.9919919678), rel=1e-7)
    assert adv.lazy_adam(0.0025, 0.5, 0.99, 0) == (0.0025, 0.5, 0.99)
