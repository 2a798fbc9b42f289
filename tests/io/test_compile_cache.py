"""Where compiled programs are kept, in processes of their own: JAX opens its cache once."""

import os
import subprocess
import sys

PROGRAM = """
import jax, sys
from jax import monitoring
from jaxpolicy.io import compile_cache
hits = []
monitoring.register_event_listener(lambda event, **_: hits.append(event.rsplit('/', 1)[-1]))
print(compile_cache.use(sys.argv[1]))
compile_cache.jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((3, 3)))
print('cache_hits' in hits)
"""


def _run(choice, **env):
    names = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
    found = subprocess.run(
        [sys.executable, '-c', PROGRAM, choice],
        env=names | {'JAX_PLATFORMS': 'cpu'} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return [*found.stdout.split(), found.stderr]


def test_the_second_process_finds_what_the_first_compiled(tmp_path):
    folder, hit, _ = _run('', XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path)) and 'jaxpolicy' in folder and hit == 'False'
    assert _run('', XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))[:2] == [folder, 'True']


def test_it_can_lie_elsewhere_and_be_off_and_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    assert _run(str(tmp_path / 'mine'))[0].startswith(str(tmp_path / 'mine'))
    jaxs = str(tmp_path / 'theirs')
    assert _run('', JAX_COMPILATION_CACHE_DIR=jaxs)[0] == jaxs
    assert _run('off', JAX_COMPILATION_CACHE_DIR=jaxs)[:2] == ['None', 'False']
    file = tmp_path / 'file'
    file.touch()
    folder, hit, error = _run(str(file))
    assert (folder, hit) == ('None', 'False')
    assert error.startswith('compiled programs are not kept: ')
