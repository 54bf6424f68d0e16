"""How a connection between two members begins, in the order of what happens to it.

- ``accept_loop``: a member's port, which is open for as long as its process lives (law 6f);
- ``strangers``: connections that have not proven anything: their number, their time, their lines in the log;
- ``channel_credentials``: what a member proves itself with, and whom it accepts; ``tls``: between nodes;
- ``handshake``: the mutual challenge; the fleet's secret never travels. Pure;
- ``listener``: all of these at the receiver, up to ``Hello``; ``caller``: at the caller.
"""

from raycp.protocol.channels.accept_loop import AcceptLoop
from raycp.protocol.channels.caller import DIAL_TIMEOUT, Address, NotAccepted, dial
from raycp.protocol.channels.channel_credentials import ChannelCredentials
from raycp.protocol.channels.listener import Accept, Hold, Listener

__all__ = ["DIAL_TIMEOUT", "Accept", "AcceptLoop", "Address", "ChannelCredentials", "Hold", "Listener", "NotAccepted", "dial"]
