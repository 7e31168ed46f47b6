"""The shipped models and, in `lib/`, the recipes they share."""
