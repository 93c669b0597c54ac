"""DCGAN-64 of pytorch/examples as a plain PyTorch training step, the peer of `bench gan`."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def networks(width: int = 64, channels: int = 3, latent: int = 100) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator for 64 x 64 pictures; `width` is the narrowest layer's."""
    sizes = [width * 8, width * 4, width * 2, width]
    g: list[nn.Module] = [nn.ConvTranspose2d(latent, sizes[0], 4, 1, 0, bias=False), nn.BatchNorm2d(sizes[0]),
                          nn.ReLU(True)]
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        g += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    g += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    up = sizes[::-1]
    d: list[nn.Module] = [nn.Conv2d(channels, up[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for a, b in zip(up[:-1], up[1:], strict=True):
        d += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]
    d += [nn.Conv2d(up[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0)]
    return nn.Sequential(*g), nn.Sequential(*d)


def make_step(batch: int, width: int, device: str = "cpu", autocast: bool = False) -> Callable[[], None]:
    """A function that makes one step (both networks, the fake batch shared) on random pictures and waits."""
    generator, discriminator = (net.to(device).to(memory_format=torch.channels_last) for net in networks(width))
    for net in (generator, discriminator):
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(m.weight, 0, 0.02)
    optimisers = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (discriminator, generator)]
    real = (torch.rand(batch, 3, 64, 64, device=device) * 2 - 1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            fake = generator(torch.randn(batch, 100, 1, 1, device=device))
            loss = (F.softplus(-discriminator(real)) + F.softplus(discriminator(fake.detach()))).mean()
        optimisers[0].zero_grad(set_to_none=True)
        loss.backward()
        optimisers[0].step()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            loss = F.softplus(-discriminator(fake)).mean()
        optimisers[1].zero_grad(set_to_none=True)
        loss.backward()
        optimisers[1].step()
        if device == "cuda":
            torch.cuda.synchronize()
        else:
            loss.item()

    return step
