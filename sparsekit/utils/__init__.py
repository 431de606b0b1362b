"""What every room uses: checks of arguments, files, names, random streams, settings and the clock."""
