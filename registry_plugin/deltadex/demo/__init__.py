"""A small company of trained models. Importing this package is cheap; its modules need torch and MLflow."""

import os
from enum import StrEnum

# Read when torch and huggingface_hub are imported. Spinning threads made training ten times slower beside the busy
# stack. The demo's models are on no hub.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Size(StrEnum):
    """Size of the company."""

    SMALL = "small"
    COMPANY = "company"
    LARGE = "large"
