"""What has happened in a registry since a person last looked."""
