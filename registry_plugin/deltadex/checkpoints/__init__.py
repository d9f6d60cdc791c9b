"""What an artifact folder is: adapter or full model, which weights, which base. Knows no torch and no MLflow."""
