"""Plans: what the 1-bit engine runs, as data; numpy alone, torch is not needed here."""
