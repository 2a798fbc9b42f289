"""What asking costs a rollout: python -m experiments.bench.dagger --config=configs/.../dagger_bc.py

It prints the environment steps a second of three programs: the learner's plain rollout, as it is
evaluated (`loops.evaluate`); exploring with the gate; and exploring and asking, which is what a
round does. They are compiled and warm, run in turns, and times are medians. Asking steps
environments too, and these steps count, so the rate of episodes is printed as well. All programs
have the same random weights and as many robots as the recipe; the expert takes over as often as the
recipe's budget says.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import latency, paths
from jaxpolicy.loops import evaluate
from jaxpolicy.loops.dagger import rounds, turns
from jaxpolicy.runs import dagger, dataset, learner, sections

FLAGS = flags.FLAGS


def programs(config):
    """Compiled calls by name, the environment steps of each, and how often the expert acts."""
    parts, data = dagger.make_parts(config, dataset.load_episodes(config))
    train = jax.jit(parts.agent.init)(jax.random.key(0))
    memory = jax.jit(rounds.make(parts).init)(jax.random.key(1)).memory
    num, horizons = parts.config.num_envs, parts.horizons
    length = horizons.num_blocks * horizons.action
    make_policy = learner.make_policy(config, parts.agent)

    @jax.jit
    def plain(train, key):
        policy = make_policy(train, parts.deterministic)
        keys = jax.random.split(key, num)
        return evaluate.evaluate(parts.env, policy, keys, key, length)

    def gated(train, weights, thresholds, key):
        expert, enabled = parts.make_expert(weights), jnp.array(True)
        now = turns.Situation(train, memory.risk, thresholds, enabled, parts.deterministic)
        keys = jax.random.split(key, num)
        robots = (parts.agent, parts.env, expert, parts.gate)
        return turns.explore(*robots, horizons, now, keys, key)[0], expert

    @jax.jit
    def exploring(train, weights, thresholds, key):
        blocks, _ = gated(train, weights, thresholds, key)
        return jax.tree.map(jnp.sum, (blocks.scores, blocks.control, blocks.reached))

    @jax.jit
    def asking(train, weights, thresholds, key):
        blocks, expert = gated(train, weights, thresholds, key)
        eligible = blocks.reached if parts.gate.labels_all else blocks.control
        num = parts.config.queries_per_round
        return turns.ask(parts.env, expert, blocks, eligible, num, horizons, key)

    @jax.jit
    def calibrate(train, weights, key):
        expert = parts.make_expert(weights)
        blocks = rounds.rollouts(parts, train, memory, expert, key)[0][0]
        budget = parts.config.queries_per_round / jnp.maximum(blocks.reached.sum(), 1)
        return parts.gate.threshold(blocks.scores, blocks.reached, budget, memory.round)

    key = jax.random.key(3)
    thresholds = calibrate(train, data.expert, jax.random.key(2))
    calls = {
        'plain': lambda i: plain(train, key),
        'exploring': lambda i: exploring(train, data.expert, thresholds, key),
        'asking': lambda i: asking(train, data.expert, thresholds, key),
    }
    _, control, reached = exploring(train, data.expert, thresholds, key)
    asked = parts.config.queries_per_round * (horizons.pred - horizons.obs + 1)
    steps = {name: num * length + asked * (name == 'asking') for name in calls}
    return calls, steps, float(control / reached)


def main(_):
    sections.choose('loop.name', ('dagger',), FLAGS.config.loop.name)
    calls, steps, share = programs(FLAGS.config)
    times = latency.alternating(calls, FLAGS.seconds)
    p50_ms = {who: float(np.median(ms)) for who, ms in times.items()}
    plain = p50_ms['plain']
    rows = [
        {
            'who': who,
            'p50_ms': ms,
            'env_steps_per_s': 1e3 * steps[who] / ms,
            'of_plain': steps[who] / ms * plain / steps['plain'],
            'episodes_of_plain': plain / ms,
        }
        for who, ms in p50_ms.items()
    ]
    for row in rows:
        steps_per_s, of_plain = row['env_steps_per_s'], row['of_plain']
        print(
            f'{row["who"]:10s} {steps_per_s:10,.0f} steps/s, {of_plain:.2f} of the steps, '
            f'{row["episodes_of_plain"]:.2f} of the episodes'
        )
    print(f'the expert acted in {share:.0%} of the blocks')
    if FLAGS.out:
        paths.write_json(FLAGS.out, rows)


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_float('seconds', 20.0, 'Of each program, about.', lower_bound=0.0)
    config_flags.define_output('out', None, 'Also write the rows to this JSON file.')
    config_flags.run_main(main)
