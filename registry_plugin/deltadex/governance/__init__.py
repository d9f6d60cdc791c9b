"""What a person should know, and decides: findings as pure values."""
