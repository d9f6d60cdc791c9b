"""Page elements that several screens share."""
