"""2-D convolution and transposed convolution, NHWC x HWIO, that are fast on the CPU in both directions.

Letters: x[N,H,W,I] input, w[K,L,I,O] kernel, y[N,P,Q,O] output, s stride, ((t,b),(l,r)) zero padding.

A convolution y = F(x, w) is linear in x and in w, so it comes with two siblings: the data gradient
x = D(y, w), which is also the transposed convolution, and the weight gradient w = W(x, y). The derivative of
each of the three is made of the other two,

    F(x, w):  dx = D(dy, w)   dw = W(x, dy)
    D(y, w):  dy = F(dx, w)   dw = W(dx, y)
    W(x, y):  dx = D(y, dw)   dy = F(x, dw)

so three `custom_vjp` functions are closed under reverse-mode differentiation of any order (gradient penalties
need two). Forward mode (`jax.jvp`) is not defined here: JAX refuses with a TypeError.

Which arithmetic runs is decided when XLA lowers for a platform (`lax.platform_dependent`), not from the
default backend: so it follows the device a jit runs on, and the branch not taken leaves no trace in the
program, also under sharding. CPU: `genjax.ops.conv_cpu`. GPU and TPU: XLA's own convolution for all three.

Under `jax.vmap` a batched kernel makes XLA build a grouped convolution, which the CPU runs many times slower
than the separate ones: there each of the three is a `custom_vmap` that folds the mapped axis into N, I or O
where that is possible and otherwise loops over it; GPU and TPU keep the grouped form.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from genjax.errors import UserError
from genjax.ops import conv_cpu
from genjax.ops.pad import pad2d

DIMS = ("NHWC", "HWIO", "NHWC")


class Geometry(NamedTuple):
    """What F, D and W must know besides their two arrays; static."""

    stride: int
    pads: tuple[tuple[int, int], tuple[int, int]]
    image: tuple[int, int]  # H, W
    kernel: tuple[int, int]  # K, L

    @property
    def out(self):
        """P, Q."""
        return tuple(
            (n + lo + hi - k) // self.stride + 1
            for n, (lo, hi), k in zip(self.image, self.pads, self.kernel, strict=True)
        )


# ---------------------------------------------------------------- XLA's own convolution


def _native(kind, g, a, b):
    s = g.stride
    los = [lo for lo, _ in g.pads]
    if kind == "F":
        return lax.conv_general_dilated(a, b, (s, s), g.pads, dimension_numbers=DIMS)
    span = [(o - 1) * s + 1 for o in g.out]  # y with s-1 zeros between its rows
    if kind == "D":
        pads = [
            (kk - 1 - lo, n + lo - sp) for kk, lo, n, sp in zip(g.kernel, los, g.image, span, strict=True)
        ]
        return lax.conv_general_dilated(
            a,
            jnp.flip(b, (0, 1)).swapaxes(2, 3),
            (1, 1),
            pads,
            lhs_dilation=(s, s),
            dimension_numbers=DIMS,
        )
    pads = [(lo, kk - n - lo + sp - 1) for kk, lo, n, sp in zip(g.kernel, los, g.image, span, strict=True)]
    return lax.conv_general_dilated(
        a, b, (1, 1), pads, rhs_dilation=(s, s), dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


# ---------------------------------------------------------------- one kernel per kind: platform and vmap


def _dispatch(kind, g, a, b):
    return lax.platform_dependent(
        a,
        b,
        cpu=functools.partial(conv_cpu.KERNELS[kind], g),
        default=functools.partial(_native, kind, g),
    )


# kind -> the axis of the result, and of each argument, that a mapped axis folds into when it is the only one mapped
#   F(x, w) -> y,  D(y, w) -> x,  W(x, y) -> w
_FOLD = {
    "F": {"a": (0, 0), "b": (3, 3)},  # x: N -> y's N;  w: O -> y's O
    "D": {"a": (0, 0), "b": (2, 3)},  # y: N -> x's N;  w: I -> x's I
    "W": {"a": (3, 2), "b": (3, 3)},  # x: I -> w's I;  y: O -> w's O
}


def _fold(v, axis):
    """[B, ...] -> the mapped axis B merged in front of `axis` of the rest."""
    v = jnp.moveaxis(v, 0, axis)
    return v.reshape(*v.shape[:axis], v.shape[axis] * v.shape[axis + 1], *v.shape[axis + 2 :])


def _unfold(v, axis, size):
    v = v.reshape(*v.shape[:axis], size, v.shape[axis] // size, *v.shape[axis + 1 :])
    return jnp.moveaxis(v, axis, 0)


@functools.cache
def _kernel(kind, g):
    """F, D or W for one geometry as a function of its two arrays that knows how to be vmapped."""

    @custom_vmap
    def kernel(a, b):
        return _dispatch(kind, g, a, b)

    @kernel.def_vmap
    def rule(size, mapped, a, b):
        def cpu(a, b):
            if all(mapped):
                # through `kernel` again, so that a second vmap around this one finds the rule too
                return lax.map(lambda ab: kernel(*ab), (a, b))
            into, back = _FOLD[kind]["a" if mapped[0] else "b"]
            y = kernel(_fold(a, into), b) if mapped[0] else kernel(a, _fold(b, into))
            return _unfold(y, back, size)

        def grouped(a, b):
            return jax.vmap(functools.partial(_native, kind, g), [0 if m else None for m in mapped])(a, b)

        return lax.platform_dependent(a, b, cpu=cpu, default=grouped), True

    return kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _f(g, x, w):
    return _kernel("F", g)(x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _d(g, y, w):
    return _kernel("D", g)(y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _w(g, x, y):
    return _kernel("W", g)(x, y)


_f.defvjp(lambda g, x, w: (_f(g, x, w), (x, w)), lambda g, xw, dy: (_d(g, dy, xw[1]), _w(g, xw[0], dy)))
_d.defvjp(lambda g, y, w: (_d(g, y, w), (y, w)), lambda g, yw, dx: (_f(g, dx, yw[1]), _w(g, dx, yw[0])))
_w.defvjp(lambda g, x, y: (_w(g, x, y), (x, y)), lambda g, xy, dw: (_d(g, xy[1], dw), _f(g, xy[0], dw)))


# ---------------------------------------------------------------- public


def _check(x, w, what):
    if x.ndim != 4 or w.ndim != 4:
        raise UserError(
            f"{what} wants an image [N,H,W,I] and a kernel [K,L,I,O], got {tuple(x.shape)} and {tuple(w.shape)}"
        )
    if x.shape[3] != w.shape[2]:
        raise UserError(
            f"{what}: the image has {x.shape[3]} channels, the kernel expects {w.shape[2]} "
            f"(shapes {tuple(x.shape)} and {tuple(w.shape)})"
        )
    if x.dtype != w.dtype:
        raise UserError(f"{what}: image is {x.dtype}, kernel {w.dtype}; cast one of them")


def conv2d(x, w, *, stride=1, padding="SAME", pad_mode="zero"):
    """2-D cross-correlation (what deep learning calls convolution): y[p,q] = sum_kl x[s p + k - t, s q + l - l] w[k,l].

    Args:
      x: [N,H,W,I], any float dtype.
      w: [K,L,I,O], same dtype.
      stride: s >= 1, for both axes.
      padding: "SAME" pads (K-1)//2 and (L-1)//2 on both sides, as torch code does by hand, also at stride 2
        (TensorFlow's "SAME" differs there); "VALID" pads nothing; an int pads every side; ((t,b),(l,r)).
      pad_mode: "zero", "reflect" (edge pixel not repeated), "edge" or "circular".

    Returns:
      [N,P,Q,O] in x's dtype, P = (H + t + b - K) // s + 1.

    Raises:
      UserError: shapes, dtypes or padding that do not fit.
    """
    _check(x, w, "conv2d")
    k, l = w.shape[:2]
    if padding == "SAME":
        pads = (((k - 1) // 2,) * 2, ((l - 1) // 2,) * 2)
    elif padding == "VALID":
        pads = ((0, 0), (0, 0))
    elif isinstance(padding, int):
        pads = ((padding, padding), (padding, padding))
    elif isinstance(padding, str):
        raise UserError(f"padding must be 'SAME', 'VALID', an int or ((t,b),(l,r)), got {padding!r}")
    else:
        pads = tuple((int(lo), int(hi)) for lo, hi in padding)
    if pad_mode != "zero":
        x = pad2d(x, pads, pad_mode)
        pads = ((0, 0), (0, 0))
    g = Geometry(int(stride), pads, x.shape[1:3], (k, l))
    if min(g.out) < 1:
        raise UserError(f"conv2d: a {k}x{l} kernel does not fit an image of {x.shape[1:3]} with padding {pads}")
    return _f(g, x, w)


def conv_transpose2d(x, w, *, stride=2, padding=1, output_padding=0):
    """Transposed convolution with the semantics of torch's ConvTranspose2d: every pixel paints a K x L stamp.

    It is the data gradient D of a convolution with this stride and padding; torch's weight [I,O,K,L] becomes
    w = weight.transpose(2, 3, 0, 1), not flipped.

    Args:
      x: [N,H,W,I].
      w: [K,L,I,O], same dtype.
      stride: s >= 1.
      padding: p, the rows and columns cut from every side of the painted image, or ((t,b),(l,r)). A 5x5 kernel that
        doubles: ((1,2),(1,2)) is TensorFlow's "SAME"; 2 with output_padding 1 is Theano's half padding.
      output_padding: rows and columns less to cut at the bottom and on the right.

    Returns:
      [N, (H-1) s - t - b + K + output_padding, (W-1) s - l - r + L + output_padding, O].

    Raises:
      UserError: shapes, dtypes or padding that do not fit.
    """
    _check(x, w, "conv_transpose2d")
    pads = ((padding,) * 2,) * 2 if isinstance(padding, int) else tuple((int(lo), int(hi)) for lo, hi in padding)
    if not 0 <= output_padding < stride:
        raise UserError(f"conv_transpose2d: output_padding {output_padding} must lie in 0..stride - 1 = {stride - 1}")
    image = tuple((n - 1) * stride - lo - hi + k + output_padding
                  for n, k, (lo, hi) in zip(x.shape[1:3], w.shape[:2], pads, strict=True))
    if min(image) < 1:
        raise UserError(f"conv_transpose2d: padding {padding} cuts the whole {w.shape[0]}x{w.shape[1]} stamp away")
    return _d(Geometry(int(stride), pads, image, w.shape[:2]), x, w.swapaxes(2, 3))
