"""Parts that the configs of adversarial training share."""

from ml_collections import ConfigDict

from genjax.core.config import node


def evaluation(features: str, n: int = 50_000) -> ConfigDict | None:
    """Frechet distance over the named feature network ("" for no evaluation): `features=lenet`, `features=inception`.

    With weights in a file: --config.task.evaluation.path=FILE.
    """
    return node("genjax.metrics.evaluation.Evaluation", network=features, n=n) if features else None
