"""How a connection between two members begins, in the order of what happens to it.

- ``accepting``: a member's port, which is open for as long as its process lives (law 6f);
- ``strangers``: connections that have not proven anything: their number, their time, their lines in the log;
- ``credentials``: what a member proves itself with, and whom it accepts; ``tls``: between nodes;
- ``handshake``: the mutual challenge; the fleet's secret never travels. Pure;
- ``listener``: all of these at the receiver, up to ``Hello``; ``dialing``: at the caller.
"""

from raycp.protocol.channels.accepting import AcceptLoop
from raycp.protocol.channels.credentials import Credentials
from raycp.protocol.channels.dialing import DIAL_TIMEOUT, Address, dial
from raycp.protocol.channels.listener import Hold, Listener

__all__ = ["DIAL_TIMEOUT", "AcceptLoop", "Address", "Credentials", "Hold", "Listener", "dial"]
