"""The original adversarial nets on MNIST (Goodfellow et al. 2014): two perceptrons, maxout against ReLU.

Settings of the authors' mnist.yaml: batch 100, SGD .1 with momentum .5 to .7 over 250 epochs, dropout, z uniform.

    python launch.py train --config gan/goodfellow --config.data.source=idx:/data/mnist
    python launch.py train --config gan/goodfellow:small

Expected: Parzen-window log-likelihood 225 +- 2 nats (the paper; not run here).
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg


def get_config(arg: str = ""):
    """Structural arguments: small (scikit-learn's digits, 8 x 8, narrower nets), res, channels, features."""
    a = parse_arg(arg, small=False, res=0, channels=1, features="")
    res = a.res or (8 if a.small else 28)
    epoch = 18 if a.small else 500
    hidden, units = ((256, 256), (64, 64)) if a.small else ((1200, 1200), (240, 240))
    return experiment(
        task=node("genjax.gan.goodfellow.MarginalBias", data="@data",
                  generator=node("genjax.gan.goodfellow.Generator", image_shape=(res, res, a.channels), hidden=hidden),
                  discriminator=node("genjax.gan.goodfellow.Discriminator", units=units),
                  g_optimizer="@optimizer", d_optimizer="@optimizer", prior="uniform", prior_bound=3**0.5,
                  value_range=(0.0, 1.0), evaluation=evaluation(a.features)),
        data=node("genjax.data.pipeline.Pipeline", source="builtin:digits", image_size=res, channels=a.channels,
                  batch_size=100, value_range=(0.0, 1.0)),
        optimizer=node("genjax.gan.goodfellow.momentum_sgd", saturate=250 * epoch),
        train=node("genjax.core.experiment.TrainOptions", steps="1000 epochs", steps_per_call=10, log_every=10,
                   save_every=2000, preview_every=2000),
        smoke=("data.batch_size=8", "task.preview_images=4", "task.bias_images=16", "task.generator.hidden=(8, 8)",
               "task.discriminator.units=(8, 8)"),
    )
