"""Stopping politely: SIGTERM and Ctrl-C become a question that a loop can ask."""

import signal


class StopRequest:
    """Context in which SIGTERM and SIGINT only set `received`; a second one acts as usual."""

    def __init__(self):
        self.received = False
        self._previous = {}

    def __enter__(self) -> 'StopRequest':
        names = (signal.SIGTERM, signal.SIGINT)
        self._previous = {name: signal.signal(name, self._note) for name in names}
        return self

    def __exit__(self, *unused) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def _note(self, *unused) -> None:
        self.received = True
        self.__exit__()
