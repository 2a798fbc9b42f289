"""Runs a command that ends with the sweep: python -m jaxpolicy.sweeps.worker train --config=...

The sweep holds the other end of this process' standard input. When that is closed, because the
sweep asks the command to stop or was killed, the command is told to save and to stop, as by
Ctrl-C. So no run goes on without its sweep, which would then train it a second time.
"""

import os
import runpy
import signal
import sys
import threading


def end_with_input() -> None:
    """Has this process told to stop, once, when its standard input ends."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        # An engine may have blocked the signal. One that came all the same is delivered now, and a
        # second one would end the command unsaved.
        came = signal.SIGTERM in signal.sigpending()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if not came:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == '__main__':
    end_with_input()
    sys.argv[0] = 'jaxpolicy'
    runpy.run_module('jaxpolicy', run_name='__main__', alter_sys=True)
