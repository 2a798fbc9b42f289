"""The peer of `experiments.bench.sampling`: our U-Net in PyTorch, driven by diffusers.

The modules are those of `nets.unet1d`, with its parameters; channels come before time, as PyTorch
has them. Before anything is timed, both networks are compared on the same input. On a GPU float32
products may use TF32 on both sides: JAX's default, which PyTorch is given.
"""

import time
from typing import Any

import diffusers
import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jaxpolicy.agents.parts import denoiser

from .. import sampling_parts as parts

torch.set_float32_matmul_precision('high')  # has no effect on a CPU

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
SCHEDULERS = {
    'ddim': diffusers.DDIMScheduler,
    'ddpm': diffusers.DDPMScheduler,
    'dpmpp_2m': diffusers.DPMSolverMultistepScheduler,
}


def _tensor(x: Any) -> nn.Parameter:
    # Contiguous: torch keeps numpy's strides, and convolves with such weights six times slower.
    return nn.Parameter(torch.tensor(np.ascontiguousarray(x)), requires_grad=False)


def _linear(params: Any) -> nn.Linear:
    layer = nn.Linear(*params['kernel'].shape)
    layer.weight, layer.bias = _tensor(params['kernel'].T), _tensor(params['bias'])
    return layer


def _conv(params: Any, stride: int = 1) -> nn.Conv1d:
    """[F, K, C] -> PyTorch's [F, C, K]."""
    features, size, channels = params['kernel'].shape
    layer = nn.Conv1d(channels, features, size, stride, padding=(size - 1) // 2)
    layer.weight = _tensor(np.transpose(params['kernel'], (0, 2, 1)))
    layer.bias = _tensor(params['bias'])
    return layer


def _upsample(params: Any) -> nn.ConvTranspose1d:
    """A convolution of a dilated input is a transposed one with the kernel reversed."""
    channels = params['kernel'].shape[0]
    layer = nn.ConvTranspose1d(channels, channels, 4, 2, padding=1)
    layer.weight = _tensor(np.transpose(params['kernel'][:, ::-1], (2, 0, 1)))
    layer.bias = _tensor(params['bias'])
    return layer


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, Mish."""

    def __init__(self, params, num_groups):
        super().__init__()
        self.conv = _conv(params['Conv1d_0'])
        scale = params['GroupNorm_0']['scale']
        self.norm = nn.GroupNorm(num_groups, len(scale), eps=1e-6)
        self.norm.weight, self.norm.bias = _tensor(scale), _tensor(params['GroupNorm_0']['bias'])

    def forward(self, x):
        return F.mish(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolution blocks with FiLM between them."""

    def __init__(self, params, film, num_groups):
        super().__init__()
        self.first = ConvBlock(params['ConvBlock_0'], num_groups)
        self.second = ConvBlock(params['ConvBlock_1'], num_groups)
        self.film = _linear(film)
        self.skip = nn.Identity()
        if 'Dense_0' in params:
            kernel = np.asarray(params['Dense_0']['kernel']).T[:, None]
            self.skip = _conv({'kernel': kernel, 'bias': params['Dense_0']['bias']})

    def forward(self, x, condition):
        scale, bias = self.film(F.mish(condition))[..., None].chunk(2, dim=1)
        return self.skip(x) + self.second(scale * self.first(x) + bias)


class UNet1D(nn.Module):
    """`nets.unet1d.UNet1D`, [B, A, Tp] in and out."""

    def __init__(self, params, num_levels, num_groups, embed_dim=256):
        super().__init__()
        self.blocks, end = nn.ModuleList(), 0
        for i in range(4 * num_levels):  # FiLM is a layer in each block, as in the reference code
            block = params[f'ResidualBlock_{i}']
            start, end = end, end + 2 * len(block['ConvBlock_0']['GroupNorm_0']['scale'])
            film = {name: x[..., start:end] for name, x in params['Dense_1'].items()}
            self.blocks.append(ResidualBlock(block, film, num_groups))
        downs, ups = range(num_levels - 1), range(num_levels - 1)
        self.downs = nn.ModuleList([_conv(params[f'Conv1d_{i}'], stride=2) for i in downs])
        self.ups = nn.ModuleList([_upsample(params[f'Upsample1d_{i}']) for i in ups])
        self.last = ConvBlock(params['ConvBlock_0'], num_groups)
        self.inner = _linear(params['Levels_0']['Dense_0'])
        self.out, self.head = _linear(params['Dense_0']), _linear(params['Dense_2'])
        half = embed_dim // 2
        frequency = torch.exp(-np.log(10_000.0) * torch.arange(half) / (half - 1))
        self.register_buffer('frequency', frequency.float())

    def forward(self, x, k, condition):
        angle = k[:, None] * self.frequency
        step = torch.cat([angle.sin(), angle.cos()], dim=-1).to(x.dtype)
        step = self.out(F.mish(self.inner(step)))
        condition = torch.cat([step, condition], dim=-1)
        blocks, skips = iter(self.blocks), []

        def pair(x):
            for _ in range(2):
                x = next(blocks)(x, condition)
            return x

        for level in range(len(self.downs) + 1):
            x = pair(x)
            skips.append(x)
            if level < len(self.downs):
                x = self.downs[level](x)
        x = pair(x)
        for up in self.ups:
            x = up(pair(torch.cat([x, skips.pop()], dim=1)))
        x = self.last(x)
        return self.head(x.transpose(1, 2)).transpose(1, 2)


def make_network(built: parts.Built) -> UNet1D:
    """Our U-Net with our weights; raises as `compare`."""
    params = jax.tree.map(np.asarray, built.params['params'])
    net = UNet1D(params, len(built.config.dims), built.config.num_groups).eval()
    compare(net, built)
    return net


def compare(net: UNet1D, built: parts.Built) -> None:
    """Raises a ValueError where the network differs from ours by more than rounding."""
    config, rng = built.config, np.random.default_rng(0)
    x = rng.normal(size=(2, config.pred_horizon, parts.ACTION_DIM)).astype(np.float32)
    condition = rng.normal(size=(2, config.obs_horizon, parts.OBS_DIM)).astype(np.float32)
    k = np.asarray([3.0, 70.0], np.float32)
    with jax.default_matmul_precision('highest'):
        ours = denoiser.network(config).apply(built.params, x, k, condition)
    with torch.inference_mode():
        inputs = (x.transpose(0, 2, 1).copy(), k, condition.reshape(2, -1))
        theirs = net(*(torch.tensor(a) for a in inputs)).numpy().transpose(0, 2, 1)
    error = np.abs(theirs - ours).max() / np.abs(ours).max()
    if error > 1e-3:
        raise ValueError(f'the U-Net in PyTorch differs from ours by {error:.1e}')


def make_scheduler(case: parts.Case, num_train_steps: int) -> Any:
    """diffusers' scheduler of that name, with Diffusion Policy's settings."""
    if case.sampler not in SCHEDULERS:
        raise ValueError(
            f'--sampler: expected some of {sorted(SCHEDULERS)} with --peer, found {case.sampler!r}'
        )
    clip = {} if case.sampler == 'dpmpp_2m' else {'clip_sample': True}
    return SCHEDULERS[case.sampler](
        num_train_timesteps=num_train_steps,
        beta_schedule='squaredcos_cap_v2',
        prediction_type='epsilon',
        **clip,
    )


def runners(case: parts.Case, built: parts.Built) -> dict[str, parts.Runner]:
    """'torch' and 'torch_compile'.

    Raises:
      ValueError: the network or the sampler has no peer.
    """
    if built.config.network != 'unet1d':
        raise ValueError(f'--network: expected U-Nets with --peer, found {case.network!r}')
    device = 'cuda' if jax.default_backend() == 'gpu' else 'cpu'
    net = make_network(built).to(device, DTYPES[case.dtype])
    scheduler = make_scheduler(case, built.config.num_train_steps)
    obs = torch.tensor(np.asarray(built.obs)).reshape(case.batch, -1).to(device)

    def plan(network):
        def call(i):
            with torch.inference_mode():
                scheduler.set_timesteps(case.steps, device=device)
                condition = obs.to(next(net.parameters()).dtype)
                x = torch.randn(case.batch, parts.ACTION_DIM, built.config.pred_horizon)
                x = x.to(device)
                for k in scheduler.timesteps:
                    level = k.expand(case.batch).float()
                    output = network(x.to(condition.dtype), level, condition).float()
                    x = scheduler.step(output, k, x).prev_sample
                return x.cpu()  # waits for the device

        return call

    mode = 'reduce-overhead' if device == 'cuda' else 'default'
    found = {}
    for name, network in (('torch', net), ('torch_compile', torch.compile(net, mode=mode))):
        begin = time.perf_counter()
        plan(network)(0)
        found[name] = parts.Runner(plan(network), time.perf_counter() - begin, None)
    return found
