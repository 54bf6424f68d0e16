"""The soak's tests find their helpers beside them, and those of the fleet's tests."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for directory in (HERE.parent / "fleet", HERE):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
