"""Inception score, of any classifier's logits.

Letters: p(y|x) [N,k] class probabilities of each image, p(y) [k] their mean over a split.

    exp E_x KL(p(y|x) || p(y))

Source: Salimans et al., "Improved techniques for training GANs", 2016.
"""

import numpy as np

from genjax.errors import UserError


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """The score from 1 (all images alike, or the classifier at a loss) to k.

    Args:
      logits: [N,k], in the order of drawing; split i is the i-th tenth of them, as in the authors' code.
      splits: parts, each scored with its own p(y). Small parts score lower: it belongs to the recipe.

    Returns:
      (mean, standard deviation) over the splits.
    """
    if splits < 1 or len(logits) < splits:
        raise UserError(f"{len(logits)} images do not fill {splits} splits; set splits to at most that")
    logits = np.asarray(logits, np.float64)
    log_p = logits - logits.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    scores = []
    for i in range(splits):
        part = log_p[i * len(log_p) // splits : (i + 1) * len(log_p) // splits]
        p = np.exp(part)
        marginal = np.log(np.maximum(p.mean(0), np.finfo(np.float64).tiny))  # a class that never comes adds 0
        scores.append(np.exp((p * (part - marginal)).sum(-1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
