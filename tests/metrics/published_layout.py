"""Slow, obvious numpy versions of the published networks, on arrays under the published names and in their layout.

Letters: x [C,H,W], one picture; w [O,I,K,L].
"""

import numpy as np


def conv(x, w, b=None, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (1, 2))[:, ::stride, ::stride]
    y = np.einsum("ihwkl,oikl->ohw", windows, w, optimize=True)
    return y if b is None else y + b[:, None, None]


def relu(x):
    return np.maximum(x, 0)


def max_pool(x, size, stride, ceil=False):
    if ceil:
        after = [-(n - size) % stride for n in x.shape[1:]]
        x = np.pad(x, ((0, 0), (0, after[0]), (0, after[1])), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride].max((3, 4))


def norm(x, p, name, eps=1e-5):
    def at(what):
        return p[f"{name}.{what}"][:, None, None]

    return (x - at("running_mean")) / np.sqrt(at("running_var") + eps) * at("weight") + at("bias")


def squeezenet(x, p):
    """Outputs of torchvision's squeezenet1_1.features by their index, x normalised."""
    out = {}
    out[1] = x = relu(conv(x, p["features.0.weight"], p["features.0.bias"], 2))
    for i in (3, 4, 6, 7, 9, 10, 11, 12):
        if i in (3, 6, 9):
            x = max_pool(x, 3, 2, ceil=True)
        def part(x, name, padding=0, i=i):
            return relu(conv(x, p[f"features.{i}.{name}.weight"], p[f"features.{i}.{name}.bias"], 1, padding))

        s = part(x, "squeeze")
        out[i] = x = np.concatenate([part(s, "expand1x1"), part(s, "expand3x3", 1)])
    return out


def lenet(x, p):
    """Features and logits, x [1,32,32] in [0,1]."""
    x = max_pool(relu(conv(x, p["convnet.c1.weight"], p["convnet.c1.bias"])), 2, 2)
    x = max_pool(relu(conv(x, p["convnet.c3.weight"], p["convnet.c3.bias"])), 2, 2)
    x = relu(conv(x, p["convnet.c5.weight"], p["convnet.c5.bias"])).ravel()
    features = relu(p["fc.f6.weight"] @ x + p["fc.f6.bias"])
    return features, p["fc.f7.weight"] @ features + p["fc.f7.bias"]


def resnet20(x, p):
    """Features and logits, x normalised."""
    x = relu(norm(conv(x, p["conv1.weight"], padding=1), p, "bn1"))
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for i in range(3):
            n, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = relu(norm(conv(x, p[f"{n}.conv1.weight"], stride=stride, padding=1), p, f"{n}.bn1"))
            y = norm(conv(y, p[f"{n}.conv2.weight"], padding=1), p, f"{n}.bn2")
            if stride == 2:
                x = np.pad(x[:, ::2, ::2], ((width // 4, width // 4), (0, 0), (0, 0)))
            x = relu(x + y)
    x = x.mean((1, 2))
    return x, p["linear.weight"] @ x + p["linear.bias"]


def arrays(shapes, seed=0):
    """Random arrays {published name: float32} of those shapes, in a range where no layer dies."""
    rng, out = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        a = rng.normal(size=shape)
        if len(shape) > 1:
            a *= np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("running_var") or ".bn" in name and name.endswith("weight") or name == "bn1.weight":
            a = rng.uniform(0.5, 1.5, shape)
        else:
            a *= 0.1
        out[name] = a.astype(np.float32)
    return out


SQUEEZENET = {"features.0": (64, 3, 3, 3), "classifier.1": (1000, 512, 1, 1)}
_width = 64
for _i, _s, _e in ((3, 16, 64), (4, 16, 64), (6, 32, 128), (7, 32, 128), (9, 48, 192), (10, 48, 192), (11, 64, 256),
                   (12, 64, 256)):
    SQUEEZENET |= {f"features.{_i}.squeeze": (_s, _width, 1, 1), f"features.{_i}.expand1x1": (_e, _s, 1, 1),
                   f"features.{_i}.expand3x3": (_e, _s, 3, 3)}
    _width = 2 * _e
LENET = {"convnet.c1": (6, 1, 5, 5), "convnet.c3": (16, 6, 5, 5), "convnet.c5": (120, 16, 5, 5), "fc.f6": (84, 120),
         "fc.f7": (10, 84)}
SQUEEZENET, LENET = ({f"{n}.{k}": v for n, s in t.items() for k, v in (("weight", s), ("bias", s[:1]))}
                     for t in (SQUEEZENET, LENET))
RESNET20 = {"conv1.weight": (16, 3, 3, 3), "linear.weight": (10, 64), "linear.bias": (10,)}
RESNET20 |= {f"bn1.{k}": (16,) for k in ("weight", "bias", "running_mean", "running_var")}
for _stage, _c in ((1, 16), (2, 32), (3, 64)):
    for _i in range(3):
        _n, _from = f"layer{_stage}.{_i}", _c // 2 if _stage > 1 and _i == 0 else _c
        RESNET20 |= {f"{_n}.conv1.weight": (_c, _from, 3, 3), f"{_n}.conv2.weight": (_c, _c, 3, 3)}
        RESNET20 |= {f"{_n}.bn{_j}.{k}": (_c,) for _j in (1, 2)
                     for k in ("weight", "bias", "running_mean", "running_var")}
