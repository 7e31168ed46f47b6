"""One step: the update of a model, and all that it changes on the device."""
