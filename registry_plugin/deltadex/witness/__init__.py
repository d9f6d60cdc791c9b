"""Publication of the decision log's head to witnesses outside the database, and comparison with what they hold."""
