"""The engine: one file per room, one loop per file. Rooms move records; they never ask of which kind one is."""
