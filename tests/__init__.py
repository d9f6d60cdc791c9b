"""Settings for huggingface_hub, made before anything imports it: no test contacts a hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
