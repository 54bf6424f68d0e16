"""Events to due keys to hand-outs and back; on a standby the replica of it."""
