"""Feature networks in their official state-dict layouts."""
