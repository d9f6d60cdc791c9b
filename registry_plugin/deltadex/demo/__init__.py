"""A small company of really trained models. Importing this package is cheap; its modules need torch and MLflow."""

import os
from enum import StrEnum

# Read when torch and huggingface_hub are loaded. Threads that spin while they wait made training ten times slower
# beside the busy stack; and nobody needs to ask a hub about models that were made a minute ago.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Size(StrEnum):
    """How large a company."""

    SMALL = "small"
    COMPANY = "company"
    LARGE = "large"
