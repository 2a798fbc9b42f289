"""The methods of the bake-off: what is trained, how it acts, and what was measured."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxpolicy import registry
from jaxpolicy.agents.parts import denoiser
from jaxpolicy.io import fingerprint, paths, workdir
from jaxpolicy.runs import saved, sections

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # name: agent and fields of its Config
    'eps': ('diffusion', {'objective': 'eps'}),
    'x0': ('diffusion', {'objective': 'x0'}),
    'v': ('diffusion', {'objective': 'v'}),
    'edm': ('diffusion', {'objective': 'edm'}),
    'flow': ('diffusion', {'objective': 'flow'}),
    'regression': ('mip', {'num_sample_steps': 1}),
    'mip': ('mip', {'num_sample_steps': 2}),
    'mean_flow': ('flow_map', {'loss': 'mean_flow'}),
    'shortcut': ('flow_map', {'loss': 'shortcut'}),
    'consistency': (
        'flow_map',
        {'loss': 'consistency_trajectory', 'teacher_step': 1.0, 'teacher_solver_steps': 4},
    ),
    'drifting': ('drifting', {'num_samples': 4}),  # 8 take twice the time
}
TEACHERS = {'consistency': 'flow'}  # methods that learn from another one's run
SAMPLERS = (  # of diffusion: name and steps
    ('ddpm', 100),
    *(('ddim', n) for n in (1, 2, 4, 10)),
    *(('dpmpp_2m', n) for n in (4, 10)),
    ('heun', 5),
    ('midpoint', 4),
)
ACTING: dict[str, list[dict[str, Any]]] = {  # by agent; fields of its Config
    'diffusion': [{'sampler': name, 'num_sample_steps': n} for name, n in SAMPLERS],
    'flow_map': [{'num_sample_steps': n} for n in (1, 2, 4)],
    'mip': [{}],
    'drifting': [{}],
}


def config(recipe: config_dict.ConfigDict, name: str, root: Path) -> config_dict.ConfigDict:
    """The recipe with the method's agent; fields that both agents have stay as in the recipe."""
    agent, fields = METHODS[name]
    new = copy.deepcopy(recipe)
    common = {field.name for field in dataclasses.fields(denoiser.Config)}
    kept = {key: value for key, value in recipe.agent.items() if key in common}
    module = registry.resolve('agents', agent, 'config.agent.name')
    values = dataclasses.asdict(module.Config()) | kept | fields
    new.agent = config_dict.ConfigDict({'name': agent, **values})
    new.eval.every = 0  # the last weights count, whatever the score on the way
    if name in TEACHERS:
        new.teacher.workdir = str(root / TEACHERS[name])
    return new


def evaluations(agent: config_dict.ConfigDict) -> int:
    """How often the network is called for one plan, as the agent says."""
    module = registry.resolve('agents', agent.name, 'config.agent.name')
    return module.num_evaluations(sections.section(module.Config, agent, 'agent'))


def marks(
    opened: saved.Saved, num_episodes: int, first_seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What defines the score of a trained method, and what defines its latency besides."""
    scored = {
        'num_episodes': num_episodes,
        'first_seed': first_seed,
        'step': opened.step,
        'weights': fingerprint.of(opened.train),
        'config': fingerprint.of(opened.config.to_dict()),
        'code': saved.code_of(opened.config, [Path(__file__).parent]),
    }
    return scored, {name: workdir.versions()[name] for name in ('platform', 'device')}


TIMES = {'p50_ms', 'p99_ms', 'compile_s'}  # the keys of a latency in a row


class Rows:
    """A method's rows, kept in its run's directory: one for each way in which it acts."""

    def __init__(self, directory: Path):
        self._path = directory / 'bake_off.json'
        self.all = paths.read_rows(self._path)

    def of(
        self,
        name: str,
        acting: dict[str, Any],
        scored: dict[str, Any],
        timed: dict[str, Any],
    ) -> dict[str, Any]:
        """The row of this way of acting, a new one if there is none.

        Args:
          scored: what defines its score; where the row says otherwise, its numbers are dropped.
          timed: what defines its latency besides; likewise for the latency.
        """
        row = next((row for row in self.all if acting.items() <= row.items()), None)
        if row is None:
            row = {}
            self.all.append(row)
        said = {'method': name, **acting, 'scored': scored}
        if row.get('scored') != scored:
            row.clear()
        elif row.get('timed') != timed:
            for key in TIMES & row.keys():
                del row[key]
        row.update(said, timed=timed)
        return row

    def save(self) -> None:
        """Writes all rows."""
        workdir.write_json(self._path, self.all)
