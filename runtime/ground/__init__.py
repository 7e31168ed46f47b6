"""What every part of the runtime stands on; imports nothing else of the runtime."""
