"""Client of an OpenAI-compatible endpoint: texts are shown, agreed to and logged before they leave."""
