"""Shows how far the runs of a sweep are: python -m experiments.watch DIR

In a terminal the table is drawn anew until all runs are over, also over ssh; Ctrl-C ends it and
does nothing to the sweep. In a pipe, or with `--once`, it is printed once.
"""

import shutil
import sys
import time
from pathlib import Path

from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.sweeps import status

FLAGS = flags.FLAGS
_HOME = '\x1b[H\x1b[J'  # to the upper left corner, and nothing below it
_OVER = ('finished', 'failed', 'stopped')


def main(_):
    folder = Path(FLAGS.workdir)
    if FLAGS.once or not sys.stdout.isatty():
        print(status.table(status.of_all(folder)))
        return
    try:
        while True:
            found, size = status.of_all(folder), shutil.get_terminal_size()
            print(_HOME + status.table(found, size.columns, size.lines - 1), flush=True)
            if all(run.status in _OVER for run in found):
                return
            time.sleep(FLAGS.every)
    except KeyboardInterrupt:
        print()


if __name__ == '__main__':
    if len(sys.argv) > 1 and not sys.argv[1].startswith('-'):
        sys.argv[1] = f'--workdir={sys.argv[1]}'
    config_flags.define_input('workdir', None, 'Folder of the sweep.', folder=True, required=True)
    flags.DEFINE_bool('once', False, 'Print the table once.')
    flags.DEFINE_float('every', 2.0, 'Seconds between two looks.', lower_bound=0.1)
    config_flags.run_main(main)
