"""Runs that learn values from demonstrations with rewards."""

import dataclasses

from ml_collections import config_dict

from jaxpolicy import ranges
from jaxpolicy.data import demo_buffer
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.loops import offline
from jaxpolicy.runs import beginning, dataset, kinds, learner, sections


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of the config's group `loop`."""

    batch_size: ranges.Count = 256
    num_updates: ranges.Count = 50_000  # rounded up to whole rounds
    updates_per_round: ranges.Count = 2_000  # of one compiled call and one row of metrics
    n_step: ranges.Count = 1  # rewards that a return sums up before it bootstraps


def make(
    config: config_dict.ConfigDict, episodes: episodes_lib.Episodes | None = None
) -> kinds.Run:
    """Makes the run; `episodes`, where given, replace the files that the config names."""
    settings = sections.section(Settings, config.loop, 'loop')
    episodes = dataset.load_episodes(config, rewarded=True) if episodes is None else episodes
    spec = dataset.spec_of(episodes)

    def agent_of(numbers):
        return learner.make_agent(config, spec, settings.num_updates, episodes, numbers)

    def loop(agent, gamma):
        rates = (settings.batch_size, settings.updates_per_round, settings.n_step)
        return offline.replay(agent, *rates, gamma)

    def loop_of(numbers):
        return loop(agent_of(numbers), numbers.get('gamma', config.agent.gamma))

    agent = agent_of(learner.NO_NUMBERS)
    return kinds.Run(
        loop=loop(agent, config.agent.gamma),
        data=demo_buffer.from_episodes(episodes),
        num_rounds=-(-settings.num_updates // settings.updates_per_round),
        spec=spec,
        fingerprint=dataset.fingerprint(episodes),
        begin=beginning.opener(config, agent),
        loop_of=loop_of,
    )
