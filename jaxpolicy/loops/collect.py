"""Collecting demonstrations with their rewards, from an expert or a policy, good or bad."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.loops import off_policy, rollout

PyTree = Any

BATCH = 512  # episodes that are rolled out at once
MAX_BATCHES_PER_EPISODE = 4  # so it gives up below a success rate of about 1 in 4


class Demonstrator(NamedTuple):
    """A policy and the environment in which it demonstrates.

    env: vectorised, with a time limit of `num_steps`.
    policy_of: weights -> Policy.
    weights: what the run has learnt; () for a scripted expert.
    info: where the episodes come from.
    """

    env: types.Env
    num_steps: int
    policy_of: Callable[[PyTree], types.Policy]
    weights: PyTree
    info: dict[str, str | float]


class Demonstration(NamedTuple):
    """One episode, and how good it is."""

    episode: episodes_lib.Episodes  # holds this one episode only
    noise: float  # probability of a random action
    success: float  # at the last step; nan if the env has no such metric
    total: float  # sum of the rewards


def check_noise(values: Sequence[str]) -> tuple[float, ...]:
    """Reads the probabilities of random actions from text.

    Raises:
      ValueError: they are not whole percents from 0 to 1, or two of them are equal.
    """
    try:
        noise = tuple(float(text) for text in values)
    except ValueError:
        noise = (np.nan,)
    whole = [0.0 <= p <= 1.0 and abs(100 * p - round(100 * p)) < 1e-6 for p in noise]
    if not all(whole) or len(set(noise)) < len(noise):
        raise ValueError(
            f'--noise: expected different numbers from 0 to 1 in whole percents, found {values}'
        )
    return noise


def noisy(policy: types.Policy, spec: types.Spec, chance: jax.Array) -> types.Policy:
    """Replaces each action by a uniformly random one with the probability `chance` [N]."""
    random = off_policy.random_policy(spec)

    def act(carry, obs, key):
        key, which_key, random_key = jax.random.split(key, 3)
        carry, action, extras = policy.act(carry, obs, key)
        _, other, _ = random.act((), obs, random_key)
        replaced = jax.random.bernoulli(which_key, chance)
        return carry, jnp.where(replaced[:, None], other, action), extras

    return types.Policy(policy.init, act)


def clipped(policy: types.Policy) -> types.Policy:
    """Clips the actions to [-1, 1], so that the written actions are the executed ones.

    One-hot actions stay as they are.
    """

    def act(carry, obs, key):
        carry, action, extras = policy.act(carry, obs, key)
        return carry, jnp.clip(action, -1, 1), extras

    return types.Policy(policy.init, act)


def collect(
    demonstrator: Demonstrator,
    num_episodes: int,
    seed: int,
    noise: Sequence[float] = (),
    keep: str = 'success',
) -> tuple[episodes_lib.Episodes, list[Demonstration], list[Demonstration]]:
    """Runs a demonstrator until there are enough episodes to keep.

    Broken episodes (`envs.wrap.auto_reset.broken`) are dropped; info['broken_episodes'] of the set
    counts them, where there are any.

    Args:
      noise: probabilities of random actions. Each probability gets an equal share of the episodes,
        one share after the other, and the tag 'noise' gives it in percent. () means no random
        actions and no tag.
      keep: 'success' keeps only episodes that succeed; 'all' keeps failures too.

    Returns:
      The kept episodes joined into one set, the same episodes one by one, and all that were tried.

    Raises:
      ValueError: there are fewer episodes than shares, the env has no metric 'success', or too few
        episodes succeed.
    """
    levels = tuple(noise) or (0.0,)
    _check(demonstrator, num_episodes, len(levels), keep)
    share, rest = divmod(num_episodes, len(levels))
    wanted = {level: share + (i < rest) for i, level in enumerate(levels)}
    world_noise = np.resize(np.asarray(levels), BATCH)
    run = jax.jit(functools.partial(_batch, demonstrator, world_noise if noise else None))
    tried: list[Demonstration] = []
    num_broken = 0
    kept: dict[float, list[Demonstration]] = {}
    for index in range(
        MAX_BATCHES_PER_EPISODE * -(-max(wanted.values()) // (BATCH // len(levels)))
    ):
        key = jax.random.fold_in(jax.random.key(seed), index)
        batch = jax.device_get(run(demonstrator.weights, key))
        found = [_demonstration(batch, i, float(world_noise[i])) for i in range(BATCH)]
        tried += [one for i, one in enumerate(found) if not batch['broken'][i]]
        num_broken += int(batch['broken'].sum())
        good = [one for one in tried if keep == 'all' or one.success > 0]
        kept = {level: [one for one in good if one.noise == level] for level in levels}
        if all(len(kept[level]) >= n for level, n in wanted.items()):
            chosen = [one for level, n in wanted.items() for one in kept[level][:n]]
            whole = _join(demonstrator, chosen, seed, noise, keep)
            broke = {'broken_episodes': num_broken} if num_broken else {}
            return whole._replace(info={**whole.info, **broke}), chosen, tried
    counts = {level: len(ones) for level, ones in kept.items()}
    raise ValueError(
        f'expected {wanted} episodes (by noise) to keep, found {counts} among {len(tried)}, '
        f'besides {num_broken} that broke: --keep=all keeps failures'
    )


def summary(demonstrations: Sequence[Demonstration]) -> tuple[float, float]:
    """The success rate, nan if the env has no metric 'success', and the mean return."""
    success, total = zip(*((one.success, one.total) for one in demonstrations), strict=True)
    return float(np.mean(success)), float(np.mean(total))


def _check(demonstrator: Demonstrator, num_episodes: int, num_shares: int, keep: str) -> None:
    keys = jax.random.split(jax.random.key(0), BATCH)
    known = jax.eval_shape(demonstrator.env.reset, keys).metrics
    if keep == 'success' and 'success' not in known:
        raise ValueError(
            f"--keep: expected 'all', as {demonstrator.info['env']!r} does not say what success is"
        )
    if num_episodes < num_shares:
        raise ValueError(
            f'--num_episodes: expected at least one for each noise, {num_shares}, '
            f'found {num_episodes}'
        )


def _batch(
    demonstrator: Demonstrator,
    chance: np.ndarray | None,
    weights: PyTree,
    key: types.Key,
) -> dict[str, PyTree]:
    """Rolls out N = BATCH episodes.

    Returns:
      obs, action and reward [T, N, ...]; end [N], the step at which each episode ends; broken [N],
      whether it broke up to there; and termination, success and last_obs [N, ...] at that step.
    """
    env, policy = auto_reset.watched(demonstrator.env), clipped(demonstrator.policy_of(weights))
    if chance is not None:
        policy = noisy(policy, env.spec, jnp.asarray(chance, jnp.float32))
    reset_key, rollout_key = jax.random.split(key)
    state = env.reset(jax.random.split(reset_key, BATCH))
    carry = policy.init(state.obs)
    state, _, batch, metrics = rollout.rollout(
        env, policy, state, carry, rollout_key, demonstrator.num_steps
    )
    end = (batch.termination | batch.truncation).argmax(0)
    worlds = jnp.arange(BATCH)
    success = metrics.get('success', jnp.full_like(batch.reward, jnp.nan))
    # No env is reset here, so the next observation is the one to which the last action led.
    after = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), batch.obs, state.obs)
    return {
        'obs': batch.obs,
        'action': batch.action.astype(env.spec.action.dtype),
        'reward': batch.reward,
        'end': end,
        'broken': (
            (batch.extras['valid'] == 0) & (jnp.arange(len(batch.reward))[:, None] <= end)
        ).any(0),
        'termination': batch.termination[end, worlds],
        'success': success[end, worlds],
        'last_obs': jax.tree.map(lambda x: x[end + 1, worlds], after),
    }


def _demonstration(batch: dict[str, PyTree], i: int, noise: float) -> Demonstration:
    length = int(batch['end'][i]) + 1
    obs, action, reward = jax.tree.map(
        lambda x: x[:length, i], (batch['obs'], batch['action'], batch['reward'])
    )
    termination = np.zeros(length, np.uint8)
    termination[-1] = batch['termination'][i]
    episode = episodes_lib.Episodes(
        obs=obs,
        action=action,
        episode_ends=np.array([length]),
        info={},
        reward=reward,
        termination=termination,
        last_obs=jax.tree.map(lambda x: x[i : i + 1], batch['last_obs']),
    )
    total = float(reward.sum(dtype=np.float64))
    return Demonstration(episode, noise, float(batch['success'][i]), total)


def _join(
    demonstrator: Demonstrator,
    chosen: Sequence[Demonstration],
    seed: int,
    noise: Sequence[float],
    keep: str,
) -> episodes_lib.Episodes:
    """Joins the episodes into one set, whose info says how good they are."""
    success, total = summary(chosen)
    words = f'seed {seed}, {"successful" if keep == "success" else "all"} episodes'
    info = {
        **demonstrator.info,
        'source': f'{demonstrator.info["source"]}, {words}',
        'mean_return': total,
        **({} if np.isnan(success) else {'success_rate': success}),
        **({'noise': ', '.join(f'{level:g}' for level in noise)} if noise else {}),
    }
    whole = episodes_lib.concatenate([one.episode for one in chosen])
    tags = {}
    if noise:
        percents = [np.full(len(one.episode.action), round(100 * one.noise)) for one in chosen]
        tags['noise'] = np.concatenate(percents).astype(np.uint8)
    return whole._replace(info=info, tags=tags)
