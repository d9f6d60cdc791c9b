"""`python -m deltadex`."""

from deltadex.cli import main

main()
