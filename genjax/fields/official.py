"""Weights of the authors' GIRAFFE code, as parameters of ours.

Names of theirs are those of the generator's state dict: "decoder.fc_in.weight", "background_generator. ...",
"neural_renderer. ..."; linear weights there are [Co,Ci] and convolutions [Co,Ci,k,k].
"""

import re
from collections.abc import Mapping

import numpy as np

from genjax.errors import UserError

_PARTS = {"decoder": "decoder", "background_generator": "background", "neural_renderer": "renderer"}
_LISTS = (("blocks.", "layers_"), ("fc_z_skips.", "fc_z_skips_"), ("fc_p_skips.", "fc_p_skips_"),
          ("conv_layers.", "conv_"), ("conv_rgb.", "conv_rgb_"))


def generator_params(state: Mapping[str, np.ndarray]) -> dict:
    """The parameters of `giraffe.Generator` from the authors' generator.

    Args:
      state: names to arrays, without the prefix "generator.".

    Raises:
      UserError: a name that the generator does not have.
    """
    params: dict = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        layer, _, kind = rest.rpartition(".")
        if part not in _PARTS or kind not in ("weight", "bias") or not re.fullmatch(r"\w+(\.\d+)?", layer):
            raise UserError(f"{name!r} is no parameter of GIRAFFE's generator; give its state dict alone")
        for theirs, ours in _LISTS:
            if layer.startswith(theirs):
                layer = ours + layer[len(theirs):]
        value = np.asarray(value, np.float32)
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        at = params.setdefault(_PARTS[part], {})
        if layer == "feat_out":
            at[{"weight": "feat_kernel", "bias": "feat_bias"}[kind]] = value
        else:
            at.setdefault(layer, {})[{"weight": "kernel", "bias": "bias"}[kind]] = value
    return params
