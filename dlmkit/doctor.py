"""``dlmkit doctor``."""
from typing import Any
def doctor(options: Any) -> int: return 0
