"""The peer of `experiments.bench.training`: a training loop in the manner of Diffusion Policy's.

A `Dataset` that cuts windows of normalised demonstrations one by one, a `DataLoader` with one
worker process, DDPM's noise from diffusers, AdamW with a schedule, an EMA of all weights, and the
loss read after every update. The U-Net is that of `torch_unet`, with our weights.
"""

import copy
from collections.abc import Callable
from typing import Any

import diffusers
import jax
import numpy as np
import torch
from torch.nn import functional as F

from jaxpolicy.agents import diffusion_policy
from jaxpolicy.data import windows

from . import torch_unet


class Windows(torch.utils.data.Dataset):
    """The same windows as ours: obs [To, D] and actions [Tp, A], each in [-1, 1]."""

    def __init__(self, data: windows.Windows):
        self._obs, self._action = (_unit(np.asarray(x)) for x in (data.obs, data.action))
        self._first, self._start, self._end = data.first, data.start, data.end
        self._horizons = data.obs_horizon, data.pred_horizon

    def __len__(self):
        return len(self._first)

    def __getitem__(self, i):
        observed, horizon = self._horizons
        rows = np.clip(self._first[i] + np.arange(horizon), self._start[i], self._end[i] - 1)
        return torch.from_numpy(self._obs[rows[:observed]]), torch.from_numpy(self._action[rows])


def _unit(x: np.ndarray) -> np.ndarray:
    low, high = x.min(0), x.max(0)
    return (2.0 * (x - low) / np.maximum(high - low, 1e-6) - 1.0).astype(np.float32)


def _load(data: Windows, batch_size: int, device: str) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(
        data,
        batch_size,
        shuffle=True,
        num_workers=1,
        drop_last=True,
        persistent_workers=True,
        multiprocessing_context='spawn',  # JAX's threads do not survive a fork
        pin_memory=device == 'cuda',
    )


def make(
    config: diffusion_policy.Config,
    params: Any,
    data: windows.Windows,
    batch_size: int,
    num_updates: int,
) -> Callable[[], None]:
    """A function that makes `num_updates` updates, one pass after the other.

    Raises:
      ValueError: the network is no U-Net, or the objective is not eps.
    """
    if config.network != 'unet1d' or config.objective != 'eps':
        raise ValueError(
            f'--peer: expected a unet1d that predicts eps, found {config.network!r} that predicts '
            f'{config.objective!r}'
        )
    device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
    net = torch_unet.UNet1D(params['params'], len(config.dims), config.num_groups)
    net = net.to(device).requires_grad_(True)
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, betas=(0.95, 0.999), weight_decay=1e-6
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, i / 500))
    noising: Any = diffusers.DDPMScheduler(
        config.num_train_steps, beta_schedule='squaredcos_cap_v2'
    )
    loader = _load(Windows(data), batch_size, device)

    def update(step, obs, action):
        obs, x0 = obs.to(device).flatten(1), action.to(device).transpose(1, 2)
        eps = torch.randn_like(x0)
        k = torch.randint(config.num_train_steps, (len(x0),), device=device)
        output = net(noising.add_noise(x0, eps, k).contiguous(), k.float(), obs)
        loss = F.mse_loss(output, eps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        decay = min(1.0 - (1.0 + step) ** -config.ema_power, 0.9999)
        with torch.no_grad():
            for mean, now in zip(ema.parameters(), net.parameters(), strict=True):
                mean.mul_(decay).add_(now, alpha=1.0 - decay)
        return loss.item()

    step = 0

    def turn():
        nonlocal step
        left = num_updates
        while left:
            for obs, action in loader:
                update(step, obs, action)
                step, left = step + 1, left - 1
                if not left:
                    break

    return turn
