"""Field management: ``metadata.managedFields``, and server-side apply, which uses it (KEP-555).

- ``fieldset``: sets of paths in their FieldsV1 form; ``walk``: objects to sets;
- ``tracker``: ``track``, after each create, update and patch;
- ``apply``: ``server_side_apply``.

A request is tracked before admission and the strategy's ``prepare_*`` change the object, so that fields which these add
have no manager, as on a real server.
"""

from raycp.embedded.managed.apply import server_side_apply
from raycp.embedded.managed.tracker import track

__all__ = ["server_side_apply", "track"]
