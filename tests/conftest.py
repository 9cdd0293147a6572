"""What every test process needs."""

from __future__ import annotations

import signal

# Started in the background by a script, a process inherits an ignored SIGINT and hands it on to the
# programs that the Ctrl-C tests start. A handler of our own is reset to the default in them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
