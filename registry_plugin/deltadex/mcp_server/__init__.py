"""An MCP server, by which engineers' assistants ask the registry. Reads only."""
