"""The HTTP server: models behind POST /v1/predict and its like, and the page that shows them.

Needs the packages of the extra ``serve``; see docs/serving.md for what it promises.
"""

from __future__ import annotations

from tidegate.server.hosts import is_loopback
from tidegate.server.settings import Limits, ModelFile, Settings, model_files, read_token

__all__ = ["Limits", "ModelFile", "Settings", "is_loopback", "model_files", "read_token"]
