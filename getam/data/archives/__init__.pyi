from .downloads import fetch as fetch
from .registry import Archive as Archive
from .registry import Lock as Lock
from .registry import read_registry as read_registry
from .unpacking import unpack as unpack
