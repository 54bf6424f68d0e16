"""Pull tasks, run reconciles, write fenced, acknowledge."""
