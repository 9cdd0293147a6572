"""The report of a running study: follows its folder and serves the page on this machine.

Reads the study folder and writes nothing. `open_server` binds; `ReportServer.serve` answers.
"""

from cupel.report.live.server import ReportServer as ReportServer
from cupel.report.live.server import open_server as open_server
