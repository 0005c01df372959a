"""Names for the guest: who may ask for what, and which name an address was given for."""
