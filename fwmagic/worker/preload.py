"""What the server of the workers imports before any of them is started: the frameworks, of which none is started.

Workers are copies of that server. They begin within milliseconds, with their frameworks imported; but a process in
which a framework had started its threads could not be copied: the copy would hang.
"""

from __future__ import annotations

from fwmagic import frameworks

for _framework in frameworks.installed():
    _framework.preload()
