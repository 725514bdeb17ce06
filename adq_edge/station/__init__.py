"""The inspection station: a verdict for each trigger by its deadline, stored until it is delivered."""
