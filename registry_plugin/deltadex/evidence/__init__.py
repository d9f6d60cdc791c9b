"""Evidence packs: what is known of a model version, signed, for people who never open the dashboard."""
