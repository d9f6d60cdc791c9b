"""Safety drift: whether a finetune still tells harmful from harmless requests as its base does."""
