"""Read by huggingface_hub when it is loaded, so set before anything is: no test asks a hub for anything."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
