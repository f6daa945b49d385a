"""What is measured, one file a metric."""
