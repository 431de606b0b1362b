"""Mends the kernel that this project pins; `tools/setup_env.py` copies it to where the kernels of `.venv` read it.

ipykernel 7.0 to 7.3 write replies past the stream that reads requests from the same socket. A request that comes in
just then is not noticed until somebody connects anew: a cell shows [*] for ever although the kernel is idle
(ipython/ipykernel#1554). Replies sent through the stream cannot do that. 7.4.0 does the same, but its Stop button waits
for the cell it should stop, so 7.3.0 stays. Delete this file together with the pin.
"""

import ipykernel
from ipykernel.kernelapp import IPKernelApp


def send_through_the_stream(manager, message):
    """Send a reply; runs in the shell channel's thread, where the stream lives too."""
    IPKernelApp.instance().kernel.shell_stream.send_multipart(message)


if (7, 0) <= ipykernel.version_info[:2] < (7, 4):
    from ipykernel.subshell_manager import SubshellManager

    SubshellManager._send_on_shell_channel = send_through_the_stream
