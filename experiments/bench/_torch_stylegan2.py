"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) in plain PyTorch: the peer of `bench gan` and of `gan/peers`.

The networks, losses and optimisers of `genjax.gan.stylegan2` and `genjax.gan.style_task` without labels, augmentation
and 16-bit arithmetic, as one writes them in PyTorch: channels-last (on one CPU core a step takes 780 ms, without 1040),
modulation by scaled activations (a grouped convolution: 18 % more), filters as depthwise convolutions.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

SQRT2, HALF = math.sqrt(2.0), math.sqrt(0.5)


def _fir(x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """[1,3,3,1] x [1,3,3,1], one copy per channel of x: [C,1,4,4]."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype)
    return (row[:, None] * row * (gain / 64)).expand(x.shape[1], 1, 4, 4)


def filtered(x: torch.Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> torch.Tensor:
    return F.conv2d(x, _fir(x, gain), stride=stride, padding=padding, groups=x.shape[1])


def upsampled(x: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose2d(x, _fir(x, 4.0), stride=2, padding=1, groups=x.shape[1])


def activated(x: torch.Tensor, gain: float = SQRT2) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * gain


class Dense(nn.Module):
    """Fully connected with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, lr: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.lr, self.scale = lr, lr / math.sqrt(inputs)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


class Conv(nn.Module):
    """Convolution with equalised learning rate, which may halve the size after the low-pass filter."""

    def __init__(self, inputs: int, outputs: int, kernel: int, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.kernel, self.down, self.scale = kernel, down, 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x):
        w = self.weight * self.scale
        if not self.down:
            return F.conv2d(x, w, self.bias, padding=self.kernel // 2)
        if self.kernel == 1:
            return F.conv2d(filtered(x, 1, stride=2), w, self.bias)
        return F.conv2d(filtered(x, 2), w, self.bias, stride=2)


def modulated(x, w, styles, up: bool, demodulate: bool = True):
    """Convolves each picture with w [O,I,K,K] times its styles [N,I], normalised per output: section 2.2."""
    x = x * styles[:, :, None, None]
    if up:
        y = filtered(F.conv_transpose2d(x, w.transpose(0, 1), stride=2), 1, gain=4.0)
    else:
        y = F.conv2d(x, w, padding=w.shape[2] // 2)
    if not demodulate:
        return y
    return y * (styles.square() @ w.square().sum((2, 3)).t() + 1e-8).rsqrt()[:, :, None, None]


class Layer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, size: int, up: bool):
        super().__init__()
        self.affine, self.up = Dense(w_dim, inputs, bias=1.0), up
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(size, size))

    def forward(self, x, w, fixed: bool):
        y = modulated(x, self.weight, self.affine(w), self.up)
        noise = self.noise if fixed else torch.randn(len(y), 1, *y.shape[2:], device=y.device)
        return activated(y + noise * self.noise_strength + self.bias[:, None, None])


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without normalisation."""

    def __init__(self, inputs: int, channels: int, w_dim: int):
        super().__init__()
        self.affine, self.scale = Dense(w_dim, inputs, bias=1.0), 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x, w):
        y = modulated(x, self.weight, self.affine(w) * self.scale, False, demodulate=False)
        return y + self.bias[:, None, None]


class Generator(nn.Module):
    """z [N,Z] -> w [N,L,Z] by `map`, w -> pictures [N,C,R,R] by `forward`; sum of upsampled pictures ("skip")."""

    def __init__(self, resolution: int, channels: int, latent: int, layers: int, base: int, widest: int):
        super().__init__()
        self.mapping = nn.ModuleList(Dense(latent, latent, lr=0.01) for _ in range(layers))
        self.sizes = [2**k for k in range(2, resolution.bit_length())]
        width = {r: min(base // r, widest) for r in self.sizes}
        self.const = nn.Parameter(torch.randn(width[4], 4, 4))
        self.convs, self.rgbs = nn.ModuleList(), nn.ModuleList()
        for r in self.sizes:
            if r > 4:
                self.convs.append(Layer(width[r // 2], width[r], latent, r, up=True))
            self.convs.append(Layer(width[r], width[r], latent, r, up=False))
            self.rgbs.append(ToRGB(width[r], channels, latent))
        self.count = 2 * len(self.sizes)
        self.register_buffer("w_avg", torch.zeros(latent))

    def map(self, z, update: bool = False):
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            x = activated(layer(x))
        if update:
            self.w_avg.lerp_(x.detach().float().mean(0), 0.005)
        return x[:, None].expand(-1, self.count, -1)

    def forward(self, w, fixed: bool = False):
        x = self.const.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, w[:, 0], fixed)
        image = self.rgbs[0](x, w[:, 1])
        for i in range(1, len(self.sizes)):
            x = self.convs[2 * i - 1](x, w[:, 2 * i - 1], fixed)
            x = self.convs[2 * i](x, w[:, 2 * i], fixed)
            image = upsampled(image) + self.rgbs[i](x, w[:, 2 * i + 1])
        return image


class Block(nn.Module):
    """A residual block of the discriminator, which halves the size."""

    def __init__(self, maps: int, features: int):
        super().__init__()
        self.conv0, self.conv1 = Conv(maps, maps, 3), Conv(maps, features, 3, down=True)
        self.skip = Conv(maps, features, 1, down=True, bias=False)

    def forward(self, x):
        return activated(self.conv1(activated(self.conv0(x))), 1.0) + self.skip(x) * HALF


class Discriminator(nn.Module):
    """Pictures [N,C,R,R] -> logits [N]; minibatch standard deviation over groups of `group` pictures."""

    def __init__(self, resolution: int, channels: int, base: int, widest: int, group: int):
        super().__init__()
        sizes = [2**k for k in range(resolution.bit_length() - 1, 1, -1)]
        width = {r: min(base // r, widest) for r in sizes}
        self.from_rgb, self.group = Conv(channels, width[resolution], 1), group
        self.blocks = nn.Sequential(*(Block(width[r], width[r // 2]) for r in sizes[:-1]))
        self.conv = Conv(width[4] + 1, width[4], 3)
        self.fc, self.out = Dense(width[4] * 16, width[4]), Dense(width[4], 1)

    def forward(self, image):
        x = self.blocks(activated(self.from_rgb(image)))
        g = min(self.group, len(x))
        std = (x.reshape(g, -1, *x.shape[1:]).var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        x = torch.cat([x, std.repeat(g)[:, None, None, None].expand(-1, 1, 4, 4)], 1)
        return self.out(activated(self.fc(activated(self.conv(x)).flatten(1))))[:, 0]


class Training:
    """Both networks and one step of each in the published order; lazy penalties are optimiser steps of their own."""

    def __init__(self, resolution=64, channels=3, latent=512, layers=2, base=16384, widest=512, group=4, rate=0.0025,
                 gamma=1.0, r1_every=16, pl_weight=2.0, pl_every=4, mixing=0.9, ema_images=5000.0, rampup=0.05,
                 device="cpu"):
        self.g = Generator(resolution, channels, latent, layers, base, widest).to(device)
        self.d = Discriminator(resolution, channels, base, widest, group).to(device)
        for net in (self.g, self.d):
            net.to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.g).requires_grad_(False)
        self.latent, self.device, self.gamma, self.r1_every = latent, device, gamma, r1_every
        self.pl_weight, self.pl_every, self.mixing, self.pl_mean = pl_weight, pl_every, mixing, 0.0
        self.ema_images, self.rampup, self.steps = ema_images, rampup, 0
        self.g_adam, self.d_adam = (self._adam(net, rate, k) for net, k in ((self.g, pl_every), (self.d, r1_every)))

    @staticmethod
    def _adam(net, rate, every):
        c = every / (every + 1)  # as if the lazy steps were spread over the others: appendix B
        return torch.optim.Adam(net.parameters(), rate * c, betas=(0.0, 0.99**c), fused=True)

    def _styles(self, n: int):
        w = self.g.map(torch.randn(n, self.latent, device=self.device), update=True)
        if self.mixing:
            other = self.g.map(torch.randn(n, self.latent, device=self.device))
            if torch.rand(()) < self.mixing:
                cut = int(torch.randint(1, self.g.count, ()))
                w = torch.cat([w[:, :cut], other[:, cut:]], 1)
        return w

    def _update(self, adam, loss):
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    def step(self, real) -> None:
        """One step on pictures [N,C,R,R], channels-last."""
        n = len(real)
        self.g.requires_grad_(True), self.d.requires_grad_(False)
        self._update(self.g_adam, F.softplus(-self.d(self.g(self._styles(n)))).mean())
        if self.pl_weight and self.steps % self.pl_every == 0:
            w = self._styles(max(n // 2, 1))
            image = self.g(w)
            y = torch.randn_like(image) / math.sqrt(image.shape[2] * image.shape[3])
            slope, = torch.autograd.grad((image * y).sum(), w, create_graph=True)
            lengths = (slope.square().sum(2).mean(1) + 1e-12).sqrt()
            self.pl_mean = self.pl_mean + 0.01 * (lengths.detach().mean() - self.pl_mean)
            self._update(self.g_adam, (lengths - self.pl_mean).square().mean() * (self.pl_weight * self.pl_every))
        self.g.requires_grad_(False), self.d.requires_grad_(True)
        with torch.no_grad():
            fake = self.g(self._styles(n))
        self._update(self.d_adam, F.softplus(-self.d(real)).mean() + F.softplus(self.d(fake)).mean())
        if self.gamma and self.steps % self.r1_every == 0:
            x = real.detach().requires_grad_(True)
            slope, = torch.autograd.grad(self.d(x).sum(), x, create_graph=True)
            self._update(self.d_adam, slope.square().sum((1, 2, 3)).mean() * (self.gamma / 2 * self.r1_every))
        images = min(self.ema_images, self.steps * n * self.rampup) if self.rampup else self.ema_images
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.g.parameters()), 1 - 0.5 ** (n / max(images, 1e-8)))
        self.ema.w_avg.copy_(self.g.w_avg)
        self.steps += 1

    @torch.no_grad()
    def samples(self, z, fixed=True):
        """Pictures of the averaged generator for z [N,Z], with the fixed noise or new noise for every picture."""
        return self.ema(self.ema.map(z), fixed=fixed)


def make_step(batch: int, count: int = 16, device: str = "cpu", **settings) -> Callable[[], None]:
    """A function that makes `count` steps, a whole lazy period, on random pictures and waits."""
    return stepping(Training(device=device, **settings), batch, count)


def stepping(training: Training, batch: int, count: int) -> Callable[[], None]:
    """`make_step` of that training."""
    size, channels = training.g.sizes[-1], training.d.from_rgb.weight.shape[1]
    real = torch.rand(batch, channels, size, size, device=training.device) * 2 - 1
    real = real.contiguous(memory_format=torch.channels_last)

    def steps() -> None:
        for _ in range(count):
            training.step(real)
        if training.device == "cuda":
            torch.cuda.synchronize()

    return steps
